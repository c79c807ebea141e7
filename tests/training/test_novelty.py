"""The distance to the training images: the fit, its file, the limit, and what is refused in the
end.
"""

import csv
import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import onnxruntime
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from export.to_onnx import to_onnx
from kneeedge.errors import CheckpointError
from kneeedge.inference.evaluation import answer_samples, evaluate_model, evaluation_samples
from kneeedge.model.spec import Architecture
from kneeedge.pixels.phantom import phantom
from kneeedge.report.inference import evaluation_text
from kneeedge.runs.folder import Run, open_run
from kneeedge.runtime.session import Session
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original, predict_logits
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import (
    RANK,
    Distance,
    band_roots,
    choose_limit,
    fit_gaussian,
    predict,
    read_gaussian,
    save_gaussian,
    training_features,
)
from kneeedge.training.run import train

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def original(trained_run):
    return load_original(open_run(trained_run))


@pytest.fixture(scope="module")
def gaussian(trained_run):
    return read_gaussian(open_run(trained_run).novelty)


def knees(n: int, first: int = 700) -> np.ndarray:
    return np.stack([phantom(first + i, i % 2, 64) for i in range(n)])[:, None]


def samples_of(n: int, n_features: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_features, n_features)) * np.linspace(2.0, 0.1, n_features)
    return rng.normal(size=(n, n_features)) @ mixing.T + 5.0


def test_the_gaussian_is_that_of_probabilistic_pca():
    """scikit-learn divides by n − 1 where the maximum-likelihood fit divides by n."""
    features = samples_of(300, 90)
    found, reference = fit_gaussian(features), PCA(RANK).fit(features)
    np.testing.assert_allclose(
        found.variances, reference.explained_variance_ * 299 / 300, rtol=1e-4
    )
    np.testing.assert_allclose(found.noise[0], reference.noise_variance_ * 299 / 300, rtol=1e-4)


def test_distances_are_those_of_the_densities():
    features = samples_of(200, 30)
    found = fit_gaussian(features)
    along = found.directions.astype(np.float64)
    covariance = (along * (found.variances - found.noise)) @ along.T + found.noise[0] * np.eye(30)
    density = multivariate_normal(found.mean, covariance)
    new = samples_of(20, 30, seed=1)
    squares = -2 * (density.logpdf(new) - density.logpdf(found.mean))
    np.testing.assert_allclose(found.distances(new), np.sqrt(squares), rtol=1e-4)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_handful_of_images_still_gives_finite_distances(n):
    found = fit_gaussian(samples_of(n, 40))
    assert np.isfinite(found.distances(samples_of(5, 40, seed=1))).all()


def test_features_tell_up_from_down_and_not_left_from_right():
    activations = torch.rand(2, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(band_roots(activations), band_roots(activations.flip(3)), atol=1e-6)
    assert not torch.allclose(band_roots(activations), band_roots(activations.flip(2)), atol=1e-2)


def test_features_are_roots_of_band_means():
    activations = torch.arange(2 * 6 * 1, dtype=torch.float32).reshape(1, 2, 6, 1)
    expected = np.sqrt([[0.5, 6.5, 2.5, 8.5, 4.5, 10.5]])
    np.testing.assert_allclose(band_roots(activations).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("n_done", [0, 2, 4])
def test_cached_activations_give_the_features_of_their_images(n_done):
    model = KneeVGG(Architecture(((8,),) * 5), 2, n_frozen=n_done).eval()
    images = torch.from_numpy(knees(3))
    with torch.inference_mode():
        cached = model.lower(images)
    found = [training_features(model, [x], len(x), n_done, False, QUIET) for x in (images, cached)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize(
    ("n", "place"), [(99, 99), (199, 198), (299, 297), (315, 313), (1000, 991)]
)
def test_the_limit_is_half_way_beyond_the_conformal_quantile(n, place):
    distances = np.random.default_rng(0).permutation(n) + 1.0
    limit = choose_limit(distances, "val", 64).limit
    assert limit == pytest.approx(place + 0.5 if place < n else place * 1.001)
    assert (distances > limit).sum() == n - place


def test_too_few_images_let_the_largest_be_the_limit_and_say_so():
    found = choose_limit(np.array([1.0, 3.0, 2.0]), "val", 64)
    assert found.limit == pytest.approx(3.0, rel=2e-3)
    assert found.limit > 3.0
    assert "largest of 3, too few for 1%" in found.method


def test_new_genuine_images_are_refused_as_seldom_as_promised():
    """Over many draws of 150 distances; the share refused is then Beta-distributed around 1 in 151
    to 1 in 100.
    """
    rng = np.random.default_rng(0)
    limits = [choose_limit(rng.chisquare(30, 150), "val", 64).limit for _ in range(400)]
    shares = (rng.chisquare(30, 20_000)[None] > np.array(limits)[:, None]).mean(axis=1)
    assert shares.mean() < 0.01


def test_one_pass_gives_the_originals_logits_and_the_distances(original, gaussian):
    logits, distances = predict(original[0], gaussian, knees(5))
    np.testing.assert_allclose(logits, predict_logits(original[0], knees(5)), atol=1e-5)
    assert distances.shape == (5,)


def test_the_graph_gives_numpys_distances(original, gaussian):
    graph = to_onnx(*original, gaussian)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = np.concatenate([knees(6), 255 - knees(2)])
    (found,) = session.run(["distance"], {"image": images})
    np.testing.assert_allclose(found, predict(original[0], gaussian, images)[1], rtol=1e-4)


def test_the_distance_is_stable_in_single_precision():
    """At 1,536 features with noise a millionth of the leading variance, as behind VGG19's block 4."""
    features = samples_of(400, 120).astype(np.float32)
    exact = dataclasses.replace(fit_gaussian(features), noise=np.array([1e-6], dtype=np.float32))
    scores = torch.from_numpy(features[:50])
    module = Distance(exact)
    centred = scores - module.mean
    along = centred @ module.directions
    beside = (centred - along @ module.directions.T) / module.noise
    found = ((along / module.deviations).square().sum(1) + beside.square().sum(1)).sqrt()
    np.testing.assert_allclose(found.numpy(), exact.distances(features[:50]), rtol=1e-3)


def test_without_a_gaussian_there_is_no_distance(original):
    outputs = [output.name for output in to_onnx(*original).graph.output]
    assert outputs == ["probabilities", "logits", "cam"]
    assert predict(original[0], None, knees(1))[1] is None


def test_the_file_gives_back_what_was_saved(gaussian, tmp_path):
    save_gaussian(gaussian, tmp_path / "novelty.safetensors")
    back = read_gaussian(tmp_path / "novelty.safetensors")
    for field in dataclasses.fields(gaussian):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(gaussian, field.name))


def test_a_damaged_file_is_one_clear_error(gaussian, tmp_path):
    path = tmp_path / "novelty.safetensors"
    save_gaussian(gaussian, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"cannot be read .* train the run again"):
        read_gaussian(path)
    with pytest.raises(CheckpointError, match="train the run again"):
        read_gaussian(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "change", [{"mean": np.zeros(3, np.float32)}, {"noise": np.array([np.nan], np.float32)}]
)
def test_arrays_that_do_not_fit_together_are_refused(gaussian, tmp_path, change):
    save_gaussian(dataclasses.replace(gaussian, **change), tmp_path / "novelty.safetensors")
    with pytest.raises(CheckpointError, match="no Gaussian of image features"):
        read_gaussian(tmp_path / "novelty.safetensors")


def test_what_is_no_knee_is_refused(original, gaussian):
    model, spec = original
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (12, 1, 64, 64), dtype=np.uint8)
    assert spec.novelty.refuses(predict(model, gaussian, noise)[1]).all()
    inverted = spec.novelty.refuses(predict(model, gaussian, 255 - knees(20))[1])
    assert inverted.mean() > 0.8


def test_genuine_phantoms_are_answered(original, gaussian):
    """An expected 1 in 61, with the limit the largest of 60; 8 of 100 has a chance below 1 in 1,000
    beyond that.
    """
    model, spec = original
    assert spec.novelty.refuses(predict(model, gaussian, knees(100))[1]).sum() <= 8


def test_every_held_out_answer_has_its_distance(trained_run, original):
    with (trained_run / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    assert max(float(row["distance"]) for row in rows) == pytest.approx(
        original[1].novelty.limit / 1.001
    )


def test_the_gate_compares_refusals(exported):
    reports = {
        file.report.precision: file.report
        for file in Run(exported["fp32"].parent.parent).read_export_report().files
    }
    assert reports["fp32"].refusals.changed == 0
    assert reports["fp32"].refusals.largest_change < 0.01
    assert reports["int8"].refusals.variant <= 3


def test_evaluate_counts_refusals_and_scores_the_rest_apart(exported, phantoms):
    session = Session(exported["fp32"], "cpu")
    name, samples = evaluation_samples(phantoms, session.spec.classes)
    outputs = answer_samples(session, samples, 16, QUIET)
    limit = float(np.sort(outputs.distance)[49])
    object.__setattr__(
        session.spec, "novelty", dataclasses.replace(session.spec.novelty, limit=limit)
    )
    report = evaluate_model(session, phantoms, name, 16, QUIET)
    kept = outputs.distance <= limit
    right = session.spec.decide(outputs.probabilities) == [sample.label for sample in samples]
    assert (report.evaluation.n, report.n_abstained, report.answered.n) == (60, 10, 50)
    assert report.answered.accuracy == pytest.approx(right[kept].mean())
    assert report.evaluation.accuracy.value == pytest.approx(right.mean())
    assert report.as_record()["answered"]["n"] == 50
    assert "10 of 60, which `infer` does not answer" in evaluation_text(report)


def test_a_run_that_is_not_to_abstain_has_no_limit(narrow_config, tmp_path):
    config = dataclasses.replace(narrow_config, abstain=False, epochs=1)
    train(config, tmp_path / "run", ["kneeedge", "train"], QUIET)
    assert load_original(open_run(tmp_path / "run"))[1].novelty is None
    assert not open_run(tmp_path / "run").novelty.exists()
