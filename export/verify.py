"""The gate: a variant's answers beside the original's, case by case."""

import numpy as np
from numpy.typing import NDArray

from kneeedge.dataset import Sample
from kneeedge.gate import INCONCLUSIVE, TOLERANCE, CaseChange, RefusalChange, VerifyReport, judge
from kneeedge.intervals import Interval
from kneeedge.metrics import evaluate
from kneeedge.paired import (
    compare_groups,
    images_to_settle,
    paired_auroc_change,
    paired_calibration_change,
)
from kneeedge.spec import ModelSpec, Novelty, softmax

N_LISTED = 10


def pair(
    samples: tuple[Sample, ...], original: NDArray[np.floating], variant: NDArray[np.floating], spec: ModelSpec,
    precision: str, provider: str, tolerance: float | None = None,
) -> VerifyReport:  # fmt: skip
    """Hold the variant's logits (N, K) against the original's (N, K) on the same samples."""
    limit = TOLERANCE[precision] if tolerance is None else tolerance
    labels, groups = np.array([sample.label for sample in samples]), [sample.group for sample in samples]
    before, after = softmax(original, spec.temperature), softmax(variant, spec.temperature)
    decided = (spec.decide(before), spec.decide(after))
    changes = compare_groups(labels, *decided, spec.positive_index)
    delta = np.abs(variant - original)
    verdict, reason = judge(changes["accuracy"], float(delta.max()), precision, limit)
    area = auroc_change(labels, original, variant, spec)
    ece_change, ece_interval = paired_calibration_change(labels, before, after)

    def case(i: int) -> CaseChange:
        names = spec.classes
        return CaseChange(
            samples[i].name, names[labels[i]], names[decided[0][i]], names[decided[1][i]],
            float(before[i, spec.positive_index]), float(after[i, spec.positive_index]), float(delta[i].max()),
        )  # fmt: skip

    return VerifyReport(
        precision=precision, split=samples[0].split, provider=provider, n=len(samples),
        verdict=verdict, reason=reason, tolerance=limit,
        original=evaluate(labels, before, spec, groups).score(),
        variant=evaluate(labels, after, spec, groups).score(),
        changes=changes, auroc_change=area[0] if area else None, auroc_interval=area[1] if area else None,
        ece_change=ece_change, ece_interval=ece_interval,
        max_abs_logit_change=float(delta.max()), mean_abs_logit_change=float(delta.mean()),
        flips=tuple(case(int(i)) for i in np.flatnonzero(decided[0] != decided[1])),
        largest=tuple(case(int(i)) for i in np.argsort(-delta.max(axis=1), kind="stable")[:N_LISTED]),
        images_to_settle=images_to_settle(changes["accuracy"], limit) if verdict == INCONCLUSIVE else None,
    )  # fmt: skip


def compare_refusals(
    novelty: Novelty | None, original: NDArray[np.floating] | None, variant: NDArray[np.floating] | None
) -> RefusalChange | None:
    """Which of the same images the original's and the variant's distances (N,) each refuse."""
    if novelty is None or original is None or variant is None:
        return None
    before, after = novelty.refuses(original), novelty.refuses(variant)
    change = variant - original
    return RefusalChange(
        int(before.sum()), int(after.sum()), int((before != after).sum()), float(change.mean()),
        float(np.abs(change).max()),
    )  # fmt: skip


def auroc_change(
    labels: NDArray[np.integer], original: NDArray[np.floating], variant: NDArray[np.floating], spec: ModelSpec
) -> tuple[float, Interval] | None:
    """The paired change of the positive class's AUROC from logits (N, K) each; None with one class only.

    Two classes are ranked by the difference of their logits, since a probability near 1 rounds to 1 and ties.
    """
    k = spec.positive_index
    if len(spec.classes) == 2:
        scores = [logits[:, k].astype(np.float64) - logits[:, 1 - k] for logits in (original, variant)]
    else:
        scores = [softmax(logits, spec.temperature)[:, k] for logits in (original, variant)]
    return paired_auroc_change(labels == k, scores[0], scores[1])
