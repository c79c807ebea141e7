"""Has what comes one at a time become another than a reference? With a stated rate of false alarms.

A value's randomised rank among a reference is uniform, and independent of the ranks before it,
while the value and the reference are exchangeable and each value joins the reference once it is
ranked (conformal p-values: Vovk, Gammerman & Shafer 2005, theorem 8.2). A bet on a rank multiplies
its stake by a function of mean 1 of it, so that nobody wins in the long run while nothing changes.

A detector takes one new stake of 1 a value, and lets all earlier ones ride: R ← (R + 1) · bet
(Shiryaev 1963, Roberts 1966). While nothing changes R less the number of values is a martingale, so
that the mean number of values until R reaches a limit is at least that limit (e-detectors: Shin,
Ramdas & Rinaldo 2022, arXiv 2203.03532). Where something changes, R grows at the rate of the bets;
of one stake from the very start nothing would be left by then.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

NORMAL = NormalDist()
NARROWEST = 1e-12
"between a rank and 0 or 1, which no normal value stands for"


def randomised_rank(below: int, equal: int, n: int, coin: float) -> float:
    """The rank, above 0 and below 1, of a value among `n` others of which `below` are smaller.

    `equal` are as large; `coin`, uniform on 0 to 1, decides where among them it stands. Without any
    others it is the coin.
    """
    rank = (below + coin * (equal + 1)) / (n + 1)
    return min(max(rank, NARROWEST), 1.0 - NARROWEST)


def shift_bets(rank: float, shifts: Sequence[float]) -> list[float]:
    """Bets that the values have moved by so many standard deviations, up where above 0.

    Likelihood ratios of normal distributions of variance 1.
    """
    score = NORMAL.inv_cdf(rank)
    return [math.exp(shift * score - shift * shift / 2) for shift in shifts]


def share_bets(rank: float, share: float, odds: Sequence[float]) -> list[float]:
    """Bets that the odds of the top `share` of the values, above 0 and below 1, are so many times.

    Likelihood ratios of Bernoulli trials.
    """
    is_top = rank > 1.0 - share
    return [(factor if is_top else 1.0) / (factor * share + 1.0 - share) for factor in odds]


def ridden(stakes: Sequence[float], bets: Sequence[float]) -> list[float]:
    """What stands at stake after one more value, by bettor; at the start it is 0.

    The mean of several bettors' is a detector too.
    """
    return [(stake + 1.0) * bet for stake, bet in zip(stakes, bets, strict=True)]


def shortest_delay(run_length: float, before: float, after: float) -> float:
    """About the least mean number of values in which a change of a share can be noticed, at worst.

    log(run length) over the divergence of Bernoulli trials, `before` and `after` above 0 and below
    1: no detector that raises a false alarm once in `run_length` values is faster, but for terms
    that do not grow with it (Lorden 1971, theorem 3).
    """
    divergence = after * math.log(after / before)
    divergence += (1.0 - after) * math.log((1.0 - after) / (1.0 - before))
    return math.log(run_length) / divergence
