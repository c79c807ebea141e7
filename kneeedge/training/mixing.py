"""Mixup and CutMix of what the frozen blocks give: each image with another one of its batch."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kneeedge.runs.config import TrainConfig


@dataclass(frozen=True)
class Mixture:
    """How the images of one batch are mixed."""

    partners: Tensor
    "(B,) int64: the image that each is mixed with"
    share: float
    "0 to 1; what an image keeps of itself"
    box: tuple[slice, slice] | None = None
    "rows and columns that are the partner's (CutMix); None: the two are added (mixup)"

    def mixed(self, activations: Tensor) -> Tensor:
        """Activations (B, C, H, W) of the same shape, each with its partner's."""
        partners = activations[self.partners.to(activations.device)]
        if self.box is None:
            return self.share * activations + (1 - self.share) * partners
        rows, columns = self.box
        cut = activations.clone()
        cut[:, :, rows, columns] = partners[:, :, rows, columns]
        return cut

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Mean smoothed cross-entropy of logits (B, K): of both labels (B,), by their shares."""
        own = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        other = F.cross_entropy(logits, self.of_partners(labels), label_smoothing=smoothing)
        return self.share * own + (1 - self.share) * other

    def main_labels(self, labels: Tensor) -> Tensor:
        """The labels (B,) of the larger share of each image."""
        return labels if self.share >= 0.5 else self.of_partners(labels)

    def of_partners(self, labels: Tensor) -> Tensor:
        """The partners' labels (B,)."""
        return labels[self.partners.to(labels.device)]


def draw_mixture(config: TrainConfig, n: int, side: int) -> Mixture | None:
    """The mixture of a batch of `n` images whose activations have `side` rows and columns.

    None where the config asks for none. Drawn from torch's generator of the CPU, which the loop
    seeds for each epoch. The share is Beta(alpha, alpha), as in Zhang et al. 2018 and, for
    activations, Verma et al. 2019; of CutMix it is then that of the box (Yun et al. 2019, section
    3.1), which may reach over the border.
    """
    if not config.mixup and not config.cutmix:
        return None
    is_cut = config.cutmix > 0
    if config.mixup and config.cutmix:
        is_cut = bool(torch.rand(()) < 0.5)
    alpha = torch.tensor(float(config.cutmix if is_cut else config.mixup))
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partners = torch.randperm(n)
    if not is_cut:
        return Mixture(partners, share)
    centre = torch.randint(side, (2,)).tolist()
    rows, columns = (span(place, side, share) for place in centre)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Mixture(partners, 1 - area / side**2, (rows, columns))


def span(centre: int, side: int, share: float) -> slice:
    """One side of a box that leaves about `share` of `side` × `side`, around `centre`."""
    length = round(side * math.sqrt(1 - share))
    start = centre - length // 2
    return slice(max(0, start), min(side, start + length))
