"""Ranks are uniform, bets are fair, and a detector waits as long as it says."""

import math

import numpy as np
import pytest

from kneeedge.statistics.sequential import (
    NORMAL,
    randomised_rank,
    ridden,
    share_bets,
    shift_bets,
    shortest_delay,
)

GRID = (np.arange(10_000) + 0.5) / 10_000


def test_a_rank_lies_among_its_equals_by_the_coin() -> None:
    assert randomised_rank(3, 0, 9, 0.5) == pytest.approx(0.35)
    low, high = randomised_rank(3, 2, 9, 0.0), randomised_rank(3, 2, 9, 1.0)
    assert (low, high) == pytest.approx((0.3, 0.6))


def test_a_rank_without_others_is_the_coin() -> None:
    assert randomised_rank(0, 0, 0, 0.25) == 0.25


@pytest.mark.parametrize("coin", [0.0, 1.0])
def test_no_rank_is_0_or_1(coin: float) -> None:
    assert 0.0 < randomised_rank(9 if coin else 0, 0, 9, coin) < 1.0


def test_ranks_among_growing_ties_are_uniform() -> None:
    """Values of three levels only, each of which joins the others once it is ranked."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, 4000)
    ranks = []
    for i, value in enumerate(values):
        before = values[:i]
        below = int((before < value).sum())
        ranks.append(randomised_rank(below, int((before == value).sum()), i, rng.random()))
    counts = np.histogram(ranks, bins=10, range=(0, 1))[0]
    assert np.abs(counts - 400).max() < 80  # four standard deviations


@pytest.mark.parametrize("shift", [-2.0, -1.0, 1.0, 2.0])
def test_a_bet_on_a_shift_is_fair(shift: float) -> None:
    """The integral over ranks, by the normal scores that they stand for."""
    scores = np.linspace(-6.5, 6.5, 2601)
    bets = [shift_bets(NORMAL.cdf(score), [shift])[0] * NORMAL.pdf(score) for score in scores]
    assert sum(bets) * (scores[1] - scores[0]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("share", "odds"), [(0.02, 10.0), (0.4, 5.0), (0.9, 0.2)])
def test_a_bet_on_a_share_is_fair(share: float, odds: float) -> None:
    mean = np.mean([share_bets(rank, share, [odds])[0] for rank in GRID])
    assert mean == pytest.approx(1.0, abs=0.001)


def test_every_value_brings_a_new_stake() -> None:
    assert ridden([0.0, 3.0], [2.0, 0.5]) == [2.0, 2.0]


def test_what_stands_at_stake_is_on_average_the_number_of_values() -> None:
    """R less the number of values is a martingale: the mean time to a limit is at least that."""
    rng = np.random.default_rng(1)
    means = []
    for _ in range(3000):
        stakes = [0.0]
        for rank in rng.random(20):
            stakes = ridden(stakes, share_bets(rank, 0.4, [2.0]))
        means.append(stakes[0])
    assert np.mean(means) == pytest.approx(20.0, rel=0.1)


def test_no_detector_notices_a_small_change_of_a_share_at_once() -> None:
    doubled = shortest_delay(36_500, 0.42, 0.84)
    assert doubled == pytest.approx(math.log(36_500) / 0.37613, rel=1e-3)
    assert shortest_delay(36_500, 0.2, 0.4) > 2 * 50
