"""fp32 graph + ranges → static QDQ int8 graph: 8-bit convolutions per channel, float head."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData

from export.graph import GREY_RANGE, HEAVY, body, first_input, layers
from export.ranges import Range
from export.rounding import round_first
from kneeedge.errors import ConfigError
from kneeedge.model.file_record import INT8_TARGETS

DEFAULT_TARGET = "any"
UNSIGNED = ("any", "vnni")
"targets whose activations are u8"
SYMMETRIC = ("tensorrt",)
"targets whose zero is 0, as their kernels need"
QUANTISED = (*HEAVY, "Relu", "MaxPool")
"operators that run in 8 bits; reshaping between them stays"
LARGEST_OF_7_BITS, LARGEST_OF_8_BITS = 64, 127
"of a weight's steps, on both sides of zero"
N_FIRST = 4
"channels of the first convolution on x86: ONNX Runtime is faster with four than with two"


def check_target(target: str) -> None:
    """Raise ConfigError for an int8 target that there is not."""
    if target not in INT8_TARGETS:
        remedy = f"choose one of {', '.join(INT8_TARGETS)}"
        raise ConfigError(f"--int8-target {target} is unknown", remedy)


def to_int8(
    model: onnx.ModelProto,
    ranges: dict[str, Range],
    target: str,
    float_layers: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """The quantised graph for a target, with ranges of `choose_ranges`; `float_layers` stay float.

    Weights are s8 per channel. `any` has u8 activations and 7-bit weights: without VNNI an x86 CPU
    adds pairs of u8×s8 products in 16 bits, and 2 · 255 · 64 fits these. `vnni` has all 8 bits.
    `arm` and `tensorrt` have s8 activations, the latter symmetric, as its kernels need. Where
    activations are u8 the pixels are the first convolution's input as they are: see `read_pixels`.
    """
    quantised = quantise(model, ranges, target, float_layers)
    return read_pixels(quantised) if target in UNSIGNED else quantised


def quantise(
    model: onnx.ModelProto, ranges: dict[str, Range], target: str, float_layers: tuple[str, ...]
) -> onnx.ModelProto:
    """What ONNX Runtime's quantiser makes of the graph: it quantises pixels scaled in float."""
    copy = shield(model, float_layers)
    nodes = nodes_to_quantise(model, float_layers)
    if not nodes:  # to the quantiser an empty list means every node
        return copy
    is_reduced = target == "any"
    with quiet_quantiser():
        quantiser = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=is_reduced,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if target in UNSIGNED else QuantType.QInt8,
            tensors_range=tensor_ranges(model, ranges, target),
            nodes_to_quantize=nodes,
            nodes_to_exclude=[],
            op_types_to_quantize=list(QUANTISED),
            extra_options={
                "ActivationSymmetric": target in SYMMETRIC,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": False,
            },
        )
        quantiser.quantize_model()
        quantiser.model.topological_sort()
    quantised: onnx.ModelProto = quantiser.model.model
    round_first(quantised, model, LARGEST_OF_7_BITS if is_reduced else LARGEST_OF_8_BITS)
    del quantised.graph.value_info[:]
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def shield(model: onnx.ModelProto, float_layers: tuple[str, ...]) -> onnx.ModelProto:
    """A copy in which ONNX Runtime leaves `float_layers` in float.

    Its optimiser (WeightBiasQuantization) quantises the float weights of a convolution that stands
    between 8-bit tensors, ReLU or none behind it. A leaky ReLU of slope 0 computes the same, is
    fused likewise, and is let alone.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = float_layer_nodes(model, float_layers)
    for node in copy.graph.node:
        if node.name in kept and node.op_type == "Relu":
            node.op_type = "LeakyRelu"
            node.attribute.append(onnx.helper.make_attribute("alpha", 0.0))
    return copy


def float_layer_nodes(model: onnx.ModelProto, float_layers: tuple[str, ...]) -> set[str]:
    """Names of the nodes of the layers named."""
    return {node for layer in layers(model) if layer.name in float_layers for node in layer.nodes}


def tensor_ranges(model: onnx.ModelProto, ranges: dict[str, Range], target: str) -> TensorsData:
    """ONNX Runtime's record of the ranges.

    All tensors of a layer share the range behind its ReLU, which clips below it. The first input's
    is no matter of images: 8 bits hold it without loss in steps of 1 / 128. Symmetric steps run
    from -127 to 127, and -128, which the pixel 0 becomes, is still a value of the type.
    """
    low, high = GREY_RANGE
    if target in SYMMETRIC:
        low = -high
    by_tensor: dict[str, Range] = {first_input(model): (low, high)}
    for layer in layers(model):
        by_tensor |= dict.fromkeys(layer.tensors, ranges[layer.output])
    data = {
        name: (np.array(least, np.float32), np.array(largest, np.float32))
        for name, (least, largest) in by_tensor.items()
    }
    return TensorsData(CalibrationMethod.MinMax, data)


def nodes_to_quantise(model: onnx.ModelProto, float_layers: tuple[str, ...]) -> list[str]:
    """The heavy nodes and what stands between them, so that activations stay in 8 bits."""
    kept = float_layer_nodes(model, float_layers)
    candidates = [node for node in body(model) if node.op_type in QUANTISED]
    return [node.name for node in candidates if node.name not in kept]


def read_pixels(quantised: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph and answers, without arithmetic before the first convolution in u8.

    Quantised in steps of 1 / 128 around 128, the grey channel is the grey levels themselves, and
    the constant one is 255: one node puts that beside the image, or beside what `Upright` made of
    it, whole numbers from 0 to 255 too. Channels beyond these two have no weight. A first layer in
    float keeps its input.
    """
    graph = quantised.graph
    makers = {output: node for node in graph.node for output in node.output}
    conv = next(node for node in graph.node if node.op_type == "Conv")
    if makers[conv.input[0]].op_type != "DequantizeLinear":
        return quantised
    quantise = makers[makers[conv.input[0]].input[0]]
    add_channels(graph, quantise.output[0])
    offset = makers[quantise.input[0]]
    scale = makers[offset.input[0]]
    grey = makers[scale.input[0]]
    place = list(graph.node).index(quantise)
    nodes = [*graph.node[:place], *grey_and_constant(grey, quantise), *graph.node[place:]]
    del graph.node[:]
    graph.node.extend(node for node in nodes if node not in (quantise, offset, scale))
    graph.initializer.append(numpy_helper.from_array(first_channel(), "is_grey"))
    graph.initializer.append(numpy_helper.from_array(np.array(255, np.uint8), "constant"))
    remove_unused(graph)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def grey_and_constant(grey: onnx.NodeProto, quantise: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Nodes for the first convolution's input in u8, of the node that gives grey levels in float.

    Where, because ONNX Runtime has it in 8 bits on CUDA as well.
    """
    pixels = "image"
    if grey.op_type != "Cast" or grey.input[0] != "image":
        pixels = "grey_levels"
        to = onnx.TensorProto.UINT8
        yield onnx.helper.make_node("Cast", grey.output, [pixels], name="cast_grey_levels", to=to)
    names = ["is_grey", pixels, "constant"]
    yield onnx.helper.make_node("Where", names, quantise.output, name="grey_and_constant")


def first_channel() -> NDArray[np.bool_]:
    """(1, N_FIRST, 1, 1): true for the grey channel alone."""
    return np.asarray(np.arange(N_FIRST).reshape(1, N_FIRST, 1, 1) == 0)


def remove_unused(graph: onnx.GraphProto) -> None:
    """Drop nodes and constants that nothing reads."""
    kept: list[onnx.NodeProto] = []
    used = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if not used.isdisjoint(node.output):
            kept.append(node)
            used.update(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:]
    graph.node.extend(reversed(kept))
    del graph.initializer[:]
    graph.initializer.extend(constants)


def add_channels(graph: onnx.GraphProto, activations: str) -> None:
    """Widen the weights of the convolution behind `activations` to N_FIRST channels, by zeros."""
    makers = {output: node for node in graph.node for output in node.output}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    conv = next(node for node in convs if makers[node.input[0]].input[0] == activations)
    quantised_weights = makers[conv.input[1]].input[0]
    tensor = next(t for t in graph.initializer if t.name == quantised_weights)
    weights = numpy_helper.to_array(tensor)
    wider = np.pad(weights, ((0, 0), (0, N_FIRST - weights.shape[1]), (0, 0), (0, 0)))
    tensor.CopyFrom(numpy_helper.from_array(wider, tensor.name))


@contextmanager
def quiet_quantiser() -> Iterator[None]:
    """Without the advice that ONNX Runtime's quantiser logs about graphs other than ours."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
