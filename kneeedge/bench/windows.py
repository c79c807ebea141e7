"""What the turns of a row tell of its steadiness: a window is one turn, and between two the others had theirs."""

import itertools
from collections.abc import Sequence

import numpy as np

from kneeedge.bench.percentiles import percentile_interval
from kneeedge.bench.scenarios import OFFLINE
from kneeedge.intervals import Interval

STEADY = 0.10
"largest spread of the windows' medians that counts as steady"
LEAST_WINDOWS = 3


def split(samples: Sequence[float], windows: Sequence[int]) -> list[Sequence[float]]:
    """The samples of each window; raises ValueError where the windows do not add up to them."""
    if sum(windows) != len(samples) or min(windows, default=0) < 1:
        raise ValueError(f"windows of {list(windows)} runs do not hold {len(samples)} samples")
    ends = list(itertools.accumulate(windows, initial=0))
    return [samples[a:b] for a, b in itertools.pairwise(ends)]


def window_times(samples: Sequence[float], windows: Sequence[int], scenario: str) -> list[float]:
    """Milliseconds a run of each window: the mean of Offline, whose figure is a throughput, else the median."""
    middle = np.mean if scenario == OFFLINE else np.median
    return [float(middle(window)) for window in split(samples, windows)]


def spread(times: Sequence[float]) -> float | None:
    """How far the windows lie apart, over their median; None with fewer than three."""
    if len(times) < LEAST_WINDOWS:
        return None
    return round((max(times) - min(times)) / max(float(np.median(times)), 1e-9), 4)


def drift(times: Sequence[float]) -> float | None:
    """The last window over the first; None with fewer than three."""
    return round(times[-1] / max(times[0], 1e-9), 4) if len(times) >= LEAST_WINDOWS else None


def throughput_interval(samples: Sequence[float], windows: Sequence[int], batch_size: int) -> Interval | None:
    """The 95 % interval of images a second in the median window; None with fewer than six."""
    rates = [1e3 * batch_size * len(window) / max(sum(window), 1e-9) for window in split(samples, windows)]
    found = percentile_interval(rates, 0.5)
    return None if found is None else Interval(round(found.low, 3), round(found.high, 3))
