"""The first layer reads grey and a constant for three normalised channels: exact to the border."""

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

import onnx
import onnxruntime
from onnx import numpy_helper

from export.graph import GREY_RANGE, first_input, layers
from export.ranges import choose_ranges, collect
from export.to_int8 import N_FIRST, UNSIGNED, quantise, to_int8
from export.to_onnx import fold_normalisation, to_onnx
from kneeedge.data.dataset import Sample, scan
from kneeedge.model.file_record import INT8_TARGETS
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.folder import open_run
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original
from kneeedge.training.model import IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture(scope="module")
def pixel_path(original) -> PixelPath:
    return original[1].pixel_path


@pytest.fixture(scope="module")
def calibration(phantoms) -> list[Sample]:
    return scan(phantoms).split("train")[:8]


@pytest.fixture(scope="module")
def histograms(graph, calibration, pixel_path):
    return collect(graph, calibration, pixel_path, Progress(quiet=True))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noise of every grey value with black and white corners, all black, all white."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    noise[[0, 0, -1, -1], [0, -1, 0, -1]] = (0, 255, 255, 0)
    assert len(np.unique(noise)) == 256
    return np.stack([noise, np.zeros_like(noise), np.full_like(noise, 255)])[:, None]


def answers(
    model: onnx.ModelProto, images: np.ndarray, in_float: bool = False
) -> dict[str, np.ndarray]:
    """By the kernels of this CPU, or in float arithmetic on the graph's own 8-bit steps."""
    options = onnxruntime.SessionOptions()
    if in_float:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def quantisation(model: onnx.ModelProto, tensor: str) -> tuple[float, np.ndarray]:
    """Scale and zero point of a quantised tensor."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    (node,) = [node for node in quantisers if node.input[0] == tensor]
    return float(values[node.input[1]]), values[node.input[2]]


@pytest.fixture
def stem() -> torch.nn.Conv2d:
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 16, 3, padding=1).double()


def test_folding_the_three_channels_changes_nothing_not_even_at_the_border(stem, images):
    """In 64 bits, so that only a mistake could make a difference, inside and at the border."""
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float64).view(1, 3, 1, 1)
    pixels = torch.from_numpy(images).double()
    grey = (pixels - 128) / 128
    with torch.no_grad():
        expected = stem((pixels / 255 - mean) / std).numpy()
        both = torch.cat([grey, torch.full_like(grey, 127 / 128)], dim=1)
        folded = fold_normalisation(stem, mean, std)(both).numpy()
    error = np.abs(folded - expected) / np.abs(expected).max()
    assert error.shape[2:] == images.shape[2:]
    assert error.max() < 1e-9


def test_the_constant_as_a_bias_would_be_wrong_at_the_border_alone(stem):
    """Why it is a channel: at the border the padding's weights are missing from its sum."""
    constant = torch.full((1, 1, 8, 8), 127 / 128, dtype=torch.float64)
    mean = torch.full((1, 3, 1, 1), 0.1).double()
    std = torch.ones(1, 3, 1, 1).double()
    with torch.no_grad():
        grey_and_constant = torch.cat([torch.zeros_like(constant), constant], dim=1)
        sums = fold_normalisation(stem, mean, std)(grey_and_constant)
    inside = sums[..., 1:-1, 1:-1]
    assert torch.allclose(inside, inside[..., :1, :1], rtol=0, atol=1e-12)
    assert (sums[..., 0, :] - inside[..., :1, 0]).abs().max() > 0.01


def test_every_file_reads_grey_and_the_constant_that_8_and_16_bits_hold(graph, images):
    probe = onnx.ModelProto()
    probe.CopyFrom(graph)
    del probe.graph.output[:]
    name = first_input(graph)
    output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    probe.graph.output.append(output)
    read = answers(probe, images)[name]
    assert np.array_equal(read[:, :1], (images.astype(np.float32) - 128) / 128)
    assert (read[:, 1] == GREY_RANGE[1]).all()
    assert (read.min(), read.max()) == GREY_RANGE
    assert np.array_equal(read.astype(np.float16).astype(np.float32), read)


@pytest.mark.parametrize("target", INT8_TARGETS)
def test_no_target_loses_anything_of_a_pixel(graph, histograms, target):
    """One grey value is one step, whatever the calibration images and the method."""
    ranges = choose_ranges(histograms, "percentile 99.9", target == "tensorrt")
    scale, zero = quantisation(quantise(graph, ranges, target, ()), first_input(graph))
    assert (scale, int(zero)) == (1 / 128, 128 if target in UNSIGNED else 0)


@pytest.mark.parametrize("target", UNSIGNED)
def test_pixels_read_as_they_are_give_the_same_bits(graph, histograms, images, target):
    ranges = choose_ranges(histograms, "mse")
    before = answers(quantise(graph, ranges, target, ()), images)
    after = answers(to_int8(graph, ranges, target), images)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def first_reader(model: onnx.ModelProto) -> onnx.NodeProto:
    """What puts the constant beside the grey levels, right before the first convolution."""
    (reader,) = [node for node in model.graph.node if node.name == "grey_and_constant"]
    (follower,) = [node for node in model.graph.node if reader.output[0] in node.input]
    assert (reader.op_type, follower.op_type) == ("Where", "DequantizeLinear")
    return reader


@pytest.mark.parametrize("target", UNSIGNED)
def test_grey_levels_turned_around_are_read_as_whole_numbers(graph, histograms, target):
    model = to_int8(graph, choose_ranges(histograms, "minmax"), target)
    grey = first_reader(model).input[1]
    (maker,) = [node for node in model.graph.node if grey in node.output]
    assert maker.op_type == "Cast"
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    (first,) = [t for t in model.graph.initializer if list(t.dims[1:]) == [N_FIRST, 3, 3]]
    assert not numpy_helper.to_array(first)[:, 2:].any()


@pytest.fixture(scope="module")
def without_polarity(trained_run) -> onnx.ModelProto:
    network, spec = load_original(open_run(trained_run))
    network.upright = None
    return to_onnx(network, spec)


@pytest.mark.parametrize("target", UNSIGNED)
def test_without_polarity_nothing_is_computed_before_the_first_convolution(
    without_polarity, histograms, images, target
):
    graph = without_polarity
    ranges = choose_ranges(histograms, "minmax")
    model = to_int8(graph, ranges, target)
    (reader,) = [node for node in model.graph.node if "image" in node.input]
    assert reader == first_reader(model)
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    before = answers(quantise(graph, ranges, target, ()), images)
    after = answers(model, images)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("target", INT8_TARGETS)
def test_a_first_layer_in_float_still_gets_scaled_pixels(
    graph, histograms, calibration, pixel_path, target
):
    first = layers(graph)[0]
    ranges = choose_ranges(histograms, "minmax", target == "tensorrt")
    model = to_int8(graph, ranges, target, (first.name,))
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    assert conv.input[0] == first_input(graph)
    # Images that the ranges are of: what lies beyond is cut off, by how much hangs on the training.
    images = np.stack([load_input(sample.path, pixel_path) for sample in calibration])[:, None]
    expected = answers(graph, images)["logits"]
    # In float: not every target's products fit the 16 bits in which a CPU without VNNI adds them.
    error = np.abs(answers(model, images, in_float=True)["logits"] - expected)
    assert error.max() < 0.05 * np.ptp(expected)
