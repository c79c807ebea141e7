"""Paired figures against scipy, published tables and their promised coverage."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, bootstrap

from kneeedge.statistics.auroc import auroc
from kneeedge.statistics.intervals import Interval, wilson
from kneeedge.statistics.paired import (
    PairedChange,
    changed_share,
    extra_loss,
    mcnemar,
    mcnemar_of_groups,
    paired_auroc_change,
    paired_calibration_change,
    paired_change,
    paired_changes,
    tango,
)
from kneeedge.statistics.reliability import expected_calibration_error
from kneeedge.statistics.settling import images_to_settle, images_to_settle_share, largest_known
from kneeedge.system.strict_json import from_json, to_json

Z = 1.959963985
Z_ONE = 1.644853627


def make_change(gained: int, lost: int, n: int) -> PairedChange:
    """The change of answers with these discordant pairs; all else is right in both."""
    labels = np.zeros(n, int)
    original = np.zeros(n, int)
    variant = np.zeros(n, int)
    original[:gained] = 1
    variant[gained : gained + lost] = 1
    return paired_change(labels, original, variant)


def test_counts_are_those_of_the_answers():
    labels = np.array([0, 0, 1, 1, 2])
    original = np.array([0, 0, 0, 1, 0])
    variant = np.array([0, 1, 1, 1, 1])
    change = paired_change(labels, original, variant)
    assert (change.n, change.flips, change.lost, change.gained, change.delta) == (5, 3, 1, 1, 0.0)


def test_change_survives_json():
    change = make_change(2, 5, 80)
    assert from_json(PairedChange, to_json(change)) == change


def test_published_table_of_cavo_2012():
    """6 and 16 discordant of 161: Fagerland, Lydersen & Laake, contingencytables 3.0, chapter 8."""
    change = make_change(6, 16, 161)
    assert change.delta == pytest.approx(-0.0621, abs=5e-5)
    assert change.interval.low == pytest.approx(-0.1240, abs=5e-5)
    assert change.interval.high == pytest.approx(-0.0054, abs=5e-5)
    assert change.mcnemar_p == pytest.approx(0.052479, abs=5e-7)


def likeliest_share_lost(gained: int, lost: int, n: int, delta: float) -> float:
    """The multinomial's most likely share of lost pairs, by search, under a difference of delta."""

    def surprise(share: float) -> float:
        cells = [(gained, share + delta), (lost, share), (n - gained - lost, 1 - 2 * share - delta)]
        return -sum(count * math.log(p) for count, p in cells if count)

    bounds = (max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12)
    options = {"xatol": 1e-12}
    return float(minimize_scalar(surprise, bounds=bounds, method="bounded", options=options).x)


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(6, 16, 161), (3, 5, 60), (1, 2, 400), (20, 1, 45), (9, 9, 30)]
)
def test_tango_ends_solve_the_score_equation(gained, lost, n):
    interval = tango(gained, lost, n)
    for delta, z in ((interval.low, Z), (interval.high, -Z)):
        variance = 2 * likeliest_share_lost(gained, lost, n, delta) + delta * (1 - delta)
        assert (gained - lost - n * delta) / math.sqrt(n * variance) == pytest.approx(z, abs=1e-3)


@pytest.mark.parametrize("n", [1, 10, 400, 100_000])
def test_no_discordant_pair_has_the_closed_form(n):
    change = make_change(0, 0, n)
    assert change.interval.high == pytest.approx(Z**2 / (n + Z**2), rel=1e-8)
    assert change.interval.low == -change.interval.high
    assert change.worst_loss == pytest.approx(Z_ONE**2 / (n + Z_ONE**2), rel=1e-8)
    assert change.mcnemar_p == 1.0


def test_swapping_the_models_mirrors_the_interval():
    there = make_change(3, 11, 90)
    back = make_change(11, 3, 90)
    assert (there.interval.low, there.interval.high) == (-back.interval.high, -back.interval.low)
    assert there.delta == -back.delta
    assert there.mcnemar_p == back.mcnemar_p


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(7, 0, 7), (0, 7, 7), (1, 0, 1), (3, 4, 7), (0, 2, 50)]
)
def test_intervals_stay_in_range_and_hold_the_estimate(gained, lost, n):
    change = make_change(gained, lost, n)
    assert -1 <= change.interval.low <= change.delta <= change.interval.high <= 1
    assert change.interval.low < change.interval.high
    assert -change.delta <= change.worst_loss <= -change.interval.low


def test_a_certain_gain_has_a_worst_loss_below_zero():
    assert make_change(30, 0, 60).worst_loss < 0


def test_more_images_at_the_same_rates_narrow_the_bound():
    bounds = [make_change(2 * k, 3 * k, 50 * k).worst_loss for k in (1, 2, 5, 20)]
    assert bounds == sorted(bounds, reverse=True)


def coverage(n: int, p_gained: float, p_lost: float) -> tuple[float, float]:
    """The exact chances that the interval and the one-sided bound hold the true difference."""
    delta = p_gained - p_lost
    two_sided = 0.0
    one_sided = 0.0
    for gained in range(n + 1):
        lost = np.arange(n - gained + 1)
        of_lost = binom.pmf(lost, n - gained, p_lost / (1 - p_gained))
        chance = binom.pmf(gained, n, p_gained) * of_lost
        for count in lost[chance > 1e-6]:
            interval = tango(gained, int(count), n)
            two_sided += chance[count] * (interval.low <= delta <= interval.high)
            one_sided += chance[count] * (tango(gained, int(count), n, Z_ONE).low <= delta)
    return two_sided, one_sided


@pytest.mark.parametrize(
    ("n", "p_gained", "p_lost"),
    [(40, 0.05, 0.05), (60, 0.03, 0.06), (120, 0.02, 0.02), (50, 0.2, 0.1)],
)
def test_tango_covers_the_true_difference(n, p_gained, p_lost):
    two_sided, one_sided = coverage(n, p_gained, p_lost)
    assert 0.935 <= two_sided <= 0.985
    assert one_sided >= 0.93


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (0, 1), (5, 5), (2, 9), (0, 40), (700, 640), (3000, 3200)]
)
def test_mcnemar_is_the_exact_binomial_test(gained, lost):
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-8)


def test_groups_are_the_positives_and_the_rest():
    labels = np.array([0, 0, 0, 1, 1, 2])
    original = np.array([0, 2, 1, 1, 0, 1])
    variant = np.array([0, 0, 0, 1, 1, 2])
    changes = paired_changes(labels, original, variant, positive_index=1)
    assert changes["accuracy"] == paired_change(labels, original, variant)
    sensitivity = changes["sensitivity"]
    specificity = changes["specificity"]
    assert (sensitivity.n, sensitivity.gained, sensitivity.lost, sensitivity.flips) == (2, 1, 0, 1)
    assert (specificity.n, specificity.gained, specificity.lost, specificity.flips) == (4, 2, 0, 2)


@pytest.mark.parametrize(("label", "absent"), [(0, "sensitivity"), (1, "specificity")])
def test_a_group_without_images_is_left_out(label, absent):
    labels = np.full(4, label)
    assert absent not in paired_changes(labels, labels, labels, positive_index=1)


@pytest.mark.parametrize("lengths", [(0, 0, 0), (3, 3, 2), (2, 3, 3)])
def test_answers_that_do_not_pair_are_refused(lengths):
    with pytest.raises(ValueError, match=r"no images|equal"):
        paired_change(*(np.zeros(n, int) for n in lengths))


def test_images_to_settle_without_discordance_has_the_closed_form():
    assert images_to_settle(make_change(0, 0, 50), 0.01) == math.ceil(Z_ONE**2 * 0.99 / 0.01)


@pytest.mark.parametrize(("gained", "lost", "n"), [(2, 2, 100), (1, 2, 400), (0, 1, 300)])
def test_images_to_settle_is_the_first_number_that_does(gained, lost, n):
    needed = images_to_settle(make_change(gained, lost, n), 0.02)
    numbers = (needed - 1, needed, 2 * needed, 10 * needed)
    bounds = [-tango(gained / n * m, lost / n * m, m, Z_ONE).low for m in numbers]
    assert bounds[0] > 0.02 >= max(bounds[1:])


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 3, 100), (2, 9, 300)])
def test_a_loss_beyond_the_tolerance_is_settled_once_its_interval_is(gained, lost, n):
    needed = images_to_settle(make_change(gained, lost, n), 0.02)
    numbers = (needed - 1, needed, 10 * needed)
    least = [-tango(gained / n * m, lost / n * m, m).high for m in numbers]
    assert least[0] <= 0.02 < min(least[1:])


def test_several_questions_are_settled_by_the_most_images_and_never_without_one_of_them():
    assert largest_known([300, 900, 400]) == 900
    assert largest_known([300, None]) is None
    assert largest_known([]) is None


def test_images_to_settle_is_no_more_than_settled_already():
    change = make_change(0, 0, 5000)
    assert change.worst_loss <= 0.01
    assert images_to_settle(change, 0.01) <= change.n


@pytest.mark.parametrize(
    ("gained", "lost", "tolerance"), [(0, 2, 0.02), (0, 0, 0.0), (2, 2, 1e-6), (0, 0, math.nan)]
)
def test_what_no_number_of_images_settles_has_none(gained, lost, tolerance):
    assert images_to_settle(make_change(gained, lost, 100), tolerance) is None


def every_pair(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    gaps = scores[positive][:, None] - scores[~positive][None, :]
    return (gaps > 0) + 0.5 * (gaps == 0)


@pytest.mark.parametrize("seed", range(6))
def test_paired_auroc_change_agrees_with_the_covariances_of_every_pair(seed):
    random = np.random.default_rng(seed)
    positive = random.random(60) < 0.4
    original = np.round(random.normal(size=60) + positive, 1)
    variant = np.round(original + random.normal(scale=0.3, size=60), 1)
    delta, interval = paired_auroc_change(positive, original, variant)
    tables = [every_pair(positive, scores) for scores in (original, variant)]
    of_positives = np.cov([table.mean(axis=1) for table in tables]) / positive.sum()
    of_negatives = np.cov([table.mean(axis=0) for table in tables]) / (~positive).sum()
    contrast = np.array([-1, 1])
    half = Z * math.sqrt(contrast @ (of_positives + of_negatives) @ contrast)
    assert delta == pytest.approx(auroc(positive, variant) - auroc(positive, original))
    assert (interval.low, interval.high) == pytest.approx((delta - half, delta + half))


def test_equal_rankings_have_a_paired_interval_of_no_width():
    random = np.random.default_rng(0)
    positive = np.arange(100) < 40
    scores = random.normal(size=100) + positive
    delta, interval = paired_auroc_change(positive, scores, np.exp(scores))
    assert (delta, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_two_images_of_one_class_that_change_places_change_no_auroc():
    positive = np.array([False, False, True, True])
    before = np.array([0.1, 0.2, 0.8, 0.9])
    after = np.array([0.1, 0.2, 0.9, 0.8])
    assert paired_auroc_change(positive, before, after) == (0.0, Interval(0.0, 0.0))


def test_a_change_without_variance_still_has_an_interval():
    positive = np.arange(100) < 40
    scores = np.where(positive, 1.0, 0.0)
    delta, interval = paired_auroc_change(positive, scores, -scores)
    share = 1 - 0.025 ** (1 / 40)
    assert (delta, interval.low, interval.high) == pytest.approx((-1.0, -1.0, -1 + 2 * share))


def test_a_class_of_one_image_leaves_nearly_everything_open():
    positive = np.arange(20) == 7
    _, interval = paired_auroc_change(positive, np.arange(20.0), np.arange(20.0)[::-1])
    assert interval.high - interval.low > 0.9


def test_one_class_alone_has_no_auroc_change():
    assert paired_auroc_change(np.ones(5, bool), np.arange(5.0), np.arange(5.0)) is None


def test_paired_auroc_interval_covers_no_change():
    """Two equally good models of correlated errors, drawn 1,000 times."""
    random = np.random.default_rng(7)
    positive = np.arange(100) < 50
    held = 0
    for _ in range(1000):
        shared = random.normal(size=100) + 1.5 * positive
        first, second = (shared + random.normal(scale=0.5, size=100) for _ in range(2))
        _, interval = paired_auroc_change(positive, first, second)
        held += interval.low <= 0 <= interval.high
    assert held / 1000 == pytest.approx(0.95, abs=0.02)


def two_models(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and the probabilities (N, 2) of an honest model and of one too sure of itself."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=1.5, size=n)
    calibrated = 1 / (1 + np.exp(-logits))
    labels = (random.random(n) < calibrated).astype(int)
    sure = 1 / (1 + np.exp(-3.0 * logits))
    return labels, np.column_stack([1 - calibrated, calibrated]), np.column_stack([1 - sure, sure])


def test_the_calibration_change_is_the_difference_of_the_errors():
    labels, before, after = two_models(300, 1)
    error_before = expected_calibration_error(labels, before)
    error_after = expected_calibration_error(labels, after)
    delta, _ = paired_calibration_change(labels, before, after)
    assert delta == pytest.approx(error_after - error_before, abs=1e-12)


def test_the_calibration_interval_is_scipys_paired_bootstrap():
    labels, before, after = two_models(200, 2)

    def change(chosen: np.ndarray) -> float:
        errors = [expected_calibration_error(labels[chosen], p[chosen]) for p in (before, after)]
        return errors[1] - errors[0]

    reference = bootstrap(
        (np.arange(200),),
        change,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    _, interval = paired_calibration_change(labels, before, after)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high), abs=0.01)


def test_equal_probabilities_have_no_calibration_change():
    labels, before, _ = two_models(50, 3)
    delta, interval = paired_calibration_change(labels, before, before)
    assert (delta, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_the_calibration_interval_is_the_same_again():
    models = two_models(120, 4)
    assert paired_calibration_change(*models) == paired_calibration_change(*models)


@pytest.mark.parametrize("n", [5, 60, 268, 1000])
def test_accuracy_lost_is_bounded_by_the_share_of_changed_answers_whatever_the_labels(
    n: int,
) -> None:
    """So that a pass without labels is one with them."""
    for changed in range(min(n, 6)):
        most = changed_share(changes(changed, n)).most
        for lost in range(changed + 1):
            worst_loss = -tango(changed - lost, lost, n, Z_ONE).low
            assert worst_loss <= most + 1e-8, (changed, lost)
    assert changed_share(changes(0, n)).most == pytest.approx(Z_ONE**2 / (n + Z_ONE**2))


def changes(changed: int, n: int) -> np.ndarray:
    """Which of n answers changed: the first ones."""
    return np.arange(n) < changed


def test_images_to_settle_a_share_are_the_first_that_do() -> None:
    of_267 = changed_share(changes(0, 267))
    assert images_to_settle_share(of_267, 0.01) == 268
    above = changed_share(changes(2, 100))
    n = images_to_settle_share(above, 0.01)
    assert n is not None
    assert wilson(0.02 * n, n).low > 0.01 >= wilson(0.02 * (n - 1), n - 1).low


def test_extra_loss_is_the_variants_loss_less_the_originals():
    labels = np.zeros(10, int)
    clean = (np.zeros(10, int), np.array([1] + [0] * 9))
    corrupted = (np.array([1, 1] + [0] * 8), np.array([1, 1, 1, 1, 1] + [0] * 5))
    loss, interval = extra_loss(labels, clean, corrupted)
    assert loss == pytest.approx((0.9 - 0.5) - (1.0 - 0.8))
    assert interval.low < loss < interval.high


def test_extra_loss_of_a_model_against_itself_is_none_with_room_for_other_images():
    labels = np.arange(100) % 2
    answers = (labels, labels)
    loss, interval = extra_loss(labels, answers, answers)
    assert loss == 0.0
    assert interval.high == -interval.low == pytest.approx(Z**2 / (100 + Z**2))


def test_extra_loss_is_the_paired_change_where_nothing_differed_before():
    labels = np.zeros(80, int)
    corrupted = (np.zeros(80, int), np.array([1] * 5 + [0] * 75))
    loss, interval = extra_loss(labels, (labels, labels), corrupted)
    change = paired_change(labels, *corrupted)
    assert (loss, -interval.high, -interval.low) == (
        -change.delta,
        change.interval.low,
        change.interval.high,
    )


def test_a_comparison_that_turns_over_counts_twice():
    labels = np.zeros(50, int)
    wrong = np.array([1] + [0] * 49)
    loss, interval = extra_loss(labels, (wrong, labels), (labels, wrong))
    assert loss == pytest.approx(2 / 50)
    assert interval.low < loss < interval.high


@pytest.mark.slow
def test_extra_loss_holds_the_truth_as_often_as_promised():
    """Answers that flip by 6 % clean and 12 % corrupted, one way more often than the other."""
    random = np.random.default_rng(0)
    n, n_draws, held = 300, 300, 0
    labels = np.zeros(n, int)
    right = np.zeros(n, int)
    for _ in range(n_draws):
        clean = (random.random(n) < 0.06).astype(int)
        corrupted = (random.random(n) < 0.12).astype(int)
        _, interval = extra_loss(labels, (right, clean), (right, corrupted))
        held += interval.low <= 0.06 <= interval.high
    assert held / n_draws > 0.92


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (0, 1), (5, 5), (2, 9), (0, 40), (70, 64), (700, 640)]
)
def test_groups_of_one_image_have_mcnemars_own_p(gained, lost):
    sums = np.repeat([1, -1, 0], [gained, lost, 30])
    assert mcnemar_of_groups(sums) == pytest.approx(mcnemar(gained, lost), rel=1e-9)


@pytest.mark.parametrize("sums", [[2, 2, -1, 0], [3, -3, 1], [2, 2, 2, 2], [-4, 1, 1, 2, 1], [0]])
def test_the_p_over_groups_counts_every_choice_of_their_signs(sums):
    sizes = np.abs(sums)
    totals = [abs(np.dot(signs, sizes)) for signs in itertools.product((1, -1), repeat=len(sizes))]
    assert mcnemar_of_groups(np.array(sums)) == np.mean(np.array(totals) >= abs(sum(sums)))


def moved_together(
    random: np.random.Generator, n_patients: int, share_together: float
) -> tuple[np.ndarray, ...]:
    """Truth, both models' answers and patients of pairs of knees; true change 0.03."""
    patients = np.repeat(np.arange(n_patients), 2)
    n = len(patients)
    moves = random.choice([1, -1, 0], size=(2, n), p=[0.06, 0.03, 0.91])
    together = moves[0][::2].repeat(2)
    moved = np.where(random.random(n) < share_together, together, moves[1])
    return np.zeros(n, int), (moved == 1).astype(int), (moved == -1).astype(int), patients


def test_over_patients_the_true_difference_is_held_where_lone_images_would_miss_it():
    random = np.random.default_rng(0)
    held = np.zeros(2)
    n_draws = 600
    for _ in range(n_draws):
        truth, before, after, patients = moved_together(random, 80, 0.8)
        for i, clusters in enumerate((None, patients)):
            interval = paired_change(truth, before, after, clusters).interval
            held[i] += interval.low <= 0.03 <= interval.high
    alone, over_patients = held / n_draws
    assert alone < 0.9
    assert over_patients > 0.93


def test_an_image_that_stands_there_twice_tells_little_more_than_once():
    labels, before, after, _ = moved_together(np.random.default_rng(3), 200, 0.0)
    once = paired_change(labels, before, after)
    patients = np.repeat(np.arange(len(labels)), 2)
    twice = paired_change(*(np.repeat(part, 2) for part in (labels, before, after)), patients)
    assert twice.delta == once.delta
    assert twice.interval.low == pytest.approx(once.interval.low, abs=1e-3)
    assert twice.interval.high == pytest.approx(once.interval.high, abs=1e-3)
    assert twice.mcnemar_p == pytest.approx(once.mcnemar_p, rel=1e-9)
    assert (once.n_groups, twice.n_groups) == (None, len(labels))


def test_where_nothing_moved_the_groups_are_what_was_seen():
    labels = np.zeros(60, int)
    change = paired_change(labels, labels, labels, np.arange(60) // 2)
    assert change.interval == make_change(0, 0, 30).interval
    assert change.mcnemar_p == 1.0


def test_where_no_answer_changed_what_moved_says_how_alike_the_images_of_a_group_are():
    rng = np.random.default_rng(0)
    labels = np.zeros(600, int)
    pairs = np.arange(600) // 2

    def size(moves: np.ndarray) -> float:
        change = paired_change(labels, labels, labels, pairs, moves)
        assert change.n_groups == 300
        assert change.worst_loss == pytest.approx(
            Z_ONE**2 / (change.effective_n + Z_ONE**2), rel=1e-6
        )
        return change.effective_n

    each = rng.normal(size=600)
    of_pair = rng.normal(size=300)[pairs]
    assert size(each) > 560
    assert size(of_pair) == pytest.approx(300, rel=0.01)
    assert 370 < size(each + of_pair) < 430  # a correlation of a half: 600 / 1.5
    assert size(np.zeros(600)) == 300


def test_moves_decide_nothing_where_an_answer_changed():
    labels = np.zeros(60, int)
    after = labels.copy()
    after[:2] = 1
    pairs = np.arange(60) // 2
    moves = np.random.default_rng(0).normal(size=60)
    without = paired_change(labels, labels, after, pairs)
    assert paired_change(labels, labels, after, pairs, moves) == without


def test_a_class_in_which_no_patient_has_two_images_stands_alone():
    """Each patient has a healthy knee and a diseased one."""
    labels = np.tile([0, 1], 40)
    before = labels.copy()
    before[:6] = 1
    changes = paired_changes(labels, before, labels, 1, np.arange(80) // 2)
    plain = paired_changes(labels, before, labels, 1)
    assert changes["specificity"] == plain["specificity"]
    assert changes["accuracy"].n_groups == 40


def test_the_change_of_auroc_over_patients_is_that_of_images_that_stand_there_once():
    random = np.random.default_rng(1)
    positive = random.random(120) < 0.5
    before = random.normal(positive, 1.0)
    after = before + random.normal(0.0, 0.5, 120)
    patients = np.repeat(np.arange(120), 2)
    delta, once = paired_auroc_change(positive, before, after)
    doubled = [np.repeat(part, 2) for part in (positive, before, after)]
    same, alone = paired_auroc_change(*doubled)
    again, twice = paired_auroc_change(*doubled, patients)
    assert (same, again) == pytest.approx((delta, delta))
    assert twice.low == pytest.approx(once.low, abs=1e-3)
    assert twice.high == pytest.approx(once.high, abs=1e-3)
    assert alone.high - alone.low < 0.8 * (twice.high - twice.low)


def test_two_patients_with_all_images_tell_almost_nothing_of_an_auroc():
    positive = np.repeat([True, False], 20)
    before = np.linspace(0, 1, 40)
    _, interval = paired_auroc_change(positive, before, before[::-1], np.repeat([0, 1], 20))
    assert interval.high - interval.low > 1.0


@pytest.mark.parametrize(("churn", "together"), [(0.01, 1.0), (0.03, 0.5)])
def test_a_loss_of_the_tolerance_passes_in_one_of_twenty_draws_also_over_patients(
    churn: float, together: float
) -> None:
    """As many patients as knee-kl's val has, 79 of 236 with both knees, which answer together."""
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(236), [2] * 79 + [1] * 157)
    n_passes = {"lone": 0, "grouped": 0}
    for _ in range(1000):
        shared = rng.random(236)[patients] < together
        u = np.where(shared, rng.random(236)[patients], rng.random(315))
        labels = np.zeros(315, int)
        before = (u > 1 - churn).astype(int)
        after = (u < 0.01 + churn).astype(int)
        n_passes["lone"] += paired_change(labels, before, after).worst_loss <= 0.01
        n_passes["grouped"] += paired_change(labels, before, after, patients).worst_loss <= 0.01
    assert n_passes["grouped"] <= 65
    assert n_passes["lone"] > n_passes["grouped"]
