"""Exact bounds of shares: binomial tails, Clopper–Pearson, and how many images they need."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

HALVINGS = 60
"of the span in which a bound lies: 1 / 2^60 is below a float's spacing"


def upper_tail(successes: int, n: int, share: float) -> float:
    """The chance, 0 to 1, of at least so many successes in `n` draws at a true share.

    Raises ValueError where `successes` is not within 0 and n, or the share not within 0 and 1.
    """
    if not 0 <= successes <= n or not 0.0 <= share <= 1.0:
        raise ValueError(f"there is no tail of {successes} in {n} draws at a share of {share}")
    if successes == 0 or share == 1.0:
        return 1.0
    if share == 0.0:
        return 0.0
    return min(1.0, float(binomial(n, share, successes).sum()))


def binomial(n: int, share: float, first: int = 0) -> NDArray[np.float64]:
    """P(B = k) for k = `first` … n successes in n draws at a share above 0 and below 1.

    Through logarithms, since factorials of thousands overflow.
    """
    counts = np.arange(first, n + 1)
    logs = _log_factorials(_size_for(n))
    log_chances = logs[n] - logs[counts] - logs[n - counts]
    log_chances += counts * math.log(share) + (n - counts) * math.log1p(-share)
    return np.asarray(np.exp(log_chances), dtype=np.float64)


def lower_bound(successes: int, n: int, error: float) -> float:
    """The share, 0 to 1, that the true one is below with a chance of `error` at most.

    Clopper & Pearson 1934, Biometrika 26:404: the share at which so many successes or more have
    that very chance. It is one-sided. Raises ValueError where n is 0.
    """
    if n == 0:
        raise ValueError("no draws bound a share; give at least one")
    low = 0.0
    high = successes / n
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if upper_tail(successes, n, middle) <= error:
            low = middle
        else:
            high = middle
    return low


def upper_bound(successes: int, n: int, error: float) -> float:
    """The share, 0 to 1, that the true one is above with a chance of `error` at most."""
    return 1.0 - lower_bound(n - successes, n, error)


def least_n(share: float, error: float) -> int:
    """How many draws without a failure bound the true share at `share` or above.

    The smallest n with share^n ≤ error, which is ⌈ln error / ln share⌉.
    """
    n = math.ceil(math.log(error) / math.log(share))
    return n if share**n <= error else n + 1  # the logarithms round


def _size_for(n: int) -> int:
    """A power of two above n, so that few tables are kept."""
    return 1 << (n + 1).bit_length()


@cache
def _log_factorials(size: int) -> NDArray[np.float64]:
    """Natural logarithms of i! for i from 0 to `size`."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size + 1)))])
