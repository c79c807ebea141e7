"""What every variant must know of the graph, and what every file carries: metadata."""

from collections import Counter
from dataclasses import dataclass

import onnx

HEAVY = ("Conv", "Gemm")
ANSWER = "logits"
HALF = 128.0
GREY_RANGE = (-1.0, 127.0 / HALF)
"of what the first convolution reads: (pixel − 128) / 128, and the constant 127 / 128 beside it"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution or hidden linear layer and what hands its values on: ReLU, pool, reshaping."""

    name: str
    "that of its weights in the PyTorch model, as features.0"
    nodes: tuple[str, ...]
    "names, in order; the first is the convolution or the linear map"
    tensors: tuple[str, ...]
    "the outputs of `nodes`"
    output: str
    "the tensor behind its ReLU; its convolution's own where it has none"
    weights: tuple[str, ...]
    "its initialisers"


def body(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that may leave 32-bit floats: from the first convolution to before the head.

    They hold more than 99.9 % of the work on the way to the logits. What stands before them scales
    the pixels; from the head's linear map on, and beside the way to the logits, stand answers that
    need the precision.
    """
    wanted = {ANSWER}
    way = []
    for node in reversed(model.graph.node):
        if not wanted.isdisjoint(node.output):
            way.append(node)
            wanted.update(node.input)
    way.reverse()
    heavy = [i for i, node in enumerate(way) if node.op_type in HEAVY]
    # The last one is the head's: the class map or the last linear layer.
    return way[heavy[0] : heavy[-1]]


def layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """The layers of `body`, in order."""
    groups: list[list[onnx.NodeProto]] = []
    for node in body(model):
        if node.op_type in HEAVY:
            groups.append([])
        groups[-1].append(node)
    return tuple(map(_layer, groups))


def _layer(nodes: list[onnx.NodeProto]) -> Layer:
    heavy = nodes[0]
    relus = [node for node in nodes if node.op_type == "Relu"]
    last = relus[0] if relus else heavy
    return Layer(
        name=heavy.input[1].removesuffix(".weight"),
        nodes=tuple(node.name for node in nodes),
        tensors=tuple(node.output[0] for node in nodes),
        output=last.output[0],
        weights=tuple(heavy.input[1:]),
    )


def first_input(model: onnx.ModelProto) -> str:
    """The scaled pixels and the constant, which the first convolution reads."""
    return str(body(model)[0].input[0])


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that keep 32-bit floats in every variant: all but `body`."""
    quantisable = {node.name for node in body(model)}
    return [node.name for node in model.graph.node if node.name not in quantisable]


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator occurs, most frequent first."""
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set."""
    versions = [e.version for e in model.opset_import if e.domain in ("", "ai.onnx")]
    return int(versions[0])


def set_metadata(model: onnx.ModelProto, entries: dict[str, str]) -> None:
    """Replace the file's metadata by `entries`."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, entries)
