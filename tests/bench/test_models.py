"""What is timed, by a fake clock."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from kneeedge.bench.models import make_batches, time_runs, warm_up


class FakeClock:
    """Seconds that pass only where a run says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def running(self, *seconds: float) -> Callable[[np.ndarray], None]:
        """A run that takes these times in turn, and the last one from then on."""
        times = itertools.chain(seconds, itertools.repeat(seconds[-1]))

        def run(images: np.ndarray) -> None:
            self.now += next(times)

        return run


IMAGES = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)


def test_runs_go_on_until_the_time_is_up() -> None:
    clock = FakeClock()
    assert time_runs(clock.running(0.25), [IMAGES], 2.0, 1, clock) == (250.0,) * 8


def test_the_least_number_of_runs_outlasts_the_time() -> None:
    clock = FakeClock()
    assert len(time_runs(clock.running(5.0), [IMAGES], 2.0, 30, clock)) == 30


def test_an_outlier_stays_among_the_samples_in_its_place() -> None:
    clock = FakeClock()
    samples = time_runs(clock.running(0.01, 0.01, 0.01, 0.9, 0.01), [IMAGES], 1.0, 10, clock)
    assert samples[3] == 900.0
    assert samples[4] == 10.0


def test_warming_up_counts_its_runs_and_makes_one_at_least() -> None:
    clock = FakeClock()
    assert warm_up(clock.running(0.125), IMAGES, 0.5, clock) == 4
    assert warm_up(clock.running(60.0), IMAGES, 0.5, clock) == 1
    assert warm_up(clock.running(1.0), IMAGES, 0.0, clock) == 1


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_batches_are_full_and_hold_every_image(size: int) -> None:
    batches = make_batches(IMAGES, size)
    assert {batch.shape for batch in batches} == {(size, 1, 1, 1)}
    assert set(np.concatenate(batches).ravel().tolist()) == set(range(5))


def test_the_runs_take_the_batches_in_turn() -> None:
    clock = FakeClock()
    order = []

    def run(images: np.ndarray) -> None:
        order.append(int(images[0, 0, 0, 0]))
        clock.now += 1.0

    time_runs(run, make_batches(IMAGES, 1), 7.0, 1, clock)
    assert order == [0, 1, 2, 3, 4, 0, 1]
