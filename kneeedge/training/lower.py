"""How the frozen lower blocks are computed: in fp32 or bf16 by PyTorch, in int8 by ONNX Runtime."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kneeedge.data.dataset import Dataset
from kneeedge.errors import CheckpointError
from kneeedge.runs.config import TrainConfig
from kneeedge.system import machine
from kneeedge.system.progress import Progress
from kneeedge.training.model import KneeVGG

if TYPE_CHECKING:
    import onnxruntime

FP32, BF16, INT8 = "fp32", "bf16", "int8"
BYTES = {FP32: 4, BF16: 2, INT8: 1}
"of one stored activation"
ACTIVATIONS = "activations"
"the one output of an int8 file of the lower blocks: (N, C, H, W) uint8"
SCALE = "scale"
"metadata of such a file: what one step of its output is worth"

N_AT_ONCE = 4
"images of which PyTorch holds the large activations of the first blocks"

MakeInt8 = Callable[[KneeVGG, Dataset, TrainConfig, Progress], bytes]
"the ONNX file of a network's frozen blocks in int8, with ranges of training images"


class LowerBlocks(Protocol):
    """The frozen blocks, as the cache of activations asks for them."""

    @property
    def precision(self) -> str:
        """fp32, bf16 or int8."""

    @property
    def scale(self) -> float:
        """What a stored number is multiplied by to be an activation; 1 where it is one."""

    def rows(self, images: Tensor) -> NDArray[np.generic]:
        """Stored activations (N, H, W, C) of images (N, 1, S, S) uint8.

        float32, the bits of bfloat16 as int16, or steps as uint8.
        """


@dataclass(frozen=True)
class TorchBlocks:
    """In fp32 or bf16, where the network stands."""

    model: KneeVGG
    bf16: bool
    scale: float = 1.0

    @property
    def precision(self) -> str:
        return BF16 if self.bf16 else FP32

    def rows(self, images: Tensor) -> NDArray[np.generic]:
        device = self.model.mean.device
        in_bf16 = torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)
        with torch.inference_mode(), in_bf16:
            parts = [self.model.lower(part.to(device)) for part in torch.split(images, N_AT_ONCE)]
        activations = torch.cat(parts)
        rows = activations.permute(0, 2, 3, 1).contiguous()
        if rows.dtype == torch.bfloat16:
            rows = rows.view(torch.int16)
        return rows.cpu().numpy()


@dataclass(frozen=True)
class Int8Blocks:
    """By ONNX Runtime on the CPU."""

    session: "onnxruntime.InferenceSession"
    scale: float
    file: bytes
    "ONNX, as a `MakeInt8` made it"
    precision: str = INT8

    def rows(self, images: Tensor) -> NDArray[np.generic]:
        (activations,) = self.session.run([ACTIVATIONS], {"image": images.numpy()})
        return np.asarray(activations.transpose(0, 2, 3, 1))


def open_int8(file: bytes, n_threads: int | None = None) -> Int8Blocks:
    """The lower blocks in a file that a `MakeInt8` made; by default with a thread for each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads or machine.available_cpus()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    scale = session.get_modelmeta().custom_metadata_map[SCALE]
    return Int8Blocks(session, float(scale), file)


def read_int8(path: Path, n_threads: int | None = None) -> Int8Blocks:
    """The lower blocks in the file `path`; raises CheckpointError where they are not."""
    try:
        return open_int8(path.read_bytes(), n_threads)
    except Exception as error:  # ONNX Runtime's have no common class but this one
        problem = f"it holds no lower blocks in int8 ({error})"
        raise CheckpointError(path, problem, "train the run again") from error


def seconds_a_view(lower: LowerBlocks, size: int) -> float:
    """Time of one view of `size` pixels' side through the lower blocks."""
    return seconds_an_image(lower.rows, size)


def seconds_an_image(
    work: Callable[[Tensor], object], size: int, longest: float | None = None
) -> float:
    """Time of one image in `work`, which takes (N, 1, `size`, `size`) uint8: best of four runs.

    Where each of two runs of one image takes more than `longest` seconds, it is the better of them.
    """

    def run(n_images: int) -> float:
        images = torch.zeros(n_images, 1, size, size, dtype=torch.uint8)
        start = time.perf_counter()
        work(images)
        return (time.perf_counter() - start) / n_images

    if longest is not None:
        first = min(run(1), run(1))
        if first > longest:
            return first
    return min(run(N_AT_ONCE) for _ in range(4))
