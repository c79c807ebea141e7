"""The temperature against scipy's optimum, and the threshold against its rule."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from kneeedge.errors import ConfigError
from kneeedge.model.decision import (
    COLDEST,
    HOTTEST,
    check_rule,
    choose_threshold,
    chosen_on,
    fit_decision,
    fit_temperature,
    operating_points,
    parse_rule,
    platt_targets,
)
from kneeedge.model.spec import softmax
from tests.inference.test_metrics import make_spec


def drawn(n: int, n_classes: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) and labels that their softmax at the temperature is right about."""
    random = np.random.default_rng(seed)
    logits = 3 * random.normal(size=(n, n_classes))
    labels = np.array([random.choice(n_classes, p=row) for row in softmax(logits, temperature)])
    return logits, labels


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_temperature_is_scipys_optimum(n_classes, temperature):
    logits, labels = drawn(300, n_classes, temperature, 1)
    targets = platt_targets(labels, n_classes)

    def loss(log_t: float) -> float:
        return -(targets * log_softmax(logits / np.exp(log_t), axis=1)).sum(axis=1).mean()

    options = {"xatol": 1e-10}
    optimum = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options=options)
    assert fit_temperature(logits, labels) == pytest.approx(np.exp(optimum.x), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    logits, labels = drawn(20_000, 2, temperature, 2)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("n", [4, 60, 300])
def test_a_model_that_is_right_on_all_images_does_not_become_certain(n):
    labels = np.arange(n) % 2
    logits = 5 * np.eye(2)[labels]
    probability = softmax(logits, fit_temperature(logits, labels)).max()
    assert probability == pytest.approx((n / 2 + 1) / (n / 2 + 2), abs=1e-6)


def test_targets_are_platts():
    expected = [[3 / 4, 1 / 4], [3 / 4, 1 / 4], [1 / 3, 2 / 3]]
    np.testing.assert_allclose(platt_targets(np.array([0, 0, 1]), 2), expected)
    np.testing.assert_allclose(platt_targets(np.array([0, 2, 2]), 4).sum(axis=1), 1)


def test_the_bounds_hold_where_the_logits_are_wrong_or_faint():
    labels = np.arange(1000) % 2
    assert fit_temperature(-np.eye(2)[labels], labels) == pytest.approx(HOTTEST)
    assert fit_temperature(1e-4 * np.eye(2)[labels], labels) == pytest.approx(COLDEST)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [(np.ones((9, 2)), np.arange(9) % 2), (np.eye(2)[[0, 1, 0]], np.zeros(3, int))],
)
def test_nothing_to_fit_leaves_the_temperature_at_1(logits, labels):
    assert fit_temperature(logits, labels) == 1.0


@pytest.mark.parametrize(
    "logits", [np.empty((0, 2)), [[np.nan, 0.0]], [[np.inf, 0.0]], np.zeros((2, 2))]
)
def test_logits_that_cannot_be_fitted_are_refused(logits):
    with pytest.raises(ValueError, match="finite logits, one row a label"):
        fit_temperature(np.asarray(logits), np.zeros(1 if len(logits) else 0, int))


def test_the_fit_brings_the_errors_down_where_the_model_was_overconfident():
    logits, labels = drawn(400, 2, 4.0, 3)
    spec = fit_decision(make_spec(2), logits, labels, "0.5", "val")
    fit = spec.temperature_fit
    assert spec.temperature == pytest.approx(4.0, rel=0.3)
    assert fit.log_loss_after < fit.log_loss_before
    assert fit.ece_after < fit.ece_before
    assert fit.brier_after < fit.brier_before
    assert (fit.split, fit.n) == ("val", 400)
    assert (spec.threshold, spec.threshold_rule) == (0.5, "0.5")


def test_the_threshold_is_chosen_at_the_fitted_temperature():
    logits, labels = drawn(400, 2, 4.0, 4)
    spec = fit_decision(make_spec(2), logits, labels, "sensitivity=0.95", "val")
    called = spec.decide(softmax(logits, spec.temperature)) == 1
    assert called[labels == 1].mean() >= 0.95
    assert spec.threshold_rule == "sensitivity=0.95 on val (400 images)"
    assert chosen_on(spec.threshold_rule, "val")
    assert not chosen_on(spec.threshold_rule, "test")
    assert not chosen_on("0.5", "val")


def test_more_than_two_classes_get_a_temperature_and_no_threshold():
    logits, labels = drawn(300, 3, 2.0, 5)
    spec = fit_decision(make_spec(3), logits, labels, "0.5", "val")
    assert spec.temperature == pytest.approx(2.0, rel=0.4)
    assert (spec.threshold, spec.threshold_rule) == (0.5, "0.5")


def tied(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of 97 images are positive, and their scores, some of which are equal."""
    random = np.random.default_rng(seed)
    positive = random.random(97) < 0.4
    return positive, np.round(1 / (1 + np.exp(-random.normal(size=97) - positive)), 2)


def rates(positive: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity."""
    called = scores >= threshold
    return called[positive].mean(), (~called)[~positive].mean()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 1.0])
def test_a_sensitivity_is_reached_with_the_best_specificity(seed, wanted):
    positive, scores = tied(seed)
    chosen = choose_threshold(f"sensitivity={wanted}", positive, scores, "val").value
    sensitivity, specificity = rates(positive, scores, chosen)
    assert sensitivity >= wanted
    points = (rates(positive, scores, t) for t in np.linspace(0.0005, 0.9995, 1000))
    assert specificity == max(spared for caught, spared in points if caught >= wanted)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 1.0])
def test_a_specificity_is_reached_with_the_best_sensitivity(seed, wanted):
    positive, scores = tied(seed)
    chosen = choose_threshold(f"specificity={wanted}", positive, scores, "val").value
    sensitivity, specificity = rates(positive, scores, chosen)
    assert specificity >= wanted
    points = (rates(positive, scores, t) for t in np.linspace(0.0005, 0.9995, 1000))
    assert sensitivity == max(caught for caught, spared in points if spared >= wanted)


@pytest.mark.parametrize("seed", range(5))
def test_youden_is_the_largest_sum(seed):
    positive, scores = tied(seed)
    chosen = choose_threshold("youden", positive, scores, "val").value
    best = max(sum(rates(positive, scores, t)) for t in np.linspace(0.0005, 0.9995, 1000))
    assert sum(rates(positive, scores, chosen)) == pytest.approx(best)


def test_youden_takes_the_middle_of_what_ties():
    """0.15, 0.35 and 0.55 all give 1.5."""
    positive = np.array([False, True, False, True, False, True])
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    cuts, sensitivity, specificity = operating_points(positive, scores)
    best = cuts[np.isclose(sensitivity + specificity, (sensitivity + specificity).max())]
    chosen = choose_threshold("youden", positive, scores, "val").value
    assert chosen == best[(len(best) - 1) // 2] == pytest.approx(0.35)


@pytest.mark.parametrize("rule", ["youden", "sensitivity=0.9", "specificity=0.9"])
def test_no_image_sits_on_the_threshold(rule):
    """It lies half way between two scores, so that rounding moves no image across it."""
    positive, scores = tied(0)
    chosen = choose_threshold(rule, positive, scores, "val").value
    below = scores[scores < chosen].max()
    above = scores[scores >= chosen].min()
    assert chosen == pytest.approx((below + above) / 2)


@pytest.mark.parametrize("rule", ["youden", "sensitivity=1", "specificity=1"])
def test_certain_scores_give_a_threshold_between_0_and_1(rule):
    chosen = choose_threshold(rule, np.array([True, False]), np.array([1.0, 0.0]), "val")
    assert chosen.value == 0.5


def test_a_number_is_a_threshold_and_its_own_rule():
    positive, scores = tied(0)
    chosen = choose_threshold("0.3", positive, scores, "val")
    assert (chosen.value, chosen.rule) == (0.3, "0.3")
    assert parse_rule("0.3").fixed


@pytest.mark.parametrize(
    "text", ["", "yuden", "sensitivity", "sensitivity=", "accuracy=0.9", "=0.5", "0,5"]
)
def test_an_unknown_rule_is_refused_with_the_rules_there_are(text):
    with pytest.raises(ConfigError, match=r"is no rule; give youden, sensitivity=0\.95"):
        parse_rule(text)


@pytest.mark.parametrize(
    "text", ["0", "1", "1.5", "-0.1", "nan", "inf", "sensitivity=0", "specificity=1.1"]
)
def test_a_rule_out_of_range_is_refused(text):
    with pytest.raises(ConfigError, match="out of range; give a number above 0 and below 1"):
        parse_rule(text)


def test_three_classes_take_no_threshold():
    with pytest.raises(ConfigError, match="for two classes, and these are 3; leave it out"):
        check_rule("youden", 3, np.array([True, False]))
    check_rule("0.5", 3, np.array([True, False]))


@pytest.mark.parametrize("positive", [[True, True], [False, False], []])
def test_a_rule_needs_both_classes_in_val(positive):
    labels = np.array(positive, dtype=bool)
    message = "cannot be met: val has .*; give val images of both classes"
    with pytest.raises(ConfigError, match=message):
        check_rule("sensitivity=0.9", 2, labels)
    check_rule("0.4", 2, labels)


def test_a_positive_of_probability_0_cannot_be_reached():
    positive = np.array([True, False, True])
    scores = np.array([0.0, 0.5, 0.9])
    with pytest.raises(ConfigError, match="no threshold between 0 and 1 reaches it; ask for less"):
        choose_threshold("sensitivity=1", positive, scores, "val")
