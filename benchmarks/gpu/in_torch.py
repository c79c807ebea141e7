"""The torch part of `benchmarks.gpu`: the matrix-product ceiling, and the network in PyTorch."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from kneeedge.model.spec import ModelSpec
from kneeedge.runs.folder import Run
from kneeedge.training import checkpoint
from kneeedge.training.model import KneeVGG

SIDE = 8192
"of the square matrices: 2 × 8192³ = 1.1e12 operations a product"


def ceiling(dtype: torch.dtype, seconds: float, device: str = "cuda", side: int = SIDE) -> float:
    """Floating-point operations a second of the fastest product of square matrices in `seconds`."""
    torch.backends.cuda.matmul.allow_tf32 = False
    left = torch.randn(side, side, device=device).to(dtype)
    right = torch.randn(side, side, device=device).to(dtype)
    out = left @ right
    best = float("inf")
    start = time.perf_counter()
    wait(device)
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        torch.matmul(left, right, out=out)
        wait(device)
        best = min(best, time.perf_counter() - begin)
    return 2.0 * side**3 / best


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def original(model_folder: Path, spec: ModelSpec) -> tuple[KneeVGG, bool]:
    """The run's PyTorch model, and true; where its weights are not there, random ones, and false.

    The weights stand in the run folder, above the folder of its models.
    """
    run = Run(model_folder.resolve().parent)
    if run.model.is_file():
        model, _ = checkpoint.load_original(run)
        return model, True
    return KneeVGG(spec.architecture, len(spec.classes)).eval(), False


class Network:
    """The original in fp16, channels last, on a device."""

    def __init__(self, model: KneeVGG, device: str = "cuda") -> None:
        # the search that our CUDA sessions do as well
        torch.backends.cudnn.benchmark = True
        self.device = device
        self.model = model.to(device, torch.float16, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of images (N, 1, S, S) uint8 on the device."""
        x = self.model.normalise(images).contiguous(memory_format=torch.channels_last)
        return self.model.head(self.model.upper(x))

    def eager(self, images: np.ndarray) -> Callable[[], torch.Tensor]:
        """A run over images that lie on the device already, waited for."""
        return self._run(self.logits, images)

    def compiled(self, images: np.ndarray) -> Callable[[], torch.Tensor]:
        """A run through `torch.compile`, for this one shape, over images on the device already."""
        return self._run(torch.compile(self.logits, dynamic=False), images)

    def _run(
        self, logits: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray
    ) -> Callable[[], torch.Tensor]:
        on_device = torch.from_numpy(images).to(self.device)

        def run() -> torch.Tensor:
            with torch.inference_mode():
                answer = logits(on_device)
                wait(self.device)
            return answer

        return run
