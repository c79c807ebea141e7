"""fp32 graph → fp16 graph with the same signature: 16-bit convolutions, 32-bit scaling of the
pixels and head.

ONNX Runtime's own converter puts a pair of casts between any two nodes that are to stay in 32 bits
and leaves them out of order, so that the result fails ONNX's checker (onnxruntime 1.32); this graph
needs one cast in and one out.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graph import Layer, float_nodes, layers
from export.ranges import open_session, with_outputs
from kneeedge.errors import ConfigError
from kneeedge.model.file_record import HalfRange

FP16_MAX, FP16_MIN_NORMAL, FP16_FLUSHED = 65504.0, 2.0**-14, 2.0**-25
"""largest value; below the second digits are lost; below the third, half the smallest subnormal,
all rounds to zero
"""
HEADROOM = 2.0
"""other images may reach further than those looked at: a layer that comes within this factor of
FP16_MAX stays in fp32
"""
MOST_FLUSHED, MOST_SUBNORMAL = 0.01, 0.25
"shares of a layer's non-zero values beyond which it stays in fp32"
N_IMAGES = 32


@dataclass
class Extent:
    """The size of the values seen so far."""

    largest: float = 0.0
    n_nonzero: int = 0
    n_subnormal: int = 0
    n_flushed: int = 0

    def add(self, values: NDArray[np.float32], after_relu: bool) -> None:
        """Count `values` of any shape; of those before a ReLU, only what it lets through can be
        lost to underflow.
        """
        self.largest = max(self.largest, float(np.abs(values).max(initial=0)))
        size = values[values > 0] if after_relu else np.abs(values[values != 0])
        self.n_nonzero += size.size
        self.n_subnormal += int((size < FP16_MIN_NORMAL).sum())
        self.n_flushed += int((size <= FP16_FLUSHED).sum())

    @property
    def subnormal(self) -> float:
        return self.n_subnormal / max(self.n_nonzero, 1)

    @property
    def flushed(self) -> float:
        return self.n_flushed / max(self.n_nonzero, 1)

    def fits(self, headroom: float) -> bool:
        """Whether fp16 holds such values."""
        within = self.largest * headroom <= FP16_MAX
        return within and self.flushed <= MOST_FLUSHED and self.subnormal <= MOST_SUBNORMAL


def half_range(model: onnx.ModelProto, images: Iterable[NDArray[np.uint8]]) -> HalfRange:
    """What fp16 would make of the fp32 graph's activations on `images` (1, 1, S, S) uint8 each, and
    of its weights.

    A layer whose weights do not fit stays in fp32; one whose activations do not fit does so
    together with the next, which reads them. A convolution is held against the limits before its
    ReLU.
    """
    parts = layers(model)
    names = [layer.tensors[0] for layer in parts]
    session = open_session(with_outputs(model, names))
    extents = [Extent() for _ in parts]
    n_images = 0
    for image in images:
        n_images += 1
        for layer, extent, values in zip(
            parts, extents, session.run(names, {"image": image}), strict=True
        ):
            extent.add(values, layer.output != layer.tensors[0])
    weights = [weight_extent(model, layer) for layer in parts]
    largest = max(range(len(parts)), key=lambda i: extents[i].largest)
    subnormal = max(range(len(parts)), key=lambda i: extents[i].subnormal)
    return HalfRange(
        n_images=n_images,
        largest=extents[largest].largest,
        largest_layer=parts[largest].name,
        subnormal=extents[subnormal].subnormal,
        subnormal_layer=parts[subnormal].name,
        flushed=max(extent.flushed for extent in extents),
        flushed_weights=max(extent.flushed for extent in weights),
        float_layers=tuple(
            layer.name
            for i, layer in enumerate(parts)
            if not weights[i].fits(1.0)
            or not all(e.fits(HEADROOM) for e in extents[max(i - 1, 0) : i + 1])
        ),
    )


def weight_extent(model: onnx.ModelProto, layer: Layer) -> Extent:
    """The size of a layer's weights and biases."""
    extent = Extent()
    for tensor in model.graph.initializer:
        if tensor.name in layer.weights:
            extent.add(numpy_helper.to_array(tensor), after_relu=False)
    return extent


def to_fp16(model: onnx.ModelProto, float_layers: tuple[str, ...] = ()) -> onnx.ModelProto:
    """The graph with its network in fp16; inputs, outputs, scaling, head and `float_layers` keep
    their types.

    Raises ConfigError where a weight is too large for fp16, rather than clamping it.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    graph = converted.graph
    kept_layers = (layer.nodes for layer in layers(model) if layer.name in float_layers)
    keep = {*float_nodes(model), *itertools.chain.from_iterable(kept_layers)}
    half_weights = {name for node in graph.node if node.name not in keep for name in node.input}
    for tensor in graph.initializer:
        if tensor.name in half_weights and tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(
                numpy_helper.from_array(
                    to_half(numpy_helper.to_array(tensor), tensor.name), tensor.name
                )
            )
    nodes = insert_casts(list(graph.node), keep)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def to_half(weights: np.ndarray, name: str) -> np.ndarray:
    """fp32 weights as fp16, of any shape."""
    largest = float(np.abs(weights).max(initial=0))
    if not largest <= FP16_MAX:
        raise ConfigError(
            f"the weight {name} reaches {largest:g}, beyond fp16", "leave fp16 out of --precision"
        )
    return weights.astype(np.float16)


def insert_casts(nodes: list[onnx.NodeProto], keep: set[str]) -> list[onnx.NodeProto]:
    """The same nodes in order, with a cast wherever a tensor crosses between 32 bits (`keep`) and
    16.
    """
    is_half: dict[str, bool] = {}
    casts: dict[str, str] = {}
    result: list[onnx.NodeProto] = []
    for node in nodes:
        half = node.name not in keep
        for i, name in enumerate(node.input):
            if is_half.get(name, half) == half:
                continue
            if name not in casts:
                casts[name] = f"{name}_{'fp16' if half else 'fp32'}"
                to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
                result.append(
                    helper.make_node(
                        "Cast", [name], [casts[name]], name=f"cast_{casts[name]}", to=to
                    )
                )
            node.input[i] = casts[name]
        is_half |= dict.fromkeys(node.output, half)
        result.append(node)
    return result
