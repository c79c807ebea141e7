"""The resize inside a file: the network's input to the bit, for a picture of any size."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.any_size import with_resize
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.pixel_path import to_input
from kneeedge.runtime.session import PICTURE

SIDE = 64


def echo(side: int) -> onnx.ModelProto:
    """A network that answers with its input (N, 1, S, S)."""
    shape = ("batch", 1, side, side)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["seen"])],
        "echo",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("seen", TensorProto.UINT8, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module", params=["stretch", "pad"])
def resized(request: pytest.FixtureRequest) -> tuple[PixelPath, onnxruntime.InferenceSession]:
    pixel_path = PixelPath(SIDE, request.param)
    model = with_resize(echo(SIDE), pixel_path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return pixel_path, session


def sizes() -> list[tuple[int, int]]:
    """Odd ones, ones near the network's size, and random ones."""
    rng = np.random.default_rng(3)
    odd = [(1, 1), (1, 700), (700, 1), (SIDE, SIDE), (SIDE, SIDE + 1), (2 * SIDE, 3 * SIDE)]
    near = rng.integers(SIDE - 6, SIDE + 7, (40, 2))
    return [*odd, *map(tuple, near.tolist()), *map(tuple, rng.integers(1, 900, (60, 2)).tolist())]


def test_every_pixel_is_that_of_the_pixel_path_whatever_the_size(resized) -> None:
    pixel_path, session = resized
    rng = np.random.default_rng(4)
    differing = []
    for height, width in sizes():
        grey = rng.integers(0, 256, (height, width), dtype=np.uint8)
        (seen,) = session.run(None, {PICTURE: grey[None, None]})
        if not np.array_equal(seen[0, 0], to_input(grey, pixel_path)):
            differing.append((height, width))
    assert differing == []


def test_extreme_levels_do_not_wrap(resized) -> None:
    pixel_path, session = resized
    stripes = np.zeros((333, 201), dtype=np.uint8)
    stripes[:, ::2] = 255
    (seen,) = session.run(None, {PICTURE: stripes[None, None]})
    assert np.array_equal(seen[0, 0], to_input(stripes, pixel_path))


def test_several_pictures_of_one_size_are_several_inputs(resized) -> None:
    pixel_path, session = resized
    grey = np.random.default_rng(5).integers(0, 256, (3, 1, 90, 70), dtype=np.uint8)
    (seen,) = session.run(None, {PICTURE: grey})
    for picture, square in zip(grey, seen, strict=True):
        assert np.array_equal(square[0], to_input(picture[0], pixel_path))


def test_nothing_is_transposed_before_a_product_of_doubles() -> None:
    """ONNX Runtime 1.21 would fuse them and has no kernel for that."""
    operators = [node.op_type for node in with_resize(echo(SIDE), PixelPath(SIDE)).graph.node]
    assert operators.count("MatMul") == 2
    assert "Transpose" not in operators
