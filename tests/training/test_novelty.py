"""The distance to the training images: the fit, its file, and the limit."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from kneeedge.errors import CheckpointError
from kneeedge.model.spec import Architecture
from kneeedge.pixels.phantom import phantom
from kneeedge.system.progress import Progress
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import (
    PARTS,
    RANK,
    Distance,
    FeatureGaussian,
    Gaussians,
    Part,
    PartDistance,
    band_roots,
    choose_limit,
    fit_gaussian,
    quantile_limit,
    read_gaussians,
    save_gaussians,
    training_features,
)

QUIET = Progress(quiet=True)


@pytest.fixture
def gaussian() -> FeatureGaussian:
    return fit_gaussian(samples_of(60, 20))


@pytest.fixture
def gaussians(gaussian) -> Gaussians:
    return Gaussians(PARTS, (gaussian, fit_gaussian(samples_of(60, 9))), (1.0, 1.5))


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
    parts = (Part(4, False), Part(5, True))
    of_images = training_features(model, parts, [images], 3, n_done, False, QUIET)
    of_cached = training_features(model, parts, [cached], 3, n_done, False, QUIET)
    for ours, theirs in zip(of_images, of_cached, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("n", "place"), [(99, 99), (199, 198), (299, 297), (315, 313), (1000, 991)]
)
def test_the_limit_is_half_way_beyond_the_conformal_quantile(n, place):
    distances = np.random.default_rng(0).permutation(n) + 1.0
    limit, _ = quantile_limit(distances)
    assert limit == pytest.approx(place + 0.5 if place < n else place * 1.001)
    assert (distances > limit).sum() == n - place


def test_too_few_images_let_the_largest_be_the_limit_and_say_so(gaussians):
    novelty = choose_limit(np.array([1.0, 3.0, 2.0]), "val", gaussians)
    assert novelty.limit == pytest.approx(3.0, rel=2e-3)
    assert novelty.limit > 3.0
    assert "largest of 3, too few for 1%" in novelty.method


def test_new_genuine_images_are_refused_as_seldom_as_promised():
    """Over many draws of 150 distances the share refused is Beta-distributed, 1 in 151 to 100."""
    rng = np.random.default_rng(0)
    limits = [quantile_limit(rng.chisquare(30, 150))[0] for _ in range(400)]
    shares = (rng.chisquare(30, 20_000)[None] > np.array(limits)[:, None]).mean(axis=1)
    assert shares.mean() < 0.01


def test_the_distance_is_stable_in_single_precision():
    """With noise a millionth of the leading variance, as in 1,536 features of VGG19's block 4."""
    features = samples_of(400, 120).astype(np.float32)
    gaussian = dataclasses.replace(fit_gaussian(features), noise=np.array([1e-6], np.float32))
    module = PartDistance(Part(4, False), gaussian, 1.0)
    centred = torch.from_numpy(features[:50]) - module.mean
    along = centred @ module.directions
    beside = (centred - along @ module.directions.T) / module.noise
    squares = (along / module.deviations).square().sum(1) + beside.square().sum(1)
    exact = gaussian.distances(features[:50])
    np.testing.assert_allclose(squares.sqrt().numpy(), exact, rtol=1e-3)


def test_features_of_one_length_do_not_see_contrast_alone():
    activations = torch.rand(2, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    unit = Part(2, True)
    assert torch.allclose(unit.features(activations), unit.features(9 * activations), atol=1e-5)
    features = unit.features(activations)
    assert torch.allclose((features * features).mean(1), torch.ones(2), atol=1e-4)
    assert torch.isfinite(unit.features(torch.zeros(1, 5, 6, 6))).all()


def test_the_largest_scaled_part_is_the_distance(gaussians):
    parts = np.array([[3.0, 1.0], [3.0, 2.5]])
    assert gaussians.combined(parts).tolist() == [3.0, 3.75]


def test_the_graph_takes_the_largest_scaled_part():
    rng = np.random.default_rng(0)
    behind = {part.block: torch.rand(7, 5 - i, 6, 6) for i, part in enumerate(PARTS)}
    fitted = tuple(
        fit_gaussian(part.features(torch.rand(60, *behind[part.block].shape[1:])).numpy())
        for part in PARTS
    )
    gaussians = Gaussians(PARTS, fitted, (1.0, float(rng.uniform(0.8, 1.2))))
    features = [part.features(behind[part.block]).numpy() for part in PARTS]
    expected = gaussians.combined(gaussians.part_distances(features))
    np.testing.assert_allclose(Distance(gaussians)(behind).numpy(), expected, rtol=1e-4)


def test_scales_give_every_part_the_first_ones_limit_alone(gaussians):
    parts = np.random.default_rng(0).chisquare((30, 4), (315, 2))
    scaled = parts * np.array(gaussians.scaled_by(parts).scales)
    limits = [quantile_limit(column)[0] for column in scaled.T]
    assert limits == pytest.approx([quantile_limit(parts[:, 0])[0]] * 2)
    assert quantile_limit(scaled.max(axis=1))[0] >= limits[0]


def test_of_several_parts_too_genuine_images_are_refused_as_seldom_as_promised(gaussians):
    """The scales come from the images that set the limit; one tail here is heavier than the other.

    Over 400 draws the mean share has a standard error of 0.0002.
    """
    rng = np.random.default_rng(0)
    new = np.stack([rng.chisquare(30, 20_000), rng.standard_t(4, 20_000) ** 2], axis=1)
    shares = []
    for _ in range(400):
        val = np.stack([rng.chisquare(30, 315), rng.standard_t(4, 315) ** 2], axis=1)
        fitted = gaussians.scaled_by(val)
        limit, _text = quantile_limit(fitted.combined(val))
        shares.append((fitted.combined(new) > limit).mean())
    assert np.mean(shares) < 0.011


def test_the_file_gives_back_what_was_saved(gaussians, tmp_path):
    save_gaussians(gaussians, tmp_path / "novelty.safetensors")
    back = read_gaussians(tmp_path / "novelty.safetensors")
    assert (back.parts, back.scales) == (gaussians.parts, gaussians.scales)
    for ours, theirs in zip(back.gaussians, gaussians.gaussians, strict=True):
        for field in dataclasses.fields(ours):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))


def test_the_one_gaussian_of_an_earlier_run_is_still_read(gaussian, tmp_path):
    arrays = {field.name: getattr(gaussian, field.name) for field in dataclasses.fields(gaussian)}
    save_file(arrays, tmp_path / "novelty.safetensors")
    back = read_gaussians(tmp_path / "novelty.safetensors")
    assert (back.parts, back.scales) == ((Part(4, False),), (1.0,))
    features = samples_of(5, 20, seed=1)
    expected = gaussian.distances(features)
    np.testing.assert_array_equal(back.combined(back.part_distances([features])), expected)


def test_a_damaged_file_is_one_clear_error(gaussians, tmp_path):
    path = tmp_path / "novelty.safetensors"
    save_gaussians(gaussians, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"cannot be read .* train the run again"):
        read_gaussians(path)
    with pytest.raises(CheckpointError, match="train the run again"):
        read_gaussians(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["block4.mean", "block1.unit.scale", "block3.scale"])
def test_a_part_of_which_something_is_missing_or_too_much_is_refused(gaussians, tmp_path, name):
    path = tmp_path / "novelty.safetensors"
    save_gaussians(gaussians, path)
    arrays = load_file(path)
    if name in arrays:
        del arrays[name]
    else:
        arrays[name] = np.ones(1)
    save_file(arrays, path)
    with pytest.raises(CheckpointError, match=r"holds block1.unit.directions, .* again"):
        read_gaussians(path)


@pytest.mark.parametrize(
    "change", [{"mean": np.zeros(3, np.float32)}, {"noise": np.array([np.nan], np.float32)}]
)
def test_arrays_that_do_not_fit_together_are_refused(gaussians, tmp_path, change):
    broken = (dataclasses.replace(gaussians.gaussians[0], **change), gaussians.gaussians[1])
    path = tmp_path / "novelty.safetensors"
    save_gaussians(dataclasses.replace(gaussians, gaussians=broken), path)
    with pytest.raises(CheckpointError, match="no Gaussian of image features"):
        read_gaussians(path)


@pytest.mark.parametrize("scale", [0.0, np.nan, -1.0])
def test_a_scale_that_is_none_is_refused(gaussians, tmp_path, scale):
    path = tmp_path / "novelty.safetensors"
    save_gaussians(dataclasses.replace(gaussians, scales=(1.0, scale)), path)
    with pytest.raises(CheckpointError, match="no Gaussian of image features"):
        read_gaussians(path)
