"""Limits keep their promise: on populations of known truth, beside MAPIE, and at the edges."""

from dataclasses import dataclass

import numpy as np
import pytest
from mapie.risk_control import BinaryClassificationController
from numpy.typing import NDArray

from kneeedge.statistics.certify import (
    Reached,
    Units,
    descend,
    fewest,
    fewest_others,
    first_n,
    grid,
    limit_at_prevalence,
    limit_by_rank,
    starts,
    units_of,
)
from kneeedge.statistics.exact import lower_bound

TARGET, ERROR = 0.95, 0.05
N_DRAWS = 1000


def units(
    scores: list[float], wrong: tuple[int, ...] = (), groups: list[int] | None = None
) -> Units:
    """Units of images of these scores, all hits but those at the places `wrong`."""
    hits = np.ones(len(scores), dtype=bool)
    hits[list(wrong)] = False
    return units_of(np.array(scores), hits, None if groups is None else np.array(groups))


def falling(n: int) -> list[float]:
    return np.linspace(0.99, 0.51, n).tolist()


def limit(of: Units, target: float = TARGET, error: float = ERROR) -> Reached | None:
    return limit_by_rank(of, target, error, 0.5)


def test_right_answers_alone_are_all_given_from_the_fewest_on_that_show_it() -> None:
    n = fewest(TARGET, ERROR)
    assert n == 59  # ln 0.05 / ln 0.95 = 58.4
    assert limit(units(falling(n - 1))) is None
    found = limit(units(falling(n)))
    assert found is not None
    assert (found.n, found.n_wrong) == (n, 0)
    assert 0.5 <= found.limit <= 0.51
    assert found.bound >= TARGET


def test_a_wrong_answer_before_the_fewest_lets_nothing_be_promised() -> None:
    assert limit(units(falling(70), wrong=(10,))) is None


def test_the_sequence_ends_before_the_wrong_answers_that_it_has_no_room_for() -> None:
    found = limit(units(falling(160), wrong=(80, 81, 82, 83, 84, 85, 86)))
    assert found is not None
    assert (found.n, found.n_wrong) == (80, 0)
    assert falling(160)[80] < found.limit <= falling(160)[79]


def test_many_images_let_the_sequence_begin_where_an_early_mistake_does_not_end_it() -> None:
    n = fewest(TARGET, ERROR, 2)
    assert first_n(3 * n, TARGET, ERROR) == n
    assert first_n(3 * n - 1, TARGET, ERROR) == fewest(TARGET, ERROR, 1)
    found = limit(units(falling(3 * n), wrong=(0, 1)))
    assert found is not None
    assert found.n == 3 * n


def test_the_budget_is_shared_by_the_starts_and_few_images_have_one_start_alone() -> None:
    few = fewest(TARGET, ERROR / 2)
    assert starts(3 * few - 1, TARGET, ERROR) == [(fewest(TARGET, ERROR), ERROR)]
    for n_most in (3 * few, 700, 5000):
        (first, one), (second, other) = starts(n_most, TARGET, ERROR)
        assert few <= first <= n_most / 3 < second < n_most
        assert one + other == ERROR


def test_a_second_start_is_tested_at_what_is_left_of_the_budget() -> None:
    early = tuple(range(7))  # too many for the first start, and few among three hundred
    found = limit(units(falling(500), wrong=early))
    assert found is not None
    assert (found.n, found.n_wrong) == (500, 7)
    assert found.bound == lower_bound(493, 500, ERROR / 2)


def test_answers_that_tell_nothing_are_never_certified() -> None:
    hits = np.random.default_rng(3).random(400) < 0.5
    of = units_of(np.linspace(1, 0, 400), hits, None)
    assert limit(of) is None


def test_no_limit_lies_beyond_the_threshold() -> None:
    scores = np.linspace(0.99, 0.01, 500)
    found = limit(units_of(scores, np.ones(500, dtype=bool), None))
    assert found is not None
    assert found.limit == 0.5
    assert found.n == (scores >= 0.5).sum()


def test_images_of_one_score_are_answered_together() -> None:
    tied = [0.9] * 40 + [0.8] * 40 + [0.7] * 40
    found = limit(units(tied, wrong=(85, 86, 87, 88)))
    assert found is not None
    assert (found.n, found.n_wrong) == (80, 0)
    assert 0.7 < found.limit <= 0.8
    assert limit(units([0.9] * 200, wrong=tuple(range(20)))) is None


def test_several_images_of_a_patient_count_once() -> None:
    n = fewest(TARGET, ERROR)
    scores = falling(2 * (n - 1))
    patients = [i // 2 for i in range(len(scores))]
    assert limit(units(scores)) is not None
    assert limit(units(scores, groups=patients)) is None


def test_a_patient_is_wrong_where_one_of_the_answers_is() -> None:
    scores = falling(160)
    patients = [i // 2 for i in range(160)]
    found = limit(units(scores, wrong=(121, 123, 125), groups=patients))
    assert found is not None
    assert (found.n, found.n_wrong) == (60, 0)  # the image of rank 121 is the second of its patient
    assert scores[120] < found.limit <= scores[119]


def test_a_stricter_promise_answers_no_more() -> None:
    of = units(falling(600), wrong=tuple(range(250, 600, 9)))
    shares = [limit(of, target) for target in (0.9, 0.95, 0.97, 0.98)]
    ns = [found.n for found in shares if found]
    assert len(ns) == len(shares)
    assert ns == sorted(ns, reverse=True)
    errors = [limit(of, TARGET, error) for error in (0.1, 0.05, 0.01, 0.001)]
    assert [e.n for e in errors if e] == sorted([e.n for e in errors if e], reverse=True)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite scores"):
        units_of(np.array([0.5, np.nan]), np.array([True, False]), None)
    with pytest.raises(ValueError, match="finite scores"):
        units_of(np.array([]), np.array([], dtype=bool), None)


def test_a_level_is_handed_on_by_what_passes_and_lost_by_what_fails() -> None:
    levels = []

    def passes(i: int, level: float) -> bool:
        levels.append((i, round(level, 3)))
        return i != 3

    assert descend(passes, np.array([0.0, 0.02, 0.0, 0.03, 0.0, 0.01])) == (5, 0.01)
    assert levels == [(1, 0.02), (2, 0.02), (3, 0.05), (5, 0.01)]


def test_the_grid_falls_in_equal_steps_of_log_odds_to_the_threshold_itself() -> None:
    cuts = grid(0.3)
    odds = np.log(cuts / (1 - cuts))
    assert cuts[-1] == 0.3
    np.testing.assert_allclose(np.diff(odds), -0.25, rtol=1e-6)


@dataclass(frozen=True)
class Population:
    """Images at levels of score, of which all is known."""

    scores: NDArray[np.float64]
    "(L,) falling"
    share: NDArray[np.float64]
    "(L,) of the images, which sum to 1"
    hit: NDArray[np.float64]
    "(L,) the share of hits at each level"
    copies: int = 1
    "images of each patient, who are alike"

    def draw(self, n: int, rng: np.random.Generator) -> Units:
        levels = rng.choice(len(self.scores), n, p=self.share)
        hits = rng.random(n) < self.hit[levels]
        patients = np.repeat(np.arange(n), self.copies)
        return units_of(self.scores[levels][patients], hits[patients], patients)

    def kept(self, limit: float) -> float:
        above = self.scores >= limit
        return float((self.share * self.hit)[above].sum() / self.share[above].sum())


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float64)


def even(hit: NDArray[np.float64], copies: int = 1) -> Population:
    n = len(hit)
    return Population(np.linspace(0.999, 0.5, n), np.full(n, 1 / n), hit, copies)


X = np.linspace(0, 1, 400)
POPULATIONS = {
    "too low everywhere": even(np.full(400, 0.945)),
    "well calibrated": even(sigmoid(6 - 8 * X)),
    "a step down right behind what holds": even(np.where(X < 0.35, 0.955, 0.2)),
    "sure and wrong at the top": even(np.where(X < 0.05, 0.7, sigmoid(5 - 6 * X))),
    "better again below": even(np.where(X < 0.3, 0.94, np.where(X < 0.7, 0.97, 0.3))),
    "five scores alone": even(np.array([0.97, 0.955, 0.93, 0.8, 0.4])),
    "two knees a patient": even(sigmoid(5 - 7 * X), copies=2),
}


@pytest.mark.parametrize("name", POPULATIONS)
def test_the_promise_is_broken_in_no_more_draws_than_allowed(name: str) -> None:
    population = POPULATIONS[name]
    rng = np.random.default_rng(20261126)
    n_broken = 0
    for _ in range(N_DRAWS):
        found = limit(population.draw(300, rng))
        n_broken += found is not None and population.kept(found.limit) < TARGET
    assert n_broken <= ERROR * N_DRAWS


def test_at_the_very_edge_it_is_broken_as_often_as_allowed() -> None:
    """Of answers of which hardly too few are right; three standard errors of the draws beside."""
    population = even(np.full(400, 0.9499))
    rng = np.random.default_rng(1)
    n_broken = sum(limit(population.draw(300, rng)) is not None for _ in range(N_DRAWS))
    spread = 3 * np.sqrt(N_DRAWS * ERROR * (1 - ERROR))
    assert abs(n_broken - ERROR * N_DRAWS) <= spread


@pytest.mark.parametrize("prior", [0.2, 0.5])
def test_at_a_given_prevalence_too(prior: float) -> None:
    """The images are half and half, and are to keep the promise where a share `prior` is."""
    rng = np.random.default_rng(7)
    odds = np.linspace(8, 0, 400)
    of_class = np.exp(-((odds - 5) ** 2) / 8)
    of_other = np.exp(-((odds + 1) ** 2) / 4)
    of_class /= of_class.sum()
    of_other /= of_other.sum()
    scores = sigmoid(odds)
    n_found = 0
    n_broken = 0
    for _ in range(N_DRAWS // 10):
        levels = [rng.choice(400, 400, p=shares) for shares in (of_class, of_other)]
        hits = np.repeat([True, False], 400)
        of = units_of(scores[np.concatenate(levels)], hits, None)
        found = limit_at_prevalence(of, 0.9, ERROR, grid(0.5), prior)
        if found is None:
            continue
        above = scores >= found.limit
        right = prior * of_class[above].sum()
        kept = right / (right + (1 - prior) * of_other[above].sum())
        n_found += 1
        n_broken += kept < 0.9
    assert n_found > 0
    assert n_broken <= ERROR * N_DRAWS / 10


def test_a_given_prevalence_needs_so_many_images_of_the_other_class() -> None:
    needed = fewest_others(0.95, 0.025, 0.4)
    scores = np.concatenate([np.linspace(0.9999, 0.99, 2000), np.linspace(0.01, 0.0, needed)])
    hits = np.arange(len(scores)) < 2000
    assert limit_at_prevalence(units_of(scores, hits, None), 0.95, 0.025, grid(0.5), 0.4)
    fewer = np.arange(len(scores)) < len(scores) - needed // 2
    of = units_of(scores[fewer], hits[fewer], None)
    assert limit_at_prevalence(of, 0.95, 0.025, grid(0.5), 0.4) is None
    assert (
        limit_at_prevalence(units_of(scores, hits | True, None), 0.9, 0.05, grid(0.5), 0.4) is None
    )


@pytest.mark.filterwarnings("ignore:Fixed sequence testing requires a monotonic risk")
@pytest.mark.filterwarnings("ignore:No predict parameters were found")
def test_mapie_certifies_nothing_that_is_not_certified_here_too() -> None:
    """Its p-values are bounds (Hoeffding-Bentkus) of the exact ones, so that it answers fewer."""
    rng = np.random.default_rng(11)
    n_certified = 0
    for _ in range(20):
        scores = np.sort(rng.random(400) * 0.5 + 0.5)[::-1]
        hits = rng.random(400) < sigmoid(14 * (scores - 0.62))
        of = units_of(scores, hits, None)
        ours = limit(of)
        first, level = starts(400, TARGET, ERROR)[0]
        mapie = BinaryClassificationController(
            predict_function=lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
            risk="precision",
            target_level=TARGET,
            confidence_level=1 - level,
            list_predict_params=scores[first - 1 :],
            fwer_method="fixed_sequence",
        )
        mapie.calibrate(scores[:, None], hits.astype(int))
        valid = np.asarray(mapie.valid_predict_params, dtype=float).ravel()
        if len(valid):
            n_certified += 1
            assert ours is not None
            assert ours.limit <= valid.min()
    assert n_certified > 5
