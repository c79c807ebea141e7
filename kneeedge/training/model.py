"""The one VGG builder: torchvision's layers, any channels, either head."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.vgg import make_layers

from kneeedge.model.spec import Architecture

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class KneeVGG(nn.Module):
    """Logits (N, K) for grey images (N, 1, S, S) uint8.

    The first `n_frozen` blocks never change; their activations may be computed once with `lower`
    and given to `forward` in place of the image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, architecture: Architecture, n_classes: int, dropout: float = 0.0, n_frozen: int = 0
    ) -> None:
        super().__init__()
        layers: list[str | int] = []
        for block in architecture.channels:
            layers += [*block, "M"]
        self.features = make_layers(layers, batch_norm=architecture.batch_norm)
        self.gap = architecture.head == "gap"
        self.classifier = self._build_head(architecture.channels[-1][-1], n_classes, dropout)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.upright: nn.Module | None = None
        "what turns inverted images around; absent where they are seen as they are"
        self.apply(_initialise)
        self.n_frozen = n_frozen
        self.n_frozen_layers = self.block_start(n_frozen)
        self.features[: self.n_frozen_layers].requires_grad_(False)

    def forward(self, x: Tensor, mixed: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Logits (N, K) of images (N, 1, S, S) uint8, or of what `lower` made of them.

        `mixed` is what becomes of that before the other blocks see it.
        """
        if x.dtype == torch.uint8:
            x = self.lower(x)
        if mixed is not None:
            x = mixed(x)
        return self.head(self.upper(x))

    def normalise(self, image: Tensor) -> Tensor:
        """(N, 1, S, S) uint8 → (N, 3, S, S) float, by ImageNet's mean and std of pixels / 255.

        Inverted images are turned around first.
        """
        grey = image.to(self.mean.dtype)
        if self.upright is not None:
            grey = self.upright(grey)
        return (grey / 255.0 - self.mean) / self.std

    def lower(self, image: Tensor) -> Tensor:
        """Activations (N, C, H, W) behind the frozen blocks; without any, the normalised image."""
        activations: Tensor = self.features[: self.n_frozen_layers](self.normalise(image))
        return activations

    def upper(self, x: Tensor) -> Tensor:
        """Last features (N, C, S/32, S/32) from what `lower` gives."""
        features: Tensor = self.features[self.n_frozen_layers :](x)
        return features

    def head(self, features: Tensor) -> Tensor:
        """Logits (N, K) of the last features."""
        if self.gap:
            return self.classifier(features.mean(dim=(2, 3)))  # type: ignore[no-any-return]
        pooled = nn.functional.adaptive_avg_pool2d(features, 7)
        return self.classifier(pooled.flatten(1))  # type: ignore[no-any-return]

    def class_map(self, image: Tensor) -> Tensor:
        """Class activation map (N, K, S/32, S/32) of the head `gap`, with the bias in it.

        Its spatial mean is the logits.
        """
        features = self.features(self.normalise(image))
        linear: nn.Linear = self.classifier[-1]  # type: ignore[assignment]
        return nn.functional.conv2d(features, linear.weight[:, :, None, None], linear.bias)

    def train(self, mode: bool = True) -> "KneeVGG":
        """Training mode for all but the frozen blocks, whose batch norm must not move."""
        super().train(mode)
        self.features[: self.n_frozen_layers].eval()
        return self

    def block_start(self, block: int) -> int:
        """Index into `features` of the first layer of `block` (0 to 5)."""
        pools = [i for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        return 0 if block == 0 else pools[block - 1] + 1

    def blocks(self) -> list[nn.Sequential]:
        """The trainable blocks, lowest first."""
        starts = [self.block_start(i) for i in range(6)]
        return [
            self.features[start:end]
            for start, end in itertools.pairwise(starts)
            if start >= self.n_frozen_layers
        ]

    def _build_head(self, n_features: int, n_classes: int, dropout: float) -> nn.Sequential:
        if self.gap:
            return nn.Sequential(nn.Dropout(dropout), nn.Linear(n_features, n_classes))
        hidden = 8 * n_features  # 4,096 = 8 × 512
        return nn.Sequential(
            nn.Linear(n_features * 49, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_classes),
        )


def _initialise(module: nn.Module) -> None:
    """Torchvision's own initialisation of VGG (He et al. 2015, fan out, for the convolutions)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01)
        nn.init.zeros_(module.bias)
