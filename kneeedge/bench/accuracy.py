"""What stands beside a speed: accuracy, flips and verdict at the same provider and batch size."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.inference.metrics import evaluate, value_of
from kneeedge.model.spec import ModelSpec
from kneeedge.model.verdict import INCONCLUSIVE, TOLERANCE, judge, judge_loss
from kneeedge.runs.answers import Answers
from kneeedge.runs.benchmark import Accuracy
from kneeedge.statistics.intervals import clusters_of
from kneeedge.statistics.paired import PairedChange, paired_change
from kneeedge.statistics.settling import images_to_settle


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


def make_accuracy(
    answers: Answers, truth: Truth, n_seen: int | None, reference: Answers | None
) -> Accuracy:
    """The figures of one model, paired with the reference's where there is one.

    `n_seen` of the images are those that the model was trained or chosen on, where that is known.
    """
    evaluation = evaluate(truth.labels, answers.probabilities, answers.spec, truth.groups)
    alone = Accuracy(
        split=truth.split,
        n=evaluation.n,
        accuracy=evaluation.accuracy.value,
        interval=evaluation.accuracy.interval,
        sensitivity=value_of(evaluation.sensitivity),
        specificity=value_of(evaluation.specificity),
        auroc=value_of(evaluation.auroc),
        n_seen=n_seen,
    )
    if reference is None:
        return alone
    clusters = clusters_of(truth.groups, len(truth.labels))
    change = paired_change(truth.labels, reference.predictions, answers.predictions, clusters)
    paired = dataclasses.replace(
        alone,
        reference=reference.precision,
        flips=change.flips,
        delta_accuracy=change.delta,
        delta_interval=change.interval,
    )
    return with_verdict(paired, change, answers, reference)


def with_verdict(
    accuracy: Accuracy, change: PairedChange, answers: Answers, reference: Answers
) -> Accuracy:
    """The figures with the gate's verdict, where the gate has one on such a pair of networks."""
    tolerance = TOLERANCE.get(answers.precision)
    if tolerance is None:
        return accuracy
    if is_slimmed_from(answers.spec, reference):
        verdict, reason = judge_loss(change, tolerance)
    elif same_network(answers.spec, reference.spec):
        max_logit_change = float(np.abs(answers.logits - reference.logits).max())
        verdict, reason = judge(change, max_logit_change, answers.precision, tolerance)
    else:
        return accuracy
    n_needed = images_to_settle(change, tolerance) if verdict == INCONCLUSIVE else None
    return dataclasses.replace(accuracy, verdict=verdict, reason=reason, images_to_settle=n_needed)


def same_network(spec: ModelSpec, other: ModelSpec) -> bool:
    """Whether two files hold the same trained weights, so that their logits are to be alike."""
    return (spec.training, spec.architecture) == (other.training, other.architecture)


def is_slimmed_from(spec: ModelSpec, original: Answers) -> bool:
    """Whether the model was slimmed from the network of these very weights."""
    slimmed = spec.training.slimmed
    return slimmed is not None and slimmed.sha256 == original.sha256
