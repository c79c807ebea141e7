"""The gate: a variant's answers beside the original's, case by case."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.inference.metrics import evaluate
from kneeedge.model.file_record import GateData
from kneeedge.model.provenance import Score
from kneeedge.model.spec import ModelSpec, softmax
from kneeedge.model.verdict import INCONCLUSIVE, TOLERANCE, judge, judge_slimmed
from kneeedge.runs.answers import Answers
from kneeedge.runs.export_report import CaseChange, ReferralChange, VerifyReport
from kneeedge.runtime.session import Outputs
from kneeedge.statistics.intervals import Interval, clusters_among, clusters_of
from kneeedge.statistics.paired import (
    PairedChange,
    changed_share,
    paired_auroc_change,
    paired_calibration_change,
    paired_changes,
)
from kneeedge.statistics.partly_labelled import NO_LABEL, partly_labelled_change
from kneeedge.statistics.settling import images_to_settle

N_LISTED = 10


@dataclass(frozen=True)
class Gated:
    """What the gate says of a graph, and the answers that it says it of."""

    report: VerifyReport
    answers: Outputs
    "to the images of val, in their order"


@dataclass(frozen=True)
class Dropped:
    """A graph that the gate did not look at to the end, since it could no longer be chosen."""

    n: int
    "images looked at"
    flips: int
    "answers changed among these"


def gate_report(
    samples: tuple[Sample, ...],
    original: Answers,
    variant: Answers,
    provider: str,
    tolerance: float | None = None,
    own_logits: NDArray[np.floating] | None = None,
    gate_data: GateData | None = None,
) -> VerifyReport:
    """The variant's answers held against the original's on the same samples, each by its own spec.

    The samples are those of one split and, behind them, those of `gate_data`; intervals allow for
    several of a group. `own_logits` (N, K), of the network that the variant was converted from, are
    given where that is not the original.
    """
    precision = variant.precision
    limit = TOLERANCE[precision] if tolerance is None else tolerance
    n_split = len(samples) - (gate_data.n if gate_data else 0)
    labels = np.array([sample.label for sample in samples])
    groups = [sample.group for sample in samples]
    clusters = clusters_of(groups, len(samples))
    labelled = labels != NO_LABEL
    bounds = None
    agreement = None
    if not labelled.all():
        flipped = original.predictions != variant.predictions
        moves = margin_moves(original, variant)
        bounds = partly_labelled_change(
            labels, original.predictions, variant.predictions, clusters, moves
        )
        unlabelled = clusters_among(clusters, ~labelled)
        agreement = changed_share(flipped[~labelled], unlabelled, moves[~labelled])
    figures = compare_figures(
        labels[labelled],
        among(original, labelled),
        among(variant, labelled),
        [groups[i] for i in np.flatnonzero(labelled)],
    )
    deciding = bounds or figures.changes["accuracy"]
    logit_changes = np.abs(variant.logits - original.logits)
    largest_change = float(logit_changes.max())
    against = None
    own_change = None
    if own_logits is None:
        verdict, reason = judge(deciding, largest_change, precision, limit)
    else:
        against = original.spec.name
        own_change = float(np.abs(variant.logits - own_logits).max())
        verdict, reason = judge_slimmed(deciding, own_change, precision, limit)
    n_to_settle = images_to_settle(deciding, limit) if verdict == INCONCLUSIVE else None
    cases = case_changes(samples, original, variant)
    most_changed = np.argsort(-logit_changes.max(axis=1), kind="stable")[:N_LISTED]
    return VerifyReport(
        precision=precision,
        split=samples[0].split,
        provider=provider,
        n=n_split,
        verdict=verdict,
        reason=reason,
        tolerance=limit,
        original=figures.original,
        variant=figures.variant,
        changes=figures.changes,
        auroc_change=figures.auroc_change,
        auroc_interval=figures.auroc_interval,
        ece_change=figures.ece_change,
        ece_interval=figures.ece_interval,
        max_abs_logit_change=largest_change,
        mean_abs_logit_change=float(logit_changes.mean()),
        flips=tuple(case for case in cases if case.original != case.variant),
        largest=tuple(cases[i] for i in most_changed),
        images_to_settle=n_to_settle,
        against=against,
        own_logit_change=own_change,
        gate_data=gate_data,
        bounds=bounds,
        agreement=agreement,
    )


@dataclass(frozen=True, kw_only=True)
class PairedFigures:
    """What labels are needed for; the fields are those of VerifyReport."""

    original: Score
    variant: Score
    changes: dict[str, PairedChange]
    auroc_change: float | None
    auroc_interval: Interval | None
    ece_change: float
    ece_interval: Interval


def compare_figures(
    labels: NDArray[np.integer], original: Answers, variant: Answers, groups: Sequence[str]
) -> PairedFigures:
    """The figures of two models on labelled images (N,), the intervals over their groups."""
    clusters = clusters_of(groups, len(labels))
    positive = variant.spec.positive_index
    area, area_interval = auroc_change(labels, original, variant, clusters) or (None, None)
    ece, ece_interval = paired_calibration_change(
        labels, original.probabilities, variant.probabilities, clusters
    )
    return PairedFigures(
        original=evaluate(labels, original.probabilities, original.spec, groups).score(),
        variant=evaluate(labels, variant.probabilities, variant.spec, groups).score(),
        changes=paired_changes(
            labels,
            original.predictions,
            variant.predictions,
            positive,
            clusters,
            margin_moves(original, variant),
        ),
        auroc_change=area,
        auroc_interval=area_interval,
        ece_change=ece,
        ece_interval=ece_interval,
    )


def margin_moves(original: Answers, variant: Answers) -> NDArray[np.float64]:
    """How far the logit of each original answer (N,) moved against the largest other one.

    A flip is such a move beyond the margin: where none flipped, moves say how alike the rounding is
    for images of one patient.
    """
    rows = np.arange(len(original.logits))
    answers = original.logits.argmax(axis=1)

    def margins(logits: NDArray[np.floating]) -> NDArray[np.float64]:
        others = logits.astype(np.float64)
        own = others[rows, answers]
        others[rows, answers] = -np.inf
        return np.asarray(own - others.max(axis=1))

    return margins(variant.logits) - margins(original.logits)


def among(answers: Answers, rows: NDArray[np.bool_]) -> Answers:
    """The answers to some of the images."""
    return replace(answers, logits=answers.logits[rows])


def case_changes(
    samples: tuple[Sample, ...], original: Answers, variant: Answers
) -> list[CaseChange]:
    """Each sample with its class, and how the original and the variant answer it."""
    names = variant.spec.classes
    positive = variant.spec.positive_index
    before = original.probabilities[:, positive]
    after = variant.probabilities[:, positive]
    decided_before = original.predictions
    decided_after = variant.predictions
    logit_changes = np.abs(variant.logits - original.logits).max(axis=1)
    return [
        CaseChange(
            path=sample.name,
            truth=None if sample.label == NO_LABEL else names[sample.label],
            original=names[decided_before[i]],
            variant=names[decided_after[i]],
            original_probability=float(before[i]),
            variant_probability=float(after[i]),
            max_logit_change=float(logit_changes[i]),
        )
        for i, sample in enumerate(samples)
    ]


def compare_referrals(
    spec: ModelSpec,
    labels: NDArray[np.integer],
    original: NDArray[np.floating],
    variant: NDArray[np.floating],
) -> ReferralChange | None:
    """Which of the same images are referred by the original's and the variant's logits (N, 2).

    With how many of the others each answers wrongly, of class indices (N,).
    """
    if spec.certified is None:
        return None
    before = softmax(original, spec.temperature)
    after = softmax(variant, spec.temperature)
    referred = spec.refers(before)
    referred_after = spec.refers(after)
    decided = spec.decide(before)
    decided_after = spec.decide(after)
    both = ~referred & ~referred_after
    return ReferralChange(
        original=int(referred.sum()),
        variant=int(referred_after.sum()),
        changed=int((referred != referred_after).sum()),
        crossed=int((both & (decided != decided_after)).sum()),
        original_wrong=int((~referred & (decided != labels)).sum()),
        variant_wrong=int((~referred_after & (decided_after != labels)).sum()),
    )


def auroc_change(
    labels: NDArray[np.integer],
    original: Answers,
    variant: Answers,
    clusters: NDArray[np.intp] | None = None,
) -> tuple[float, Interval] | None:
    """The paired change of the positive class's AUROC; None with one class only.

    Two classes are ranked by the difference of their logits, since a probability near 1 rounds to 1
    and ties.
    """
    truth = labels == variant.spec.positive_index
    return paired_auroc_change(truth, _ranking(original), _ranking(variant), clusters)


def _ranking(answers: Answers) -> NDArray[np.float64]:
    positive = answers.spec.positive_index
    if len(answers.spec.classes) == 2:
        margins = answers.logits[:, positive].astype(np.float64) - answers.logits[:, 1 - positive]
        return np.asarray(margins, dtype=np.float64)
    return answers.probabilities[:, positive]
