"""What every variant must know of the graph, and what every file carries: metadata."""

from collections import Counter

import onnx


def convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that hold nearly all of the work: the network's convolutions and hidden linear layers."""
    heavy = [node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    return heavy[:-1]  # the last is the head's: the class map or the last linear layer


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that keep 32-bit floats in every variant: what stands before the first convolution
    (normalisation) and the head from its linear map on. Together they are less than 0.1 % of the work.
    """
    names = [node.name for node in model.graph.node]
    heavy = [name for name in names if name in set(convolutions(model))]
    last = next(node.name for node in reversed(model.graph.node) if node.op_type in ("Conv", "Gemm"))
    return names[: names.index(heavy[0])] + names[names.index(last) :]


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator occurs, most frequent first."""
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def set_metadata(model: onnx.ModelProto, entries: dict[str, str]) -> None:
    """Replace the file's metadata by `entries`."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, entries)
