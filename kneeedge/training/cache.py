"""The frozen blocks' activations: computed once for every view, kept on the disk, trained on."""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kneeedge.data.dataset import Sample
from kneeedge.errors import CheckpointError
from kneeedge.model.spec import PixelPath
from kneeedge.runs.config import TrainConfig
from kneeedge.system.files import write_text
from kneeedge.system.progress import Progress
from kneeedge.system.ranks import Rank
from kneeedge.training.data import (
    Batch,
    eval_rows,
    labels_of,
    next_views,
    own_rows,
    sample_view,
    shuffled,
)
from kneeedge.training.lower import BYTES, LowerBlocks
from kneeedge.training.model import KneeVGG
from kneeedge.training.team import ALONE, Team
from kneeedge.training.views import View, load_views


@dataclass(frozen=True)
class ActivationStore:
    """The frozen blocks' activations of fixed views, memory-mapped from disk.

    Runs on other splits of the images may share it.
    """

    rows: NDArray[np.generic]
    "(views of all images, H, W, C): float32, bfloat16 bits as int16, or steps as uint8"
    first_row: dict[str, int]
    "row of an image's view 0, the image itself, by name; its further views follow"
    n_views: dict[str, int]
    "views of each image, by name"
    scale: float = 1.0
    "what a stored number is multiplied by"

    def rows_of(self, samples: Sequence[Sample]) -> NDArray[np.int64]:
        """The rows (N,) of the samples' own images."""
        return np.array([self.first_row[sample.name] for sample in samples], dtype=np.int64)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Activations (N, C, H, W) of rows (N,)."""
        return as_activations(self.rows[rows], self.scale)

    def batches(
        self,
        train: Sequence[Sample],
        val: Sequence[Sample],
        config: TrainConfig,
        rank: Rank = ALONE,
    ) -> "CachedBatches":
        """What a run on these splits trains on; each training image needs as many views."""
        (n_views,) = {self.n_views[sample.name] for sample in train}
        return CachedBatches(
            store=self,
            n_views=n_views,
            train_rows=self.rows_of(train),
            val_rows=self.rows_of(val),
            train_labels=labels_of(train),
            val_labels=labels_of(val),
            config=config,
            rank=rank,
        )


@dataclass(frozen=True, kw_only=True)
class CachedBatches:
    """Every epoch sees the next of the stored views of each training image."""

    store: ActivationStore
    n_views: int
    train_rows: NDArray[np.int64]
    "(N,): rows of the training images themselves"
    val_rows: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    val_labels: NDArray[np.int64]
    config: TrainConfig
    rank: Rank

    @property
    def batch_sizes(self) -> list[int]:
        return list(map(len, shuffled(self.config, len(self.train_labels), 0)))

    def train(self, epoch: int) -> Iterator[Batch]:
        for batch, views in next_views(self.config, len(self.train_rows), self.n_views, epoch):
            own = own_rows(self.rank, len(batch))
            rows = self.train_rows[batch[own]] + views[own]
            yield self.store.read(rows), torch.from_numpy(self.train_labels[batch[own]])

    def val(self) -> Iterator[Batch]:
        for places in eval_rows(self.rank, len(self.val_labels)):
            rows = self.val_rows[places.start : places.stop]
            labels = self.val_labels[places.start : places.stop]
            yield self.store.read(rows), torch.from_numpy(labels)


def as_activations(stored: NDArray[np.generic], scale: float = 1.0) -> Tensor:
    """Activations (N, C, H, W) channels-last from stored (N, H, W, C): see `LowerBlocks.rows`."""
    activations = torch.from_numpy(np.array(stored))  # a copy: the file is mapped read-only
    if activations.dtype == torch.int16:
        activations = activations.view(torch.bfloat16)
    elif activations.dtype == torch.uint8:
        activations = activations * scale
    return activations.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class CachePlan:
    """How many views fit the disk budget, and what they take."""

    n_views: int
    gigabytes: float
    bytes_a_view: int


def plan_cache(
    model: KneeVGG, n_train: int, n_val: int, config: TrainConfig, precision: str
) -> CachePlan:
    """The most views, up to `config.views`, whose activations fit `config.cache_gb`; 0 for none."""
    with torch.inference_mode():
        probe = model.lower(torch.zeros(1, 1, config.size, config.size, dtype=torch.uint8))
    bytes_a_view = math.prod(probe.shape) * BYTES[precision]
    fitting = int((config.cache_gb * 1e9 / bytes_a_view - n_val) // n_train)
    n_views = max(0, min(config.views, fitting))
    return CachePlan(n_views, (n_train * n_views + n_val) * bytes_a_view / 1e9, bytes_a_view)


def cache_activations(
    model: KneeVGG,
    lower: LowerBlocks,
    n_views: Mapping[Sample, int],
    config: TrainConfig,
    folder: Path,
    progress: Progress,
    team: Team = ALONE,
) -> ActivationStore:
    """Compute (or take up again) the activations of the first `n_views` views of each sample.

    `lower` computes the frozen blocks of `model`. Each image stands in `n_views` as one sample. The
    activations stand in `folder` until `drop_cache`; a cache that was not finished, or was made
    with other settings or of other images, is made again. Of several processes each computes its
    part of the one cache.
    """
    key = _cache_key(model, lower, n_views, config)
    complete = folder / "complete.json"
    path = folder / "views.npy"
    if not team.first_says(complete.is_file() and complete.read_text() == key):
        jobs = [
            (sample, sample_view(sample, config, k))
            for sample, count in n_views.items()
            for k in range(count)
        ]
        if team.is_first:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True)  # pictures of patients, though not as pixels
            _reserve(lower, len(jobs), path, config.size)
        team.wait()
        with progress.timed("frozen blocks"):
            _compute(_Part(jobs, team, config.pixel_path), lower, path, progress)
        team.wait()
        if team.is_first:
            write_text(complete, key)
    first_row: dict[str, int] = {}
    n_rows = 0
    for sample, count in n_views.items():
        first_row[sample.name] = n_rows
        n_rows += count
    counts = {sample.name: count for sample, count in n_views.items()}
    return ActivationStore(open_cache(path), first_row, counts, lower.scale)


def open_cache(path: Path) -> NDArray[Any]:
    """The activations in `path`, left on the disk; raises CheckpointError where they are none."""
    try:
        # Objects, which are pickles, are refused.
        stored: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError) as error:
        remedy = f"remove {path.parent}; it is computed again"
        raise CheckpointError(path, "it is no array of activations", remedy) from error
    return stored


def views_wanted(
    train: Sequence[Sample], plain: Sequence[Sample], n_views: int
) -> dict[Sample, int]:
    """How many views of each image to cache: `n_views` in training, else the image itself."""
    wanted = {sample.name: (sample, 1) for sample in plain}
    wanted |= {sample.name: (sample, n_views) for sample in train}
    return dict(wanted.values())


def _cache_key(
    model: KneeVGG, lower: LowerBlocks, n_views: Mapping[Sample, int], config: TrainConfig
) -> str:
    """JSON of all that the activations depend on."""
    rows = [f"{sample.name}\0{sample.sha256}\0{count}" for sample, count in n_views.items()]
    images = hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape"))
    views = [config.seed, config.rotation, config.flip, config.size, config.fit]
    views += config.corrupted_by
    network = [config.weights, config.channels, config.batch_norm, model.n_frozen_layers]
    return json.dumps([*views, *network, lower.precision, lower.scale, images.hexdigest()])


def drop_cache(folder: Path) -> None:
    """Give the disk back."""
    if folder.is_dir():
        shutil.rmtree(folder)


def _reserve(lower: LowerBlocks, n_rows: int, path: Path, size: int) -> None:
    """A file of `n_rows` rows for the activations of images of `size` pixels' side."""
    row = lower.rows(torch.zeros(1, 1, size, size, dtype=torch.uint8))
    shape = (n_rows, *row.shape[1:])
    np.lib.format.open_memmap(path, mode="w+", dtype=row.dtype, shape=shape).flush()


@dataclass(frozen=True)
class _Part:
    """A process's part of the views that are to be computed."""

    jobs: Sequence[tuple[Sample, View]]
    "of all processes"
    rank: Rank
    pixel_path: PixelPath

    @property
    def rows(self) -> list[range]:
        """What is computed at a time: the same views together, however many the processes are."""
        return eval_rows(self.rank, len(self.jobs))

    def images(self, rows: range) -> Tensor:
        """Their inputs (N, 1, S, S) uint8."""
        jobs = self.jobs[rows.start : rows.stop]
        return torch.from_numpy(np.stack(load_views(jobs, self.pixel_path))[:, None])


def _compute(part: _Part, lower: LowerBlocks, path: Path, progress: Progress) -> None:
    stored = np.lib.format.open_memmap(path, mode="r+")
    with progress.stage("frozen blocks", sum(map(len, part.rows))) as stage:
        for rows, images in _read_ahead(part):
            stored[rows.start : rows.stop] = lower.rows(images)
            stage.advance(len(rows))
    stored.flush()


def _read_ahead(part: _Part) -> Iterator[tuple[range, Tensor]]:
    """The part's rows and their images; the next are read while the network is at these."""
    with ThreadPoolExecutor(1) as reader:
        coming = [reader.submit(part.images, rows) for rows in part.rows[:1]]
        for i, rows in enumerate(part.rows):
            images = coming.pop().result()
            coming += [reader.submit(part.images, later) for later in part.rows[i + 1 : i + 2]]
            yield rows, images
