"""What the original answers to the views that the narrower network learns from, kept on disk: its class maps."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kneeedge.dataset import Sample
from kneeedge.progress import Progress
from kneeedge.spec import PixelPath
from kneeedge.training.config import TrainConfig
from kneeedge.training.data import next_views, open_cache, sample_view
from kneeedge.training.model import KneeVGG
from kneeedge.training.slim.chain import head
from kneeedge.training.views import load_view

BATCH = 16
Answer = tuple[Tensor, Tensor]
"the original's class maps (B, K, h, w) and labels (B,)"


@dataclass(frozen=True)
class Targets:
    """Views of the training images with the original's class maps for them."""

    images: NDArray[np.uint8]
    "(N, V, S, S): the network's inputs"
    maps: NDArray[np.float32]
    "(N, V, K, S/32, S/32)"
    labels: NDArray[np.int64]
    "(N,)"

    def batches(self, config: TrainConfig, epoch: int) -> Iterator[tuple[Tensor, Answer]]:
        """Each image once, in its next view: inputs (B, 1, S, S) uint8, and what they are to be answered."""
        n_images, n_views = self.images.shape[:2]
        for rows, views in next_views(config, n_images, n_views, epoch):
            maps = torch.from_numpy(np.array(self.maps[rows, views]))
            yield torch.from_numpy(self.images[rows, views][:, None]), (maps, torch.from_numpy(self.labels[rows]))


def compute_targets(
    model: KneeVGG, samples: Sequence[Sample], n_views: int, config: TrainConfig, folder: Path, progress: Progress
) -> Targets:
    """Ask the original about the first `n_views` views of each sample, or take up what was asked for already.

    The maps stand in `folder`; a stopped computation goes on where it stopped. The images are read anew: 50 KB a view.
    """
    pixel_path = PixelPath(config.size, config.fit)
    jobs = [(sample, k) for sample in samples for k in range(n_views)]
    images = np.empty((len(jobs), config.size, config.size), dtype=np.uint8)
    maps, done = _open(model, jobs, config, folder)
    with progress.stage("the original's answers", len(jobs)) as stage:
        for i in range(0, len(jobs), BATCH):
            part = jobs[i : i + BATCH]
            rows = slice(i, i + len(part))
            images[rows] = [load_view(sample, sample_view(sample, config, k), pixel_path) for sample, k in part]
            if i >= done:
                with torch.inference_mode():
                    maps[rows] = (
                        model.class_map(torch.from_numpy(images[rows][:, None]).to(model.mean.device)).cpu().numpy()
                    )
                maps.flush()  # type: ignore[attr-defined]
                (folder / "done").write_text(str(i + len(part)), encoding="utf-8")
            stage.advance(len(part))
    shape = (len(samples), n_views)
    labels = np.array([sample.label for sample in samples], dtype=np.int64)
    return Targets(images.reshape(*shape, *images.shape[1:]), maps.reshape(*shape, *maps.shape[1:]), labels)


def _open(
    model: KneeVGG, jobs: Sequence[tuple[Sample, int]], config: TrainConfig, folder: Path
) -> tuple[NDArray[np.float32], int]:
    """The array of maps, and how many of its rows are there already."""
    key = _key(model, jobs, config)
    path, done = folder / "maps.npy", folder / "done"
    if (folder / "key.json").is_file() and (folder / "key.json").read_text() == key and done.is_file():
        open_cache(path)  # refuses what is no array
        return np.lib.format.open_memmap(path, mode="r+"), int(done.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    side = config.size // 32
    shape = (len(jobs), head(model).out_features, side, side)
    maps = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    (folder / "key.json").write_text(key, encoding="utf-8")
    return maps, 0


def _key(model: KneeVGG, jobs: Sequence[tuple[Sample, int]], config: TrainConfig) -> str:
    """JSON of all that the maps depend on."""
    weights = hashlib.sha256()
    for tensor in model.state_dict().values():
        weights.update(tensor.cpu().contiguous().numpy().tobytes())
    rows = hashlib.sha256("\n".join(f"{s.sha256}\0{k}" for s, k in jobs).encode())
    how = [config.seed, config.rotation, config.flip, config.size, config.fit]
    return json.dumps([*how, weights.hexdigest(), rows.hexdigest()])
