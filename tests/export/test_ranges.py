"""Histograms that no order or chunk changes, and ranges against numpy, scipy and closed forms."""

import math
import subprocess
import sys

import numpy as np
import onnx
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import entropy as scipy_entropy
from scipy.stats import norm

from export.ranges import (
    METHODS,
    Histogram,
    choose_range,
    collect,
    entropy,
    least_squares,
    percentile,
)
from kneeedge.data.dataset import Sample
from kneeedge.errors import ConfigError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.phantom import phantom
from kneeedge.system.progress import Progress
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


@pytest.fixture
def heavy_tailed() -> np.ndarray:
    """Behind a ReLU: half zeros, the rest log-normal."""
    random = np.random.default_rng(0)
    is_zero = random.random(200_001) < 0.5
    return np.where(is_zero, 0, random.lognormal(0, 1.2, 200_001)).astype(np.float32)


@pytest.mark.parametrize("n_chunks", [2, 7, 1000])
def test_counts_are_the_same_for_any_chunks_in_any_order(heavy_tailed, n_chunks):
    signed = heavy_tailed * np.where(np.arange(heavy_tailed.size) % 3, 1, -0.01)
    whole = histogram_of(signed)
    chunks = np.array_split(signed, n_chunks)
    for order in (chunks, chunks[::-1], sorted(chunks, key=np.ptp)):
        histogram = histogram_of(*order)
        assert np.array_equal(histogram.counts, whole.counts)
        assert histogram.exponent == whole.exponent
        assert (histogram.low, histogram.high) == (whole.low, whole.high)


def test_a_chunk_of_zeros_alone_makes_no_bin_coarser(heavy_tailed):
    small = heavy_tailed * 1e-3
    zeros = np.zeros(5, np.float32)
    whole = histogram_of(np.append(small, zeros))
    apart = histogram_of(zeros, small)
    assert whole.exponent == apart.exponent < 0
    assert np.array_equal(whole.counts, apart.counts)


def test_counts_are_numpys(heavy_tailed):
    values = (heavy_tailed - 1).astype(np.float32)
    histogram = histogram_of(values)
    half = len(histogram.counts) // 2
    edges = np.arange(-half, half + 1) * histogram.width
    expected, _ = np.histogram(values, edges)
    assert np.array_equal(histogram.counts, expected)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 2.0**20, -(2.0**-30), 3.0e38, 1e-45])
def test_a_lone_value_is_counted_once(value):
    histogram = histogram_of(np.array([value]))
    assert histogram.counts.sum() == 1
    assert choose_range(histogram, "minmax") == (np.float32(value), np.float32(value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="NaN or infinite"):
        histogram_of(np.array([1.0, value]))


@pytest.mark.parametrize("percent", [99.9, 99.99, 99.999])
def test_percentiles_are_numpys_within_a_bin(heavy_tailed, percent):
    histogram = histogram_of(heavy_tailed)
    low, high = percentile(histogram, percent)
    assert low == 0
    expected = np.percentile(heavy_tailed, percent, method="inverted_cdf")
    assert expected <= high <= expected + histogram.width


def test_both_ends_of_a_signed_tensor_are_cut():
    values = np.random.default_rng(1).normal(size=100_001).astype(np.float32)
    histogram = histogram_of(values)
    low, high = percentile(histogram, 99.9)
    expected_low, expected_high = np.percentile(values, [0.1, 99.9], method="inverted_cdf")
    assert low == pytest.approx(expected_low, abs=histogram.width)
    assert high == pytest.approx(expected_high, abs=histogram.width)


def test_entropy_differs_from_minmax_on_a_heavy_tail(heavy_tailed):
    histogram = histogram_of(heavy_tailed)
    low, high = choose_range(histogram, "entropy")
    assert low == 0
    assert np.percentile(heavy_tailed, 99) < high < 0.8 * heavy_tailed.max()


def test_entropy_finds_the_end_of_a_uniform_distribution():
    """Below 1 no limit of at least 1 loses anything; five stray values at 4 are worth no bins."""
    random = np.random.default_rng(2)
    histogram = histogram_of(random.random(2_000_000), np.full(5, 3.999))
    assert entropy(histogram, 255) == pytest.approx(1.0, abs=0.04)


def test_entropy_is_the_least_divergence_by_scipy():
    random = np.random.default_rng(3)
    histogram = histogram_of(random.exponential(size=50_000))
    counts = histogram.magnitudes()
    fold = -(-len(counts) // 4096)
    counts = np.pad(counts, (0, -len(counts) % fold)).reshape(-1, fold).sum(axis=1)
    counts[0] = counts[1]

    def divergence(n: int) -> float:
        reference = counts[:n].astype(float)
        levelled = np.zeros(n)
        reference[np.flatnonzero(reference)[-1]] += counts[n:].sum()
        for level in range(128):
            part = slice(level * n // 128, (level + 1) * n // 128)
            filled = counts[part] > 0
            levelled[part] = filled * counts[part].sum() / max(filled.sum(), 1)
        return float(scipy_entropy(reference, levelled))

    least = min(divergence(n) for n in range(len(counts), 127, -8))
    n_kept = round(entropy(histogram, 127) / histogram.width / fold)
    assert divergence(n_kept) == pytest.approx(least, rel=1e-9)


def test_least_squares_is_the_optimum_of_a_normal_distribution():
    """Its limit balances the clipped tail's square error, in closed form, against step² / 12."""

    def error(limit: float) -> float:
        tail = (1 + limit**2) * norm.sf(limit) - limit * norm.pdf(limit)
        return float(2 * tail + (limit / 127) ** 2 / 12)

    expected = minimize_scalar(error, bounds=(1, 8), method="bounded").x
    quantiles = norm.ppf((np.arange(4_000_000) + 0.5) / 4_000_000)
    assert least_squares(histogram_of(quantiles), 127) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "values", [np.zeros(10), np.ones(10), np.array([-3.0, 0.0, 5.0]), np.full(4, 2.0**-126)]
)
def test_every_method_answers_for_degenerate_tensors(method, values):
    low, high = choose_range(histogram_of(values), method)
    assert values.min() <= low <= high <= values.max()


@pytest.mark.parametrize("method", METHODS)
def test_no_range_is_wider_than_the_values(method, heavy_tailed):
    for symmetric in (False, True):
        low, high = choose_range(histogram_of(heavy_tailed - 1), method, symmetric)
        assert heavy_tailed.min() - 1 <= low < 0 < high <= heavy_tailed.max() - 1


@pytest.fixture
def knees(tmp_path) -> tuple[Sample, ...]:
    from PIL import Image

    for seed in range(7):
        Image.fromarray(phantom(seed, seed / 6, 64)).save(tmp_path / f"{seed}.png")
    return tuple(
        Sample(
            path=tmp_path / f"{i}.png", name=f"{i}.png", sha256="", split="train", label=0, group=""
        )
        for i in range(7)
    )


@pytest.mark.parametrize("chunk", [2, 3, 7])
def test_ranges_do_not_depend_on_the_chunk(knees, tmp_path, chunk):
    model = onnx.load(write_tiny_model(tmp_path / "m.onnx"))
    alone = collect(model, knees, PixelPath(64), QUIET)
    together = collect(model, knees[::-1], PixelPath(64), QUIET, chunk)
    for name, histogram in alone.items():
        assert np.array_equal(histogram.counts, together[name].counts)
        for method in METHODS:
            assert choose_range(histogram, method) == choose_range(together[name], method)


def test_an_activation_that_is_not_finite_is_an_error_that_says_what_to_do(knees, tmp_path):
    model = onnx.load(write_tiny_model(tmp_path / "m.onnx"))
    weights = next(t for t in model.graph.initializer if t.name == "w1")
    weights.CopyFrom(onnx.numpy_helper.from_array(np.full((4, 1, 4, 4), 3e38, np.float32), "w1"))
    with pytest.raises(ConfigError, match="leave int8 out of --precision"):
        collect(model, knees, PixelPath(64), QUIET)


PEAK = """
import resource, sys
from pathlib import Path
import onnx
from export.ranges import collect
from kneeedge.data.dataset import Sample
from kneeedge.system.progress import Progress
from kneeedge.model.spec import PixelPath

path, n = Path(sys.argv[1]), int(sys.argv[2])
samples = [
    Sample(path=path / f"{i % 7}.png", name=str(i), sha256="", split="train", label=0, group="")
    for i in range(n)
]
collect(onnx.load(path / "m.onnx"), samples, PixelPath(512), Progress(quiet=True))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_the_peak_of_memory_is_flat_from_50_to_400_images(knees, tmp_path):
    """Kept activations would add 1.3 MB an image: 460 MB."""
    write_tiny_model(tmp_path / "m.onnx", size=512)
    peaks = []
    for n_images in (50, 400):
        command = [sys.executable, "-c", PEAK, str(tmp_path), str(n_images)]
        child = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(child.stdout) / 1024)
    assert peaks[1] - peaks[0] < 20
