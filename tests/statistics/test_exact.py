"""Exact bounds are those of SciPy's binomial and beta distributions."""

import pytest
from scipy.stats import beta, binom

from kneeedge.statistics.exact import least_n, lower_bound, upper_bound, upper_tail

COUNTS = [(0, 1), (1, 1), (3, 7), (71, 72), (72, 72), (140, 150), (0, 300), (1234, 1300)]


@pytest.mark.parametrize(("successes", "n"), COUNTS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95, 0.999, 1.0])
def test_the_tail_is_that_of_the_binomial(successes: int, n: int, share: float) -> None:
    expected = binom.sf(successes - 1, n, share)
    assert upper_tail(successes, n, share) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("successes", "n"), COUNTS)
@pytest.mark.parametrize("error", [0.5, 0.05, 0.0125])
def test_the_bounds_are_those_of_clopper_and_pearson(successes: int, n: int, error: float) -> None:
    low = beta.ppf(error, successes, n - successes + 1) if successes else 0.0
    high = beta.ppf(1 - error, successes + 1, n - successes) if successes < n else 1.0
    assert lower_bound(successes, n, error) == pytest.approx(low, abs=1e-12)
    assert upper_bound(successes, n, error) == pytest.approx(high, abs=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.97, 0.999])
@pytest.mark.parametrize("error", [0.05, 0.025])
def test_the_least_n_is_the_least_that_shows_a_share_without_a_failure(
    share: float, error: float
) -> None:
    n = least_n(share, error)
    assert lower_bound(n, n, error) >= share
    assert lower_bound(n - 1, n - 1, error) < share


@pytest.mark.parametrize(("successes", "n", "share"), [(-1, 3, 0.5), (4, 3, 0.5), (1, 3, 1.5)])
def test_what_is_no_share_has_no_tail(successes: int, n: int, share: float) -> None:
    with pytest.raises(ValueError, match="there is no tail"):
        upper_tail(successes, n, share)


def test_no_draws_bound_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        lower_bound(0, 0, 0.05)
