"""What training locks is what the exported file, `infer`, `evaluate` and the run's tables go by."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
onnx = pytest.importorskip("onnx")

from kneeedge import Predictor
from kneeedge.errors import ConfigError
from kneeedge.inference.evaluation import answer_samples, evaluate_model, evaluation_samples
from kneeedge.inference.metrics import Evaluation, evaluate
from kneeedge.model.spec import SPEC_KEY, ModelSpec, softmax
from kneeedge.runs.folder import Run
from kneeedge.runs.folds import read_fold
from kneeedge.runtime.session import Session
from kneeedge.statistics.reliability import probability_errors
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import from_json, to_json

QUIET = Progress(quiet=True)


def run_spec(run: Path) -> ModelSpec:
    return ModelSpec.from_json((run / "spec.json").read_text(), "spec.json")


def answers(run: Path) -> list[dict[str, str]]:
    with (run / "answers.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows: list[dict[str, str]], kind: str, spec: ModelSpec) -> np.ndarray:
    return np.array([[float(row[f"{kind}_{name}"]) for name in spec.classes] for row in rows])


def with_threshold(model: Path, target: Path, threshold: float) -> Path:
    """The same file with another threshold in its spec."""
    file = onnx.load(model)
    (entry,) = [entry for entry in file.metadata_props if entry.key == SPEC_KEY]
    spec = ModelSpec.from_json(entry.value, "file")
    moved = dataclasses.replace(spec, threshold=threshold, threshold_rule=str(threshold))
    entry.value = moved.to_json()
    onnx.save(file, target)
    return target


def test_the_run_has_a_temperature_fitted_on_val(trained_run):
    spec = run_spec(trained_run)
    assert spec.temperature != 1.0
    assert (spec.temperature_fit.split, spec.temperature_fit.n) == ("val", 60)
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert spec.temperature_fit.ece_before == metrics["val"]["uncalibrated"]["ece"]
    assert spec.temperature_fit.brier_after == metrics["val"]["brier"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_file_answers_at_the_fitted_temperature(exported, phantoms, precision):
    session = Session(exported[precision], "cpu")
    _, samples = evaluation_samples(phantoms, session.spec.classes)
    outputs = answer_samples(session, samples[:12], 4, QUIET)
    assert session.spec.temperature != 1.0
    tolerance = 2e-3 if precision == "fp16" else 1e-6
    expected = softmax(outputs.logits, session.spec.temperature)
    np.testing.assert_allclose(outputs.probabilities, expected, atol=tolerance)


@pytest.mark.parametrize("name", ["Healthy", "Osteoporosis"])
def test_infer_and_evaluate_go_by_the_locked_threshold(exported, phantoms, tmp_path, name):
    """The threshold lies on the other side of this image's probability than 0.5 does."""
    path = min((phantoms / "test" / name).glob("*.png"))
    before = Predictor(exported["fp32"], "cpu").predict(path)
    step = 1e-3 if before.prediction == "Osteoporosis" else -1e-3
    threshold = before.probability + step
    moved = with_threshold(exported["fp32"], tmp_path / "moved.onnx", threshold)
    after = Predictor(moved, "cpu").predict(path)
    assert {before.prediction, after.prediction} == {"Healthy", "Osteoporosis"}
    report = evaluate_model(Session(moved, "cpu"), phantoms, "test", None, QUIET)
    assert report.evaluation.threshold == pytest.approx(threshold)
    assert report.evaluation.threshold_rule == str(threshold)


def test_every_held_out_image_is_a_row_of_the_answers(trained_run, phantoms):
    rows = answers(trained_run)
    spec = run_spec(trained_run)
    assert [row["split"] for row in rows] == ["val"] * 60 + ["test"] * 60
    assert list(rows[0]) == [
        "path", "split", "class", "prediction", "probability",
        "p_Healthy", "p_Osteoporosis", "logit_Healthy", "logit_Osteoporosis",
        "distance", "group",
    ]  # fmt: skip
    assert all((phantoms / row["path"]).is_file() for row in rows)
    assert all(row["probability"] == row[f"p_{spec.positive}"] for row in rows)
    assert all(row["path"].split("/")[1] == row["class"] for row in rows)
    expected = softmax(numbers(rows, "logit", spec), spec.temperature)
    np.testing.assert_allclose(numbers(rows, "p", spec), expected, atol=1e-8)


def test_the_metrics_can_be_computed_again_from_the_answers(trained_run):
    rows = [row for row in answers(trained_run) if row["split"] == "test"]
    spec = run_spec(trained_run)
    labels = np.array([spec.classes.index(row["class"]) for row in rows])
    groups = [row["group"] for row in rows]
    computed = evaluate(labels, numbers(rows, "p", spec), spec, groups)
    metrics = json.loads((trained_run / "metrics.json").read_text())["test"]
    kept = from_json(Evaluation, json.dumps(metrics))
    assert computed.confusion == kept.confusion
    assert computed.auroc.value == pytest.approx(kept.auroc.value)
    assert computed.log_loss == pytest.approx(kept.log_loss)
    before = probability_errors(labels, softmax(numbers(rows, "logit", spec)), spec.positive_index)
    assert before.ece == pytest.approx(kept.uncalibrated.ece)
    assert read_fold(Run(trained_run)).labels.tolist() == labels.tolist()


@pytest.mark.usefixtures("undrawn")
def test_the_rule_that_was_asked_for_is_locked_into_the_spec(narrow_config, tmp_path):
    from kneeedge.report.training import run_text
    from kneeedge.training.run import train

    config = dataclasses.replace(narrow_config, epochs=1, threshold="sensitivity=0.9")
    evaluations = train(config, tmp_path / "run", [], QUIET).evaluations
    spec = run_spec(tmp_path / "run")
    assert spec.threshold_rule == "sensitivity=0.9 on val (60 images)"
    assert evaluations["val"].sensitivity.value >= 0.9
    assert evaluations["val"].threshold == evaluations["test"].threshold == spec.threshold
    val, test = run_text(Run(tmp_path / "run"), evaluations).split("\ntest: ")
    assert "chosen on these images, so their figures are optimistic" in val
    assert "chosen on these images" not in test
    assert "rule: sensitivity=0.9 on val (60 images)" in test


def test_a_rule_for_two_classes_is_refused_before_three_are_trained(tmp_path):
    from kneeedge.pixels.phantom import write_dataset
    from kneeedge.runs.config import TrainConfig
    from kneeedge.training.run import train

    write_dataset(tmp_path / "data", {"": 30}, size=48, classes=("A", "B", "C"))
    config = TrainConfig(
        data=str(tmp_path / "data"), weights="none", width=0.07, size=32, threshold="youden"
    )
    with pytest.raises(ConfigError, match="for two classes, and these are 3"):
        train(config, tmp_path / "run", [], QUIET)
    assert not (tmp_path / "run").exists()


def test_evaluate_counts_patients_where_it_is_told_who_they_are(exported, phantoms, tmp_path):
    """Every image twice, under the name of one patient: the intervals are those of the images."""
    for path in (phantoms / "test").rglob("*.png"):
        for copy in ("L", "R"):
            target = tmp_path / path.parent.name / f"{path.stem}-{copy}.png"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    session = Session(exported["fp32"], "cpu")
    twice = evaluate_model(session, tmp_path, None, None, QUIET, r"(.+)-[LR]").evaluation
    once = evaluate_model(session, phantoms, "test", None, QUIET).evaluation
    assert (twice.n, twice.accuracy.value) == (120, once.accuracy.value)
    assert "60 groups" in twice.accuracy.method
    assert twice.accuracy.interval.low == pytest.approx(once.accuracy.interval.low, abs=5e-3)


def test_evaluate_gives_predictive_values_at_a_prevalence(exported, phantoms):
    from kneeedge.report.scorecard import evaluation_text

    session = Session(exported["fp32"], "cpu")
    report = evaluate_model(session, phantoms, "test", None, QUIET, None, 0.1)
    evaluation = report.evaluation
    true_positive = evaluation.sensitivity.value * 0.1
    false_positive = (1 - evaluation.specificity.value) * 0.9
    expected = true_positive / (true_positive + false_positive)
    assert evaluation.at_prevalence.ppv.value == pytest.approx(expected)
    text = evaluation_text(report)
    assert "at a prevalence of 0.1" in text
    assert f"at these images' prevalence of {evaluation.prevalence:.3f}" in text
    assert from_json(Evaluation, to_json(evaluation)) == evaluation


@pytest.mark.parametrize("prevalence", [0.0, 1.0, 15.0])
def test_a_prevalence_out_of_range_says_what_to_give(exported, phantoms, prevalence):
    session = Session(exported["fp32"], "cpu")
    problem = r"--prevalence .* is out of range; give a share above 0 and below 1"
    with pytest.raises(ConfigError, match=problem):
        evaluate_model(session, phantoms, "test", None, QUIET, None, prevalence)
