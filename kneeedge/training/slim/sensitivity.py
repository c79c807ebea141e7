"""What the answers lose where one layer alone is narrowed: measured, not assumed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kneeedge.progress import Progress
from kneeedge.training.model import KneeVGG
from kneeedge.training.slim.chain import Link, links, most_important
from kneeedge.training.slim.refit import RIDGE, patches, through

SHARES = (0.75, 0.5, 0.375, 0.25, 0.125)
"of a layer's channels, at which its loss is measured; between them it is interpolated"
N_PLACES = 12_000


@dataclass(frozen=True)
class Sensitivity:
    """The logit error of narrowing each layer alone."""

    shares: tuple[float, ...]
    "of the layer's channels, rising, 1 the last"
    errors: tuple[tuple[float, ...], ...]
    "for each layer and share: mean square logit change, as a share of the logits' variance"

    def error(self, layer: int, share: float) -> float:
        """Interpolated on a logarithmic scale of shares; below the smallest share the last slope goes on."""
        x, y = np.log(self.shares), np.array(self.errors[layer])
        wanted = np.log(share)
        if wanted < x[0]:
            return float(y[0] + (y[0] - y[1]) / (x[0] - x[1]) * (wanted - x[0]))
        return float(np.interp(wanted, x, y))


@torch.no_grad()
def measure(
    model: KneeVGG, importance: Sequence[NDArray[np.floating]], images: Tensor, progress: Progress
) -> Sensitivity:
    """Narrow each layer to each of SHARES by `importance`, mend the next by least squares, and look at the logits.

    The mending is what `refit` does; without it a narrow layer looks worse than it is going to be.
    """
    shares = (*sorted(SHARES), 1.0)
    chain = links(model)
    errors = []
    x = model.normalise(images)
    with progress.stage("sensitivity of the layers", len(chain)) as stage:
        for i, link in enumerate(chain):
            after = through(link, x)
            following = chain[i + 1] if i + 1 < len(chain) else None
            errors.append(tuple(_errors(model, chain[i + 2 :], following, importance[i], after, shares)))
            x = after
            stage.advance()
    return Sensitivity(shares, tuple(errors))


def _errors(
    model: KneeVGG, rest: Sequence[Link], following: Link | None, importance: NDArray[np.floating], x: Tensor,
    shares: Sequence[float],
) -> list[float]:  # fmt: skip
    if following is None:  # the head reads the last layer, and its mending is a matter of a few numbers
        expected = model.head(x)
        return [_change(model.head(_masked(x, importance, share)), expected) for share in shares]
    gram = _gram(x, np.random.default_rng(0))
    expected = None
    found = []
    for share in reversed(shares):
        (kept,) = most_important([importance], [max(1, round(share * len(importance)))])
        logits = _answer(model, following, rest, x, gram, torch.from_numpy(kept))
        expected = logits if expected is None else expected
        found.append(_change(logits, expected))
    return found[::-1]


def _answer(
    model: KneeVGG, following: Link, rest: Sequence[Link], x: Tensor, gram: Tensor, kept: Tensor
) -> Tensor:
    """Logits (N, K) with the channels `kept` of x (N, C, H, W) alone, the next layer's weights mended."""
    weight, conv = following.conv.weight, following.conv
    n_channels = weight.shape[1]
    if len(kept) == n_channels:
        mended, bias = weight, conv.bias
    else:
        columns = (kept[:, None] * 9 + torch.arange(9)).flatten()
        with_one = torch.cat([columns, torch.tensor([n_channels * 9])])
        flat = torch.cat([weight.flatten(1), torch.zeros(len(weight), 1)], dim=1).double()
        inner = gram[with_one][:, with_one]
        start = flat[:, with_one]
        lacking = flat @ gram[:, with_one] - start @ inner
        pull = RIDGE * float(inner.diagonal().mean()) * torch.eye(len(inner), dtype=torch.float64)
        solution = (start + torch.linalg.solve(inner + pull, lacking.T).T).float()
        mended = solution[:, :-1].reshape(len(weight), len(kept), 3, 3)
        bias = conv.bias + solution[:, -1]  # type: ignore[operator]
    parts = []
    for part in x.split(8):
        y = following.rest(F.conv2d(part[:, kept], mended, bias, padding=1))
        for link in rest:
            y = link.forward(y)
        parts.append(model.head(y))
    return torch.cat(parts)


def _gram(x: Tensor, rng: np.random.Generator) -> Tensor:
    """(9 C + 1, 9 C + 1): sums of products of 3 × 3 patches, with a one for the bias, at places drawn by chance."""
    side = x.shape[-1] * x.shape[-2]
    n_places = min(side, -(-N_PLACES // len(x)))
    size = 9 * x.shape[1] + 1
    gram = torch.zeros(size, size, dtype=torch.float64)
    for part in x.split(8):
        places = torch.from_numpy(np.sort(rng.permutation(side)[:n_places]))
        rows = patches(part, places)
        rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
        gram += (rows.T @ rows).double()
    return gram


def _masked(x: Tensor, importance: NDArray[np.floating], share: float) -> Tensor:
    (kept,) = most_important([importance], [max(1, round(share * len(importance)))])
    mask = torch.zeros(x.shape[1])
    mask[torch.from_numpy(kept)] = 1.0
    return x * mask[None, :, None, None]


def _change(logits: Tensor, expected: Tensor) -> float:
    """Mean square change of the margin, as a share of its variance."""
    return float(((logits - expected) ** 2).mean() / expected.var(dim=0).mean())
