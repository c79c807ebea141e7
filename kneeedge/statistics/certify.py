"""Limits that keep a promise: of the answers from a limit on, at least so many are right.

Learn then test (Angelopoulos, Bates, Candès, Jordan & Lei 2021, arXiv:2110.01052): a sequence of
limits, from the strictest to the laxest, is fixed without looking at any label. An exact test goes
down the sequence until it fails, and the laxest limit that it reached is taken. A sequence that is
begun anew behind a failure pays for its starts out of one budget: the fallback procedure (Wiens
2003). What is assumed, and why the promise holds then, is in `certify.md` beside this module.

An image's score says how surely it is of the class that is answered; a hit is an image that is of
it. The images of one patient are one unit, which counts once, as wrong where any of its answers is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kneeedge.statistics.exact import least_n, lower_bound, upper_bound, upper_tail

BEGIN_WITHIN = 1 / 3
"of the units that the threshold answers so: the first start, where they are enough, lies there"
BEGIN_ANEW = 2 / 3
"of them: the second start"
GRID_SPAN, GRID_STEP = 12.0, 0.25
"log odds from the strictest limit to the threshold, and from one limit to the next"
GRID_STARTS = (6.0, 4.0, 2.0, 1.0)
"log odds from the threshold where that sequence is begun, each with a like share of the budget"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """The laxest limit at which a promise holds."""

    limit: float
    "of the score; an image is answered from it on"
    n: int
    "units, as patients, with an answer there"
    n_wrong: int
    "of these, units with a wrong one"
    bound: float
    "0 to 1; the share of right ones that is shown, the target or more"


@dataclass(frozen=True)
class Units:
    """Scores by unit, which is all that a limit is found from."""

    scores: NDArray[np.float64]
    "(N,) of the images"
    tops: NDArray[np.float64]
    "(U,) the highest score of each unit"
    falls: NDArray[np.float64]
    "(U,) the highest score of its images that are no hits; -inf where all are"
    hits: NDArray[np.float64]
    "(H,) of each unit with a hit the lowest score of its hits"

    def count(self, cut: float) -> tuple[int, int]:
        """The units with a score above the cut, and those of them with a wrong one there."""
        return int((self.tops > cut).sum()), int((self.falls > cut).sum())


def units_of(
    scores: NDArray[np.floating], hits: NDArray[np.bool_], clusters: NDArray[np.intp] | None
) -> Units:
    """The units of images with scores (N,), `hits` (N,) or not; without clusters one an image.

    Raises ValueError where there are no images, or a score is not finite.
    """
    scores = np.array(scores, dtype=np.float64)
    hits = np.asarray(hits, dtype=bool)
    if len(scores) == 0 or scores.shape != hits.shape or not np.isfinite(scores).all():
        raise ValueError(f"limits are found from finite scores, one a label, not {scores.shape}")
    index = np.arange(len(scores))
    if clusters is not None:
        _, index = np.unique(clusters, return_inverse=True)
    n_units = int(index.max()) + 1
    tops = np.full(n_units, -np.inf)
    falls = np.full(n_units, -np.inf)
    lowest_hits = np.full(n_units, np.inf)
    np.maximum.at(tops, index, scores)
    np.maximum.at(falls, index[~hits], scores[~hits])
    np.minimum.at(lowest_hits, index[hits], scores[hits])
    return Units(
        np.asarray(scores, dtype=np.float64), tops, falls, lowest_hits[np.isfinite(lowest_hits)]
    )


def limit_by_rank(units: Units, target: float, error: float, floor: float) -> Reached | None:
    """The laxest limit, `floor` or above, from which on the share of right units is the target.

    The sequence is that of the units' ranks: its r-th limit lies right above the score of the unit
    of rank r + 1, so that r units are answered (fewer where scores are tied). It is begun where
    `starts` says. None where no limit is reached. The share is below the target with a chance of
    `error` at most.
    """
    cuts = np.append(np.sort(units.tops)[::-1][1:], -np.inf)
    cuts = cuts[: int((cuts >= floor).sum()) + 1]
    n_above = _count_above(units.tops, cuts)
    n_wrong = _count_above(units.falls, cuts)
    n_right = n_above - n_wrong
    fresh = np.zeros(len(cuts) + 1)  # the last is for a start that these units do not reach
    for n, share in starts(int(n_above[-1]), target, error):
        fresh[np.searchsorted(n_above, n)] += share

    def passes(i: int, level: float) -> bool:
        return upper_tail(int(n_right[i]), int(n_above[i]), target) <= level

    found = descend(passes, fresh[:-1])
    if found is None:
        return None
    last, level = found
    return Reached(
        limit=max(floor, limit_above(units.scores, float(cuts[last]))),
        n=int(n_above[last]),
        n_wrong=int(n_wrong[last]),
        bound=lower_bound(int(n_right[last]), int(n_above[last]), level),
    )


def starts(n_most: int, target: float, error: float) -> list[tuple[int, float]]:
    """With how many units the sequence is begun, and which share of the budget each start brings.

    The last limit answers `n_most` units. Where they are many, the sequence is begun at two thirds
    of them too, each time with half the budget, so that a mistake among the surest does not end it.
    By the number of units and not by their labels, which is why nothing else is to be paid for it.
    """
    if fewest(target, error / 2) > BEGIN_WITHIN * n_most:
        return [(fewest(target, error), error)]
    first = first_n(n_most, target, error / 2)
    return [(first, error / 2), (round(BEGIN_ANEW * n_most), error / 2)]


def first_n(n_most: int, target: float, error: float) -> int:
    """The fewest units that carry the promise with none, one, two, … of them wrong.

    With as many wrong ones as leave it at a third of `n_most` or less, or with none.
    """
    n = fewest(target, error)
    room = 1
    while (more := fewest(target, error, room)) <= BEGIN_WITHIN * n_most:
        n = more
        room += 1
    return n


def limit_at_prevalence(
    units: Units, target: float, error: float, cuts: NDArray[np.float64], prior: float
) -> Reached | None:
    """The same where a share `prior` of the units is of the answered class, unlike these.

    By Bayes from two exact bounds, each with half the budget: how many of the units with a hit are
    found with all their hits, at least, and how many of those with another image are answered
    wrongly, at most. `cuts` (M,) are limits that were fixed without these images, falling, as of
    `grid`. None where no limit is reached.
    """
    n_hits = len(units.hits)
    n_others = int(np.isfinite(units.falls).sum())
    if not n_hits or not n_others:
        return None

    def shown(i: int, level: float) -> float:
        found = int((units.hits >= cuts[i]).sum())
        wrong = int((units.falls >= cuts[i]).sum())
        right = prior * lower_bound(found, n_hits, level / 2)
        others = (1.0 - prior) * upper_bound(wrong, n_others, level / 2)
        return right / (right + others)

    fresh = np.zeros(len(cuts))
    for start in GRID_STARTS:
        fresh[round((GRID_SPAN - start) / GRID_STEP)] = error / len(GRID_STARTS)
    found = descend(lambda i, level: shown(i, level) >= target, fresh)
    if found is None:
        return None
    limit = float(cuts[found[0]])
    n, n_wrong = units.count(float(np.nextafter(limit, -np.inf)))
    return Reached(limit=limit, n=n, n_wrong=n_wrong, bound=shown(*found))


def grid(threshold: float) -> NDArray[np.float64]:
    """Probabilities from the strictest limit down to the threshold, in equal steps of log odds."""
    offsets = np.arange(round(GRID_SPAN / GRID_STEP), -1, -1) * GRID_STEP
    odds = threshold / (1.0 - threshold) * np.exp(offsets)
    probabilities = np.asarray(odds / (1.0 + odds), dtype=np.float64)
    probabilities[-1] = threshold  # which rounding would miss
    return probabilities


def descend(
    passes: Callable[[int, float], bool], fresh: NDArray[np.float64]
) -> tuple[int, float] | None:
    """The last hypothesis that is rejected, and at which level; None where none is.

    The fallback procedure (Wiens 2003, Pharmaceutical Statistics 2:211): hypothesis i is tested at
    the share of the budget that is `fresh` (M,) for it and the level of the one before it, where
    that was rejected. That any true one is rejected has a chance of the sum of `fresh` at most.
    """
    last = None
    level = 0.0
    for i, share in enumerate(fresh.tolist()):
        level += share
        if level and passes(i, level):
            last = i, level
        else:
            level = 0.0
    return last


@cache
def fewest(target: float, error: float, room: int = 0) -> int:
    """The fewest units that carry a promise, with `room` wrong ones among them."""
    n = least_n(target, error)
    while upper_tail(n - room, n, target) > error:
        n += 1
    return n


def fewest_others(target: float, error: float, prior: float) -> int:
    """The fewest units of the other class, none of them answered wrongly, that carry a promise.

    At a given prevalence, and where every unit of the answered class is found.
    """
    most = prior * (1.0 - target) / ((1.0 - prior) * target)
    return least_n(1.0 - most, error / len(GRID_STARTS) / 2) if most < 1.0 else 1


def limit_above(scores: NDArray[np.float64], cut: float) -> float:
    """A limit between the cut and the next score above it, half way where there is room.

    Rounding on another machine then moves no image of these across it.
    """
    lowest = float(scores[scores > cut].min())
    middle = (cut + lowest) / 2
    return middle if cut < middle < lowest else lowest


def _count_above(values: NDArray[np.float64], cuts: NDArray[np.float64]) -> NDArray[np.intp]:
    """How many of the values lie above each cut."""
    return len(values) - np.searchsorted(np.sort(values), cuts, side="right")
