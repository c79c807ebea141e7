"""The AUROC against scikit-learn's, its intervals against DeLong's definition and their promise."""

import math

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy.stats import binomtest, norm

from kneeedge.statistics.auroc import auroc, delong_interval, mean_auroc_estimate
from kneeedge.statistics.intervals import wilson
from tests.inference.test_metrics import make_problem


def placement_variance(positive: np.ndarray, scores: np.ndarray) -> float:
    """DeLong's variance by every pair, as in the paper of 1988."""
    gaps = scores[positive][:, None] - scores[~positive][None, :]
    wins = (gaps > 0) + 0.5 * (gaps == 0)
    m, n = wins.shape
    return wins.mean(axis=1).var(ddof=1) / m + wins.mean(axis=0).var(ddof=1) / n


@pytest.mark.parametrize("seed", range(10))
def test_delong_interval_agrees_with_the_definition(seed):
    random = np.random.default_rng(seed)
    positive = random.random(40 + seed) < 0.3
    scores = np.round(random.normal(size=40 + seed) + positive, seed % 3)
    area = auroc(positive, scores)
    interval = delong_interval(positive, scores)
    assert area == pytest.approx(reference.roc_auc_score(positive, scores))
    half = 1.959963985 * math.sqrt(placement_variance(positive, scores)) / (area * (1 - area))
    logits = [math.log(bound / (1 - bound)) for bound in (interval.low, area, interval.high)]
    assert logits == pytest.approx([logits[1] - half, logits[1], logits[1] + half])


def test_auroc_needs_both_classes():
    assert auroc(np.ones(3, dtype=bool), np.arange(3.0)) is None
    assert delong_interval(np.zeros(3, dtype=bool), np.arange(3.0)) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_auroc_refuses_scores_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="not finite"):
        auroc(np.array([True, False]), np.array([bad, 0.0]))


def test_auroc_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="equal"):
        auroc(np.array([True, False]), np.array([0.0]))


@pytest.mark.parametrize("k", [1, 5, 50])
def test_an_error_free_auroc_has_the_exact_interval_of_k_pairs(k):
    positive = np.arange(3 * k) < k
    exact = binomtest(k, k).proportion_ci(method="exact")
    above = delong_interval(positive, positive.astype(float))
    below = delong_interval(positive, -positive.astype(float))
    assert (above.low, above.high) == pytest.approx((exact.low, 1.0))
    assert (below.low, below.high) == pytest.approx((0.0, 1 - exact.low))


def test_tied_scores_have_wilsons_interval_of_k_pairs():
    positive = np.arange(30) < 10
    assert delong_interval(positive, np.zeros(30)) == wilson(5, 10)


def test_one_positive_alone_leaves_a_wide_interval():
    interval = delong_interval(np.arange(101) == 50, np.arange(101.0))
    assert interval == wilson(0.5, 1)
    assert interval.high - interval.low > 0.8


@pytest.mark.parametrize("area", [0.7, 0.9, 0.97])
def test_delong_interval_covers_the_true_auroc(area):
    """Normal scores at a distance that gives the area: of 1,500 intervals 95 % ± 2 % hold it."""
    random = np.random.default_rng(2026)
    positive = np.arange(90) < 40
    distance = {0.7: 0.74161, 0.9: 1.81239, 0.97: 2.65987}[area]  # √2 Φ⁻¹(area)
    draws = random.normal(size=(1500, 90)) + distance * positive
    intervals = [delong_interval(positive, scores) for scores in draws]
    assert np.mean([i.low <= area <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.02)


def test_the_mean_auroc_of_two_classes_has_delongs_own_interval():
    """With two classes whose probabilities sum to 1 both areas are one, and so is their mean."""
    labels, probabilities = make_problem(2, 0)
    interval = mean_auroc_estimate(labels, probabilities, None).interval
    expected = delong_interval(labels == 1, probabilities[:, 1])
    assert interval.low == pytest.approx(expected.low, abs=2e-3)
    assert interval.high == pytest.approx(expected.high, abs=2e-3)


def test_the_mean_auroc_interval_covers_the_truth():
    """Three classes, each a normal score 1.5 above the others': every area is Φ(1.5 / √2)."""
    random = np.random.default_rng(7)
    labels = np.arange(150) % 3
    truth = norm.cdf(1.5 / math.sqrt(2))
    draws = (random.normal(size=(150, 3)) + 1.5 * np.eye(3)[labels] for _ in range(500))
    intervals = [mean_auroc_estimate(labels, scores, None).interval for scores in draws]
    assert np.mean([i.low <= truth <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.03)
