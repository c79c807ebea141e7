"""The first layer's weights are rounded together, and cancel each other's errors."""

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

from onnx import numpy_helper

from export.graph import body
from export.ranges import choose_ranges, collect
from export.rounding import round_together, second_moments
from export.to_int8 import quantise
from kneeedge.data.dataset import scan
from kneeedge.model.file_record import INT8_TARGETS
from kneeedge.system.progress import Progress

MOMENTS = second_moments(3, 3)
LARGEST = {"any": 64}


def mean_square(errors: np.ndarray) -> float:
    """Of what rounding errors (C, 18) change of a convolution's output."""
    return float(np.einsum("ck,kl,cl->c", errors, MOMENTS, errors).mean())


@pytest.fixture
def weights() -> np.ndarray:
    """In steps, of which the largest is the most that 7 bits hold."""
    drawn = np.random.default_rng(0).normal(size=(200, 18))
    return drawn * 64 / np.abs(drawn).max(axis=1, keepdims=True)


def test_errors_of_weights_that_are_rounded_together_cancel(weights):
    together = round_together(weights, MOMENTS, 64)
    assert np.abs(together).max() <= 64
    assert np.abs(together - weights).max() < 2  # steps: none goes far
    assert mean_square(together - weights) < mean_square(np.round(weights) - weights) / 8


def test_inputs_that_have_nothing_to_do_with_each_other_are_rounded_one_by_one(weights):
    assert np.array_equal(round_together(weights, np.eye(18), 64), np.round(weights))


def test_no_step_is_beyond_the_largest(weights):
    assert np.abs(round_together(2 * weights, MOMENTS, 64)).max() == 64


def test_moments_are_those_of_images_of_even_grey():
    images = np.random.default_rng(0).uniform(-1, 1, 20_000)
    read = np.concatenate([np.repeat(images[:, None], 9, 1), np.ones((len(images), 9))], axis=1)
    assert np.abs(read.T @ read / len(read) - MOMENTS).max() < 0.05


@pytest.fixture(scope="module")
def histograms(original, graph, phantoms):
    samples = scan(phantoms).split("train")[:4]
    return collect(graph, samples, original[1].pixel_path, Progress(quiet=True))


@pytest.mark.parametrize("target", INT8_TARGETS)
def test_a_files_first_layer_answers_even_grey_as_the_network_does(graph, histograms, target):
    ranges = choose_ranges(histograms, "minmax", target == "tensorrt")
    quantised = quantise(graph, ranges, target, ())
    first = body(graph)[0]
    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantised.graph.initializer}
    makers = {node.output[0]: node for node in quantised.graph.node}
    (conv,) = [node for node in quantised.graph.node if node.name == first.name]
    steps, scale, _ = (stored[name] for name in makers[conv.input[1]].input)
    assert np.abs(steps.astype(int)).max() <= LARGEST.get(target, 127)
    weights = exact[first.input[1]] / scale.reshape(-1, 1, 1, 1)
    errors = (steps - weights).reshape(len(steps), -1)
    nearest = (np.round(weights) - weights).reshape(len(steps), -1)
    assert mean_square(errors) < mean_square(nearest) / 4
