"""What the answers lose where one layer alone is narrowed: measured, not assumed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from kneeedge.slim.chain import Link, bias_of, links, most_important
from kneeedge.slim.refit import BATCH, Normal, draw_places, patches, ridge, through
from kneeedge.system.progress import Progress
from kneeedge.training.model import KneeVGG

SHARES = (0.75, 0.5, 0.375, 0.25, 0.125)
"of a layer's channels, at which its loss is measured; between them it is interpolated"
N_PLACES = 12_000
"of the activations, in all, at which the next layer is mended"


@dataclass(frozen=True)
class Sensitivity:
    """The logit error of narrowing each layer alone."""

    shares: tuple[float, ...]
    "of the layer's channels, rising, 1 the last"
    errors: tuple[tuple[float, ...], ...]
    "for each layer and share: mean square logit change, as a share of the logits' variance"

    def error(self, layer: int, share: float) -> float:
        """Interpolated on a logarithmic scale of shares; below the smallest share the last slope
        goes on.
        """
        x = np.log(self.shares)
        y = np.array(self.errors[layer])
        wanted = np.log(share)
        if wanted < x[0]:
            return float(y[0] + (y[0] - y[1]) / (x[0] - x[1]) * (wanted - x[0]))
        return float(np.interp(wanted, x, y))


@torch.no_grad()
def measure(
    model: KneeVGG, importance: Sequence[NDArray[np.floating]], images: Tensor, progress: Progress
) -> Sensitivity:
    """Narrow each layer to each of SHARES by `importance`, mend the next by least squares, and look
    at the logits.

    The mending is what `refit` does; without it a narrow layer looks worse than it is going to be.
    It is fitted on the even ones of the images (N, 1, S, S) uint8, and the logits looked at are
    those of the odd ones.
    """
    shares = (*sorted(SHARES), 1.0)
    chain = links(model)
    errors = []
    x = model.normalise(images)
    with progress.stage("sensitivity of the layers", len(chain)) as stage:
        for i, link in enumerate(chain):
            x = through(link, x)
            narrowing = Narrowing(model, chain[i + 1 :], x[1::2], importance[i])
            gram = gram_of(x[::2]) if i + 1 < len(chain) else None
            errors.append(tuple(narrowing.error(share, gram) for share in shares))
            stage.advance()
    return Sensitivity(shares, tuple(errors))


@dataclass(frozen=True)
class Narrowing:
    """One layer, some of whose channels are to go."""

    model: KneeVGG
    rest: tuple[Link, ...]
    "the layers behind it; none behind the last, which the head reads"
    x: Tensor
    "(N, C, H, W): its output"
    importance: NDArray[np.floating]
    "(C,)"

    def error(self, share: float, gram: Tensor | None) -> float:
        """Mean square logit change with that share of the channels alone, as a share of the logits'
        variance.
        """
        (kept,) = most_important([self.importance], [max(1, round(share * len(self.importance)))])
        if len(kept) == len(self.importance):
            return 0.0
        logits = (
            self.mended(torch.from_numpy(kept), gram)
            if gram is not None
            else self.model.head(self.masked(kept))
        )
        return float(((logits - self.expected) ** 2).mean() / self.expected.var(dim=0).mean())

    def answer(self, x: Tensor, rest: Sequence[Link]) -> Tensor:
        """Logits (N, K) of what goes into the layers `rest`."""
        for link in rest:
            x = through(link, x)
        return self.model.head(x)

    @cached_property
    def expected(self) -> Tensor:
        """Logits (N, K) with all channels."""
        return self.answer(self.x, self.rest)

    def masked(self, kept: NDArray[np.intp]) -> Tensor:
        """The output with zeros in place of the channels that go."""
        mask = torch.zeros(self.x.shape[1])
        mask[torch.from_numpy(kept)] = 1.0
        return self.x * mask[None, :, None, None]

    def mended(self, kept: Tensor, gram: Tensor) -> Tensor:
        """Logits (N, K) with the channels `kept` alone and the next layer's weights mended."""
        following = self.rest[0]
        weight, bias = mend(following.conv, kept, gram)
        after = [
            following.rest(F.conv2d(part[:, kept], weight, bias, padding=1))
            for part in torch.split(self.x, BATCH)
        ]
        return self.answer(torch.cat(after), self.rest[1:])


def mend(conv: nn.Conv2d, kept: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (C, n, 3, 3) and bias (C,) by which the convolution comes closest to its outputs from
    `kept` inputs.
    """
    n_inputs = 9 * conv.in_channels
    columns = torch.cat([(kept[:, None] * 9 + torch.arange(9)).flatten(), torch.tensor([n_inputs])])
    weight = torch.cat([conv.weight.flatten(1), torch.zeros(conv.out_channels, 1)], dim=1).double()
    inner = gram[columns][:, columns]
    start = weight[:, columns]
    lacking = weight @ gram[:, columns] - start @ inner
    solution = (start + ridge(inner, lacking.T).T).float()
    return solution[:, :-1].reshape(conv.out_channels, len(kept), 3, 3), bias_of(conv) + solution[
        :, -1
    ]


def gram_of(x: Tensor) -> Tensor:
    """(9 C + 1, 9 C + 1): sums of products of 3 × 3 patches of x (N, C, H, W), with a one for the
    bias.

    At places drawn by chance.
    """
    rng = np.random.default_rng(0)
    equations = Normal.of(9 * x.shape[1], 0)
    for part in torch.split(x, BATCH):
        rows = patches(part, draw_places(x, N_PLACES, rng))
        equations.add(rows, rows[:, :0])
    return equations.gram
