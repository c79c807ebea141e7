"""fp16 on real activations: overflow and underflow are seen, and such layers stay in fp32."""

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

import onnx
from onnx import numpy_helper

from export.graph import layers
from export.ranges import load_chunks
from export.to_fp16 import half_range, to_fp16
from kneeedge.data.dataset import scan
from kneeedge.errors import ConfigError
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.pixel_path import load_input
from kneeedge.report.export import gate_text
from kneeedge.runs.folder import Run
from kneeedge.runtime.session import Session
from kneeedge.training.checkpoint import predict_logits


def knees(n: int, side: int = 64) -> np.ndarray:
    return np.stack([phantom(seed, seed % 2, side) for seed in range(n)])[:, None]


def scaled(graph: onnx.ModelProto, factors: dict[str, float]) -> onnx.ModelProto:
    """A copy with initialisers multiplied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    for tensor in copy.graph.initializer:
        if tensor.name in factors:
            weights = numpy_helper.to_array(tensor) * np.float32(factors[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    return copy


def run_logits(graph: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return session.run(["logits"], {"image": images})[0]


@pytest.fixture(scope="module")
def overflowing(graph) -> onnx.ModelProto:
    """The same answers from a fifth layer a million times larger and a sixth as much smaller."""
    fifth, sixth = layers(graph)[4:6]
    factors = dict.fromkeys(fifth.weights, 1e6) | {sixth.weights[0]: 1e-6}
    return scaled(graph, factors)


def test_a_layer_that_overflows_stays_in_fp32_with_the_next(original, overflowing):
    images = knees(4)
    expected = predict_logits(original[0], images)
    np.testing.assert_allclose(run_logits(overflowing, images), expected, atol=1e-3)
    limits = half_range(overflowing, images[:, None])
    names = [layer.name for layer in layers(overflowing)]
    assert limits.float_layers == tuple(names[4:6])
    assert (limits.largest_layer, limits.n_images) == (names[4], 4)
    assert limits.largest > 65504
    half = to_fp16(overflowing, limits.float_layers)
    np.testing.assert_allclose(run_logits(half, images), expected, atol=0.05)


def test_a_plain_conversion_of_such_a_network_fails(overflowing):
    images = knees(4)
    try:
        logits = run_logits(to_fp16(overflowing), images)
    except ConfigError:  # a weight alone is too large
        return
    assert not np.allclose(logits, run_logits(overflowing, images), atol=0.05)


def test_the_largest_activation_is_the_networks(original, graph, phantoms):
    model, spec = original
    samples = scan(phantoms).split("train")[:5]
    limits = half_range(graph, load_chunks(samples, spec.pixel_path, 1))
    images = np.stack([load_input(sample.path, spec.pixel_path) for sample in samples])[:, None]
    largest = 0.0
    with torch.no_grad():
        values = model.normalise(torch.from_numpy(images))
        for layer in model.features:
            if isinstance(layer, torch.nn.ReLU):
                largest = max(largest, values.abs().max().item())
            values = layer(values)
    assert limits.largest == pytest.approx(largest, rel=1e-4)
    assert limits.float_layers == ()


def test_a_layer_whose_values_vanish_in_fp16_stays_in_fp32(graph):
    third, fourth = layers(graph)[2:4]
    faint = scaled(graph, dict.fromkeys(third.weights, 1e-8) | {fourth.weights[0]: 1e8})
    images = knees(4)
    limits = half_range(faint, images[:, None])
    assert {third.name, fourth.name} <= set(limits.float_layers)
    assert limits.flushed > 0.5
    assert limits.flushed_weights > 0.5
    half = to_fp16(faint, limits.float_layers)
    np.testing.assert_allclose(run_logits(half, images), run_logits(graph, images), atol=0.05)


def test_the_fp16_file_says_what_was_looked_for(exported):
    limits = Session(exported["fp16"], "cpu").spec.file.half_range
    assert limits.n_images == 32
    assert 0 < limits.largest < 65504
    assert limits.float_layers == ()
    report = Run(exported["fp16"].parent.parent).read_export_report()
    assert "layers in fp32: none" in gate_text(report)


def test_a_weight_beyond_fp16_is_refused_not_clamped(graph):
    graph = scaled(graph, {})
    tensor = next(t for t in graph.graph.initializer if t.name.startswith("features"))
    weights = numpy_helper.to_array(tensor).copy()
    weights.flat[0] = 70000.0
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    with pytest.raises(ConfigError, match="reaches 70000, beyond fp16"):
        to_fp16(graph)
    first = layers(graph)[0].name
    assert first in half_range(graph, knees(2)[:, None]).float_layers
    onnx.checker.check_model(to_fp16(graph, (first,)))
