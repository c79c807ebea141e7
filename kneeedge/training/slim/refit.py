"""Least squares: the weights with which the channels that stay do the work of those that went."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kneeedge.progress import Progress
from kneeedge.training.model import KneeVGG
from kneeedge.training.slim.chain import Kept, Link, links

N_PLACES = 24_000
"places of the images' activations, in all, at which a layer is fitted"
RIDGE = 1e-3
"pull to the weights as they were, as a share of the inputs' mean square"
BATCH = 8


@dataclass
class Normal:
    """The normal equations of one layer: sums over places of x xᵀ and x (y − w·x)ᵀ, x with a one for the bias."""

    gram: Tensor
    "(D + 1, D + 1) double"
    residual: Tensor
    "(D + 1, C) double"
    n: int = 0

    def add(self, x: Tensor, missing: Tensor) -> None:
        """Take in rows x (P, D) and what their outputs lack (P, C)."""
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        self.gram += (x.T @ x).double()
        self.residual += (x.T @ missing).double()
        self.n += len(x)

    def solve(self) -> Tensor:
        """The change (D + 1, C) of weights and bias: ridge regression towards no change."""
        pull = RIDGE * float(self.gram.diagonal().mean())
        regular = self.gram + pull * torch.eye(len(self.gram), dtype=torch.float64)
        return torch.linalg.solve(regular, self.residual).float()


@torch.no_grad()
def refit(model: KneeVGG, slim: KneeVGG, kept: Kept, images: Tensor, progress: Progress) -> None:
    """Fit each convolution of `slim`, from the first on, to what `model` gives for images (N, 1, S, S) uint8.

    He, Zhang & Sun 2017 (ICCV, "Channel pruning for accelerating very deep neural networks", § 3.2), layer by layer on
    the narrowed network's own inputs, so that a layer also mends what the layers before it left over: the outputs are
    compared before the ReLU, at places drawn by chance.
    """
    rng = np.random.default_rng(0)
    wide, thin = model.normalise(images), slim.normalise(images)
    pairs = list(zip(links(model), links(slim), kept, strict=True))
    with progress.stage("refitting layers", len(pairs)) as stage:
        for old, new, outputs in pairs:
            fit_layer(old, new, torch.from_numpy(outputs), wide, thin, rng)
            wide, thin = through(old, wide), through(new, thin)
            stage.advance()
    fit_head(model, slim, wide, thin)


def through(link: Link, x: Tensor) -> Tensor:
    """The layer's output for all images, a few at a time."""
    return torch.cat([link.forward(part) for part in x.split(BATCH)])


def fit_layer(
    old: Link, new: Link, outputs: Tensor, wide: Tensor, thin: Tensor, rng: np.random.Generator
) -> None:
    """Change the weights of `new`, which reads `thin`, to come closest to the `outputs` of `old`, which reads `wide`."""
    conv = new.conv
    n_inputs = conv.in_channels * 9  # 3 × 3
    equations = Normal(
        torch.zeros(n_inputs + 1, n_inputs + 1, dtype=torch.float64),
        torch.zeros(n_inputs + 1, conv.out_channels, dtype=torch.float64),
    )
    side = wide.shape[-1] * wide.shape[-2]
    n_places = min(side, -(-N_PLACES // len(wide)))
    for before, after in zip(wide.split(BATCH), thin.split(BATCH), strict=True):
        places = torch.from_numpy(np.sort(rng.permutation(side)[:n_places]))
        missing = (old.conv(before)[:, outputs] - conv(after)).flatten(2)[:, :, places]
        equations.add(patches(after, places), missing.transpose(1, 2).flatten(0, 1))
    change = equations.solve()
    conv.weight += change[:-1].T.reshape(conv.weight.shape)
    conv.bias += change[-1]  # type: ignore[operator]


def fit_head(model: KneeVGG, slim: KneeVGG, wide: Tensor, thin: Tensor) -> None:
    """Change the linear layer to come closest to the logits, from last features (N, C, H, W)."""
    linear = slim.classifier[-1]
    missing = model.head(wide) - slim.head(thin)
    n_inputs = thin.shape[1]
    equations = Normal(
        torch.zeros(n_inputs + 1, n_inputs + 1, dtype=torch.float64),
        torch.zeros(n_inputs + 1, missing.shape[1], dtype=torch.float64),
    )
    equations.add(thin.mean(dim=(2, 3)), missing)
    change = equations.solve()
    linear.weight += change[:-1].T  # type: ignore[operator]
    linear.bias += change[-1]  # type: ignore[operator]


def patches(x: Tensor, places: Tensor) -> Tensor:
    """What a 3 × 3 convolution reads at `places` (P,), counted along rows, of x (N, C, H, W): (N · P, 9 C)."""
    width = x.shape[-1]
    padded, rows, columns = F.pad(x, (1, 1, 1, 1)), places // width, places % width
    nine = [padded[:, :, rows + dy, columns + dx] for dy in range(3) for dx in range(3)]
    return torch.stack(nine, dim=2).flatten(1, 2).transpose(1, 2).flatten(0, 1)
