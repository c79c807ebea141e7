"""Intervals over patients and at another prevalence hold the truth as often as they say."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from kneeedge.inference.metrics import evaluate
from kneeedge.statistics.auroc import auroc, auroc_estimate
from kneeedge.statistics.intervals import (
    clustered_variance,
    clusters_of,
    effective_n,
    share_estimate,
    wilson,
)
from kneeedge.statistics.prevalence import Measured, predictive_values
from kneeedge.statistics.reliability import reliability_bins
from kneeedge.system.strict_json import to_json
from tests.inference.test_metrics import make_problem, make_spec


def knees(
    random: np.random.Generator, n_patients: int, share: float, correlation: float
) -> np.ndarray:
    """(2 * n_patients,) bool: which knees are answered right, two a patient, beta-binomial."""
    factor = 1 / correlation - 1
    chance = random.beta(share * factor, (1 - share) * factor, n_patients)
    return (random.random((n_patients, 2)) < chance[:, None]).ravel()


def test_wilson_intervals_agree_with_scipy():
    for successes, n in [(0, 1), (1, 1), (0, 30), (30, 30), (7, 30), (1, 1000), (999, 1000)]:
        expected = binomtest(successes, n).proportion_ci(method="wilson")
        interval = wilson(successes, n)
        assert (interval.low, interval.high) == pytest.approx(
            (expected.low, expected.high), abs=1e-12
        )
        assert 0 <= interval.low < interval.high <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 3), (4, 3), (math.nan, 3)])
def test_wilson_refuses_what_is_no_share(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


@pytest.mark.parametrize(("n_patients", "share"), [(30, 0.95), (100, 0.98), (236, 0.8)])
def test_share_intervals_cover_the_truth_where_knees_of_one_patient_are_alike(n_patients, share):
    random = np.random.default_rng(3)
    clusters = np.repeat(np.arange(n_patients), 2)
    every = np.ones(2 * n_patients, dtype=bool)
    draws = (knees(random, n_patients, share, 0.5) for _ in range(1000))
    intervals = [share_estimate(hits, every, clusters).interval for hits in draws]
    covered = np.mean([i.low <= share <= i.high for i in intervals])
    assert 0.93 <= covered <= 0.985


def test_two_copies_of_every_image_tell_no_more_than_one():
    hits = np.random.default_rng(0).random(200) < 0.9
    clusters = np.repeat(np.arange(200), 2)
    interval = share_estimate(np.repeat(hits, 2), np.ones(400, dtype=bool), clusters).interval
    expected = wilson(hits.sum(), 200)
    assert interval.low == pytest.approx(expected.low, abs=1e-3)
    assert interval.high == pytest.approx(expected.high, abs=1e-3)


def test_no_error_at_all_leaves_as_many_images_as_groups():
    every = np.ones(60, dtype=bool)
    clusters = np.repeat(np.arange(20), 3)
    assert effective_n(every, every, clusters) == 20
    assert share_estimate(every, every, clusters).interval == wilson(20, 20)


def test_one_patient_alone_counts_as_one_image():
    hits = np.arange(40) < 30
    assert effective_n(hits, np.ones(40, dtype=bool), np.zeros(40, dtype=int)) == 1


def test_groups_never_make_an_interval_narrower_than_images_would():
    """Two knees of which always one is right vary less than chance, which earns nothing."""
    hits = np.arange(100) % 2 == 0
    clusters = np.repeat(np.arange(50), 2)
    assert effective_n(hits, np.ones(100, dtype=bool), clusters) <= 100


def test_the_variance_is_that_of_the_group_means_where_groups_are_equal():
    random = np.random.default_rng(1)
    values = random.random((30, 4))
    influence = (values - values.mean()).ravel() / values.size
    expected = values.mean(axis=1).var(ddof=1) / 30
    assert clustered_variance(influence, np.repeat(np.arange(30), 4)) == pytest.approx(expected)


def test_the_auroc_of_copies_has_the_interval_of_the_images():
    random = np.random.default_rng(2)
    positive = np.arange(80) < 35
    scores = random.normal(size=80) + 1.2 * positive
    once = auroc_estimate(positive, scores, None)
    clusters = np.repeat(np.arange(80), 2)
    twice = auroc_estimate(np.repeat(positive, 2), np.repeat(scores, 2), clusters)
    assert twice.value == pytest.approx(once.value)
    assert twice.interval.low == pytest.approx(once.interval.low, abs=5e-3)
    assert twice.interval.high == pytest.approx(once.interval.high, abs=5e-3)
    assert "80 groups" in twice.method


def test_the_auroc_interval_covers_the_truth_where_knees_of_one_patient_are_alike():
    """Normal scores with a correlation of 0.5 within the patient, whose knees are of one class."""
    random = np.random.default_rng(5)
    clusters = np.repeat(np.arange(60), 2)
    positive = clusters < 25
    truth = 0.841345  # Φ(1)
    intervals = []
    for _ in range(800):
        noise = math.sqrt(0.5) * (random.normal(size=60)[clusters] + random.normal(size=120))
        scores = noise + math.sqrt(2) * positive
        intervals.append(auroc_estimate(positive, scores, clusters).interval)
    assert np.mean([i.low <= truth <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.025)


def test_an_error_free_auroc_counts_groups_and_not_images():
    positive = np.arange(60) < 30
    clusters = np.repeat(np.arange(20), 3)
    estimate = auroc_estimate(positive, positive.astype(float), clusters)
    assert estimate.interval.low == pytest.approx(0.025 ** (1 / 10))


def test_groups_of_one_image_change_nothing():
    labels, probabilities = make_problem(3, 0)
    alone = evaluate(labels, probabilities, make_spec(3))
    patients = [f"P{i}" for i in range(len(labels))]
    grouped = evaluate(labels, probabilities, make_spec(3), patients)
    assert to_json(grouped) == to_json(alone)


def test_an_evaluation_by_groups_says_so_and_keeps_its_figures():
    labels, probabilities = make_problem(2, 0)
    alone = evaluate(labels, probabilities, make_spec(2))
    patients = [f"P{i // 2}" for i in range(len(labels))]
    grouped = evaluate(labels, probabilities, make_spec(2), patients)
    for name, estimate in grouped.estimates.items():
        assert estimate.value == pytest.approx(alone.estimates[name].value)
        assert estimate.interval.low <= estimate.value <= estimate.interval.high
        assert "groups" in estimate.method


def test_groups_must_pair_with_images():
    with pytest.raises(ValueError, match="2 groups do not pair with 3 images"):
        clusters_of(["a", "b"], 3)


def test_predictive_values_are_bayes():
    values = predictive_values(Measured(0.9, 100), Measured(0.8, 100), 0.1)
    assert values.ppv.value == pytest.approx(0.09 / (0.09 + 0.18))
    assert values.npv.value == pytest.approx(0.72 / (0.72 + 0.01))


def test_at_the_datas_prevalence_they_are_the_datas_own():
    labels, probabilities = make_problem(2, 2)
    evaluation = evaluate(labels, probabilities, make_spec(2), prevalence=float(labels.mean()))
    assert evaluation.at_prevalence.ppv.value == pytest.approx(evaluation.ppv.value)
    assert evaluation.at_prevalence.npv.value == pytest.approx(evaluation.npv.value)


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "prevalence", "n"),
    [(0.95, 0.95, 0.15, 100), (0.9, 0.99, 0.02, 235), (0.99, 0.8, 0.5, 60)],
)
def test_predictive_intervals_cover_the_truth(sensitivity, specificity, prevalence, n):
    random = np.random.default_rng(11)
    truth = predictive_values(Measured(sensitivity, n), Measured(specificity, n), prevalence)
    hits = random.binomial(n, sensitivity, 2000)
    rejected = random.binomial(n, specificity, 2000)
    pairs = zip(hits / n, rejected / n, strict=True)
    draws = [predictive_values(Measured(a, n), Measured(b, n), prevalence) for a, b in pairs]
    for name in ("ppv", "npv"):
        value = getattr(truth, name).value
        intervals = [getattr(draw, name).interval for draw in draws]
        assert 0.93 <= np.mean([i.low <= value <= i.high for i in intervals]) <= 0.985


def test_a_perfect_test_keeps_an_interval():
    values = predictive_values(Measured(1.0, 20), Measured(1.0, 20), 0.1)
    assert values.ppv.value == values.ppv.interval.high == values.npv.interval.high == 1.0
    assert 0.2 < values.ppv.interval.low < values.npv.interval.low < 1.0


def test_predictive_values_that_no_image_tells_are_absent():
    values = predictive_values(Measured(0.0, 20), Measured(1.0, 20), 0.1)
    assert values.ppv is None
    assert values.npv is not None
    assert predictive_values(None, Measured(1.0, 20), 0.1).npv is None


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, math.nan])
def test_a_prevalence_outside_0_to_1_is_refused(prevalence):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        predictive_values(Measured(0.9, 20), Measured(0.9, 20), prevalence)


def test_reliability_bins_hold_every_image_once():
    random = np.random.default_rng(4)
    scores = np.append(random.random(100), [0.0, 1.0])
    positive = random.random(102) < scores
    bins = reliability_bins(positive, scores)
    assert sum(b.n for b in bins) == 102
    assert sum(b.n * b.observed for b in bins) == pytest.approx(positive.sum())
    assert sum(b.n * b.mean for b in bins) == pytest.approx(scores.sum())
    assert auroc(positive, scores) > 0.5
