"""What is timed, and what the turns of a row tell of its steadiness.

The scenarios are those of MLPerf Inference (Reddi et al. 2020, ISCA, section IV), each at its batch
size. A window is one turn, and between two the other models had theirs.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kneeedge.runs.benchmark import MULTI_STREAM, OFFLINE, SINGLE_STREAM
from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.percentiles import percentile_interval

MULTI_STREAM_IMAGES = 8
HEADLINE = {SINGLE_STREAM: 90, MULTI_STREAM: 99}
"the percentile of a query's latency that a scenario reports; Offline reports images a second"
LEAST_A_ROUND = {SINGLE_STREAM: 6, MULTI_STREAM: 1, OFFLINE: 1}
"least runs of a turn, however long they take: 6 rounds of 6 give SingleStream its p90 (36 runs)"
LEAST_WINDOWS = 3
"for a spread or a drift"
STEADY = 0.10
"largest spread of the windows' medians that counts as steady"


@dataclass(frozen=True)
class Scenario:
    """One kind of query."""

    name: str
    "SingleStream: an image a query, the next once it is answered; MultiStream: 8; Offline: batches"
    batch_size: int


def scenarios(batch_sizes: Sequence[int]) -> tuple[Scenario, ...]:
    """SingleStream, MultiStream and Offline at each of the sizes.

    The smallest batch comes first, since a process's peak of memory only grows.
    """
    all_scenarios = [
        Scenario(SINGLE_STREAM, 1),
        Scenario(MULTI_STREAM, MULTI_STREAM_IMAGES),
        *(Scenario(OFFLINE, size) for size in set(batch_sizes)),
    ]
    return tuple(sorted(all_scenarios, key=lambda scenario: scenario.batch_size))


def split_by_window(samples: Sequence[float], windows: Sequence[int]) -> list[Sequence[float]]:
    """The samples of each window; raises ValueError where the windows do not add up to them."""
    if sum(windows) != len(samples) or min(windows, default=0) < 1:
        raise ValueError(f"windows of {list(windows)} runs do not hold {len(samples)} samples")
    ends = list(itertools.accumulate(windows, initial=0))
    return [samples[start:end] for start, end in itertools.pairwise(ends)]


def window_times(samples: Sequence[float], windows: Sequence[int], scenario: str) -> list[float]:
    """Milliseconds a run of each window: its median, or in Offline, a throughput, its mean."""
    middle = np.mean if scenario == OFFLINE else np.median
    return [float(middle(window)) for window in split_by_window(samples, windows)]


def spread(times: Sequence[float]) -> float | None:
    """How far the windows lie apart, over their median; None with fewer than three."""
    if len(times) < LEAST_WINDOWS:
        return None
    return round((max(times) - min(times)) / max(float(np.median(times)), 1e-9), 4)


def drift(times: Sequence[float]) -> float | None:
    """The last window over the first; None with fewer than three."""
    return round(times[-1] / max(times[0], 1e-9), 4) if len(times) >= LEAST_WINDOWS else None


def throughput_interval(
    samples: Sequence[float], windows: Sequence[int], batch_size: int
) -> Interval | None:
    """The 95 % interval of images a second in the median window; None with fewer than six."""
    rates = [
        1e3 * batch_size * len(window) / max(sum(window), 1e-9)
        for window in split_by_window(samples, windows)
    ]
    interval = percentile_interval(rates, 0.5)
    if interval is None:
        return None
    return Interval(round(interval.low, 3), round(interval.high, 3))
