"""A model's answers to labelled images, and those that a run recorded in `answers.csv`. Edge only:
no torch.
"""

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.errors import CheckpointError
from kneeedge.model.spec import ModelSpec, softmax

ORIGINAL = "pytorch-fp32"
"what stands for the precision of a PyTorch model, beside the fp32, fp16 and int8 of files"
SLIM_AGAIN = "slim the original again with `kneeedge slim`"
ROUNDING = 1e-6
"of a probability written with nine digits and computed anew from its logits"


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


def read_answers(path: Path, classes: tuple[str, ...], split: str, remedy: str) -> RecordedAnswers:
    """The answers to the images of `split`; raises CheckpointError where the file does not fit,
    OSError without one.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        labels = np.array([classes.index(row["class"]) for row in rows], dtype=np.intp)
        probabilities, logits = (
            _numbers(rows, [f"{kind}_{name}" for name in classes]) for kind in ("p", "logit")
        )
        names = tuple(row["path"] for row in rows)
        groups = tuple(row["group"] for row in rows)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise CheckpointError(path, f"its answers do not fit ({error})", remedy) from error
    return RecordedAnswers(
        names=names,
        labels=labels,
        probabilities=probabilities,
        logits=logits.astype(np.float32),
        groups=groups,
    )


def read_original(path: Path, samples: Sequence[Sample], spec: ModelSpec) -> Answers:
    """What the original of a slimmed network said of the samples of one split, in their order.

    `spec` is the slimmed network's, and with the original's name, temperature and threshold put in
    that of the answers; `path` is the original's `answers.csv`. Raises CheckpointError where that
    is missing, lacks an image, or is not of that original and these labels.
    """
    slimmed = spec.training.slimmed
    if slimmed is None:
        raise ValueError(f"{spec.name} is no slimmed network")
    try:
        found = read_answers(path, spec.classes, samples[0].split, SLIM_AGAIN)
    except OSError as error:
        raise CheckpointError(
            path, f"the original's answers cannot be read ({error})", SLIM_AGAIN
        ) from error
    rows = {name: i for i, name in enumerate(found.names)}
    if missing := [sample.name for sample in samples if sample.name not in rows]:
        raise CheckpointError(path, f"the original's answer to {missing[0]} is missing", SLIM_AGAIN)
    order = [rows[sample.name] for sample in samples]
    if other := [
        sample.name
        for sample, i in zip(samples, order, strict=True)
        if found.labels[i] != sample.label
    ]:
        raise CheckpointError(path, f"it gives {other[0]} another class than split.csv", SLIM_AGAIN)
    if np.abs(softmax(found.logits, slimmed.temperature) - found.probabilities).max() > ROUNDING:
        problem = f"its probabilities are not those of {slimmed.original} at temperature {slimmed.temperature:.4g}"
        raise CheckpointError(path, problem, SLIM_AGAIN)
    original = dataclasses.replace(
        spec, name=slimmed.original, temperature=slimmed.temperature, threshold=slimmed.threshold
    )
    return Answers(ORIGINAL, original, found.logits[order], slimmed.sha256)


def _numbers(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> NDArray[np.float64]:
    """(N, K); raises ValueError where one is no finite number."""
    numbers = np.array([[float(row[name]) for name in columns] for row in rows]).reshape(
        len(rows), len(columns)
    )
    if not np.isfinite(numbers).all():
        raise ValueError(f"{' or '.join(columns)} holds what is no number")
    return numbers
