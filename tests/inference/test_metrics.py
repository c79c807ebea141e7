"""Figures of an evaluation against scikit-learn's; what no image can tell is absent."""

import json
import math

import numpy as np
import pytest
import sklearn.metrics as reference

from kneeedge.inference.metrics import (
    Evaluation,
    OneVersusRest,
    classification_report,
    confusion,
    evaluate,
)
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.spec import Architecture, ModelSpec, PixelPath
from kneeedge.statistics.auroc import DELONG, DELONG_MEAN, DISJOINT_PAIRS, delong_interval
from kneeedge.statistics.intervals import WILSON, wilson
from kneeedge.system.strict_json import from_json, to_json

NAMES = ("normal", "osteopenia", "osteoporosis", "grade three", "a class with a rather long name")


def make_spec(n_classes: int, positive: int = 1, threshold: float = 0.5) -> ModelSpec:
    return ModelSpec(
        name="test",
        classes=NAMES[:n_classes],
        positive=NAMES[positive],
        architecture=Architecture(),
        pixel_path=PixelPath(),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        training=TrainingRecord(
            recipe="test",
            weights="none",
            seed=0,
            data_sha256="0",
            n_images={"train": 1},
            versions={},
        ),
        threshold=threshold,
    )


def make_problem(n_classes: int, seed: int, n: int = 83) -> tuple[np.ndarray, np.ndarray]:
    """Labels and rounded probabilities, so that many scores tie.

    Odd seeds leave the last of three or more classes empty.
    """
    random = np.random.default_rng(seed)
    n_empty = seed % 2 if n_classes > 2 else 0
    labels = random.integers(0, n_classes - n_empty, n)
    logits = random.normal(size=(n, n_classes)) + 1.2 * np.eye(n_classes)[labels]
    exponentials = np.exp(logits)
    probabilities = np.round(exponentials / exponentials.sum(axis=1, keepdims=True), 2)
    probabilities[:, 0] += 1 - probabilities.sum(axis=1)
    return labels, np.clip(probabilities, 0, 1)


PROBLEMS = [
    (k, positive, seed) for k, positive in ((2, 1), (2, 0), (3, 1), (5, 0)) for seed in range(6)
]


@pytest.fixture(params=PROBLEMS, ids=lambda p: f"K{p[0]}-positive{p[1]}-seed{p[2]}")
def problem(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, ModelSpec]:
    n_classes, positive, seed = request.param
    spec = make_spec(n_classes, positive, threshold=0.35 if seed > 2 else 0.5)
    return *make_problem(n_classes, seed), spec


def test_counts_agree_with_scikit_learn(problem):
    labels, probabilities, spec = problem
    evaluation = evaluate(labels, probabilities, spec)
    predictions = spec.decide(probabilities)
    every = range(len(spec.classes))
    expected = reference.confusion_matrix(labels, predictions, labels=every)
    np.testing.assert_array_equal(evaluation.confusion, expected)
    np.testing.assert_array_equal(confusion(labels, predictions, len(spec.classes)), expected)
    assert evaluation.n == len(labels)
    assert evaluation.accuracy.value == pytest.approx(reference.accuracy_score(labels, predictions))


def test_class_scores_agree_with_scikit_learn(problem):
    labels, probabilities, spec = problem
    evaluation = evaluate(labels, probabilities, spec)
    options = {"labels": range(len(spec.classes)), "zero_division": 0}
    columns = reference.precision_recall_fscore_support(
        labels, spec.decide(probabilities), **options
    )
    expected_scores = zip(*columns, strict=True)
    for score, expected in zip(evaluation.per_class.values(), expected_scores, strict=True):
        assert (score.precision, score.recall, score.f1, score.support) == pytest.approx(expected)
    for average in ("macro", "weighted"):
        score = getattr(evaluation, average)
        expected = reference.precision_recall_fscore_support(
            labels, spec.decide(probabilities), average=average, **options
        )
        assert (score.precision, score.recall, score.f1) == pytest.approx(expected[:3])
        assert score.support == len(labels)


def test_positive_class_shares_agree_with_scikit_learn(problem):
    labels, probabilities, spec = problem
    evaluation = evaluate(labels, probabilities, spec)
    truth = labels == spec.positive_index
    called = spec.decide(probabilities) == spec.positive_index
    assert evaluation.sensitivity.value == pytest.approx(reference.recall_score(truth, called))
    assert evaluation.specificity.value == pytest.approx(reference.recall_score(~truth, ~called))
    assert evaluation.ppv.value == pytest.approx(reference.precision_score(truth, called))
    assert evaluation.npv.value == pytest.approx(reference.precision_score(~truth, ~called))
    present = np.unique(labels)
    recalls = reference.recall_score(
        labels, spec.decide(probabilities), labels=present, average="macro"
    )
    assert evaluation.balanced_accuracy == pytest.approx(recalls)


def test_auroc_agrees_with_scikit_learn(problem):
    labels, probabilities, spec = problem
    evaluation = evaluate(labels, probabilities, spec)
    present = {k for k in range(len(spec.classes)) if (labels == k).any()}
    if len(spec.classes) == 2:
        positive = spec.positive_index
        expected = reference.roc_auc_score(labels == positive, probabilities[:, positive])
        assert evaluation.auroc_per_class == {
            name: pytest.approx(expected) for name in spec.classes
        }
    else:
        areas = {k: reference.roc_auc_score(labels == k, probabilities[:, k]) for k in present}
        expected = float(np.mean(list(areas.values())))
        assert evaluation.auroc_per_class == {
            spec.classes[k]: pytest.approx(area) for k, area in areas.items()
        }
        if len(present) == len(spec.classes):
            macro = reference.roc_auc_score(labels, probabilities, multi_class="ovr")
            assert macro == pytest.approx(expected)
    assert evaluation.auroc.value == pytest.approx(expected)


def test_probability_errors_agree_with_scikit_learn(problem):
    labels, probabilities, spec = problem
    evaluation = evaluate(labels, probabilities, spec)
    every = list(range(len(spec.classes)))
    if len(every) == 2:
        positive = spec.positive_index
        expected = reference.brier_score_loss(labels == positive, probabilities[:, positive])
    else:
        expected = reference.brier_score_loss(labels, probabilities, labels=every)
    assert evaluation.brier == pytest.approx(expected)
    log_loss = reference.log_loss(labels, probabilities, labels=every)
    assert evaluation.log_loss == pytest.approx(log_loss)


@pytest.mark.parametrize("digits", [2, 4])
def test_report_is_scikit_learns_to_the_letter(problem, digits):
    labels, probabilities, spec = problem
    expected = reference.classification_report(
        labels,
        spec.decide(probabilities),
        labels=range(len(spec.classes)),
        target_names=spec.classes,
        zero_division=0,
        digits=digits,
    )
    evaluation = evaluate(labels, probabilities, spec)
    assert classification_report(evaluation, digits) == expected


def test_report_has_two_decimals_unless_told():
    evaluation = evaluate(*make_problem(3, 0), make_spec(3))
    assert classification_report(evaluation) == classification_report(evaluation, 2)


def test_calibration_error_agrees_with_its_definition(problem):
    labels, probabilities, spec = problem
    answers = probabilities.argmax(axis=1)
    expected = 0.0
    for k in range(15):
        confidence = probabilities[np.arange(len(labels)), answers]
        chosen = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if chosen.any():
            gap = (answers == labels)[chosen].mean() - confidence[chosen].mean()
            expected += chosen.mean() * abs(gap)
    assert evaluate(labels, probabilities, spec).ece == pytest.approx(expected)


def test_evaluation_gives_each_share_its_interval(problem):
    labels, probabilities, spec = problem
    evaluation = evaluate(labels, probabilities, spec)
    truth = labels == spec.positive_index
    called = spec.decide(probabilities) == spec.positive_index
    expected = wilson(int((truth & called).sum()), int(truth.sum()))
    assert evaluation.sensitivity.interval == expected
    figures = {"accuracy", "sensitivity", "specificity", "ppv", "npv", "auroc"}
    assert set(evaluation.estimates) == figures
    of_area = DELONG if len(spec.classes) == 2 else DELONG_MEAN
    for name, estimate in evaluation.estimates.items():
        assert estimate.interval.low <= estimate.value <= estimate.interval.high
        assert estimate == getattr(evaluation, name)
        assert estimate.method == (of_area if name == "auroc" else WILSON)


def test_with_more_than_two_classes_each_has_its_own_figures_against_the_rest(problem):
    labels, probabilities, spec = problem
    one_versus_rest = evaluate(labels, probabilities, spec).one_versus_rest
    answers = spec.decide(probabilities)
    assert list(one_versus_rest) == (list(spec.classes) if len(spec.classes) > 2 else [])
    for k, figures in enumerate(one_versus_rest.values()):
        alone = evaluate((labels == k).astype(int), certain(answers == k), make_spec(2))
        for name in ("sensitivity", "specificity", "ppv", "npv"):
            assert getattr(figures, name) == alone.estimates.get(name)
        area = delong_interval(labels == k, probabilities[:, k])
        assert (figures.auroc and figures.auroc.interval) == area


def certain(called: np.ndarray) -> np.ndarray:
    """Certain probabilities (N, 2) of these answers."""
    return np.stack([~called, called], axis=1).astype(float)


def test_a_class_without_images_has_no_sensitivity_and_no_auroc():
    evaluation = evaluate(*make_problem(3, 1), make_spec(3))
    empty = evaluation.one_versus_rest[NAMES[2]]
    assert isinstance(empty, OneVersusRest)
    assert (empty.sensitivity, empty.auroc) == (None, None)
    assert empty.specificity is not None


def test_score_carries_the_positive_classs_auroc():
    labels, probabilities = make_problem(3, 0)
    score = evaluate(labels, probabilities, make_spec(3, positive=2)).score()
    assert score.auroc == pytest.approx(reference.roc_auc_score(labels == 2, probabilities[:, 2]))
    assert score.n == len(labels)
    expected = delong_interval(labels == 2, probabilities[:, 2])
    interval = score.intervals["auroc"]
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert score.intervals["accuracy"] == wilson(round(score.accuracy * score.n), score.n)


@pytest.mark.parametrize("only", [0, 1])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_class_alone_leaves_out_what_it_cannot_tell(n_classes, only):
    _, probabilities = make_problem(n_classes, 0)
    evaluation = evaluate(np.full(len(probabilities), only), probabilities, make_spec(n_classes))
    absent = "specificity" if only == 1 else "sensitivity"
    present = "sensitivity" if only == 1 else "specificity"
    assert getattr(evaluation, absent) is None
    assert absent not in evaluation.estimates
    assert 0 <= getattr(evaluation, present).value <= 1
    assert (evaluation.auroc, evaluation.score().auroc) == (None, None)
    assert evaluation.auroc_per_class == {}
    assert evaluation.balanced_accuracy == evaluation.accuracy.value
    assert from_json(Evaluation, to_json(evaluation)) == evaluation


def test_no_call_leaves_ppv_out():
    evaluation = evaluate(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), make_spec(2))
    assert (evaluation.ppv, evaluation.npv.value) == (None, 0.5)
    assert evaluation.per_class["osteopenia"].precision == 0.0


def test_certain_and_wrong_is_finite():
    evaluation = evaluate(np.array([0, 1]), np.array([[0.0, 1.0], [1.0, 0.0]]), make_spec(2))
    assert evaluation.log_loss == pytest.approx(-math.log(np.finfo(float).eps))
    assert (evaluation.brier, evaluation.ece, evaluation.auroc.value) == (1.0, 1.0, 0.0)


def test_answers_are_those_of_inference_in_single_precision():
    """0.7 in single precision is below the threshold 0.7, as it is to `decide`."""
    probabilities = np.array([[0.3, 0.7], [0.9, 0.1]], dtype=np.float32)
    spec = make_spec(2, threshold=0.7)
    assert spec.decide(probabilities).tolist() == [0, 0]
    evaluation = evaluate(np.array([1, 0]), probabilities, spec)
    assert evaluation.accuracy.value == 0.5


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], np.empty((0, 2)), "no images"),
        ([0, 2], [[0.5, 0.5]] * 2, "outside 0 to 1"),
        ([0, -1], [[0.5, 0.5]] * 2, "outside 0 to 1"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "integers"),
        ([0, 1], [[0.5, 0.5], [math.nan, 0.5]], "image 1 are not finite"),
        ([0, 1], [[math.inf, 0.5], [0.5, 0.5]], "image 0 are not finite"),
        ([0, 1], [[0.2, 0.3, 0.5]] * 2, r"must be \(2, 2\)"),
        ([0], [[0.5, 0.5]] * 2, r"must be \(1, 2\)"),
        ([0, 1], [[-1.0, 2.0]] * 2, "not the logits"),
        ([0, 1], [[0.7, 0.7]] * 2, "not the logits"),
    ],
)
def test_unusable_input_is_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        evaluate(np.array(labels), np.array(probabilities), make_spec(2))


def test_confusion_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="do not pair"):
        confusion(np.array([0, 1]), np.array([0]), 2)


def test_confusion_of_nothing_is_zero():
    assert confusion(np.array([]), np.array([]), 3).tolist() == [[0] * 3] * 3


def test_the_evaluation_says_which_auroc_interval_it_has():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
    evaluation = evaluate(labels, probabilities, make_spec(2))
    assert evaluation.auroc.method == DISJOINT_PAIRS


def test_the_json_is_flat_and_comes_back_as_it_was(problem):
    """Value, interval and method stand beside each other there, as every version wrote them."""
    labels, probabilities, spec = problem
    evaluation = evaluate(labels, probabilities, spec, prevalence=0.2)
    record = json.loads(to_json(evaluation))
    assert record["accuracy"] == evaluation.accuracy.value
    assert record["intervals"]["accuracy"] == {
        "low": evaluation.accuracy.interval.low,
        "high": evaluation.accuracy.interval.high,
    }
    assert record["interval_methods"]["accuracy"] == evaluation.accuracy.method
    assert list(record).index("intervals") == list(record).index("log_loss") + 1
    assert from_json(Evaluation, to_json(evaluation)) == evaluation


@pytest.mark.parametrize("name", ["intervals", "interval_methods", "auroc"])
def test_json_that_lacks_a_part_of_an_estimate_names_it(problem, name):
    labels, probabilities, spec = problem
    record = json.loads(to_json(evaluate(labels, probabilities, spec)))
    del record[name]
    with pytest.raises(ValueError, match=f"Evaluation lacks the field '{name}'"):
        from_json(Evaluation, json.dumps(record))
