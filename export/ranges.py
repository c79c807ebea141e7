"""Ranges for int8: histograms of the layers' values on calibration images, and what they become."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.graph import layers
from kneeedge.data.dataset import Sample
from kneeedge.errors import ConfigError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.pixel_path import load_input
from kneeedge.system import machine
from kneeedge.system.progress import Progress

BITS = 13
N_BINS = 2**BITS
"bins on each side of zero"
N_AT_ONCE = 2**16
"values counted in one go: what becomes of them stays in a core's cache, which is 3.5 × as fast"
ENTROPY_BINS = 4096
"at most so many bins enter the entropy; TensorRT takes 2,048"
ENTROPY_STRIDE = 8
METHODS = ("minmax", "percentile 99.9", "percentile 99.99", "percentile 99.999", "entropy", "mse")
STEPS_ONE_SIDED = 255
STEPS_EACH_SIDE = 127

Range = tuple[float, float]


class Histogram:
    """How often a tensor's values fell into equal bins over ±2^e, where e grows with the values.

    The edges are multiples of a power of two, so that a bin of the wider histogram is exactly two
    of the narrower: the counts are those of all values at once, in whatever order and chunks they
    came.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(2 * N_BINS, dtype=np.int64)
        self.exponent = -100
        self.low = math.inf
        self.high = -math.inf

    def add(self, values: NDArray[np.float32]) -> None:
        """Count `values` of any shape. Raises ValueError where one is not finite."""
        low = float(values.min())
        high = float(values.max())
        if not math.isfinite(low) or not math.isfinite(high):
            raise ValueError("a value is NaN or infinite")
        self.low = min(self.low, low)
        self.high = max(self.high, high)
        self._widen(max(abs(low), abs(high)))
        # A product with a power of two is exact.
        scale = np.float32(2.0 ** (BITS - self.exponent))
        flat = values.ravel()
        for i in range(0, len(flat), N_AT_ONCE):
            bins = np.floor(flat[i : i + N_AT_ONCE] * scale)
            self.counts += np.bincount(bins.astype(np.intp) + N_BINS, minlength=2 * N_BINS)

    def _widen(self, largest: float) -> None:
        if largest == 0:  # its exponent is 0, which would make all bins coarse
            return
        _, exponent = math.frexp(largest)
        while self.exponent < exponent:
            self.counts = np.pad(self.counts.reshape(-1, 2).sum(axis=1), N_BINS // 2)
            self.exponent += 1

    @property
    def width(self) -> float:
        """Of one bin."""
        return math.ldexp(1.0, self.exponent - BITS)

    @property
    def one_sided(self) -> bool:
        """Whether no value is below zero, as behind a ReLU."""
        return self.low >= 0

    def magnitudes(self) -> NDArray[np.int64]:
        """Counts (B,) of the absolute values in bins of `width` from 0 up to the largest."""
        folded = self.counts[N_BINS:] + self.counts[:N_BINS][::-1]
        last_filled = int(np.flatnonzero(folded)[-1])
        return folded[: last_filled + 1]


def collect(
    model: onnx.ModelProto,
    samples: Sequence[Sample],
    pixel_path: PixelPath,
    progress: Progress,
    chunk: int = 1,
) -> dict[str, Histogram]:
    """The histogram of every layer's output over all samples, `chunk` images at a time.

    An image's activations are counted and let go before the next chunk, so that memory does not
    grow with the number of images. Raises ConfigError where a value is NaN or infinite.
    """
    tensors = [layer.output for layer in layers(model)]
    session = open_session(with_outputs(model, tensors))
    histograms = {name: Histogram() for name in tensors}
    with progress.stage("int8 ranges", len(samples)) as stage:
        for images in load_chunks(samples, pixel_path, chunk):
            outputs = session.run(tensors, {"image": images})
            for name, values in zip(tensors, outputs, strict=True):
                _count(histograms[name], values, name)
            stage.advance(len(images))
    return histograms


def _count(histogram: Histogram, values: NDArray[np.float32], name: str) -> None:
    try:
        histogram.add(values)
    except ValueError as error:
        problem = f"the tensor {name} of a training image: {error}"
        raise ConfigError(problem, "leave int8 out of --precision") from error


def load_chunks(
    samples: Sequence[Sample], pixel_path: PixelPath, chunk: int
) -> Iterator[NDArray[np.uint8]]:
    """The samples' inputs (≤ chunk, 1, S, S) uint8, in order."""
    for i in range(0, len(samples), chunk):
        images = [load_input(sample.path, pixel_path) for sample in samples[i : i + chunk]]
        yield np.stack(images)[:, None]


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """The graph with the 32-bit `tensors` as its only outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors
    )
    return copy


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of a graph in memory on the CPU, with `kneeedge.runtime.session`'s threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.available_cpus()
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)


def choose_ranges(
    histograms: dict[str, Histogram], method: str, symmetric: bool = False
) -> dict[str, Range]:
    """Smallest and largest value that 8 bits are to hold, for each tensor.

    `symmetric` is for a target whose zero is 0.
    """
    return {
        name: choose_range(histogram, method, symmetric) for name, histogram in histograms.items()
    }


def choose_range(histogram: Histogram, method: str, symmetric: bool = False) -> Range:
    """The range of one tensor by one of METHODS."""
    if method == "minmax":
        return histogram.low, histogram.high
    name, _, share = method.partition(" ")
    if name == "percentile":
        return percentile(histogram, float(share))
    steps = STEPS_ONE_SIDED if histogram.one_sided and not symmetric else STEPS_EACH_SIDE
    limit = entropy(histogram, steps) if name == "entropy" else least_squares(histogram, steps)
    return max(histogram.low, -limit), min(histogram.high, limit)


def percentile(histogram: Histogram, percent: float) -> Range:
    """The bins' outer edges below which, and above which, 100 - `percent` % of the values lie."""
    cumulative = np.cumsum(histogram.counts)
    n = int(cumulative[-1])
    first = int(np.searchsorted(cumulative, n * (1 - percent / 100), side="right"))
    last = int(np.searchsorted(cumulative, n * percent / 100, side="left"))
    low = (first - N_BINS) * histogram.width
    high = (last + 1 - N_BINS) * histogram.width
    return max(histogram.low, low), min(histogram.high, high)


def entropy(histogram: Histogram, steps: int) -> float:
    """The clipping limit of |x| of the least KL divergence of the quantised distribution.

    Migacz 2017, "8-bit inference with TensorRT" (GTC): of each candidate limit, what lies beyond it
    is added to the last filled bin of the reference (the last bin in TensorRT, where an empty one
    makes the divergence infinite), and what lies within is spread evenly over the filled bins of
    each of `steps` + 1 levels. Zero is exact under any limit, so the first bin counts no more than
    the second, as in NVIDIA's pytorch-quantization.
    """
    counts = histogram.magnitudes()
    fold = -(-len(counts) // ENTROPY_BINS)
    counts = np.pad(counts, (0, -len(counts) % fold)).reshape(-1, fold).sum(axis=1)
    if len(counts) > 1:
        counts[0] = counts[1]
    candidates = range(len(counts), steps, -ENTROPY_STRIDE)
    if not candidates:
        return max(abs(histogram.low), abs(histogram.high))
    n_kept = min(candidates, key=lambda n: _divergence(counts, n, steps + 1))
    return n_kept * fold * histogram.width


def _divergence(counts: NDArray[np.int64], n_kept: int, n_levels: int) -> float:
    """KL divergence in nats: counts clipped to the first `n_kept` bins, and those on `n_levels`."""
    within = counts[:n_kept]
    filled = within > 0
    if not filled.any():
        return math.inf
    clipped = within.astype(np.float64)
    clipped[np.flatnonzero(filled)[-1]] += counts[n_kept:].sum()
    starts = np.arange(n_levels) * n_kept // n_levels
    n_filled = np.add.reduceat(filled.astype(np.int64), starts)
    level_means = np.add.reduceat(within, starts) / np.maximum(n_filled, 1)
    level_sizes = np.diff(starts, append=n_kept)
    levelled = np.where(filled, np.repeat(level_means, level_sizes), 0.0)
    p = clipped[filled] / clipped.sum()
    q = levelled[filled] / levelled.sum()
    return float((p * np.log(p / q)).sum())


def least_squares(histogram: Histogram, steps: int) -> float:
    """The clipping limit of |x| of the least mean square error, of clipping and of rounding.

    Banner, Nahshan & Soudry 2019 (NeurIPS, "Post training 4-bit quantization of convolutional
    networks", eq. 5), with the histogram in place of a fitted distribution. Rounding to a step
    costs step² / 12; zero is exact.
    """
    counts = histogram.magnitudes().astype(np.float64)
    centres = (np.arange(len(counts)) + 0.5) * histogram.width
    limits = np.arange(1, len(counts) + 1) * histogram.width
    total = [(counts * centres**power).sum() for power in range(3)]
    beyond = [total[power] - np.cumsum(counts * centres**power) for power in range(3)]
    clipped = beyond[2] - 2 * limits * beyond[1] + limits**2 * beyond[0]
    rounded = (limits / steps) ** 2 / 12 * (total[0] - beyond[0] - counts[0])
    return float(limits[np.argmin(clipped + rounded)])
