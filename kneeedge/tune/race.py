"""When a recipe is given up: where it is surely worse than the best so far on the same images."""

from collections.abc import Sequence

import numpy as np

from kneeedge.statistics.intervals import clustered_variance

SURE = 1.645
"standard errors: 95 % on one side"


def is_behind(
    losses: Sequence[Sequence[float]],
    best: Sequence[Sequence[float]],
    groups: Sequence[Sequence[str]],
) -> bool:
    """Whether the mean loss of a recipe is surely above the best's, on the folds that it has had.

    `losses` and `best` are of each image of these folds in the order of `groups`, which name each
    image's patient; the best may have had more folds. The difference of an image is held against
    the spread of the patients' (one-sided, 95 %). That is asked after every fold, of the best of
    many, so that a recipe as good is given up more often than that.
    """
    ours = np.concatenate([np.asarray(fold) for fold in losses])
    theirs = np.concatenate([np.asarray(fold) for fold in best[: len(losses)]])
    _, clusters = np.unique(np.concatenate([*groups]), return_inverse=True)
    differences = ours - theirs
    mean = float(differences.mean())
    variance = clustered_variance((differences - mean) / len(differences), clusters)
    return variance is not None and mean > SURE * variance**0.5
