"""What the turns measured → one row a subject, and the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median, quantiles

import numpy as np

from benchmarks.peers.probe import Ceiling
from benchmarks.peers.subjects import REFERENCE, Place, Subject, size_mb
from benchmarks.peers.turn import Turn
from kneeedge.bench.accuracy import Truth, make_accuracy
from kneeedge.bench.windows import STEADY
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runs.benchmark import Accuracy
from kneeedge.statistics.percentiles import runs_needed

NONE = "—"
HEADS = (
    "what", "one image, p50 ms", "× eager", "p90 ms", "images/s (batch)",
    "memory MB, one image / batch", "size MB", "accuracy [95 %]", "AUROC", "flips",
    "share of ceiling",
)  # fmt: skip


@dataclass(frozen=True)
class Material:
    """The images that all subjects answered."""

    spec: ModelSpec
    truth: Truth
    n_seen: int
    "images that the model was trained or chosen on"


@dataclass
class Measurement:
    """What is known of a subject so far."""

    subject: Subject
    note: str = ""
    failure: str | None = None
    turns: list[Turn] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """All runs at one batch size."""

    batch_size: int
    p50_ms: float
    "a batch"
    p90_ms: float | None
    "absent with too few runs for its interval"
    images_per_second: float
    "images over the sum of all runs"
    spread: float
    "largest over smallest median of a round, less 1"
    peak_memory_mb: float | None
    "the largest of the rounds"
    rounds: tuple[tuple[float, ...], ...]
    "milliseconds of every run, round by round"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One subject, measured."""

    name: str
    title: str
    arithmetic: str
    note: str
    failure: str | None
    "why there is nothing else"
    size_mb: float | None = None
    cold_start_ms: float | None = None
    "from before the runtime's import to the first answer; the least of the rounds, caches warm"
    single: Runs | None = None
    offline: tuple[Runs, ...] = ()
    times_eager: float | None = None
    "PyTorch eager's median for one image over this one's, as the median of the rounds"
    times_eager_rounds: tuple[float, ...] = ()
    "the ratio within each round"
    accuracy: Accuracy | None = None
    share_of_ceiling: float | None = None
    "0 to 1; products a second at the best batch size, over the ceiling of the arithmetic"

    @property
    def best(self) -> Runs | None:
        """The runs of the batch size with the most images a second."""
        runs = [self.single, *self.offline] if self.single else []
        return max(runs, key=lambda batch: batch.images_per_second, default=None)


def make_rows(
    measurements: Sequence[Measurement],
    place: Place,
    material: Material,
    ceiling: Ceiling,
    giga_macs_an_image: float,
) -> tuple[Row, ...]:
    """A row for each subject; flips and ratios against PyTorch eager, where it was measured."""
    reference = reference_of(measurements)
    rows = []
    for measurement in measurements:
        subject = measurement.subject
        row = Row(
            name=subject.name,
            title=subject.title,
            arithmetic=subject.arithmetic,
            note=measurement.note,
            failure=measurement.failure,
        )
        if measurement.failure is None:
            row = fill(row, measurement, reference, material)
            rate = row.best.images_per_second * giga_macs_an_image
            share = round(rate / getattr(ceiling, subject.arithmetic), 4)
            row = replace(row, size_mb=size_mb(place.file(subject)), share_of_ceiling=share)
        rows.append(row)
    return tuple(rows)


def reference_of(measurements: Sequence[Measurement]) -> Measurement | None:
    """That of PyTorch eager, where it was measured and did not fail."""
    for measurement in measurements:
        if measurement.subject.name == REFERENCE and measurement.failure is None:
            return measurement
    return None


def fill(
    row: Row, measurement: Measurement, reference: Measurement | None, material: Material
) -> Row:
    """The row with speed and accuracy."""
    turns = measurement.turns
    sizes = [runs.batch_size for runs in turns[0].runs]
    single, *offline = (combine(turns, size) for size in sizes)
    row = replace(
        row,
        cold_start_ms=min(turn.cold_start_ms for turn in turns),
        single=single,
        offline=tuple(offline),
        accuracy=accuracy_of(measurement, reference, material),
    )
    if reference is None:
        return row
    eager = combine(reference.turns, 1)
    pairs = zip(eager.rounds, single.rounds, strict=True)
    ratios = tuple(round(median(theirs) / median(ours), 3) for theirs, ours in pairs)
    return replace(row, times_eager=median(ratios), times_eager_rounds=ratios)


def combine(turns: Sequence[Turn], batch_size: int) -> Runs:
    """The runs of one batch size in all turns."""
    rounds = [runs for turn in turns for runs in turn.runs if runs.batch_size == batch_size]
    samples = [sample for runs in rounds for sample in runs.samples]
    medians = [median(runs.samples) for runs in rounds]
    peaks = [runs.peak_memory_mb for runs in rounds if runs.peak_memory_mb is not None]
    p90 = None
    if len(samples) >= runs_needed(0.9):
        p90 = round(quantiles(samples, n=10, method="inclusive")[8], 3)
    return Runs(
        batch_size=batch_size,
        p50_ms=round(median(samples), 3),
        p90_ms=p90,
        images_per_second=round(batch_size * len(samples) * 1e3 / sum(samples), 3),
        spread=round(max(medians) / min(medians) - 1, 4),
        peak_memory_mb=max(peaks, default=None),
        rounds=tuple(runs.samples for runs in rounds),
    )


def accuracy_of(
    measurement: Measurement, reference: Measurement | None, material: Material
) -> Accuracy:
    """The figures of a subject, paired with PyTorch eager's."""
    answers = answers_in_order(measurement, material)
    reference_answers = None
    if reference is not None and reference is not measurement:
        reference_answers = answers_in_order(reference, material)
    return make_accuracy(answers, material.truth, material.n_seen, reference_answers)


def answers_in_order(measurement: Measurement, material: Material) -> Answers:
    """The answers in the order of the images, of which turn i of k answered i, i + k, …"""
    subject = measurement.subject
    turns = measurement.turns
    logits = np.empty((len(material.truth.labels), len(material.spec.classes)))
    for i, turn in enumerate(turns):
        logits[i :: len(turns)] = turn.logits
    precision = ORIGINAL if subject.name == REFERENCE else subject.arithmetic
    return Answers(precision, material.spec, logits)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, and below it what is to be said of some of them."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" + "|--:" * (len(HEADS) - 1) + "|"]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    notes = [f"- {row.title}: {row.note}" for row in rows if row.note]
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def cells(row: Row) -> list[str]:
    """One line of the table."""
    best = row.best
    if best is None or row.single is None or row.accuracy is None:
        return [row.title, f"failed: {row.failure}", *[NONE] * (len(HEADS) - 2)]
    accuracy = row.accuracy
    interval = accuracy.interval
    unsteady = " ~" if row.single.spread > STEADY else ""
    return [
        row.title,
        f"{row.single.p50_ms:.1f}{unsteady}",
        _times(row),
        NONE if row.single.p90_ms is None else f"{row.single.p90_ms:.1f}",
        f"{best.images_per_second:.2f} ({best.batch_size})",
        f"{_whole(row.single.peak_memory_mb)} / {_whole(_most_memory(row))}",
        f"{row.size_mb:.1f}",
        f"{accuracy.accuracy:.3f} [{interval.low:.3f}, {interval.high:.3f}]",
        NONE if accuracy.auroc is None else f"{accuracy.auroc:.3f}",
        NONE if accuracy.flips is None else f"{accuracy.flips} of {accuracy.n}",
        f"{row.share_of_ceiling:.0%} of {row.arithmetic}",
    ]


def _times(row: Row) -> str:
    if row.times_eager is None:
        return NONE
    low = min(row.times_eager_rounds)
    high = max(row.times_eager_rounds)
    return f"{row.times_eager:.2f} ({low:.2f}–{high:.2f})"


def _most_memory(row: Row) -> float | None:
    return row.offline[-1].peak_memory_mb if row.offline else None


def _whole(value: float | None) -> str:
    return NONE if value is None else f"{value:.0f}"
