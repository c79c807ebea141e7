"""What stands beside a speed: accuracy, flips and the gate's verdict of the same file, provider and batch size."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.answers import Answers
from kneeedge.dataset import Sample
from kneeedge.gate import INCONCLUSIVE, TOLERANCE, judge, judge_loss
from kneeedge.intervals import Interval
from kneeedge.metrics import evaluate
from kneeedge.paired import compare, images_to_settle
from kneeedge.spec import ModelSpec


@dataclass(frozen=True)
class Truth:
    """What the images show."""

    split: str
    labels: NDArray[np.intp]
    "(N,)"
    groups: tuple[str, ...]
    "(N,) patients, for whom the intervals allow"


def truth_of(samples: Sequence[Sample], split: str) -> Truth:
    """The labels and patients of labelled images."""
    labels = np.array([sample.label for sample in samples], dtype=np.intp)
    return Truth(split, labels, tuple(sample.group for sample in samples))


@dataclass(frozen=True)
class Accuracy:
    """How a model did, and what changed against the reference."""

    split: str
    n: int
    "images"
    accuracy: float
    interval: Interval
    "of accuracy, 95 %"
    sensitivity: float | None
    specificity: float | None
    auroc: float | None
    n_seen: int | None
    "images that the model was trained or chosen on; absent where its training images are not known"
    reference: str | None = None
    "precision of the reference: the original's, else fp32; absent in that row itself, and with it what follows"
    flips: int | None = None
    "images answered otherwise than the reference did"
    delta_accuracy: float | None = None
    "accuracy less the reference's"
    delta_interval: Interval | None = None
    "95 %, paired"
    verdict: str | None = None
    "of the export gate on these images; absent where the reference is another network that it was not slimmed from"
    reason: str | None = None
    images_to_settle: int | None = None
    "how many images would settle an inconclusive verdict, if the same share keeps flipping"

    @property
    def surely_lost(self) -> bool:
        """Whether the paired interval leaves no doubt that the reference is more accurate."""
        return self.delta_interval is not None and self.delta_interval.high < 0

    def cost(self) -> str:
        """What choosing this model costs, in a few words."""
        if self.flips is None or self.delta_accuracy is None:
            return f"accuracy {self.accuracy:.3f} on {self.n} images"
        change = f", accuracy {self.delta_accuracy:+.3f}" if self.delta_accuracy else ""
        return f"{self.flips} of {self.n} answers flipped{change}"


def describe(answers: Answers, truth: Truth, n_seen: int | None, reference: Answers | None) -> Accuracy:
    """The figures of one model, paired with the reference's where there is one."""
    found = evaluate(truth.labels, answers.probabilities, answers.spec, truth.groups)
    alone = Accuracy(
        truth.split, found.n, found.accuracy, found.intervals["accuracy"], found.sensitivity, found.specificity,
        found.auroc, n_seen,
    )  # fmt: skip
    if reference is None:
        return alone
    change = compare(truth.labels, reference.predictions, answers.predictions)
    paired = dataclasses.replace(
        alone, reference=reference.precision, flips=change.flips, delta_accuracy=change.delta,
        delta_interval=change.interval,
    )  # fmt: skip
    tolerance = TOLERANCE.get(answers.precision)
    if tolerance is None:
        return paired
    if is_slimmed_from(answers.spec, reference):
        verdict, reason = judge_loss(change, tolerance)
    elif same_network(answers.spec, reference.spec):
        moved = float(np.abs(answers.logits - reference.logits).max())
        verdict, reason = judge(change, moved, answers.precision, tolerance)
    else:
        return paired
    more = images_to_settle(change, tolerance) if verdict == INCONCLUSIVE else None
    return dataclasses.replace(paired, verdict=verdict, reason=reason, images_to_settle=more)


def same_network(spec: ModelSpec, other: ModelSpec) -> bool:
    """Whether two files hold the same trained weights, so that their logits are to be alike."""
    return (spec.training, spec.architecture) == (other.training, other.architecture)


def is_slimmed_from(spec: ModelSpec, original: Answers) -> bool:
    """Whether the model was slimmed from the network of these very weights."""
    slimmed = spec.training.slimmed
    return slimmed is not None and slimmed.sha256 == original.sha256
