"""fp32 graph + ranges → static QDQ int8 graph: 8-bit convolutions per channel, float normalisation and head."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData

from export.graph import HEAVY, body, first_input, layers
from export.ranges import Range
from kneeedge import machine
from kneeedge.errors import ConfigError

TARGETS = ("x86", "x86-no-vnni", "arm", "tensorrt")
SYMMETRIC = ("tensorrt",)
"targets whose zero is 0, as their kernels need"
QUANTISED = (*HEAVY, "Relu", "MaxPool")
"operators that run in 8 bits; reshaping between them stays"


def choose_target(target: str) -> str:
    """The int8 target asked for; `auto` is this machine's."""
    if target == "auto":
        isa = machine.isa_flags()
        if "asimd" in isa:
            return "arm"
        return "x86" if machine.has_vnni() else "x86-no-vnni"
    if target not in TARGETS:
        raise ConfigError(f"--int8-target {target} is unknown", f"choose one of auto, {', '.join(TARGETS)}")
    return target


def to_int8(
    model: onnx.ModelProto, ranges: dict[str, Range], target: str, float_layers: tuple[str, ...] = ()
) -> onnx.ModelProto:
    """The quantised graph for one target; `ranges` as from `choose_ranges`, `float_layers` stay in 32 bits.

    Activations are u8 on x86 and s8 elsewhere, weights s8 per channel. `x86-no-vnni` keeps weights to 7 bits, since
    AVX2's u8×s8 products saturate in 16 bits; `tensorrt` is symmetric, as its kernels need.
    """
    copy = shield(model, float_layers)
    nodes = nodes_to_quantise(model, float_layers)
    if not nodes:  # to the quantiser an empty list means every node
        return copy
    with quiet_quantiser():
        quantiser = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=target == "x86-no-vnni",
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if target.startswith("x86") else QuantType.QInt8,
            tensors_range=tensor_ranges(model, ranges),
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
    del quantised.graph.value_info[:]
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def shield(model: onnx.ModelProto, float_layers: tuple[str, ...]) -> onnx.ModelProto:
    """A copy in which ONNX Runtime leaves `float_layers` in float.

    Its optimiser (WeightBiasQuantization) quantises the float weights of a convolution that stands between 8-bit
    tensors, ReLU or none behind it. A leaky ReLU of slope 0 computes the same, is fused likewise, and is let alone.
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


def tensor_ranges(model: onnx.ModelProto, ranges: dict[str, Range]) -> TensorsData:
    """ONNX Runtime's record of the ranges. All tensors of a layer share that behind its ReLU, which clips below it."""
    shared = {first_input(model): ranges[first_input(model)]}
    shared |= {tensor: ranges[layer.output] for layer in layers(model) for tensor in layer.tensors}
    data = {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in shared.items()}
    return TensorsData(CalibrationMethod.MinMax, data)


def nodes_to_quantise(model: onnx.ModelProto, float_layers: tuple[str, ...]) -> list[str]:
    """The heavy nodes and what stands between them, so that activations stay 8-bit from layer to layer."""
    kept = float_layer_nodes(model, float_layers)
    return [node.name for node in body(model) if node.op_type in QUANTISED and node.name not in kept]


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
