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
        """A layer's error at a share of its channels, interpolated between logarithms of shares.

        Below the smallest share the last slope goes on.
        """
        x = np.log(self.shares)
        y = np.array(self.errors[layer])
        log_share = np.log(share)
        if log_share < x[0]:
            slope = (y[0] - y[1]) / (x[0] - x[1])
            return float(y[0] + slope * (log_share - x[0]))
        return float(np.interp(log_share, x, y))


@torch.no_grad()
def measure(
    model: KneeVGG, importance: Sequence[NDArray[np.floating]], images: Tensor, progress: Progress
) -> Sensitivity:
    """Narrow each layer to each of SHARES by `importance`, and see what becomes of the logits.

    The next layer is mended by least squares. The mending is what `refit` does; without it a narrow
    layer looks worse than it is going to be. It is fitted on the even ones of the images
    (N, 1, S, S) uint8, and the logits looked at are those of the odd ones.
    """
    shares = (*sorted(SHARES), 1.0)
    chain = links(model)
    errors = []
    x = model.normalise(images)
    with progress.stage("sensitivity of the layers", len(chain)) as stage:
        for i, link in enumerate(chain):
            x = through(link, x)
            later = chain[i + 1 :]
            narrowing = Narrowing(model, later, x[1::2], importance[i])
            gram = gram_of(x[::2]) if later else None
            errors.append(tuple(narrowing.error(share, gram) for share in shares))
            stage.advance()
    return Sensitivity(shares, tuple(errors))


@dataclass(frozen=True)
class Narrowing:
    """One layer, some of whose channels are to go."""

    model: KneeVGG
    later: tuple[Link, ...]
    "the layers behind it; none behind the last, which the head reads"
    x: Tensor
    "(N, C, H, W): its output"
    importance: NDArray[np.floating]
    "(C,)"

    def error(self, share: float, gram: Tensor | None) -> float:
        """Mean square logit change with a share of the channels, over the logits' variance.

        `gram` is that of the layer's output; the last layer needs none.
        """
        n_channels = len(self.importance)
        (kept,) = most_important([self.importance], [max(1, round(share * n_channels))])
        if len(kept) == n_channels:
            return 0.0
        if gram is None:
            logits = self.model.head(self.masked(kept))
        else:
            logits = self.mended(torch.from_numpy(kept), gram)
        mean_square = ((logits - self.expected) ** 2).mean()
        return float(mean_square / self.expected.var(dim=0).mean())

    def answer(self, x: Tensor, chain: Sequence[Link]) -> Tensor:
        """Logits (N, K) of what goes into the layers `chain`."""
        for link in chain:
            x = through(link, x)
        return self.model.head(x)

    @cached_property
    def expected(self) -> Tensor:
        """Logits (N, K) with all channels."""
        return self.answer(self.x, self.later)

    def masked(self, kept: NDArray[np.intp]) -> Tensor:
        """The output with zeros in place of the channels that go."""
        mask = torch.zeros(self.x.shape[1])
        mask[torch.from_numpy(kept)] = 1.0
        return self.x * mask[None, :, None, None]

    def mended(self, kept: Tensor, gram: Tensor) -> Tensor:
        """Logits (N, K) with the channels `kept` alone and the next layer's weights mended."""
        following = self.later[0]
        weight, bias = mend(following.conv, kept, gram)
        outputs = [
            following.tail(F.conv2d(batch[:, kept], weight, bias, padding=1))
            for batch in torch.split(self.x, BATCH)
        ]
        return self.answer(torch.cat(outputs), self.later[1:])


def mend(conv: nn.Conv2d, kept: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (C, n, 3, 3) and bias (C,) that come closest to the convolution's own outputs.

    They read the `kept` (n,) inputs alone. `gram` is that of all inputs, see `gram_of`.
    """
    kept_columns = (kept[:, None] * 9 + torch.arange(9)).flatten()
    bias_column = torch.tensor([9 * conv.in_channels])
    columns = torch.cat([kept_columns, bias_column])
    no_change = torch.zeros(conv.out_channels, 1)
    weight = torch.cat([conv.weight.flatten(1), no_change], dim=1).double()
    inner = gram[columns][:, columns]
    start = weight[:, columns]
    lacking = weight @ gram[:, columns] - start @ inner
    solution = (start + ridge(inner, lacking.T).T).float()
    mended_weight = solution[:, :-1].reshape(conv.out_channels, len(kept), 3, 3)
    return mended_weight, bias_of(conv) + solution[:, -1]


def gram_of(x: Tensor) -> Tensor:
    """(9 C + 1, 9 C + 1): sums of products of 3 × 3 patches of x (N, C, H, W), at places by chance.

    The last row and column are those of a one for the bias.
    """
    rng = np.random.default_rng(0)
    equations = Normal.of(9 * x.shape[1], 0)
    for part in torch.split(x, BATCH):
        rows = patches(part, draw_places(x, N_PLACES, rng))
        equations.add(rows, rows[:, :0])
    return equations.gram
