"""Frozen features for the audit's probes: what VGG19, which never saw the images, says of them."""

import numpy as np
import torch
from numpy.typing import NDArray

from kneeedge.runs.config import TrainConfig
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.progress import Progress
from kneeedge.training.cpu import use_cpu
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import band_roots
from kneeedge.training.plan import choose_bf16, training_device
from kneeedge.training.weights import check_weights, load_pretrained

BLOCK = 4
"""whose output the features are: with block 5 beside it fewer of the labels that were planted in
knee-kl's training images were found
"""
N_BANDS = 7
"horizontal bands, each two rows of block 4's output: a joint space is a line across"
SIZE = 224
"side of the pictures, pixels; what the ImageNet weights were trained on"
BATCH = 16
SHOWN = len("sha256:") + SHOWN_DIGITS
"characters of what the weights are, as people are shown it"
UNTRAINED = "none"
"weights that are drawn by chance; what they tell apart is texture at most"


class FrozenFeatures:
    """Features of pictures by VGG19 with weights that its user names; nothing is trained.

    `weights` are imagenet, none or a file, as of `kneeedge train`. Raises what `check_weights`
    raises.
    """

    def __init__(self, weights: str, progress: Progress, size: int = SIZE) -> None:
        config = TrainConfig(data="", weights=weights, size=size)
        check_weights(config, progress)
        use_cpu()
        torch.manual_seed(0)  # of weights that are drawn
        model = KneeVGG(config.architecture, 2)
        origin = load_pretrained(model, weights)
        self._model = model.eval().to(memory_format=torch.channels_last)
        self._bf16 = choose_bf16(self._model, config.precision, config.size, progress)
        self._device = training_device()
        self._model.to(self._device)
        self.size = size
        trained = "untrained weights" if origin == UNTRAINED else f"weights {origin[:SHOWN]}"
        precision = "bf16" if self._bf16 else "fp32"
        self.method = (
            f"frozen features of VGG19 ({trained}, {precision}): roots of the channel means of "
            f"block {BLOCK} in {N_BANDS} horizontal bands"
        )

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (N, F) of pictures (N, S, S) uint8."""
        features = [self._features(pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH)]
        return np.concatenate(features)

    def _features(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        model = self._model
        with (
            torch.inference_mode(),
            torch.autocast(self._device, torch.bfloat16, enabled=self._bf16),
        ):
            x = model.normalise(torch.from_numpy(pictures[:, None]).to(self._device))
            activations = model.features[: model.block_start(BLOCK)](x)
        features = band_roots(activations.float(), N_BANDS)
        return np.asarray(features.cpu().numpy(), dtype=np.float32)
