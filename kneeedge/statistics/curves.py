"""How to show a training's losses."""

from collections.abc import Sequence

CUT = 2.0
"times as high as all later losses are, from which on the first ones are cut off"
FIRST = 0.1
"share of the epochs that are the first ones; one at least"


def loss_top(losses: Sequence[tuple[float, float]]) -> float | None:
    """The top of an axis on which the later epochs of (training, validation) losses can be read.

    None, for an axis that shows all, unless one of the first epochs is more than CUT times as high
    as all that follows.
    """
    n_first = max(1, int(FIRST * len(losses)))
    later = [value for row in losses[n_first:] for value in row]
    if not later:
        return None
    highest = max(later)
    largest = max(value for row in losses for value in row)
    return 1.1 * highest if largest > CUT * highest > 0 else None
