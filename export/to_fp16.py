"""fp32 graph → fp16 graph, inputs and outputs alike: 16-bit convolutions, 32-bit pixels and head.

ONNX Runtime's own converter puts a pair of casts between any two nodes that are to stay in 32 bits
and leaves them out of order, so that the result fails ONNX's checker (onnxruntime 1.32); this graph
needs one cast in and one out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graph import Layer, float_nodes, layers
from export.ranges import open_session, with_outputs
from kneeedge.errors import ConfigError
from kneeedge.model.file_record import HalfRange

FP16_MAX = 65504.0
"the largest value"
FP16_MIN_NORMAL = 2.0**-14
"below it digits are lost"
FP16_FLUSHED = 2.0**-25
"half the smallest subnormal: below it all rounds to zero"
HEADROOM = 2.0
"a layer within this factor of FP16_MAX stays in fp32, since other images may reach further"
MOST_FLUSHED = 0.01
"share of a layer's non-zero values that may be flushed in fp16"
MOST_SUBNORMAL = 0.25
"share of a layer's non-zero values that may lose digits in fp16"
N_IMAGES = 32


@dataclass
class Extent:
    """The size of the values seen so far."""

    largest: float = 0.0
    n_nonzero: int = 0
    n_subnormal: int = 0
    n_flushed: int = 0

    def add(self, values: NDArray[np.float32], before_relu: bool) -> None:
        """Count `values` of any shape.

        Of those before a ReLU, only what it lets through can be lost to underflow.
        """
        self.largest = max(self.largest, float(np.abs(values).max(initial=0)))
        magnitudes = values[values > 0] if before_relu else np.abs(values[values != 0])
        self.n_nonzero += magnitudes.size
        self.n_subnormal += int((magnitudes < FP16_MIN_NORMAL).sum())
        self.n_flushed += int((magnitudes <= FP16_FLUSHED).sum())

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
    """What fp16 would make of a graph's activations on `images` (1, 1, S, S) uint8, and weights.

    A layer whose weights do not fit stays in fp32; one whose activations do not fit does so
    together with the next, which reads them. A convolution is held against the limits before its
    ReLU.
    """
    body_layers = layers(model)
    names = [layer.tensors[0] for layer in body_layers]
    session = open_session(with_outputs(model, names))
    activations = [Extent() for _ in body_layers]
    n_images = 0
    for image in images:
        n_images += 1
        outputs = session.run(names, {"image": image})
        for layer, extent, values in zip(body_layers, activations, outputs, strict=True):
            extent.add(values, before_relu=layer.output != layer.tensors[0])
    weights = [weight_extent(model, layer) for layer in body_layers]
    largest = max(range(len(body_layers)), key=lambda i: activations[i].largest)
    subnormal = max(range(len(body_layers)), key=lambda i: activations[i].subnormal)
    return HalfRange(
        n_images=n_images,
        largest=activations[largest].largest,
        largest_layer=body_layers[largest].name,
        subnormal=activations[subnormal].subnormal,
        subnormal_layer=body_layers[subnormal].name,
        flushed=max(extent.flushed for extent in activations),
        flushed_weights=max(extent.flushed for extent in weights),
        float_layers=_float_layers(body_layers, activations, weights),
    )


def _float_layers(
    body_layers: Sequence[Layer], activations: Sequence[Extent], weights: Sequence[Extent]
) -> tuple[str, ...]:
    names = []
    for i, layer in enumerate(body_layers):
        read_and_written = activations[max(i - 1, 0) : i + 1]
        fits = all(extent.fits(HEADROOM) for extent in read_and_written)
        if not fits or not weights[i].fits(1.0):
            names.append(layer.name)
    return tuple(names)


def weight_extent(model: onnx.ModelProto, layer: Layer) -> Extent:
    """The size of a layer's weights and biases."""
    extent = Extent()
    for tensor in model.graph.initializer:
        if tensor.name in layer.weights:
            extent.add(numpy_helper.to_array(tensor), before_relu=False)
    return extent


def to_fp16(model: onnx.ModelProto, float_layers: tuple[str, ...] = ()) -> onnx.ModelProto:
    """The graph with its network in fp16; inputs, outputs, scaling, head and `float_layers` stay.

    Raises ConfigError where a weight is too large for fp16, rather than clamping it.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    graph = converted.graph
    keep = set(float_nodes(model))
    for layer in layers(model):
        if layer.name in float_layers:
            keep.update(layer.nodes)
    half_weights = {name for node in graph.node if node.name not in keep for name in node.input}
    for tensor in graph.initializer:
        if tensor.name in half_weights and tensor.data_type == TensorProto.FLOAT:
            weights = to_half(numpy_helper.to_array(tensor), tensor.name)
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    nodes = insert_casts(list(graph.node), keep)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def to_half(weights: np.ndarray, name: str) -> np.ndarray:
    """fp32 weights as fp16, of any shape."""
    largest = float(np.abs(weights).max(initial=0))
    if not largest <= FP16_MAX:
        problem = f"the weight {name} reaches {largest:g}, beyond fp16"
        raise ConfigError(problem, "leave fp16 out of --precision")
    return weights.astype(np.float16)


def insert_casts(nodes: list[onnx.NodeProto], keep: set[str]) -> list[onnx.NodeProto]:
    """The same nodes in order, with a cast where a tensor enters or leaves the nodes of `keep`.

    Those are in 32 bits, the others in 16.
    """
    is_half: dict[str, bool] = {}
    casts: dict[str, str] = {}
    with_casts: list[onnx.NodeProto] = []
    for node in nodes:
        half = node.name not in keep
        for i, name in enumerate(node.input):
            if is_half.get(name, half) == half:
                continue
            if name not in casts:
                casts[name] = f"{name}_fp16" if half else f"{name}_fp32"
                with_casts.append(_cast(name, casts[name], half))
            node.input[i] = casts[name]
        is_half |= dict.fromkeys(node.output, half)
        with_casts.append(node)
    return with_casts


def _cast(source: str, target: str, half: bool) -> onnx.NodeProto:
    to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)
