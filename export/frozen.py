"""The frozen lower blocks as an int8 graph, on whose output the blocks above are trained."""

import copy

import onnx
from onnx import numpy_helper
from torch import nn

from export.calibration import draw
from export.graph import HEAVY, set_metadata
from export.ranges import Range, choose_ranges, collect
from export.to_int8 import remove_unused, to_int8
from export.to_onnx import ExportGraph, graph_to_onnx, output_names
from kneeedge.data.dataset import Dataset
from kneeedge.runs.config import TrainConfig
from kneeedge.system import machine
from kneeedge.system.progress import Progress
from kneeedge.training.lower import ACTIVATIONS, SCALE
from kneeedge.training.model import KneeVGG

METHOD = "mse"
"for the ranges; no search: the blocks above learn from what they are given"
N_IMAGES = 32
"training images that set the ranges"


def frozen_to_int8(
    model: KneeVGG, dataset: Dataset, config: TrainConfig, progress: Progress
) -> bytes:
    """The ONNX file of the frozen blocks of `model` in int8, which `lower.open_int8` opens.

    The ranges are those of training images, as many of each class as there are.
    """
    fp32 = frozen_graph(model, config.size)
    samples = draw(dataset.split("train"), len(dataset.classes), N_IMAGES, config.seed)
    histograms = collect(fp32, samples, config.pixel_path, progress)
    return int8_file(fp32, choose_ranges(histograms, METHOD))


def int8_file(fp32: onnx.ModelProto, ranges: dict[str, Range]) -> bytes:
    """The file of a `frozen_graph` in int8 for this CPU, with ranges of its layers' outputs."""
    graph = to_int8(fp32, ranges, "vnni" if machine.has_vnni() else "any")
    file: bytes = cut_before_head(graph).SerializeToString()
    return file


def frozen_graph(model: KneeVGG, side: int) -> onnx.ModelProto:
    """The frozen blocks in fp32 with a head that stands for what follows them."""
    lower = copy.deepcopy(model)
    lower.features = model.features[: model.n_frozen_layers]
    convolutions = [layer for layer in lower.features if isinstance(layer, nn.Conv2d)]
    lower.gap = True
    lower.classifier = nn.Sequential(nn.Linear(convolutions[-1].out_channels, 2))
    graph = ExportGraph(lower, temperature=1.0)
    return graph_to_onnx(graph, output_names(graph), side, "frozen blocks")


def cut_before_head(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the 8-bit steps that its head reads as its only output."""
    head = [node for node in graph.graph.node if node.op_type in HEAVY][-1]
    makers = {output: node for node in graph.graph.node for output in node.output}
    steps, scale, _ = makers[head.input[0]].input  # of a DequantizeLinear
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    value = float(numpy_helper.to_array(constants[scale]))
    makers[steps].output[0] = ACTIVATIONS
    del graph.graph.output[:]
    shape = ["N", "C", "H", "W"]
    output = onnx.helper.make_tensor_value_info(ACTIVATIONS, onnx.TensorProto.UINT8, shape)
    graph.graph.output.append(output)
    remove_unused(graph.graph)
    set_metadata(graph, {SCALE: repr(value)})
    onnx.checker.check_model(graph)
    return graph
