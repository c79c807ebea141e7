"""The clock's loops: batches, warm-up, and every run timed."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Clock = Callable[[], float]
Images = NDArray[np.uint8]


def make_batches(images: Images, size: int) -> list[Images]:
    """Batches (size, 1, S, S) that between them hold every image (N, 1, S, S), cycled to fill the last."""
    n_batches = -(-len(images) // size)
    order = np.arange(n_batches * size) % len(images)
    return [np.ascontiguousarray(images[part]) for part in np.split(order, n_batches)]


def warm_up(run: Callable[[Images], object], batch: Images, seconds: float, clock: Clock) -> int:
    """Run until `seconds` have passed, once at least; the number of runs."""
    n_runs, start = 0, clock()
    while n_runs == 0 or clock() - start < seconds:
        run(batch)
        n_runs += 1
    return n_runs


def time_runs(
    run: Callable[[Images], object], batches: Sequence[Images], seconds: float, n_least: int, clock: Clock
) -> tuple[float, ...]:
    """Milliseconds of each run over the batches in turn, for `seconds` and `n_least` runs at least."""
    samples: list[float] = []
    turns = itertools.cycle(batches)
    start = end = clock()
    while len(samples) < n_least or end - start < seconds:
        batch = next(turns)
        begin = clock()
        run(batch)
        end = clock()
        samples.append(round((end - begin) * 1e3, 4))
    return tuple(samples)
