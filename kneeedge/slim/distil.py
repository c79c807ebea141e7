"""Training a narrowed network on what its original answers: the targets, kept on disk, and the
loss.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kneeedge.data.dataset import Sample
from kneeedge.model.spec import PixelPath
from kneeedge.runs.config import TrainConfig
from kneeedge.slim.chain import head
from kneeedge.system.files import write_text
from kneeedge.system.progress import Progress
from kneeedge.training.data import Batch, FileBatches, next_views, open_cache, sample_view
from kneeedge.training.loop import Epoch, Objective, count_correct
from kneeedge.training.model import KneeVGG
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
        """Each image once, in its next view: inputs (B, 1, S, S) uint8, and what they are to be
        answered.
        """
        n_images, n_views = self.images.shape[:2]
        for rows, views in next_views(config, n_images, n_views, epoch):
            maps = torch.from_numpy(np.array(self.maps[rows, views]))
            yield (
                torch.from_numpy(self.images[rows, views][:, None]),
                (maps, torch.from_numpy(self.labels[rows])),
            )


def compute_targets(
    model: KneeVGG,
    samples: Sequence[Sample],
    n_views: int,
    config: TrainConfig,
    folder: Path,
    progress: Progress,
) -> Targets:
    """Ask the original about the first `n_views` views of each sample, or take up what was asked
    for already.

    The maps stand in `folder`; a stopped computation goes on where it stopped. The images are read
    anew: 50 KB a view.
    """
    pixel_path = PixelPath(config.size, config.fit)
    jobs = [(sample, k) for sample in samples for k in range(n_views)]
    images = np.empty((len(jobs), config.size, config.size), dtype=np.uint8)
    maps, done = _open(model, jobs, config, folder)
    with progress.stage("the original's answers", len(jobs)) as stage:
        for i in range(0, len(jobs), BATCH):
            part = jobs[i : i + BATCH]
            rows = slice(i, i + len(part))
            images[rows] = [
                load_view(sample, sample_view(sample, config, k), pixel_path) for sample, k in part
            ]
            if i >= done:
                with torch.inference_mode():
                    maps[rows] = (
                        model.class_map(
                            torch.from_numpy(images[rows][:, None]).to(model.mean.device)
                        )
                        .cpu()
                        .numpy()
                    )
                maps.flush()  # type: ignore[attr-defined]
                write_text(folder / "done", str(i + len(part)))
            stage.advance(len(part))
    shape = (len(samples), n_views)
    labels = np.array([sample.label for sample in samples], dtype=np.int64)
    return Targets(
        images.reshape(*shape, *images.shape[1:]), maps.reshape(*shape, *maps.shape[1:]), labels
    )


def _open(
    model: KneeVGG, jobs: Sequence[tuple[Sample, int]], config: TrainConfig, folder: Path
) -> tuple[NDArray[np.float32], int]:
    """The array of maps, and how many of its rows are there already."""
    key = _key(model, jobs, config)
    path = folder / "maps.npy"
    done = folder / "done"
    if (
        (folder / "key.json").is_file()
        and (folder / "key.json").read_text() == key
        and done.is_file()
    ):
        open_cache(path)  # refuses what is no array
        return np.lib.format.open_memmap(path, mode="r+"), int(done.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    side = config.size // 32
    shape = (len(jobs), head(model).out_features, side, side)
    maps = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    write_text(folder / "key.json", key)
    return maps, 0


def _key(model: KneeVGG, jobs: Sequence[tuple[Sample, int]], config: TrainConfig) -> str:
    """JSON of all that the maps depend on."""
    weights = hashlib.sha256()
    for tensor in model.state_dict().values():
        weights.update(tensor.cpu().contiguous().numpy().tobytes())
    rows = hashlib.sha256("\n".join(f"{s.sha256}\0{k}" for s, k in jobs).encode())
    how = [config.seed, config.rotation, config.flip, config.size, config.fit]
    return json.dumps([*how, weights.hexdigest(), rows.hexdigest()])


TEMPERATURE = 2.0
"at which the probabilities of the two networks are compared"
OF_ANSWERS = 0.5
"weight of the original's probabilities; the rest is that of the labels"
OF_MAPS = 1.0
"weight of the class maps' mean square difference, as a share of their variance"


@dataclass(frozen=True)
class DistilBatches:
    """The training images' views with the original's answers; the validation images as ever."""

    targets: Targets
    files: FileBatches
    config: TrainConfig

    @property
    def n_steps(self) -> int:
        return self.files.n_steps

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Answer]]:
        return self.targets.batches(self.config, epoch)

    def val(self) -> Iterator[Batch]:
        return self.files.val()


@dataclass(frozen=True)
class Distillation(Objective):
    """The original's answers, softened (Hinton, Vinyals & Dean 2015, eq. 4), where it sees them,
    and the labels.

    The class maps say of every place what it speaks for; of the logits they are the mean. The last
    epoch is kept: its learning rate has come to 0, and a choice among epochs would be one more look
    at the validation images.
    """

    variance: float
    "of the original's class maps, over places and images"

    def loss(self, model: Any, x: Tensor, y: Any, config: TrainConfig) -> tuple[Tensor, int]:
        wanted, labels = y
        maps = model.class_map(x).float()
        logits = maps.mean(dim=(2, 3))
        soft = wanted.mean(dim=(2, 3)) / TEMPERATURE
        of_labels = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        of_answers = TEMPERATURE**2 * F.kl_div(
            F.log_softmax(logits / TEMPERATURE, dim=1),
            F.log_softmax(soft, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        of_maps = F.mse_loss(maps, wanted) / self.variance
        total: Tensor = (1.0 - OF_ANSWERS) * of_labels + OF_ANSWERS * of_answers + OF_MAPS * of_maps
        return total, count_correct(logits, labels)

    def is_better(self, row: Epoch, best: Epoch | None) -> bool:
        return best is None or row.epoch > best.epoch


def distillation(targets: Targets) -> Distillation:
    """The objective for these targets."""
    return Distillation(float(torch.from_numpy(targets.maps).var()))
