"""The torch part of `benchmarks.gpu`: the matrix-product ceiling, and the network in eager and
compiled PyTorch.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from kneeedge.model.spec import ModelSpec
from kneeedge.training import checkpoint
from kneeedge.training.model import KneeVGG

SIDE = 8192
"of the square matrices: 2 × 8192³ = 1.1e12 operations a product"


def ceiling(dtype: torch.dtype, seconds: float, device: str = "cuda", side: int = SIDE) -> float:
    """Floating-point operations a second of the fastest product of two square matrices within
    `seconds`.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = a @ b
    best = float("inf")
    start = time.perf_counter()
    wait(device)
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        torch.matmul(a, b, out=out)
        wait(device)
        best = min(best, time.perf_counter() - begin)
    return 2.0 * side**3 / best


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def original(model_folder: Path, spec: ModelSpec) -> tuple[KneeVGG, bool]:
    """The run's PyTorch model where its weights stand above the model folder, else one of random
    weights.
    """
    home = model_folder.resolve().parent
    if (home / "model.safetensors").is_file():
        return checkpoint.load_original(checkpoint.Run(home))[0], True
    return KneeVGG(spec.architecture, len(spec.classes)).eval(), False


class Network:
    """The original in fp16, channels last, on a device."""

    def __init__(self, model: KneeVGG, device: str = "cuda") -> None:
        torch.backends.cudnn.benchmark = True  # the search that our CUDA sessions do as well
        self.device = device
        self.model = model.to(device, torch.float16, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of images (N, 1, S, S) uint8 on the device."""
        x = self.model.normalise(image).contiguous(memory_format=torch.channels_last)
        return self.model.head(self.model.upper(x))

    def eager(self, images: np.ndarray) -> Callable[[], torch.Tensor]:
        """A run over images that lie on the device already, waited for."""
        return self._run(self.logits, images)

    def compiled(self, images: np.ndarray) -> Callable[[], torch.Tensor]:
        """The same through `torch.compile` for this one shape."""
        return self._run(torch.compile(self.logits, dynamic=False), images)

    def _run(
        self, logits: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray
    ) -> Callable[[], torch.Tensor]:
        on_device = torch.from_numpy(images).to(self.device)

        def run() -> torch.Tensor:
            with torch.inference_mode():
                found = logits(on_device)
                wait(self.device)
            return found

        return run
