"""Two devices' answers to the same images, held beside each other: what differs, where, how much.

Rows in, a `Pairing` out; no model and no image is opened here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import DataError
from kneeedge.inference.answer_rows import AnswerRow, Device, DeviceAnswers
from kneeedge.model.verdict import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    TOLERANCE,
    conversion_fault,
    is_rounding,
    judge_loss,
    judge_share,
    same_text,
    worst,
)
from kneeedge.statistics.intervals import clusters_of
from kneeedge.statistics.paired import ChangedShare, PairedChange, changed_share, paired_change
from kneeedge.statistics.settling import images_to_settle, images_to_settle_share, largest_known

READING, INPUT, NETWORK = "reading", "network input", "network"
"the step at which two devices differ: file to pixels, pixels to the network's input, the network"
PRECISIONS = ("fp32", "fp16", "int8")
"the finest first"
UNREAD = -1
"in place of a class: never the right one"
Pair = tuple[AnswerRow, AnswerRow]
"one image here and there"


@dataclass(frozen=True, kw_only=True)
class ChangedAnswer:
    """One image of which something else is said here: another class or status, or not read."""

    path: str
    truth: str | None
    "absent without labels"
    there: str | None
    "the class; absent where the file could not be read"
    here: str | None
    there_status: str
    "ok, abstain, refer or error"
    here_status: str
    there_probability: float | None
    "of the positive class"
    here_probability: float | None
    logit_change: float | None
    "the largest; absent where one of the two could not read the file"
    there_distance: float | None
    "absent where there is none"
    here_distance: float | None
    step: str
    "where they first differ: reading, network input or network"
    error: str
    "why one of the two could not read it"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How far figures moved, over images that both have read."""

    n: int
    max_logit: float
    "absolute, as all of these"
    mean_logit: float
    "over images and classes"
    max_probability: float
    max_distance: float | None
    "absent where one of the two has no distance"


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Answers of this device beside those of another to the same files."""

    there: Device
    same_file: bool
    "whether both ran the same bytes"
    same_device: bool
    "whether all that is known of the devices is alike: that shows only that one repeats itself"
    same_network: bool
    "whether both files are of one network, in whatever precision"
    same_pixel_path: bool
    "whether both ask for the same network input; where not, inputs are not compared"
    n: int
    "images paired"
    only_here: tuple[str, ...]
    "images without a row there"
    only_there: tuple[str, ...]
    n_read: int
    "images that at least one of the two could read, over which the shares are"
    other_input: tuple[str, ...]
    "images whose network input is another here, though the file's bytes are the same"
    changes: Changes | None
    "absent where no image was read by both"
    network_changes: Changes | None
    "of the images whose network input is the same: what the network alone makes"
    answers: ChangedShare | None
    "another class, or unread in one place alone; absent where nothing was read"
    refusals: ChangedShare | None
    "refused or referred in one place alone, of the images that both read; absent without any"
    flips: tuple[ChangedAnswer, ...]
    "every image of another class, refused, referred or unread in one place alone"
    accuracy: PairedChange | None
    "only with labels, by the class whether refused or not; an unread image is none that is right"
    tolerance: float
    "the gate's: share of accuracy that may be lost, or of answers that may change"
    verdict: str
    "pass, fail or inconclusive"
    reason: str
    images_to_settle: int | None
    "how many images would settle an inconclusive verdict at the same rate of changes"


def pair(
    here: DeviceAnswers,
    there: DeviceAnswers,
    truth: Mapping[str, str] | None = None,
    patients: Mapping[str, str] | None = None,
) -> Pairing:
    """Answers here beside those there, image by image; `truth` has the class of each path.

    Intervals allow for several images of a patient, whom `patients` has of a path, and for copies.

    The verdict is that of `export`: with labels by Tango's bounds on the accuracy lost, without by
    Wilson's on the share of answers that changed; no statistics where nothing but rounding moved;
    a fail where the network moved a logit further than its precision can. An unread image has no
    right answer. Refusals in one place alone are held to the same tolerance where both ran the same
    file; between two files they are told of, since each has a limit of its own.

    Raises DataError where the classes differ, no path is in both, or a file has other bytes.
    """
    pairs = paired_rows(here, there)
    same_network = here.device.network == there.device.network
    same_pixel_path = here.device.pixel_path == there.device.pixel_path
    read = [both for both in pairs if both[0].is_read and both[1].is_read]
    same_input = [both for both in read if both[0].input_sha256 == both[1].input_sha256]
    network_changes = changes_of(same_input if same_pixel_path else read)
    seen = [both for both in pairs if both[0].is_read or both[1].is_read]
    flips = [both for both in seen if said(both[0]) != said(both[1])]
    owners = patients or {}
    clusters = clusters_of_pairs(seen, owners)
    changed = np.array([a.prediction != b.prediction for a, b in seen])
    refused = np.array([a.status != b.status for a, b in read])
    same_file = here.device.model_sha256 == there.device.model_sha256
    evidence = Evidence(
        changes=changes_of(read),
        network_changes=network_changes if same_network else None,
        n_other_input=len(read) - len(same_input) if same_pixel_path else 0,
        answers=changed_share(changed, clusters) if seen else None,
        refusals=changed_share(refused, clusters_of_pairs(read, owners)) if read else None,
        refusals_count=same_file,
        accuracy=None if truth is None else accuracy_change(seen, here.classes, truth, owners),
        precision=coarser(here.device.precision, there.device.precision),
    )
    verdict, reason = evidence.verdict()
    paths_here = {row.path for row in here.rows}
    paths_there = {row.path for row in there.rows}
    positive = here.classes.index(here.device.positive)
    truths = truth or {}
    return Pairing(
        there=there.device,
        same_file=same_file,
        same_device=replace(here.device, model="") == replace(there.device, model=""),
        same_network=same_network,
        same_pixel_path=same_pixel_path,
        n=len(pairs),
        only_here=tuple(sorted(paths_here - paths_there)),
        only_there=tuple(sorted(paths_there - paths_here)),
        n_read=len(seen),
        other_input=tuple(a.path for a, b in read if same_pixel_path and is_other_input(a, b)),
        changes=evidence.changes,
        network_changes=network_changes,
        answers=evidence.answers,
        refusals=evidence.refusals,
        flips=tuple(changed_answer(a, b, positive, truths.get(a.path)) for a, b in flips),
        accuracy=evidence.accuracy,
        tolerance=evidence.tolerance,
        verdict=verdict,
        reason=reason,
        images_to_settle=evidence.images_to_settle() if verdict == INCONCLUSIVE else None,
    )


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the verdict on two devices follows from."""

    changes: Changes | None
    network_changes: Changes | None
    "absent too where the networks are not the same, so that nothing bounds their logits"
    n_other_input: int
    answers: ChangedShare | None
    refusals: ChangedShare | None
    refusals_count: bool
    "whether they are part of the verdict"
    accuracy: PairedChange | None
    precision: str

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.precision]

    def verdict(self) -> tuple[str, str]:
        """Pass, fail or inconclusive, and the reason."""
        if self.answers is None:
            return INCONCLUSIVE, "no image could be read on either side"
        alone = self.network_changes
        if alone and (fault := conversion_fault(alone.max_logit, self.precision)):
            return FAIL, fault
        if alone and self.nothing_changed and is_rounding(alone.max_logit, self.precision):
            return PASS, same_text(alone.max_logit)
        if self.accuracy:
            verdicts = [judge_loss(self.accuracy, self.tolerance)]
        else:
            verdicts = [judge_share(self.answers, self.tolerance)]
        if self.judged_refusals:
            verdict, reason = judge_share(self.judged_refusals, self.tolerance)
            verdicts.append((verdict, f"refused or referred in one place alone: {reason}"))
        return worst(*verdicts)

    @property
    def nothing_changed(self) -> bool:
        """Whether the same is said of every image, by the same network input."""
        shares = (self.answers, self.refusals)
        return not self.n_other_input and not any(share and share.changed for share in shares)

    @property
    def judged_refusals(self) -> ChangedShare | None:
        """The refusals, where they are part of the verdict and some changed."""
        refusals = self.refusals
        return refusals if refusals and refusals.changed and self.refusals_count else None

    def images_to_settle(self) -> int | None:
        """How many images would settle it, at the rates of these; None where none would."""
        if self.answers is None:
            return None
        if self.accuracy:
            needed = [images_to_settle(self.accuracy, self.tolerance)]
        else:
            needed = [images_to_settle_share(self.answers, self.tolerance)]
        if self.judged_refusals:
            needed.append(images_to_settle_share(self.judged_refusals, self.tolerance))
        return largest_known(needed)


def paired_rows(here: DeviceAnswers, there: DeviceAnswers) -> list[Pair]:
    """The rows of each path that is in both; raises DataError where they are no pairs."""
    if here.classes != there.classes:
        problem = f"its classes are {', '.join(there.classes)}, not {', '.join(here.classes)}"
        raise DataError(there.device.model, problem, "give --against a file of the same classes")
    rows_there = {row.path: row for row in there.rows}
    pairs = [(row, rows_there[row.path]) for row in here.rows if row.path in rows_there]
    if not pairs:
        problem = "none of its images has the path of one here"
        remedy = f"give the same folder as --data; its first is {there.rows[0].path}"
        raise DataError(there.device.model, problem, remedy)
    other = [a.path for a, b in pairs if a.sha256 and b.sha256 and a.sha256 != b.sha256]
    if other:
        n = f"{len(other):,} of {len(pairs):,} images, this one the first"
        problem = f"its bytes are others here than there ({n}), so it is another picture"
        raise DataError(other[0], problem, "copy the folder again, or write the rows again")
    return pairs


def said(row: AnswerRow) -> tuple[str, str | None]:
    """What a device says of an image: status and class."""
    return row.status, row.prediction


def is_other_input(here: AnswerRow, there: AnswerRow) -> bool:
    """Whether the network was given other pixels, where both have read the file."""
    return here.is_read and there.is_read and here.input_sha256 != there.input_sha256


def step_of(here: AnswerRow, there: AnswerRow) -> str:
    """The first step at which two rows of one file differ."""
    if here.is_read != there.is_read:
        return READING
    return INPUT if is_other_input(here, there) else NETWORK


def changes_of(pairs: Sequence[Pair]) -> Changes | None:
    """How far the figures moved between rows that are all read; None where there are none."""
    if not pairs:
        return None
    logits = np.abs(_array([a.logits for a, _ in pairs]) - _array([b.logits for _, b in pairs]))
    before = _array([b.probabilities for _, b in pairs])
    probabilities = np.abs(_array([a.probabilities for a, _ in pairs]) - before)
    distances = [
        abs(a.distance - b.distance)
        for a, b in pairs
        if a.distance is not None and b.distance is not None
    ]
    return Changes(
        n=len(pairs),
        max_logit=float(logits.max()),
        mean_logit=float(logits.mean()),
        max_probability=float(probabilities.max()),
        max_distance=max(distances, default=None),
    )


def clusters_of_pairs(
    pairs: Sequence[Pair], patients: Mapping[str, str]
) -> NDArray[np.intp] | None:
    """The numbers of the groups (N,): a patient, else a file's bytes; None where none has two."""
    groups = [patients.get(a.path, a.sha256 or b.sha256 or a.path) for a, b in pairs]
    return clusters_of(groups, len(pairs))


def accuracy_change(
    pairs: Sequence[Pair],
    classes: Sequence[str],
    truth: Mapping[str, str],
    patients: Mapping[str, str],
) -> PairedChange | None:
    """The change in right answers over labelled pairs; None where there are none."""
    labelled = [(a, b) for a, b in pairs if a.path in truth]
    if not labelled:
        return None
    labels = np.array([classes.index(truth[a.path]) for a, _ in labelled])
    here = np.array([_class_index(a, classes) for a, _ in labelled])
    there = np.array([_class_index(b, classes) for _, b in labelled])
    return paired_change(labels, there, here, clusters_of_pairs(labelled, patients))


def changed_answer(
    here: AnswerRow, there: AnswerRow, positive: int, truth: str | None
) -> ChangedAnswer:
    """One image of which the two devices say something else."""
    both = here.is_read and there.is_read
    moved = _array([here.logits]) - _array([there.logits]) if both else None
    return ChangedAnswer(
        path=here.path,
        truth=truth,
        there=there.prediction,
        here=here.prediction,
        there_status=there.status,
        here_status=here.status,
        there_probability=there.probabilities[positive] if there.is_read else None,
        here_probability=here.probabilities[positive] if here.is_read else None,
        logit_change=None if moved is None else float(np.abs(moved).max()),
        there_distance=there.distance,
        here_distance=here.distance,
        step=step_of(here, there),
        error="" if both else (there if here.is_read else here).error,
    )


def coarser(one: str, other: str) -> str:
    """The precision of the two that rounds more."""
    return max(one, other, key=PRECISIONS.index)


def _class_index(row: AnswerRow, classes: Sequence[str]) -> int:
    return UNREAD if row.prediction is None else classes.index(row.prediction)


def _array(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64)
