"""What is timed: the scenarios of MLPerf Inference (Reddi et al. 2020, ISCA, section IV), each at its batch size."""

from collections.abc import Sequence
from dataclasses import dataclass

SINGLE_STREAM, MULTI_STREAM, OFFLINE = "SingleStream", "MultiStream", "Offline"
MULTI_STREAM_IMAGES = 8
HEADLINE = {SINGLE_STREAM: 90, MULTI_STREAM: 99}
"the percentile of a query's latency that a scenario reports; Offline reports images a second"
LEAST_A_ROUND = {SINGLE_STREAM: 6, MULTI_STREAM: 1, OFFLINE: 1}
"runs of a turn, however long they take: of SingleStream so many that six rounds give its 90th percentile (36 runs)"


@dataclass(frozen=True)
class Scenario:
    """One kind of query."""

    name: str
    "SingleStream: one image a query, the next when the answer is there; MultiStream: eight; Offline: full batches"
    batch_size: int


def scenarios(batch_sizes: Sequence[int]) -> tuple[Scenario, ...]:
    """SingleStream, MultiStream and Offline at each of the sizes, smallest batch first, since memory only grows."""
    offline = (Scenario(OFFLINE, size) for size in set(batch_sizes))
    found = (Scenario(SINGLE_STREAM, 1), Scenario(MULTI_STREAM, MULTI_STREAM_IMAGES), *offline)
    return tuple(sorted(found, key=lambda scenario: scenario.batch_size))
