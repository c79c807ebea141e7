"""fp32 graph → fp16 graph with the same signature: 16-bit convolutions, 32-bit normalisation and head.

ONNX Runtime's own converter puts a pair of casts between any two nodes that are to stay in 32 bits and leaves them out
of order, so that the result fails ONNX's checker (onnxruntime 1.32); this graph needs one cast in and one out.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graph import float_nodes
from kneeedge.errors import ConfigError

FP16_MAX = 65504.0


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its network in fp16; inputs, outputs, normalisation and head keep their types.

    Raises ConfigError where a weight is too large for fp16, rather than clamping it.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    graph = converted.graph
    keep = set(float_nodes(model))
    half_weights = {name for node in graph.node if node.name not in keep for name in node.input}
    for tensor in graph.initializer:
        if tensor.name in half_weights and tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(to_half(numpy_helper.to_array(tensor), tensor.name), tensor.name))
    nodes = insert_casts(list(graph.node), keep)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def to_half(weights: np.ndarray, name: str) -> np.ndarray:
    """fp32 weights as fp16, of any shape."""
    largest = float(np.abs(weights).max(initial=0))
    if not largest <= FP16_MAX:
        raise ConfigError(f"the weight {name} reaches {largest:g}, beyond fp16", "leave fp16 out of --precision")
    return weights.astype(np.float16)


def insert_casts(nodes: list[onnx.NodeProto], keep: set[str]) -> list[onnx.NodeProto]:
    """The same nodes in order, with a cast wherever a tensor crosses between 32 bits (`keep`) and 16."""
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
                result.append(helper.make_node("Cast", [name], [casts[name]], name=f"cast_{casts[name]}", to=to))
            node.input[i] = casts[name]
        is_half |= dict.fromkeys(node.output, half)
        result.append(node)
    return result
