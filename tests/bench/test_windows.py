"""Windows: a row's turns, apart from each other in time."""

import pytest

from kneeedge.bench.windows import drift, split_by_window, spread, throughput_interval, window_times
from kneeedge.runs.benchmark import OFFLINE, SINGLE_STREAM


def test_windows_are_parts_of_the_samples_in_order() -> None:
    assert split_by_window([1.0, 2.0, 3.0], [1, 2]) == [[1.0], [2.0, 3.0]]


@pytest.mark.parametrize("windows", [[1], [4], [3, 0], []])
def test_windows_that_do_not_hold_the_samples_are_refused(windows: list[int]) -> None:
    with pytest.raises(ValueError, match="do not hold 3 samples"):
        split_by_window([1.0, 2.0, 3.0], windows)


def test_a_window_is_its_median_and_offline_its_mean() -> None:
    samples = [1.0, 1.0, 10.0]
    assert window_times(samples, [3], SINGLE_STREAM) == [1.0]
    assert window_times(samples, [3], OFFLINE) == [4.0]


def test_the_spread_is_that_of_the_windows_over_their_median() -> None:
    assert spread([10.0, 10.0, 12.0]) == 0.2
    assert spread([10.0, 12.0]) is None


def test_drift_is_the_last_window_over_the_first() -> None:
    assert drift([10.0, 99.0, 11.0]) == 1.1
    assert drift([10.0]) is None


def test_the_throughput_of_six_windows_has_an_interval() -> None:
    samples = [100.0, 110.0, 120.0, 130.0, 140.0, 150.0]
    interval = throughput_interval(samples, [1] * 6, 8)
    assert (interval.low, interval.high) == (53.333, 80.0)
    assert throughput_interval(samples[:5], [1] * 5, 8) is None
