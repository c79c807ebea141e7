"""The gate: a variant's answers beside the original's, case by case."""

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.inference.metrics import evaluate
from kneeedge.model.spec import Novelty
from kneeedge.model.verdict import INCONCLUSIVE, TOLERANCE, judge, judge_slimmed
from kneeedge.runs.answers import Answers
from kneeedge.runs.export_report import CaseChange, RefusalChange, VerifyReport
from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.paired import (
    images_to_settle,
    paired_auroc_change,
    paired_calibration_change,
    paired_changes,
)

N_LISTED = 10


def pair(
    samples: tuple[Sample, ...],
    original: Answers,
    variant: Answers,
    provider: str,
    tolerance: float | None = None,
    own_logits: NDArray[np.floating] | None = None,
) -> VerifyReport:
    """Hold the variant's answers against the original's on the same samples, each by its own spec.

    `own_logits` (N, K), of the network that the variant was converted from, are given where that is
    not the original.
    """
    precision = variant.precision
    spec = variant.spec
    limit = TOLERANCE[precision] if tolerance is None else tolerance
    labels = np.array([sample.label for sample in samples])
    groups = [sample.group for sample in samples]
    before = original.probabilities
    after = variant.probabilities
    decided = (original.predictions, variant.predictions)
    changes = paired_changes(labels, *decided, spec.positive_index)
    delta = np.abs(variant.logits - original.logits)
    own = None if own_logits is None else float(np.abs(variant.logits - own_logits).max())
    if own is None:
        verdict, reason = judge(changes["accuracy"], float(delta.max()), precision, limit)
    else:
        verdict, reason = judge_slimmed(changes["accuracy"], own, precision, limit)
    area = auroc_change(labels, original, variant)
    ece_change, ece_interval = paired_calibration_change(labels, before, after)

    def case(i: int) -> CaseChange:
        names = spec.classes
        return CaseChange(
            path=samples[i].name,
            truth=names[labels[i]],
            original=names[decided[0][i]],
            variant=names[decided[1][i]],
            original_probability=float(before[i, spec.positive_index]),
            variant_probability=float(after[i, spec.positive_index]),
            max_logit_change=float(delta[i].max()),
        )

    return VerifyReport(
        precision=precision,
        split=samples[0].split,
        provider=provider,
        n=len(samples),
        verdict=verdict,
        reason=reason,
        tolerance=limit,
        original=evaluate(labels, before, original.spec, groups).score(),
        variant=evaluate(labels, after, spec, groups).score(),
        changes=changes,
        auroc_change=area[0] if area else None,
        auroc_interval=area[1] if area else None,
        ece_change=ece_change,
        ece_interval=ece_interval,
        max_abs_logit_change=float(delta.max()),
        mean_abs_logit_change=float(delta.mean()),
        flips=tuple(case(int(i)) for i in np.flatnonzero(decided[0] != decided[1])),
        largest=tuple(
            case(int(i)) for i in np.argsort(-delta.max(axis=1), kind="stable")[:N_LISTED]
        ),
        images_to_settle=images_to_settle(changes["accuracy"], limit)
        if verdict == INCONCLUSIVE
        else None,
        against=None if own is None else original.spec.name,
        own_logit_change=own,
    )


def compare_refusals(
    novelty: Novelty | None,
    original: NDArray[np.floating] | None,
    variant: NDArray[np.floating] | None,
) -> RefusalChange | None:
    """Which of the same images the original's and the variant's distances (N,) each refuse."""
    if novelty is None or original is None or variant is None:
        return None
    before = novelty.refuses(original)
    after = novelty.refuses(variant)
    change = variant - original
    return RefusalChange(
        original=int(before.sum()),
        variant=int(after.sum()),
        changed=int((before != after).sum()),
        mean_change=float(change.mean()),
        largest_change=float(np.abs(change).max()),
    )


def auroc_change(
    labels: NDArray[np.integer], original: Answers, variant: Answers
) -> tuple[float, Interval] | None:
    """The paired change of the positive class's AUROC; None with one class only.

    Two classes are ranked by the difference of their logits, since a probability near 1 rounds to 1
    and ties.
    """
    k = variant.spec.positive_index
    if len(variant.spec.classes) == 2:
        scores = [
            logits[:, k].astype(np.float64) - logits[:, 1 - k]
            for logits in (original.logits, variant.logits)
        ]
    else:
        scores = [answers.probabilities[:, k] for answers in (original, variant)]
    return paired_auroc_change(labels == k, scores[0], scores[1])
