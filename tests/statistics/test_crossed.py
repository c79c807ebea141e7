"""Intervals of a figure's mean over trainings, for other groups and other trainings."""

import numpy as np
import pytest

from kneeedge.statistics.crossed import crossed_estimate

N_DRAWS = 60


def mean_of(values: np.ndarray):
    """The figure of values (S, N): their mean, by training."""
    return lambda rows, training: float(values[training, rows].mean())


def test_the_estimate_is_the_mean_over_trainings():
    values = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    estimate = crossed_estimate(mean_of(values), np.arange(3), 2)
    assert estimate.value == 3.0
    assert estimate.by_training == (2.0, 4.0)
    assert estimate.interval.low < 3.0 < estimate.interval.high


def test_a_figure_that_never_differs_has_no_width():
    estimate = crossed_estimate(mean_of(np.full((2, 5), 0.5)), np.arange(5), 2)
    assert (estimate.interval.low, estimate.interval.high) == (0.5, 0.5)


def test_it_holds_the_truth_where_groups_have_much_in_common():
    """30 groups of four images that share most of their difference; the truth is 0."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(30), 4)
    n_held = 0
    for _ in range(N_DRAWS):
        of_group = rng.normal(size=30)[clusters]
        values = of_group + 0.3 * rng.normal(size=(3, 120))
        interval = crossed_estimate(mean_of(values), clusters, 3).interval
        n_held += interval.low <= 0 <= interval.high
    assert n_held >= 0.88 * N_DRAWS


def test_draws_without_the_figure_are_left_out():
    def of_first(rows: np.ndarray, training: int) -> float | None:
        return float(len(rows)) if 0 in rows else None

    estimate = crossed_estimate(of_first, np.arange(4), 1)
    assert (estimate.interval.low, estimate.interval.high) == (4.0, 4.0)


def test_a_figure_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="give some of each class"):
        crossed_estimate(lambda *_: None, np.arange(4), 1)
