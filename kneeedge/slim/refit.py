"""Least squares: the weights with which the channels that stay do the work of those that went."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kneeedge.slim.chain import KeptChannels, Link, bias_of, head, links
from kneeedge.system.progress import Progress
from kneeedge.training.model import KneeVGG

N_PLACES = 24_000
"places of the images' activations, in all, at which a layer is fitted"
RIDGE = 1e-3
"pull to the weights as they were, as a share of the inputs' mean square"
BATCH = 8


@dataclass
class Normal:
    """The normal equations of one layer: sums over places of x xᵀ and x (y − w·x)ᵀ.

    The bias is the weight of a one behind x.
    """

    gram: Tensor
    "(D + 1, D + 1) double"
    residual: Tensor
    "(D + 1, C) double"

    @classmethod
    def of(cls, n_inputs: int, n_outputs: int) -> "Normal":
        """Without any rows yet."""
        size = n_inputs + 1
        gram = torch.zeros(size, size, dtype=torch.float64)
        return cls(gram, torch.zeros(size, n_outputs, dtype=torch.float64))

    def add(self, x: Tensor, missing: Tensor) -> None:
        """Take in rows x (P, D) and what their outputs lack (P, C)."""
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        self.gram += (x.T @ x).double()
        self.residual += (x.T @ missing).double()

    def solve(self) -> Tensor:
        """The change (D + 1, C) of weights and bias."""
        return ridge(self.gram, self.residual).float()


@torch.no_grad()
def refit(
    model: KneeVGG, slim: KneeVGG, kept: KeptChannels, images: Tensor, progress: Progress
) -> None:
    """Fit each layer of `slim`, in order, to what `model` gives for images (N, 1, S, S) uint8.

    He, Zhang & Sun 2017 (ICCV, "Channel pruning for accelerating very deep neural networks", §
    3.2), layer by layer on the narrowed network's own inputs, so that a layer also mends what the
    layers before it left over: the outputs are compared before the ReLU, at places drawn by chance.
    The activations of all images stand in memory, at the widest layer 13 MB an image for the full
    VGG19 at 224².
    """
    rng = np.random.default_rng(0)
    wide = model.normalise(images)
    thin = slim.normalise(images)
    pairs = list(zip(links(model), links(slim), kept, strict=True))
    with progress.stage("least squares", len(pairs)) as stage:
        for old, new, outputs in pairs:
            wide = fit_layer(old, new, torch.from_numpy(outputs), wide, thin, rng)
            thin = through(new, thin)
            stage.advance()
    equations = Normal.of(thin.shape[1], head(slim).out_features)
    equations.add(thin.mean(dim=(2, 3)), model.head(wide) - slim.head(thin))
    add_change(head(slim), equations.solve())


def fit_layer(
    old: Link, new: Link, outputs: Tensor, wide: Tensor, thin: Tensor, rng: np.random.Generator
) -> Tensor:
    """Bring `new`, which reads `thin`, closest to the `outputs` of `old`, which reads `wide`.

    Returns what the layer behind `old` reads.
    """
    conv = new.conv
    equations = Normal.of(conv.in_channels * 9, conv.out_channels)  # 3 × 3
    next_inputs = []
    batches = zip(torch.split(wide, BATCH), torch.split(thin, BATCH), strict=True)
    for wide_batch, thin_batch in batches:
        places = draw_places(wide, N_PLACES, rng)
        wide_outputs = old.conv(wide_batch)
        kept_outputs = wide_outputs.flatten(2)[:, outputs]
        wanted = kept_outputs[:, :, places].transpose(1, 2).flatten(0, 1)
        rows = patches(thin_batch, places)
        reached = torch.addmm(bias_of(conv), rows, conv.weight.flatten(1).T)
        equations.add(rows, wanted - reached)
        next_inputs.append(old.tail(wide_outputs))
    add_change(conv, equations.solve())
    return torch.cat(next_inputs)


def ridge(gram: Tensor, residual: Tensor) -> Tensor:
    """The change (D, C) double of weights by least squares, pulled towards none.

    `gram` (D, D) and `residual` (D, C) are the sums of the normal equations.
    """
    pull = RIDGE * float(gram.diagonal().mean())
    identity = torch.eye(len(gram), dtype=torch.float64)
    change: Tensor = torch.linalg.solve(gram + pull * identity, residual)
    return change


def draw_places(x: Tensor, n_places: int, rng: np.random.Generator) -> Tensor:
    """Places (P,), counted along rows, in each image of x (N, C, H, W): N · P ≥ `n_places`."""
    n_pixels = x.shape[-1] * x.shape[-2]
    n_of_image = -(-n_places // len(x))
    return torch.from_numpy(np.sort(rng.permutation(n_pixels)[:n_of_image]))


def through(link: Link, x: Tensor) -> Tensor:
    """The layer's output for all of x (N, C, H, W), a few images at a time."""
    return torch.cat([link.forward(part) for part in torch.split(x, BATCH)])


def add_change(layer: nn.Conv2d | nn.Linear, change: Tensor) -> None:
    """Add (D + 1, C) to the weights and, its last row, to the bias."""
    layer.weight.add_(change[:-1].T.reshape(layer.weight.shape))
    bias_of(layer).add_(change[-1])


def patches(x: Tensor, places: Tensor) -> Tensor:
    """Rows (N · P, 9 C): what a 3 × 3 convolution reads at `places` (P,) of x (N, C, H, W).

    Places are counted along rows.
    """
    width = x.shape[-1]
    padded = F.pad(x, (1, 1, 1, 1))
    rows = places // width
    columns = places % width
    nine = [padded[:, :, rows + dy, columns + dx] for dy in range(3) for dx in range(3)]
    return torch.stack(nine, dim=2).flatten(1, 2).transpose(1, 2).flatten(0, 1)
