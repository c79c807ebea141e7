"""fp32 graph + ranges → static QDQ int8 graph: 8-bit convolutions per channel, float normalisation and head."""

import onnx
from onnxruntime.quantization import QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData

from export.calibration import QUANTISED, nodes_to_quantise, quiet_quantiser
from kneeedge import machine
from kneeedge.errors import ConfigError

TARGETS = ("x86", "x86-no-vnni", "arm", "tensorrt")


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


def to_int8(model: onnx.ModelProto, ranges: TensorsData, target: str) -> onnx.ModelProto:
    """The quantised graph for one target.

    Activations are u8 on x86 and s8 elsewhere, weights s8 per channel. `x86-no-vnni` keeps weights to 7 bits, since
    AVX2's u8×s8 products saturate in 16 bits; `tensorrt` is symmetric, as its kernels need.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    symmetric = target == "tensorrt"
    with quiet_quantiser():
        quantiser = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=target == "x86-no-vnni",
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if target.startswith("x86") else QuantType.QInt8,
            tensors_range=ranges,
            nodes_to_quantize=nodes_to_quantise(model),
            nodes_to_exclude=[],
            op_types_to_quantize=list(QUANTISED),
            extra_options={
                "ActivationSymmetric": symmetric,
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
