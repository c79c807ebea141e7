"""Which images a file refuses: by which limit, and beside the original.

Rounding to 8 or 16 bits moves distances, in int8 by more than what lies between the images at the
limit, and not evenly to both sides. The limit of the original's distances would refuse another
share of them. A limit from a file's own distances on the same genuine images refuses the share
asked for, whatever the rounding does to them: split conformal prediction asks no more than that the
limit is of the distances that it is held against. An fp32 file has the run's limit. Its distances
are the original's, and where they are not the gate is to see it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.spec import ModelSpec, Novelty
from kneeedge.model.verdict import EQUAL_DISTANCES, INCONCLUSIVE, judge_refusals, worst
from kneeedge.runs.export_report import RefusalChange, VerifyReport
from kneeedge.statistics.intervals import Interval, effective_size
from kneeedge.statistics.paired import PairedChange, change_of_counts
from kneeedge.statistics.settling import images_to_settle, largest_known
from kneeedge.training.novelty import quantile_limit


def compare_refusals(
    novelty: Novelty | None,
    original: NDArray[np.floating] | None,
    variant: NDArray[np.floating] | None,
    precision: str,
    clusters: NDArray[np.intp] | None = None,
) -> RefusalChange | None:
    """Which of the same genuine images the original's and the variant's distances (N,) each refuse.

    `novelty` is the run's; the images are those that set its limit, `clusters` (N,) the numbers of
    their groups. None where the model answers every image.
    """
    if novelty is None or original is None or variant is None:
        return None
    distances = variant.astype(np.float64)  # half-way between two floats may be no float
    limit = novelty.limit if precision == "fp32" else quantile_limit(distances)[0]
    before = novelty.refuses(original)
    after = replace(novelty, limit=limit).refuses(distances)
    change = distances - original
    effective_n = None
    if clusters is not None:
        effective_n = effective_size(before.astype(np.float64) - after, clusters, change)
    refusals = RefusalChange(
        original=int(before.sum()),
        variant=int(after.sum()),
        changed=int((before != after).sum()),
        mean_change=float(change.mean()),
        largest_change=float(np.abs(change).max()),
        original_limit=novelty.limit,
        variant_limit=limit,
        at_original_limit=int(novelty.refuses(distances).sum()),
        effective_n=effective_n,
    )
    answered = answered_change(refusals, len(original)).interval
    return replace(refusals, interval=Interval(-answered.high, -answered.low))


def judged(report: VerifyReport, refusals: RefusalChange | None) -> VerifyReport:
    """The report with its refusals, which give its verdict and reason where theirs is the worse.

    The variant may not refuse more genuine images than the original by more than the tolerance. Of
    a limit of its own it is known beforehand that it refuses as many as the original's, by how both
    were found; so it is of distances that moved by rounding alone.
    """
    if refusals is None or refusals.original_limit is None:
        return replace(report, refusals=refusals)
    is_rounding = refusals.largest_change <= EQUAL_DISTANCES * refusals.original_limit
    change = answered_change(refusals, report.n)
    is_equal = is_rounding or refusals.own_limit is not None
    of_refusals, why = judge_refusals(change, report.tolerance, is_equal)
    verdict, reason = worst((report.verdict, report.reason), (of_refusals, f"refusals: {why}"))
    needed: list[int | None] = []
    if report.verdict == verdict == INCONCLUSIVE:
        needed.append(report.images_to_settle)
    if of_refusals == verdict == INCONCLUSIVE:
        needed.append(images_to_settle(change, report.tolerance))
    return replace(
        report,
        verdict=verdict,
        reason=reason,
        refusals=refusals,
        images_to_settle=largest_known(needed),
    )


def answered_change(refusals: RefusalChange, n: int) -> PairedChange:
    """The change of the images that are answered, of `n`: the variant alone refuses those lost."""
    return change_of_counts(
        n=n,
        flips=refusals.changed,
        lost=refusals.variant_alone,
        gained=refusals.original_alone,
        effective_n=refusals.effective_n,
    )


def spec_of_file(spec: ModelSpec, report: VerifyReport) -> ModelSpec:
    """The run's spec with the limit to abstain that the gate's report gives the file."""
    limit = report.refusals.own_limit if report.refusals else None
    if spec.novelty is None or limit is None:
        return spec
    method = f"{spec.novelty.method}, by this {report.precision} file's own distances"
    return replace(spec, novelty=replace(spec.novelty, limit=limit, method=method))
