"""The one VGG builder: torchvision's layers, any channels, either head, ImageNet or own weights."""

import itertools
import warnings
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights
from torchvision.models.vgg import make_layers

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.model.spec import Architecture
from kneeedge.system.files import file_sha256

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
        self.apply(_initialise)
        self.n_frozen_layers = self.block_start(n_frozen)
        self.features[: self.n_frozen_layers].requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of images (N, 1, S, S) uint8, or of what `lower` made of them."""
        if x.dtype == torch.uint8:
            x = self.lower(x)
        return self.head(self.upper(x))

    def normalise(self, image: Tensor) -> Tensor:
        """(N, 1, S, S) uint8 → (N, 3, S, S) float, by ImageNet's mean and std of pixels / 255."""
        return (image.to(self.mean.dtype) / 255.0 - self.mean) / self.std

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


def load_pretrained(model: KneeVGG, weights: str) -> str:
    """Load `weights` (imagenet, none or a file) into all but the last layer.

    The convolutions must all be there; the fully connected layers of the classifier head are taken
    where they are. Returns what to record as the weights' origin. Raises CheckpointError for
    weights that do not fit.
    """
    if weights == "none":
        return "none"
    state = _imagenet() if weights == "imagenet" else _read_state(Path(weights))
    own = model.state_dict()
    last_layer = list(own)[-2].rpartition(".")[0]
    wanted = {name: tensor for name, tensor in own.items() if not name.startswith(last_layer)}
    _check_fit(weights, state, wanted)
    taken = {name: state[name].float() for name in wanted if name in state}
    model.load_state_dict(taken, strict=False)
    return "imagenet" if weights == "imagenet" else f"sha256:{file_sha256(Path(weights))}"


def _check_fit(weights: str, state: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name in sorted(wanted):
        if name.startswith("features.") and name not in state:
            remedy = "give VGG19 weights with torchvision's key names"
            raise CheckpointError(weights, f"it lacks {name}", remedy)
    for name in sorted(wanted.keys() & state.keys()):
        shape = tuple(state[name].shape)
        wanted_shape = tuple(wanted[name].shape)
        if shape != wanted_shape:
            problem = f"{name} is {shape}, the model's {wanted_shape}"
            remedy = "use --width 1 without batch norm, or --weights none"
            raise CheckpointError(weights, problem, remedy)


def _imagenet() -> dict[str, Tensor]:
    enum = VGG19_Weights.IMAGENET1K_V1
    options = {"progress": False, "check_hash": True, "weights_only": True}
    try:
        with warnings.catch_warnings():
            # torch wonders at pickles of other protocols.
            warnings.simplefilter("ignore", UserWarning)
            state: dict[str, Tensor] = enum.get_state_dict(**options)
    except UnpicklingError as error:  # torch refuses whatever but tensors; no code in it has run
        problem = "the file in the cache is not torchvision's"
        remedy = (
            "remove it from torch's cache (TORCH_HOME, else ~/.cache/torch), "
            "and give the command again"
        )
        raise CheckpointError(Path(enum.url).name, problem, remedy) from error
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: the file's hash is wrong
        remedy = (
            "fetch it where there is a network and give it with --weights FILE, "
            "or use --weights none"
        )
        raise CheckpointError(enum.url, f"cannot be downloaded ({error})", remedy) from error
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        remedy = "give imagenet, none, or a safetensors file"
        raise NotFoundError(f"{path}: no such weights file", remedy)
    try:
        return load_file(path)
    except SafetensorError as error:
        remedy = "save the state dict with `safetensors.torch.save_file`; pickles are not read"
        raise CheckpointError(path, f"it is no safetensors file ({error})", remedy) from error


def _initialise(module: nn.Module) -> None:
    """Torchvision's own initialisation of VGG (He et al. 2015, fan out, for the convolutions)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01)
        nn.init.zeros_(module.bias)
