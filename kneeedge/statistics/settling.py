"""How many images would settle what a paired comparison leaves open, at the rates of these."""

from collections.abc import Callable, Sequence

from kneeedge.statistics.intervals import Z_ONE_SIDED, wilson
from kneeedge.statistics.paired import ChangedShare, PairedChange, tango, worst_loss
from kneeedge.statistics.partly_labelled import PartlyLabelledChange

MOST_IMAGES = 10_000_000
"beyond which nobody would look for more"


def images_to_settle(change: PairedChange | PartlyLabelledChange, tolerance: float) -> int | None:
    """How many images would settle whether the loss is within the tolerance, at the rates of these.

    They bring `worst_loss` to the tolerance, or the whole interval beyond it where the observed
    loss is; of groups there are to be as many images each as here. It can be below `change.n`,
    where the matter is settled. None where the observed loss is the tolerance itself, where 10
    million would not do, and where it hangs on labels that are not known.
    """
    if isinstance(change, PartlyLabelledChange):
        if -change.if_lost.delta < tolerance:
            return images_to_settle(change.if_lost, tolerance)
        if -change.if_gained.delta > tolerance:
            return images_to_settle(change.if_gained, tolerance)
        return None
    gained, lost, size = (count / change.n for count in change.effective_counts)

    def settled(n: int) -> bool:
        if -change.delta < tolerance:
            return worst_loss(gained * n, lost * n, size * n) <= tolerance
        return -tango(gained * n, lost * n, size * n).high > tolerance

    return _first(settled, MOST_IMAGES)


def images_to_settle_share(share: ChangedShare, tolerance: float) -> int | None:
    """How many images would settle whether the share of changed answers is within the tolerance.

    At the share of these; otherwise as `images_to_settle`.
    """
    size = 1.0 if share.effective_n is None else share.effective_n / share.n

    def settled(n: int) -> bool:
        if share.share < tolerance:
            return wilson(share.share * size * n, size * n, Z_ONE_SIDED).high <= tolerance
        return wilson(share.share * size * n, size * n).low > tolerance

    return _first(settled, MOST_IMAGES)


def largest_known(needed: Sequence[int | None]) -> int | None:
    """How many images settle several questions at once; None where one cannot be settled."""
    known = [n for n in needed if n is not None]
    return max(known) if known and len(known) == len(needed) else None


def _first(holds: Callable[[int], bool], most: int) -> int | None:
    """The first of 1 to `most` from which on the condition holds; None where it fails at `most`."""
    if not holds(most):
        return None
    low = 0
    high = most
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
