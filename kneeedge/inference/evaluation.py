"""Labelled folder → the model's answers to it → what they are worth. Edge only: no torch."""

import dataclasses
import json
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import (
    Sample,
    labelled_samples,
    left_out_remarks,
    others_line,
    patient_remarks,
    say_depths,
    table_samples,
)
from kneeedge.data.layout import SPLITS, list_classes, read_layout, split_named
from kneeedge.data.table import read_labels
from kneeedge.errors import ConfigError, DataError, SpecError
from kneeedge.inference.metrics import Evaluation, evaluate
from kneeedge.inference.three_answers import ThreeAnswers, three_answers
from kneeedge.model.spec import SEEN_KEY, ModelSpec, PixelPath
from kneeedge.pixels.pixel_path import Input
from kneeedge.pixels.prefetch import StageClock, read_batches
from kneeedge.pixels.reader import ReadFile, ReadOptions, ThreadReader
from kneeedge.runtime.batches import BatchRunner, joined
from kneeedge.runtime.session import Outputs, Session
from kneeedge.system import machine
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import plain

HELD_OUT = ("test", "val")
"splits to evaluate when nobody names one, the best first"
DEFAULT_BATCH = 16
ABOUT = ("model", "model_sha256", "split", "provider", "n_seen", "n_abstained", "n_inverted")
"fields of a report that say what was evaluated"


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """One model on one labelled split."""

    model: str
    split: str
    provider: str
    n_seen: int
    "images that, byte for byte, the model was trained or chosen on"
    evaluation: Evaluation
    "of all images, as if none had been refused"
    n_abstained: int = 0
    "images unlike the training images, which `infer` leaves without an answer"
    n_inverted: int | None = None
    "inverted images, whose inverse the network read; absent where it reads all as they are"
    answered: Evaluation | None = None
    "of the others; absent where none was refused, or all"
    three_answers: ThreeAnswers | None = None
    "of those with certified limits; absent where the model has none, or abstains from all"
    model_sha256: str = ""
    "of the model file"

    def as_record(self) -> dict[str, Any]:
        """The evaluation's fields, and beside them what was evaluated and what was refused.

        `joint` is for what `kneeedge.inference.joint` finds, where that is asked for.
        """
        about = {name: getattr(self, name) for name in ABOUT}
        evaluation: dict[str, Any] = plain(self.evaluation)
        others = {name: plain(getattr(self, name)) for name in ("answered", "three_answers")}
        return about | evaluation | others | {"joint": None}


def read_with_depth(session: Session, grey_bits: int | None) -> None:
    """Let pixels of 16 bits be read as of so many, whatever the model was trained with."""
    if grey_bits is not None:
        pixel_path = dataclasses.replace(session.spec.pixel_path, grey_bits=grey_bits)
        session.spec = dataclasses.replace(session.spec, pixel_path=pixel_path)


def evaluate_model(
    session: Session,
    data: Path,
    split: str | None,
    batch_size: int | None,
    progress: Progress,
    group_regex: str | None = None,
    prevalence: float | None = None,
) -> EvaluationReport:
    """How the session's model does on a split of `data` (see `evaluation_samples`).

    Intervals allow for several images of one patient, whom `group_regex` finds in a path. Raises
    ConfigError where `prevalence` is not within 0 and 1.
    """
    if prevalence is not None and not 0.0 < prevalence < 1.0:
        raise ConfigError(
            f"--prevalence {prevalence} is out of range",
            "give a share above 0 and below 1, as 0.15",
        )
    spec = session.spec
    split_name, samples = evaluation_samples(
        data, spec.classes, split, group_regex, progress, spec.pixel_path.grey_bits
    )
    say_depths(samples, progress)
    counter = InvertedCounter(spec)
    size = batch_size or DEFAULT_BATCH
    outputs = answer_samples(session, samples, size, progress, counter.note)

    def evaluate_rows(rows: NDArray[np.intp]) -> Evaluation:
        groups = [samples[i].group for i in rows]
        return evaluate(labels[rows], outputs.probabilities[rows], spec, groups, prevalence)

    labels = np.array([sample.label for sample in samples])
    answered = answered_rows(spec, outputs)
    n_abstained = len(samples) - len(answered)
    patients = [samples[i].group for i in answered]
    return EvaluationReport(
        model=str(session.path),
        split=split_name,
        provider=session.provider,
        n_seen=count_seen(samples, read_seen_hashes(session.metadata, session.path)),
        evaluation=evaluate_rows(np.arange(len(samples))),
        n_abstained=n_abstained,
        n_inverted=counter.n_inverted,
        answered=evaluate_rows(answered) if n_abstained and len(answered) else None,
        three_answers=three_answers(
            spec, labels[answered], outputs.probabilities[answered], patients
        ),
        model_sha256=session.file.sha256,
    )


def answered_rows(spec: ModelSpec, outputs: Outputs) -> NDArray[np.intp]:
    """The indices of the images that the model does not abstain from, rising."""
    if spec.novelty is None or outputs.distance is None:
        return np.arange(len(outputs.logits))
    return np.flatnonzero(~spec.novelty.refuses(outputs.distance))


def evaluation_samples(
    data: Path,
    classes: Sequence[str],
    split: str | None = None,
    group_regex: str | None = None,
    say: Callable[[str], None] | None = None,
    grey_bits: int = 0,
    preferred: Sequence[str] = HELD_OUT,
) -> tuple[str, list[Sample]]:
    """The split's name and its samples, from DATA/{train,val,test}/<Class>/… or DATA/<Class>/….

    DATA may be a CSV file of labels too. With splits and no `split` it is the first of the
    `preferred` ones that is there; without them it is all images, under the folder's or the file's
    name. `say` is told what is left out, and how many patients there are. Raises DataError where
    the split is missing, a class is missing or unknown, or an image is broken.
    """
    say = say or _say_nothing
    left_out: list[str] = []
    if data.is_file():
        name, samples = _samples_of_table(data, classes, split, group_regex, grey_bits, preferred)
    else:
        name, samples, left_out = _samples_of_folder(
            data, classes, split, group_regex, grey_bits, preferred
        )
    for remark in filter(None, (*left_out, *patient_remarks(samples, classes))):
        say(remark)
    return name, samples


def _samples_of_folder(
    data: Path,
    classes: Sequence[str],
    split: str | None,
    group_regex: str | None,
    grey_bits: int,
    preferred: Sequence[str],
) -> tuple[str, list[Sample], list[str]]:
    """The split's name and samples, and lines on the layout and on what is left out."""
    layout = read_layout(data)
    name = choose_split(data, layout.splits, split, preferred)
    folders = list_classes(layout.splits.get(name, data), classes)
    samples = labelled_samples(data, folders, name, group_regex, grey_bits)
    left_out = [others_line(folders.others), *left_out_remarks(folders)]
    return name, samples, [*layout.remarks(), *left_out]


def _samples_of_table(
    data: Path,
    classes: Sequence[str],
    split: str | None,
    group_regex: str | None,
    grey_bits: int,
    preferred: Sequence[str],
) -> tuple[str, list[Sample]]:
    """The split's name and samples, from a CSV file of labels."""
    table = read_labels(data, group_regex)
    by_split = table.by_split()
    name = choose_split(data, [known for known in SPLITS if known in by_split], split, preferred)
    rows = by_split.get(name, table.rows)
    table.check_classes(rows, classes, name if name in by_split else "")
    return name, table_samples(rows, classes, name, grey_bits)


def _say_nothing(line: str) -> None:
    """For who has nobody to tell."""


def answer_samples(
    session: Session,
    samples: Sequence[Sample],
    batch_size: int,
    progress: Progress,
    note: Callable[[Sample, Input], None] | None = None,
) -> Outputs:
    """The session's answers to the samples, in their order, without class activation maps.

    `note` is given each sample and what was read of it, so that nobody has to open it again.
    """
    return joined(list(answer_batches(session, samples, batch_size, progress, note)))


def answer_batches(
    session: Session,
    samples: Sequence[Sample],
    batch_size: int,
    progress: Progress,
    note: Callable[[Sample, Input], None] | None = None,
) -> Generator[Outputs]:
    """As `answer_samples`, batch by batch: who closes it reads no further."""
    runner = BatchRunner(session, progress)
    batches = input_batches(samples, session.spec.pixel_path, batch_size, progress, note)
    with closing(batches):
        for batch in batches:
            yield dataclasses.replace(runner.run(batch), cam=None)


class InvertedCounter:
    """Counts the inverted images among those that it is given."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self.n_inverted = None if spec.polarity is None else 0
        "so far; None where the network reads every image as it is"

    def note(self, _: Sample, read: Input) -> None:
        """Count one image, of what was read of it."""
        inverted = self._spec.inverted(read.pixels[None, None])
        if inverted is not None and self.n_inverted is not None:
            self.n_inverted += int(inverted[0])


def input_batches(
    samples: Sequence[Sample],
    pixel_path: PixelPath,
    batch_size: int,
    progress: Progress,
    note: Callable[[Sample, Input], None] | None = None,
) -> Generator[NDArray[np.uint8]]:
    """The samples' pixels as (≤ batch_size, 1, S, S) uint8, read ahead.

    `note` is given each sample and what was read of it, before its batch is handed over. Raises
    ImageError where a sample cannot be read, and DataError where its file no longer has the bytes
    that it had when the sample was made.
    """
    reader = ThreadReader(ReadOptions(pixel_path))
    batches = read_batches(samples, reader, batch_size, machine.available_cpus(), StageClock())
    with closing(batches), progress.stage("evaluate", len(samples)) as stage:
        for batch in batches:
            for sample, file in batch:
                check_content(sample, file)
                if note is not None:
                    note(sample, file.input())
            yield np.stack([file.pixels() for _, file in batch])[:, None]
            stage.advance(len(batch))


def check_content(sample: Sample, file: ReadFile) -> None:
    """Raise DataError where what was read is not what the sample was made of."""
    if file.stamp is not None and file.stamp.sha256 != sample.sha256:
        problem = "the image has changed meanwhile"
        raise DataError(sample.path, problem, "run again when nothing writes to the folder")


def read_seen_hashes(
    metadata: Mapping[str, str], where: Path | str, split: str | None = None
) -> frozenset[str]:
    """Short hashes of the images that the model in the file `where` was trained or chosen on.

    With `split`, train or val, of that one alone. Empty where the file has no list of them. Raises
    SpecError where the list is damaged.
    """
    try:
        lists = json.loads(metadata.get(SEEN_KEY, "{}"))
        named = lists if split is None else {split: lists.get(split, [])}
        return frozenset(short for hashes in named.values() for short in hashes)
    except (ValueError, AttributeError, TypeError) as error:
        raise SpecError(where, f"its list of training images is damaged ({error})") from error


def count_seen(samples: Sequence[Sample], seen: frozenset[str]) -> int:
    """How many of the samples are among the hashes of `read_seen_hashes`."""
    return sum(sample.short_hash in seen for sample in samples)


def choose_split(
    data: Path, present: Collection[str], split: str | None, preferred: Sequence[str] = HELD_OUT
) -> str:
    """The split asked for by any of its names, else the best one to evaluate.

    The name of the data where there are no splits.
    """
    if not present:
        if split is not None:
            remedy = "leave out --split to use all its images"
            raise DataError(data, f"it has no split {split!r}", remedy)
        return data.resolve().stem if data.is_file() else data.resolve().name
    listed = ", ".join(f"{name}/" for name in present)
    if split is None:
        for name in preferred:
            if name in present:
                return name
        remedy = "add test/ or val/, or name the training images with --split train"
        raise DataError(data, f"it has {listed} but neither test/ nor val/", remedy)
    name = split_named(split)
    if name not in present:
        problem = f"it has no split {split!r}, only {listed}"
        raise DataError(data, problem, "name one of these with --split")
    return name
