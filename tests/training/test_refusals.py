"""What a trained model refuses, in PyTorch, in the file, at the gate and in an evaluation."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

import onnxruntime

from export.to_onnx import to_onnx
from kneeedge.inference.evaluation import answer_samples, evaluate_model, evaluation_samples
from kneeedge.pixels.phantom import phantom
from kneeedge.report.scorecard import evaluation_text
from kneeedge.runs.folder import Run, open_run
from kneeedge.runtime.session import Session
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original, predict_logits
from kneeedge.training.data import FileBatches
from kneeedge.training.novelty import predict, read_gaussians
from kneeedge.training.run import train
from kneeedge.training.score import fit_novelty

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def original(trained_run):
    return load_original(open_run(trained_run))


@pytest.fixture(scope="module")
def gaussians(trained_run):
    return read_gaussians(open_run(trained_run).novelty)


def knees(n: int, first: int = 700) -> np.ndarray:
    return np.stack([phantom(first + i, i % 2, 64) for i in range(n)])[:, None]


def test_one_pass_gives_the_originals_logits_and_the_distances(original, gaussians):
    logits, distances = predict(original[0], gaussians, knees(5))
    np.testing.assert_allclose(logits, predict_logits(original[0], knees(5)), atol=1e-5)
    assert distances.shape == (5,)


def test_the_graph_gives_numpys_distances(original, gaussians):
    graph = to_onnx(*original, gaussians)
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=providers)
    images = np.concatenate([knees(6), knees(2).swapaxes(2, 3)])
    (distances,) = session.run(["distance"], {"image": images})
    _, expected = predict(original[0], gaussians, images)
    np.testing.assert_allclose(distances, expected, rtol=1e-4)


def test_without_a_gaussian_there_is_no_distance(original):
    outputs = [output.name for output in to_onnx(*original).graph.output]
    assert outputs == ["probabilities", "logits", "cam"]
    assert predict(original[0], None, knees(1))[1] is None


def test_what_is_no_knee_is_refused(original, gaussians):
    model, spec = original
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (12, 1, 64, 64), dtype=np.uint8)
    _, distances = predict(model, gaussians, noise)
    assert spec.novelty.refuses(distances).all()
    _, distances = predict(model, gaussians, knees(20).swapaxes(2, 3))
    assert spec.novelty.refuses(distances).mean() > 0.8


def test_genuine_phantoms_are_answered(original, gaussians):
    """Each part refuses 1 in 61 by expectation, its scale being set by the largest of 60.

    More than 18 of 100 would be has a chance below 1 in 1,000.
    """
    model, spec = original
    _, distances = predict(model, gaussians, knees(100))
    assert spec.novelty.refuses(distances).sum() <= 18


def test_every_held_out_answer_has_its_distance(trained_run, original):
    with (trained_run / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    largest = max(float(row["distance"]) for row in rows)
    assert largest == pytest.approx(original[1].novelty.limit / 1.001)


def test_the_gate_compares_refusals(exported):
    files = Run(exported["fp32"].parent.parent).read_export_report().files
    reports = {file.report.precision: file.report for file in files}
    assert reports["fp32"].refusals.changed == 0
    assert reports["fp32"].refusals.largest_change < 0.01
    assert reports["int8"].refusals.variant <= 3


def test_evaluate_counts_refusals_and_scores_the_rest_apart(exported, phantoms):
    session = Session(exported["fp32"], "cpu")
    name, samples = evaluation_samples(phantoms, session.spec.classes)
    outputs = answer_samples(session, samples, 16, QUIET)
    limit = float(np.sort(outputs.distance)[49])
    novelty = dataclasses.replace(session.spec.novelty, limit=limit)
    session.spec = dataclasses.replace(session.spec, novelty=novelty)
    report = evaluate_model(session, phantoms, name, 16, QUIET)
    kept = outputs.distance <= limit
    right = session.spec.decide(outputs.probabilities) == [sample.label for sample in samples]
    assert (report.evaluation.n, report.n_abstained, report.answered.n) == (60, 10, 50)
    assert report.answered.accuracy.value == pytest.approx(right[kept].mean())
    assert report.evaluation.accuracy.value == pytest.approx(right.mean())
    assert report.as_record()["answered"]["n"] == 50
    assert "10 of 60, which `infer` does not answer" in evaluation_text(report)


def test_a_run_that_is_not_to_abstain_has_no_limit(narrow_config, tmp_path):
    config = dataclasses.replace(narrow_config, abstain=False, epochs=1)
    train(config, tmp_path / "run", ["kneeedge", "train"], QUIET)
    assert load_original(open_run(tmp_path / "run"))[1].novelty is None
    assert not open_run(tmp_path / "run").novelty.exists()


def test_the_distance_is_of_uncorrupted_views_whatever_is_trained_on(trained_run, original):
    run = open_run(trained_run)
    record = dataclasses.replace(run.read_config(), n_views=0)
    dataset = run.read_dataset(Path(record.data_root), record.classes)
    config = dataclasses.replace(record.config, corruptions="noise,blur")
    fitted = []
    for each in (record, dataclasses.replace(record, config=config)):
        samples = dataset.split("train"), dataset.split("val")
        batches = FileBatches(*samples, each.config, each.config.pixel_path)
        fitted.append(fit_novelty(original[0], each, dataset, batches, QUIET))
    for plain, corrupted in zip(*(found.gaussians for found in fitted), strict=True):
        np.testing.assert_array_equal(plain.mean, corrupted.mean)
