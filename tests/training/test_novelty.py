"""The distance to the training images: the fit, its file, and the limit."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from kneeedge.errors import CheckpointError
from kneeedge.model.spec import Architecture
from kneeedge.pixels.phantom import phantom
from kneeedge.system.progress import Progress
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import (
    RANK,
    Distance,
    FeatureGaussian,
    band_roots,
    choose_limit,
    fit_gaussian,
    read_gaussian,
    save_gaussian,
    training_features,
)

QUIET = Progress(quiet=True)


@pytest.fixture
def gaussian() -> FeatureGaussian:
    return fit_gaussian(samples_of(60, 20))


def knees(n: int, first: int = 700) -> np.ndarray:
    return np.stack([phantom(first + i, i % 2, 64) for i in range(n)])[:, None]


def samples_of(n: int, n_features: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_features, n_features)) * np.linspace(2.0, 0.1, n_features)
    return rng.normal(size=(n, n_features)) @ mixing.T + 5.0


def test_the_gaussian_is_that_of_probabilistic_pca():
    """scikit-learn divides by n − 1 where the maximum-likelihood fit divides by n."""
    features = samples_of(300, 90)
    gaussian = fit_gaussian(features)
    reference = PCA(RANK).fit(features)
    variances = reference.explained_variance_ * 299 / 300
    np.testing.assert_allclose(gaussian.variances, variances, rtol=1e-4)
    np.testing.assert_allclose(gaussian.noise[0], reference.noise_variance_ * 299 / 300, rtol=1e-4)


def test_distances_are_those_of_the_densities():
    features = samples_of(200, 30)
    gaussian = fit_gaussian(features)
    along = gaussian.directions.astype(np.float64)
    noise = gaussian.noise[0]
    covariance = (along * (gaussian.variances - noise)) @ along.T + noise * np.eye(30)
    density = multivariate_normal(gaussian.mean, covariance)
    new = samples_of(20, 30, seed=1)
    squares = -2 * (density.logpdf(new) - density.logpdf(gaussian.mean))
    np.testing.assert_allclose(gaussian.distances(new), np.sqrt(squares), rtol=1e-4)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_handful_of_images_still_gives_finite_distances(n):
    distances = fit_gaussian(samples_of(n, 40)).distances(samples_of(5, 40, seed=1))
    assert np.isfinite(distances).all()


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
    of_images = training_features(model, [images], 3, n_done, False, QUIET)
    of_cached = training_features(model, [cached], 3, n_done, False, QUIET)
    np.testing.assert_allclose(of_images, of_cached, atol=1e-5)


@pytest.mark.parametrize(
    ("n", "place"), [(99, 99), (199, 198), (299, 297), (315, 313), (1000, 991)]
)
def test_the_limit_is_half_way_beyond_the_conformal_quantile(n, place):
    distances = np.random.default_rng(0).permutation(n) + 1.0
    limit = choose_limit(distances, "val", 64).limit
    assert limit == pytest.approx(place + 0.5 if place < n else place * 1.001)
    assert (distances > limit).sum() == n - place


def test_too_few_images_let_the_largest_be_the_limit_and_say_so():
    novelty = choose_limit(np.array([1.0, 3.0, 2.0]), "val", 64)
    assert novelty.limit == pytest.approx(3.0, rel=2e-3)
    assert novelty.limit > 3.0
    assert "largest of 3, too few for 1%" in novelty.method


def test_new_genuine_images_are_refused_as_seldom_as_promised():
    """Over many draws of 150 distances the share refused is Beta-distributed, 1 in 151 to 100."""
    rng = np.random.default_rng(0)
    limits = [choose_limit(rng.chisquare(30, 150), "val", 64).limit for _ in range(400)]
    shares = (rng.chisquare(30, 20_000)[None] > np.array(limits)[:, None]).mean(axis=1)
    assert shares.mean() < 0.01


def test_the_distance_is_stable_in_single_precision():
    """With noise a millionth of the leading variance, as in 1,536 features of VGG19's block 4."""
    features = samples_of(400, 120).astype(np.float32)
    gaussian = dataclasses.replace(fit_gaussian(features), noise=np.array([1e-6], np.float32))
    module = Distance(gaussian)
    centred = torch.from_numpy(features[:50]) - module.mean
    along = centred @ module.directions
    beside = (centred - along @ module.directions.T) / module.noise
    squares = (along / module.deviations).square().sum(1) + beside.square().sum(1)
    exact = gaussian.distances(features[:50])
    np.testing.assert_allclose(squares.sqrt().numpy(), exact, rtol=1e-3)


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
