"""Answers in cells → figures with intervals, and each further model beside the first."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.inference.metrics import evaluate
from kneeedge.statistics.intervals import Interval, clusters_of, share_estimate
from kneeedge.statistics.paired import extra_loss, paired_change
from kneeedge.stress.answers import CellAnswers
from kneeedge.stress.cells import Cell
from kneeedge.stress.record import CellPairing, CellScore


def rows_of(
    samples: Sequence[Sample],
    cells: Sequence[Cell],
    answers: CellAnswers,
    original: CellAnswers | None = None,
) -> tuple[CellScore, ...]:
    """A row for each cell, the first of which is the clean one.

    Intervals allow for several images of a patient. With an `original` each row is paired with its.
    """
    return tuple(_row(samples, cell, c, answers, original) for c, cell in enumerate(cells))


def _row(
    samples: Sequence[Sample],
    cell: Cell,
    c: int,
    answers: CellAnswers,
    original: CellAnswers | None,
) -> CellScore:
    labels = np.array([sample.label for sample in samples])
    groups = [sample.group for sample in samples]
    evaluation = evaluate(labels, answers.probabilities[c], answers.spec, groups)
    refused = answers.refused[c]
    all_images = np.ones(len(labels), dtype=bool)
    clusters = clusters_of(groups, len(labels))
    share = share_estimate(refused, all_images, clusters)
    if share is None:
        raise ValueError("there are no images to stress; give a split that has some")
    wrong = answers.decisions(c) != labels
    clean_accuracy = float(np.mean(answers.decisions(0) == labels))
    return CellScore(
        kind=cell.kind,
        severity=cell.severity,
        level=cell.level,
        n=len(labels),
        accuracy=evaluation.accuracy,
        auroc=evaluation.auroc,
        sensitivity=evaluation.sensitivity,
        specificity=evaluation.specificity,
        ece=evaluation.ece,
        refused=share,
        loss=clean_accuracy - evaluation.accuracy.value,
        wrong_unrefused=float(np.mean(wrong & ~refused)),
        paired=None if original is None else pairing(labels, original, answers, c, clusters),
    )


def pairing(
    labels: NDArray[np.integer],
    original: CellAnswers,
    variant: CellAnswers,
    cell: int,
    clusters: NDArray[np.intp] | None = None,
) -> CellPairing:
    """The variant beside the original in one cell, and against their clean images (cell 0).

    Of the clean images themselves there is nothing to tell: 0, without room. `clusters` (N,) are
    the numbers of the images' groups, as of `clusters_of`.
    """
    clean = (original.decisions(0), variant.decisions(0))
    corrupted = (original.decisions(cell), variant.decisions(cell))
    extra, interval = 0.0, Interval(0.0, 0.0)
    if cell:
        extra, interval = extra_loss(labels, clean, corrupted, clusters)
    change = paired_change(labels, *corrupted, clusters)
    return CellPairing(change=change, extra_loss=extra, extra_interval=interval)
