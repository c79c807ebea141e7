"""The short form in the export gate: a variant beside its original on corrupted images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.model.spec import softmax
from kneeedge.model.verdict import INCONCLUSIVE, PASS, is_rounding, judge_kinds, same_text
from kneeedge.statistics.intervals import clusters_of
from kneeedge.statistics.settling import images_to_settle
from kneeedge.stress.answers import CellAnswers
from kneeedge.stress.cells import cells_of
from kneeedge.stress.record import KindChange, StressGate
from kneeedge.stress.rows import pairing

GATE_SEVERITY = 3
GATE_CELLS = cells_of(severities=(GATE_SEVERITY,))
"the clean images first, which the losses are told against"
TOLERANCE = 0.01
"accuracy that a variant may lose against its original under any kind, as a share"


def judge_corrupted(
    samples: Sequence[Sample],
    original: CellAnswers,
    variant: CellAnswers,
    precision: str,
    tolerance: float,
    is_converted: bool,
) -> StressGate:
    """The verdict on the variant's answers in GATE_CELLS, each side's by its own spec.

    `is_converted` tells a variant of the original itself, which passes as `judge` has it where its
    logits moved by rounding alone, from another network's. Probabilities are made of the logits in
    double precision, as the gate does.
    """
    original = in_double(original)
    variant = in_double(variant)
    labels = np.array([sample.label for sample in samples])
    clusters = clusters_of([sample.group for sample in samples], len(samples))
    kinds = tuple(
        _kind_change(labels, original, variant, c, clusters) for c in range(1, len(GATE_CELLS))
    )
    changes = {kind.kind: kind.change for kind in kinds}
    verdict, reason = judge_kinds(changes, tolerance)
    moved = float(np.abs(variant.logits - original.logits).max())
    unchanged = not any(change.flips for change in changes.values())
    if is_converted and unchanged and is_rounding(moved, precision):
        verdict, reason = PASS, same_text(moved)
    worst = max(changes.values(), key=lambda change: change.worst_loss)
    return StressGate(
        severity=GATE_SEVERITY,
        split=samples[0].split,
        n=len(samples),
        verdict=verdict,
        reason=reason,
        tolerance=tolerance,
        images_to_settle=images_to_settle(worst, tolerance) if verdict == INCONCLUSIVE else None,
        kinds=kinds,
    )


def in_double(answers: CellAnswers) -> CellAnswers:
    """The answers with probabilities of their logits in double precision."""
    temperature = answers.spec.temperature
    cells = [softmax(logits, temperature) for logits in answers.logits]
    return replace(answers, probabilities=np.stack(cells))


def _kind_change(
    labels: NDArray[np.integer],
    original: CellAnswers,
    variant: CellAnswers,
    cell: int,
    clusters: NDArray[np.intp] | None,
) -> KindChange:
    paired = pairing(labels, original, variant, cell, clusters)
    return KindChange(
        kind=GATE_CELLS[cell].kind,
        original=float(np.mean(original.decisions(cell) == labels)),
        variant=float(np.mean(variant.decisions(cell) == labels)),
        change=paired.change,
        extra_loss=paired.extra_loss,
        original_refused=float(original.refused[cell].mean()),
        variant_refused=float(variant.refused[cell].mean()),
    )
