"""A VGG as the chain of convolutions that it is, and the same network with channels left out."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kneeedge.model.spec import Architecture
from kneeedge.training.model import KneeVGG

KeptChannels = tuple[NDArray[np.intp], ...]
"for each convolution the output channels (n,) that stay, rising"


@dataclass(frozen=True)
class Link:
    """One convolution of the chain with what follows it."""

    conv: nn.Conv2d
    tail: nn.Sequential
    "its ReLU, and the pooling that ends a block"

    def forward(self, x: Tensor) -> Tensor:
        """What the next convolution reads, (N, C, H, W)."""
        activations: Tensor = self.tail(self.conv(x))
        return activations


def links(model: KneeVGG) -> tuple[Link, ...]:
    """The convolutions in order. The network has no batch norm: `fold` it first."""
    starts = [i for i, layer in enumerate(model.features) if isinstance(layer, nn.Conv2d)]
    ends = [*starts[1:], len(model.features)]
    return tuple(
        Link(model.features[start], model.features[start + 1 : end])
        for start, end in zip(starts, ends, strict=True)
    )


def bias_of(layer: nn.Conv2d | nn.Linear) -> nn.Parameter:
    """Its bias, which every layer of a VGG has."""
    return cast("nn.Parameter", layer.bias)


def head(model: KneeVGG) -> nn.Linear:
    """The linear layer behind the average pool."""
    return cast("nn.Linear", model.classifier[-1])


def widths(model: KneeVGG) -> tuple[int, ...]:
    """Output channels of each convolution, in order."""
    return tuple(link.conv.out_channels for link in links(model))


def to_blocks(flat: Sequence[int], like: Architecture) -> tuple[tuple[int, ...], ...]:
    """Channel counts in order, as the architecture's blocks hold them."""
    counts = iter(flat)
    return tuple(tuple(itertools.islice(counts, len(block))) for block in like.channels)


def narrow(
    model: KneeVGG, architecture: Architecture, kept: KeptChannels
) -> tuple[KneeVGG, Architecture]:
    """The network with the `kept` channels alone, their weights as they were.

    It is in evaluation mode, channels-last.
    """
    channels = to_blocks([len(index) for index in kept], architecture)
    slim_architecture = Architecture(channels, False, architecture.head)
    slim = KneeVGG(slim_architecture, head(model).out_features)
    inputs = np.arange(3)
    with torch.no_grad():
        for old, new, outputs in zip(links(model), links(slim), kept, strict=True):
            new.conv.weight.copy_(old.conv.weight[outputs][:, inputs])
            bias_of(new.conv).copy_(bias_of(old.conv)[outputs])
            inputs = outputs
        head(slim).weight.copy_(head(model).weight[:, inputs])
        head(slim).bias.copy_(head(model).bias)
    return slim.eval().to(memory_format=torch.channels_last), slim_architecture


def most_important(
    importance: Sequence[NDArray[np.floating]], counts: Sequence[int]
) -> KeptChannels:
    """The `counts` channels of each layer with the highest importance (C,), in their own order."""
    kept = []
    for values, count in zip(importance, counts, strict=True):
        falling = np.argsort(-values, kind="stable")
        kept.append(np.sort(falling[:count]))
    return tuple(kept)
