"""What a graph that ONNX Runtime has optimised consists of, and where its time goes."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import onnx
from onnx import numpy_helper

CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv")
NCHWC = "com.microsoft.nchwc"
STRAY = ("Cast", "Transpose", "ReorderInput", "ReorderOutput", "QuantizeLinear", "DequantizeLinear")
"operators that compute nothing: each passes over its whole tensor to change a type or a layout"
KERNEL = "_kernel_time"


@dataclass(frozen=True)
class Stray:
    """A node that only changes a type or a layout."""

    operator: str
    before: str
    "the operator that makes its input, or `input` and its name"
    after: str
    "the operators that read its output, or `output` and its name"


@dataclass(frozen=True)
class Convolutions:
    """How ONNX Runtime runs the convolutions, and with them the class map of the head."""

    n: int
    n_quantised: int
    "8 bits in and out"
    n_with_relu: int
    "whose ReLU costs nothing: fused, or left to the 8-bit range, which ends at zero"
    layouts: dict[str, int]
    "NCHWc (blocks of channels), NHWC or NCHW"


@dataclass(frozen=True)
class Structure:
    """An optimised graph."""

    operators: dict[str, int]
    "with the domain where it is not ONNX's own; most frequent first"
    convolutions: Convolutions
    n_relu: int
    "ReLU nodes left"
    stray: tuple[Stray, ...]


@dataclass(frozen=True)
class NodeTime:
    """A node of the optimised graph."""

    name: str
    operator: str
    ms: float
    "median over the profiled runs"


@dataclass(frozen=True)
class Times:
    """Where the time of a run goes, by ONNX Runtime's profile."""

    nodes: tuple[NodeTime, ...]
    "in the order they ran"
    total_ms: float
    first_layer_share: float
    "0 to 1: the first convolution and all that runs before it, from the image on"


def structure_of(graph: onnx.GraphProto) -> Structure:
    """What the optimised graph consists of."""
    operators = Counter(map(full_name, graph.node))
    return Structure(
        operators=dict(operators.most_common()),
        convolutions=convolutions_of(graph),
        n_relu=operators["Relu"],
        stray=stray_nodes(graph),
    )


def full_name(node: onnx.NodeProto) -> str:
    """The operator, with its domain where that is not ONNX's own."""
    if node.domain in ("", "ai.onnx"):
        return str(node.op_type)
    return f"{node.domain}:{node.op_type}"


def convolutions_of(graph: onnx.GraphProto) -> Convolutions:
    nodes = [node for node in graph.node if node.op_type in CONVOLUTIONS]
    lowest = {tensor.name for tensor in graph.initializer if is_lowest(tensor)}
    return Convolutions(
        n=len(nodes),
        n_quantised=sum(node.op_type == "QLinearConv" for node in nodes),
        n_with_relu=sum(has_relu(node, lowest) for node in nodes),
        layouts=dict(Counter(map(layout_of, nodes))),
    )


def is_lowest(tensor: onnx.TensorProto) -> bool:
    """Whether it is a scalar, and the lowest value of its 8-bit type.

    As a zero point it leaves no room below zero.
    """
    lowest = {onnx.TensorProto.UINT8: 0, onnx.TensorProto.INT8: -128}.get(tensor.data_type)
    if lowest is None:
        return False
    values = numpy_helper.to_array(tensor)
    return bool(values.size == 1 and values.item() == lowest)


def has_relu(node: onnx.NodeProto, lowest: set[str]) -> bool:
    """Whether its ReLU costs nothing; `lowest` names the tensors of which `is_lowest` is true."""
    if node.op_type == "QLinearConv":
        output_zero_point = node.input[7]
        return output_zero_point in lowest
    return any(attribute.name == "activation" for attribute in node.attribute)


def layout_of(node: onnx.NodeProto) -> str:
    """NCHWc, NHWC or NCHW."""
    if node.domain == NCHWC:
        return "NCHWc"
    flags = {attribute.name for attribute in node.attribute if attribute.i}
    is_last = "channels_last" in flags or node.op_type.startswith("Nhwc")
    return "NHWC" if is_last else "NCHW"


def stray_nodes(graph: onnx.GraphProto) -> tuple[Stray, ...]:
    """The nodes of STRAY, in order."""
    makers = {output: node.op_type for node in graph.node for output in node.output}
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node.op_type)
    nodes = []
    for node in graph.node:
        if node.op_type in STRAY:
            before = makers.get(node.input[0], f"input {node.input[0]}")
            after = ", ".join(readers[node.output[0]]) or f"output {node.output[0]}"
            nodes.append(Stray(full_name(node), before, after))
    return tuple(nodes)


def times_of(graph: onnx.GraphProto, events: Iterable[dict[str, Any]], n_warmup: int) -> Times:
    """The median time of each node from the events of a profile, without the first `n_warmup` runs.

    Raises ValueError where the profile does not name the first convolution of the graph.
    """
    samples: dict[str, list[float]] = defaultdict(list)
    operators: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            name = event["name"].removesuffix(KERNEL)
            samples[name].append(event["dur"] / 1e3)
            operators[name] = event["args"]["op_name"]
    medians = {name: median(values[n_warmup:]) for name, values in samples.items()}
    first = first_layer(graph)
    if first[-1] not in medians:
        raise ValueError(f"the profile does not name the node {first[-1]}")
    total = sum(medians.values())
    first_ms = sum(medians.get(name, 0.0) for name in first)
    nodes = tuple(NodeTime(name, operators[name], round(ms, 4)) for name, ms in medians.items())
    return Times(nodes, round(total, 3), round(first_ms / total, 4))


def first_layer(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes from the input to the first convolution, which comes last."""
    reached = {value.name for value in graph.input}
    names = []
    # each node stands behind those that it reads
    for node in graph.node:
        if reached.isdisjoint(node.input):
            continue
        names.append(node.name)
        if node.op_type in CONVOLUTIONS:
            return names
        reached.update(node.output)
    raise ValueError("the graph has no convolution")
