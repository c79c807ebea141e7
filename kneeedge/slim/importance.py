"""How much each channel moves the answer: first-order Taylor importance on training images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kneeedge.slim.chain import links
from kneeedge.system.progress import Progress
from kneeedge.training.model import KneeVGG

BATCH = 8


def channel_importance(
    model: KneeVGG, images: Tensor, progress: Progress
) -> list[NDArray[np.float64]]:
    """For each convolution the importance (C,) of its channels from images (N, 1, S, S) uint8.

    Molchanov et al. 2017 (ICLR, "Pruning convolutional neural networks for resource efficient
    inference", eq. 8): the sum over a channel of activation × gradient is the change of the output
    were the channel zero, to first order. The output is here not the loss, whose gradient has
    vanished on images that were trained on, but the margin between the answer's logit and the
    others'; its square is averaged over the images.
    """
    batches = []
    with progress.stage("importance of the channels", len(images)) as stage:
        for batch in torch.split(images, BATCH):
            products = _products(model, batch)
            batches.append([(layer.double() ** 2).sum(dim=0).numpy() for layer in products])
            stage.advance(len(batch))
    return [np.sum(layer, axis=0) / len(images) for layer in zip(*batches, strict=True)]


def _products(model: KneeVGG, images: Tensor) -> list[Tensor]:
    """Activation × gradient of the margin, summed over a channel: (N, C) for each convolution."""
    activations: list[Tensor] = []
    x = model.normalise(images)
    for link in links(model):
        x = link.conv(x).relu()
        x.requires_grad_(True)
        activations.append(x)
        pooling = link.tail[1:]
        x = pooling(x)
    margins = margin(model.head(x))
    gradients = torch.autograd.grad(margins.sum(), activations)
    products = []
    for activation, gradient in zip(activations, gradients, strict=True):
        products.append((activation.detach() * gradient).sum(dim=(2, 3)))
    return products


def margin(logits: Tensor) -> Tensor:
    """The largest logit less the log-sum-exp of the others: (N,) from (N, K)."""
    top = logits.argmax(dim=1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf)
    return logits.gather(1, top).squeeze(1) - others.logsumexp(dim=1)
