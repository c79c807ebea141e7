"""What a variant changes on images of which some have no label: bounds whatever the labels are.

An answer that changes was right before, or is right now, or neither. So accuracy can fall by no
more than if each changed answer without a label had been right, and by no less than if each had
become so: the worst-case bounds of Manski 1990, American Economic Review 80:319. Where no image
has a label this says that the accuracy lost is at most the share of changed answers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.paired import PairedChange, paired_change

NO_LABEL = -1
"in place of the class index of an image whose class is not known"


@dataclass(frozen=True, kw_only=True)
class PartlyLabelledChange:
    """The variant's answers against the original's where some images have no label."""

    n_unlabelled: int
    "images without a label, among all"
    unlabelled_flips: int
    "of these, images whose answer differs"
    if_lost: PairedChange
    "of all images, as if each of these flips had made a right answer wrong"
    if_gained: PairedChange
    "of all images, as if each of these flips had made a wrong answer right"

    @property
    def n(self) -> int:
        return self.if_lost.n

    @property
    def flips(self) -> int:
        return self.if_lost.flips

    @property
    def lost(self) -> int:
        """Labelled images that the original had right and the variant has wrong."""
        return self.if_gained.lost

    @property
    def gained(self) -> int:
        """Labelled images that the original had wrong and the variant has right."""
        return self.if_lost.gained

    @property
    def interval(self) -> Interval:
        """Of the change in accuracy, 95 %, two-sided, whatever the labels are."""
        return Interval(self.if_lost.interval.low, self.if_gained.interval.high)

    @property
    def worst_loss(self) -> float:
        """-1 to 1; one-sided 95 % upper bound on the loss, whatever the labels are."""
        return self.if_lost.worst_loss


def partly_labelled_change(
    labels: NDArray[np.integer],
    original_predictions: NDArray[np.integer],
    variant_predictions: NDArray[np.integer],
    clusters: NDArray[np.intp] | None = None,
    moves: NDArray[np.floating] | None = None,
) -> PartlyLabelledChange:
    """The change from class indices (N,), those of `labels` NO_LABEL where none is known.

    Raises ValueError where N is 0 or differs. `clusters` and `moves` as of `paired_change`.
    """
    unlabelled = labels == NO_LABEL
    as_before = np.where(unlabelled, original_predictions, labels)
    as_after = np.where(unlabelled, variant_predictions, labels)
    flipped = original_predictions != variant_predictions
    return PartlyLabelledChange(
        n_unlabelled=int(unlabelled.sum()),
        unlabelled_flips=int((unlabelled & flipped).sum()),
        if_lost=paired_change(
            as_before, original_predictions, variant_predictions, clusters, moves
        ),
        if_gained=paired_change(
            as_after, original_predictions, variant_predictions, clusters, moves
        ),
    )
