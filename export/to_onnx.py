"""Trained PyTorch model → fp32 ONNX graph by the file contract: uint8 grey in, answers out."""

from collections import OrderedDict
from itertools import pairwise

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.graph import GREY_RANGE, HALF
from kneeedge.model.spec import ModelSpec
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import Distance, Gaussians

OPSET = 18
IR_VERSION = 10
"a file version that ONNX Runtime 1.22, our lower bound, reads, and older ones too"


class ExportGraph(nn.Module):
    """The file's graph: normalisation and batch norm folded away, temperature and softmax added.

    With Gaussians of the training images' features it also gives the distance to them.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self, model: KneeVGG, temperature: float, gaussians: Gaussians | None = None
    ) -> None:
        super().__init__()
        self.features = fold_batch_norm(model.features)
        self.features[0] = fold_normalisation(self.features[0], model.mean, model.std)  # type: ignore[arg-type]
        self.ends = block_ends(self.features)
        self.distance = Distance(gaussians) if gaussians else None
        self.upright = model.upright
        self.gap = model.gap
        self.classifier = model.classifier
        self.temperature = temperature
        self.linear: nn.Linear = model.classifier[-1]  # type: ignore[assignment]
        # The two channels that `fold_normalisation` wants, in one multiplication and one addition.
        self.register_buffer("scale", torch.tensor([1 / HALF, 0.0]).view(1, 2, 1, 1))
        self.register_buffer("offset", torch.tensor([-1.0, GREY_RANGE[1]]).view(1, 2, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, 1, S, S) uint8 → what `output_names` lists."""
        grey = image.float()
        if self.upright is not None:
            grey = self.upright(grey)
        x = grey * self.scale + self.offset
        behind = {}
        for block, (start, end) in enumerate(pairwise([0, *self.ends]), start=1):
            x = self.features[start:end](x)
            behind[block] = x
        answers = self.answer(x)
        return answers if self.distance is None else (*answers, self.distance(behind))

    def answer(self, features: Tensor) -> tuple[Tensor, ...]:
        """Last features (N, C, S/32, S/32) → probabilities (N, K), logits (N, K), for `gap` cam."""
        if not self.gap:
            if features.shape[-1] != 7:  # pooling 7×7 to 7×7 changes nothing
                features = F.adaptive_avg_pool2d(features, 7)
            logits = self.classifier(features.flatten(1))
            return torch.softmax(logits / self.temperature, dim=1), logits
        cam = F.conv2d(features, self.linear.weight[:, :, None, None])
        # The mean of the map plus the bias is the logit: pooling and the linear layer commute.
        logits = cam.mean(dim=(2, 3)) + self.linear.bias
        return torch.softmax(logits / self.temperature, dim=1), logits, cam


def output_names(graph: ExportGraph) -> list[str]:
    """The outputs, in order; shapes (N, K), (N, K), (N, K, S/32, S/32) and (N,)."""
    names = ["probabilities", "logits"]
    if graph.gap:
        names.append("cam")
    if graph.distance:
        names.append("distance")
    return names


def block_ends(features: nn.Sequential) -> list[int]:
    """Index behind the last layer of each block."""
    return [i + 1 for i, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]


def fold_normalisation(conv: nn.Conv2d, mean: Tensor, std: Tensor) -> nn.Conv2d:
    """The first convolution for two channels, grey and constant, in place of three normalised ones.

    The three are one image x (0 to 255), each with a mean m and a deviation s of its own.
    For g = (x − 128) / 128,

    Σ_c w_c · (x / 255 − m_c) / s_c  =
        g · Σ_c w_c · (128 / 255) / s_c  +  Σ_c w_c · (128 / 255 − m_c) / s_c.

    The border is zero *after* the normalisation, so the second sum is no bias: at the border it
    lacks the weights that lie outside. As the weights of a constant channel, which has the same
    border of zeros, it is exact there too. The constant is 127 / 128, the largest g: 8 bits of step
    1 / 128 then hold both channels without loss, as do fp16 and bf16.
    """
    weight = conv.weight.double()
    mean = mean.double()
    deviation = std.double()
    grey = (weight * HALF / 255.0 / deviation).sum(1)
    constant = (weight * (HALF / 255.0 - mean) / deviation).sum(1) / GREY_RANGE[1]
    folded = nn.Conv2d(2, conv.out_channels, conv.kernel_size, padding=conv.padding)  # type: ignore[arg-type]
    folded.weight = nn.Parameter(torch.stack([grey, constant], dim=1).to(conv.weight.dtype))
    folded.bias = conv.bias
    return folded


def fold_batch_norm(features: nn.Sequential) -> nn.Sequential:
    """The same layers with every batch norm folded into the convolution before it."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in features.named_children():
        if isinstance(layer, nn.BatchNorm2d):
            conv = next(reversed(layers))
            layers[conv] = fuse_conv_bn_eval(layers[conv], layer)  # type: ignore[type-var]
        else:
            layers[name] = layer
    return nn.Sequential(layers)


def to_onnx(model: KneeVGG, spec: ModelSpec, gaussians: Gaussians | None = None) -> onnx.ModelProto:
    """The fp32 graph, in one piece (no external data), with a dynamic batch and without metadata.

    Without Gaussians it has no output `distance`.
    """
    graph = ExportGraph(model, spec.temperature, gaussians)
    return graph_to_onnx(graph, output_names(graph), spec.pixel_path.size, spec.name)


def graph_to_onnx(graph: nn.Module, outputs: list[str], side: int, name: str) -> onnx.ModelProto:
    """The ONNX form of a module that reads images (N, 1, side, side) uint8."""
    program = torch.onnx.export(
        graph.eval(),
        (torch.zeros(2, 1, side, side, dtype=torch.uint8),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=outputs,
        dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return tidy(program.model_proto, name)


def tidy(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same graph with the contract's shape names, without what the exporter leaves behind."""
    model.ir_version = IR_VERSION
    model.producer_name = "kneeedge"
    del model.graph.value_info[:]  # stale shapes make quantisers and converters fail
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = f"{name}: kneeedge model"
    onnx.checker.check_model(model, full_check=True)
    return model
