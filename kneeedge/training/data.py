"""Batches for training: what an epoch goes through, and in which parts; straight from the files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from kneeedge.data.dataset import Sample
from kneeedge.model.spec import PixelPath
from kneeedge.runs.config import TrainConfig
from kneeedge.system.ranks import Rank
from kneeedge.training.team import ALONE
from kneeedge.training.views import View, load_view, view_of

Batch = tuple[Tensor, Tensor]
EVAL_BATCH = 32


class Batches(Protocol):
    """What the loop trains on; of several processes each has its part of every batch."""

    @property
    def batch_sizes(self) -> list[int]:
        """Images of each batch of an epoch, those of all processes together."""

    @property
    def val_labels(self) -> NDArray[np.int64]:
        """(N,): of all validation images."""

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Any]]:
        """The training images once, shuffled by (seed, epoch): inputs of `KneeVGG`, and targets.

        Targets are what the objective needs: labels (B,) int64 where it does not say otherwise.
        Of a batch with fewer images than processes, some have the first one for a stand-in.
        """

    def val(self) -> Iterator[Batch]:
        """The process's batches of the validation images, `eval_rows` of them."""


def own_rows(rank: Rank, n: int) -> slice:
    """The process's own of a batch of `n`; the first, as a stand-in, where it has none."""
    part = rank.part(n)
    return part if part.start < part.stop else slice(0, 1)


def eval_rows(rank: Rank, n: int) -> list[range]:
    """The process's own batches of `n` images that are looked at; the processes take turns."""
    starts = range(rank.number * EVAL_BATCH, n, rank.size * EVAL_BATCH)
    return [range(start, min(start + EVAL_BATCH, n)) for start in starts]


def shuffled(config: TrainConfig, n: int, epoch: int) -> list[NDArray[np.int64]]:
    """Index batches of one epoch, in an order drawn from (seed, epoch).

    A last batch of one image joins the one before: batch norm needs two.
    """
    order = np.random.default_rng([config.seed, epoch, 1]).permutation(n)
    batches = [order[i : i + config.batch_size] for i in range(0, n, config.batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def next_views(
    config: TrainConfig, n_images: int, n_views: int, epoch: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Index batches of one epoch with the view of each image: the one after the last epoch's.

    The view of an image's first epoch is drawn by chance.
    """
    rng = np.random.default_rng([config.seed, 2])
    first: NDArray[np.int64] = rng.integers(0, n_views, size=(n_images,))
    for batch in shuffled(config, n_images, epoch):
        yield batch, (first[batch] + epoch) % n_views


def sample_view(sample: Sample, config: TrainConfig, k: int) -> View:
    """View `k` of a sample, drawn from (seed, its bytes, k): the same in every split and fold."""
    return view_of(config, int(sample.short_hash, 16), k)


@dataclass(frozen=True)
class _Views(torch.utils.data.Dataset[tuple[NDArray[np.uint8], int]]):
    """Reads one view of each sample of one epoch."""

    samples: Sequence[Sample]
    config: TrainConfig
    pixel_path: PixelPath
    epoch: int | None
    "None: the images themselves"

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[NDArray[np.uint8], int]:
        sample = self.samples[i]
        view = View() if self.epoch is None else sample_view(sample, self.config, self.epoch)
        return load_view(sample, view, self.pixel_path)[None], sample.label


def _collate(items: list[tuple[NDArray[np.uint8], int]]) -> Batch:
    images, labels = zip(*items, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


@dataclass(frozen=True)
class FileBatches:
    """Every epoch reads the files anew and sees a new view of each."""

    train_samples: Sequence[Sample]
    val_samples: Sequence[Sample]
    config: TrainConfig
    pixel_path: PixelPath
    rank: Rank = ALONE

    @property
    def batch_sizes(self) -> list[int]:
        return list(map(len, shuffled(self.config, len(self.train_samples), 0)))

    @property
    def val_labels(self) -> NDArray[np.int64]:
        return labels_of(self.val_samples)

    def train(self, epoch: int) -> Iterator[Batch]:
        order = shuffled(self.config, len(self.train_samples), epoch)
        views = _Views(self.train_samples, self.config, self.pixel_path, epoch)
        return self._read(views, [batch[own_rows(self.rank, len(batch))] for batch in order])

    def val(self) -> Iterator[Batch]:
        views = _Views(self.val_samples, self.config, self.pixel_path, None)
        return self._read(views, eval_rows(self.rank, len(self.val_samples)))

    def _read(self, views: _Views, batches: Sequence[Any]) -> Iterator[Batch]:
        yield from DataLoader(
            views,
            batch_sampler=batches,
            collate_fn=_collate,
            num_workers=self.config.workers,
        )


def labels_of(samples: Sequence[Sample]) -> NDArray[np.int64]:
    return np.array([sample.label for sample in samples], dtype=np.int64)
