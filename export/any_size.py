"""The pixel path's resize as ONNX operators, in front of a network: a file that takes any size.

Every number is the one that `kneeedge.model.spec.RESIZE` defines: the weights are computed in
double precision and rounded to multiples of 2^-22; what is multiplied and summed are whole numbers
below 2^53, which double precision holds exactly, in whatever order a provider adds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from kneeedge.data.dataset import Sample
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.picture import read_grey
from kneeedge.pixels.pixel_path import to_input
from kneeedge.runtime.session import IMAGE, PICTURE, Session
from kneeedge.system.progress import Progress

UNIT = float(2**22)
"the fixed point of the weights"


@dataclass(frozen=True)
class Proof:
    """An any-size file beside the file whose network it holds."""

    n: int
    "pictures, each at its own size and at another"
    n_sizes: int
    n_changed: int
    "pictures of which a logit is another, if by one bit"


def prove(
    any_size: Session, plain: Session, samples: Sequence[Sample], progress: Progress
) -> Proof:
    """Hold the answers to pictures of any size against those to what the pixel path makes of them.

    Each sample is taken at its own size and at a random one, from a third of the network's to four
    times as much. Raises ImageError where a picture cannot be read.
    """
    path = plain.spec.pixel_path
    rng = np.random.default_rng(0)
    sizes = set()
    n_changed = 0
    with progress.stage("any size", len(samples)) as stage:
        for sample in samples:
            grey = read_grey(sample.path, path.size, path.dicom_window, path.grey_bits)
            width, height = rng.integers(path.size // 3, 4 * path.size, 2).tolist()
            other = np.asarray(Image.fromarray(grey).resize((width, height)))
            for picture in (grey, other):
                sizes.add(picture.shape)
                expected = plain.run(to_input(picture, path)[None, None]).logits
                seen = any_size.run_picture(picture).logits
                n_changed += not np.array_equal(seen, expected)
            stage.advance()
    return Proof(2 * len(samples), len(sizes), n_changed)


class Nodes:
    """Nodes and constants under one prefix, added one after the other."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        name = f"{self.prefix}.{len(self.nodes)}.{operator}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def real(self, value: float) -> str:
        """A double, as a scalar."""
        return self._constant(np.float64(value))

    def whole(self, *values: int) -> str:
        """Integers of 64 bits (n,)."""
        return self._constant(np.array(values, dtype=np.int64))

    def _constant(self, value: object) -> str:
        array = np.asarray(value)
        name = f"{self.prefix}.{array.dtype}.{array.tolist()}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name


def with_resize(network: onnx.ModelProto, pixel_path: PixelPath) -> onnx.ModelProto:
    """The network, whose input (N, 1, S, S) uint8 is now made of pictures (N, 1, H, W) uint8."""
    resize = Nodes("resize")
    resized = _square(resize, pixel_path)
    resize.nodes.append(helper.make_node("Identity", [resized], [IMAGE], "resize.image"))
    model = onnx.ModelProto()
    model.CopyFrom(network)
    graph = model.graph
    inputs = [value for value in graph.input if value.name != IMAGE]
    del graph.input[:]
    shape: tuple[str | int, ...] = ("batch", 1, "height", "width")
    graph.input.extend([helper.make_tensor_value_info(PICTURE, TensorProto.UINT8, shape), *inputs])
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*resize.nodes, *nodes])
    graph.initializer.extend(resize.constants.values())
    return model


def _square(resize: Nodes, pixel_path: PixelPath) -> str:
    """(N, 1, S, S) uint8 of the picture."""
    side = float(pixel_path.size)
    height, width = (_length(resize, axis) for axis in (2, 3))
    new_height = new_width = resize.real(side)
    if pixel_path.fit == "pad":
        longer = resize.add("Max", height, width)
        new_height, new_width = (_fitted(resize, n, longer, side) for n in (height, width))
    grey = resize.add("Cast", PICTURE, to=TensorProto.DOUBLE)
    across = _weights(resize, width, new_width, axis=0)
    narrowed = _rounded(resize, resize.add("MatMul", grey, across))
    down = _weights(resize, height, new_height, axis=1)
    small = _rounded(resize, resize.add("MatMul", down, narrowed))
    if pixel_path.fit == "pad":
        small = _padded(resize, small, new_height, new_width, side)
    return resize.add("Cast", small, to=TensorProto.UINT8)


def _length(resize: Nodes, axis: int) -> str:
    """The length of an axis of the picture, a double."""
    length = resize.add("Shape", PICTURE, start=axis, end=axis + 1)
    scalar = resize.add("Squeeze", length, resize.whole(0))
    return resize.add("Cast", scalar, to=TensorProto.DOUBLE)


def _fitted(resize: Nodes, length: str, longer: str, side: float) -> str:
    """max(1, round(length · side / longer)), as `kneeedge.pixels.pixel_path` has it."""
    scaled = resize.add("Div", resize.add("Mul", length, resize.real(side)), longer)
    return resize.add("Max", resize.real(1.0), resize.add("Round", scaled))


def _weights(resize: Nodes, n_in: str, n_out: str, axis: int) -> str:
    """The weights, whole numbers in doubles, of `kneeedge.model.spec.RESIZE`.

    Their sum is over `axis`: (n_in, n_out) where that is 0, (n_out, n_in) where it is 1. One made
    of the other by a Transpose would be fused with the product, for which ONNX Runtime 1.21 has no
    kernel in double precision.
    """
    half = resize.real(0.5)
    zero, one = resize.real(0.0), resize.real(1.0)
    scale = resize.add("Div", n_in, n_out)
    support = resize.add("Max", one, scale)
    outputs = resize.add("Range", zero, n_out, one)
    inputs = resize.add("Range", zero, n_in, one)
    if axis == 0:
        inputs = _column(resize, inputs)
    else:
        outputs = _column(resize, outputs)
    centre = resize.add("Mul", resize.add("Add", outputs, half), scale)
    first = _floor_of_sum(resize, resize.add("Sub", centre, support), half)
    last = _floor_of_sum(resize, resize.add("Add", centre, support), half)
    is_inside = resize.add(
        "And",
        resize.add("GreaterOrEqual", inputs, resize.add("Max", zero, first)),
        resize.add("Less", inputs, resize.add("Min", n_in, last)),
    )
    distance = resize.add("Add", resize.add("Sub", inputs, centre), half)
    near = resize.add("Abs", resize.add("Mul", distance, resize.add("Div", one, support)))
    triangle = resize.add("Max", zero, resize.add("Sub", one, near))
    weights = resize.add("Where", is_inside, triangle, zero)
    total = resize.add("ReduceSum", weights, resize.whole(axis), keepdims=1)
    share = resize.add("Div", weights, total)
    return _floor_of_sum(resize, resize.add("Mul", share, resize.real(UNIT)), half)


def _rounded(resize: Nodes, sums: str) -> str:
    """Sums of grey levels times weights to grey levels 0 to 255, rounded half up."""
    levels = resize.add("Div", sums, resize.real(UNIT))
    rounded = _floor_of_sum(resize, levels, resize.real(0.5))
    return resize.add("Clip", rounded, resize.real(0.0), resize.real(255.0))


def _padded(resize: Nodes, small: str, height: str, width: str, side: float) -> str:
    """The picture on the middle of a black square."""
    zero = resize.whole(0, 0)
    top, left = (_margin(resize, length, side) for length in (height, width))
    rest = [
        _integer(resize, resize.add("Sub", resize.add("Sub", resize.real(side), length), margin))
        for length, margin in ((height, top), (width, left))
    ]
    pads = [zero, _integer(resize, top), _integer(resize, left), zero, *rest]
    return resize.add("Pad", small, resize.add("Concat", *pads, axis=0), resize.real(0.0))


def _margin(resize: Nodes, length: str, side: float) -> str:
    missing = resize.add("Sub", resize.real(side), length)
    return resize.add("Floor", resize.add("Mul", missing, resize.real(0.5)))


def _integer(resize: Nodes, value: str) -> str:
    """A double as (1,) int64."""
    whole = resize.add("Cast", value, to=TensorProto.INT64)
    return resize.add("Unsqueeze", whole, resize.whole(0))


def _column(resize: Nodes, row: str) -> str:
    return resize.add("Unsqueeze", row, resize.whole(1))


def _floor_of_sum(resize: Nodes, left: str, right: str) -> str:
    return resize.add("Floor", resize.add("Add", left, right))
