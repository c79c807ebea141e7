"""A model's answers to labelled images, and those that a run recorded in `answers.csv`."""

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.errors import CheckpointError
from kneeedge.model.provenance import Slimmed
from kneeedge.model.spec import ModelSpec, softmax
from kneeedge.system.spreadsheet import original_text

ORIGINAL = "pytorch-fp32"
"what stands for the precision of a PyTorch model, beside the fp32, fp16 and int8 of files"
SLIM_AGAIN = "slim the original again with `kneeedge slim`"
ROUNDING = 1e-6
"largest change of a probability that was written with nine digits and computed anew"


@dataclass(frozen=True)
class Answers:
    """A model's answers to labelled images."""

    precision: str
    spec: ModelSpec
    "whose temperature and threshold make answers of the logits"
    logits: NDArray[np.floating]
    "(N, K)"
    sha256: str = ""
    "of the model file; for PyTorch, of its weights; empty where it does not matter"

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, K)"""
        return softmax(self.logits, self.spec.temperature)

    @property
    def predictions(self) -> NDArray[np.intp]:
        """(N,), by the model's own threshold"""
        return self.spec.decide(self.probabilities)


@dataclass(frozen=True, kw_only=True)
class RecordedAnswers:
    """One split of an `answers.csv`."""

    names: tuple[str, ...]
    "paths below the data folder"
    labels: NDArray[np.intp]
    "(N,)"
    probabilities: NDArray[np.float64]
    "(N, K)"
    logits: NDArray[np.float32]
    "(N, K), as they were: nine digits restore single precision"
    groups: tuple[str, ...]
    distances: NDArray[np.float64] | None = None
    "(N,); absent where the model answers every image"


def read_answers(path: Path, classes: tuple[str, ...], split: str, remedy: str) -> RecordedAnswers:
    """The answers to the images of `split`.

    Raises OSError without a file, CheckpointError, ending in `remedy`, where it does not fit.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            cells = [row for row in csv.DictReader(file) if row["split"] == split]
        rows = [{name: original_text(cell) for name, cell in row.items()} for row in cells]
        return RecordedAnswers(
            labels=np.array([classes.index(row["class"]) for row in rows], dtype=np.intp),
            probabilities=_numbers(rows, [f"p_{name}" for name in classes]),
            logits=_numbers(rows, [f"logit_{name}" for name in classes]).astype(np.float32),
            names=tuple(row["path"] for row in rows),
            groups=tuple(row["group"] for row in rows),
            distances=_distances(rows),
        )
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise CheckpointError(path, f"its answers do not fit ({error})", remedy) from error


def read_original_answers(path: Path, samples: Sequence[Sample], spec: ModelSpec) -> Answers:
    """What the original of a slimmed network answered to the samples of one split, in their order.

    `spec` is the slimmed network's, and with the original's name, temperature and threshold put in
    that of the answers; `path` is the original's `answers.csv`. Raises CheckpointError where that
    is missing, lacks an image, or is not of that original and these labels.
    """
    slimmed = spec.training.slimmed
    if slimmed is None:
        raise ValueError(f"{spec.name} is no slimmed network")
    try:
        recorded = read_answers(path, spec.classes, samples[0].split, SLIM_AGAIN)
    except OSError as error:
        problem = f"the original's answers cannot be read ({error})"
        raise CheckpointError(path, problem, SLIM_AGAIN) from error
    problem = _labels_problem(recorded, samples) or _temperature_problem(recorded, slimmed)
    if problem:
        raise CheckpointError(path, problem, SLIM_AGAIN)
    row_of = {name: row for row, name in enumerate(recorded.names)}
    logits = recorded.logits[[row_of[sample.name] for sample in samples]]
    original = dataclasses.replace(
        spec,
        name=slimmed.original,
        temperature=slimmed.temperature,
        threshold=slimmed.threshold,
        certified=None,  # the limits are the slimmed network's own
    )
    return Answers(ORIGINAL, original, logits, slimmed.sha256)


def _labels_problem(recorded: RecordedAnswers, samples: Sequence[Sample]) -> str:
    label_of = dict(zip(recorded.names, recorded.labels, strict=True))
    for sample in samples:
        if sample.name not in label_of:
            return f"the original's answer to {sample.name} is missing"
    for sample in samples:
        if label_of[sample.name] != sample.label:
            return f"it gives {sample.name} another class than split.csv"
    return ""


def _temperature_problem(recorded: RecordedAnswers, slimmed: Slimmed) -> str:
    probabilities = softmax(recorded.logits, slimmed.temperature)
    if np.abs(probabilities - recorded.probabilities).max() <= ROUNDING:
        return ""
    whose = f"{slimmed.original} at temperature {slimmed.temperature:.4g}"
    return f"its probabilities are not those of {whose}"


def _distances(rows: Sequence[dict[str, str]]) -> NDArray[np.float64] | None:
    """(N,); None where a row has none, or there are no rows."""
    cells = [row.get("distance") or "" for row in rows]
    return np.array(cells, dtype=np.float64) if cells and all(cells) else None


def _numbers(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> NDArray[np.float64]:
    """(N, K), also of no rows; raises ValueError where one is no finite number."""
    cells = [[float(row[name]) for name in columns] for row in rows]
    numbers = np.array(cells).reshape(len(rows), len(columns))
    if not np.isfinite(numbers).all():
        raise ValueError(f"{' or '.join(columns)} holds what is no number")
    return numbers
