"""What a run's network and the pixels alone say of images: the features that refusals can rest on.

Each set of images goes through the network once; what it gives is kept in a folder of caches.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks.novelty.texture import texture, tone
from kneeedge.model.polarity import Polarity
from kneeedge.runs.config import N_BLOCKS
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import band_roots, block_outputs
from kneeedge.training.plan import training_device
from kneeedge.training.polarity import Upright
from kneeedge.training.score import in_full_fp32

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]
BATCH = 8
ROWS_OF = 4
"the block whose rows are kept"


@dataclass(frozen=True, kw_only=True)
class Features:
    """Of N images, in order."""

    logits: Array
    "(N, K)"
    last: Array
    "(N, C) means of the last features, which the head reads"
    block1: Array
    "(N, 3 C) roots of the band means behind a block"
    block2: Array
    block3: Array
    block4: Array
    block5: Array
    rows4: Array
    "(N, R C) means of the rows behind block 4, of which bands are made"
    texture: Array
    "(N, T) of the pixels alone"
    tone: Array

    def block(self, number: int) -> Array:
        values: Array = getattr(self, f"block{number}")
        return values

    def take(self, rows: NDArray[np.integer]) -> "Features":
        return Features(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


class Network(Protocol):
    """What gives the features of a batch of inputs (S, S) uint8, in the order of their fields."""

    def features(self, batch: Sequence[Pixels]) -> list[Array]: ...


class OriginalNetwork:
    """A run's own network in PyTorch, on a GPU where there is one."""

    def __init__(self, model: KneeVGG) -> None:
        self.model = model.to(training_device())

    def features(self, batch: Sequence[Pixels]) -> list[Array]:
        with torch.inference_mode(), in_full_fp32():
            images = torch.from_numpy(np.stack(batch)[:, None]).to(self.model.mean.device)
            outputs = block_outputs(self.model, images, N_BLOCKS)
            last = outputs[max(outputs)]
            logits = self.model.head(last)
            roots = [band_roots(outputs[number]) for number in sorted(outputs) if number]
            grey = images.float()
            grey = (self.model.upright(grey) if self.model.upright else grey) / 255.0
            rows = outputs[ROWS_OF].mean(dim=3).transpose(1, 2).flatten(1)
            found = [logits, last.mean(dim=(2, 3)), *roots, rows, texture(grey), tone(grey)]
            return [values.cpu().numpy() for values in found]


class ExportedNetwork:
    """An exported file that also gives what stands behind each of its blocks."""

    def __init__(self, path: Path, polarity: Polarity | None, threads: int = 1) -> None:
        self.upright = Upright(polarity) if polarity else None
        model = onnx.load(path)
        del model.graph.value_info[:]
        pools = [node.output[0] for node in model.graph.node if node.op_type == "MaxPool"]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in pools)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        content = model.SerializeToString()
        self.session = onnxruntime.InferenceSession(content, options, providers=providers)
        self.names = ["logits", *pools]

    def features(self, batch: Sequence[Pixels]) -> list[Array]:
        grey = torch.from_numpy(np.stack(batch)[:, None]).float()
        if self.upright:
            grey = self.upright(grey)
        logits, *blocks = self.session.run(self.names, {"image": grey.byte().numpy()})
        grey /= 255.0
        roots = [band_roots(torch.from_numpy(block)).numpy() for block in blocks]
        last = blocks[-1].mean(axis=(2, 3))
        rows = blocks[ROWS_OF - 1].mean(axis=3).transpose(0, 2, 1).reshape(len(batch), -1)
        return [logits, last, *roots, rows, texture(grey).numpy(), tone(grey).numpy()]


def extract(network: Network, images: Iterable[Pixels]) -> Features:
    """The features of inputs (S, S) uint8."""
    parts: list[list[Array]] = []
    batch: list[Pixels] = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            parts.append(network.features(batch))
            batch = []
    if batch:
        parts.append(network.features(batch))
    names = [field.name for field in fields(Features)]
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return Features(**dict(zip(names, joined, strict=True)))


def cached(
    folder: Path, name: str, network: Network, draw: Callable[[], Iterable[Pixels]]
) -> Features:
    """The features of the set `name`, from `folder` where they are there."""
    path = folder / f"{name}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            return Features(**{field.name: arrays[field.name] for field in fields(Features)})
    features = extract(network, draw())
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{field.name: getattr(features, field.name) for field in fields(features)})
    return features
