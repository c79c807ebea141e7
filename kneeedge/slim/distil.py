"""Training a narrowed network on what its original answers: targets kept on disk, and the loss."""

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
from kneeedge.runs.config import TrainConfig
from kneeedge.slim.chain import head
from kneeedge.system.files import write_text
from kneeedge.system.progress import Progress
from kneeedge.training.cache import open_cache
from kneeedge.training.data import Batch, FileBatches, next_views, sample_view
from kneeedge.training.loop import Epoch, Objective, count_correct
from kneeedge.training.model import KneeVGG
from kneeedge.training.views import load_view

BATCH = 16
TEMPERATURE = 2.0
"at which the probabilities of the two networks are compared"
ANSWER_WEIGHT = 0.5
"of the original's probabilities; what is missing to 1 is that of the labels"
MAP_WEIGHT = 4.0
"of the class maps' mean square difference, as a share of their variance"

Target = tuple[Tensor, Tensor]
"the original's class maps (B, K, h, w), and the labels (B,)"


@dataclass(frozen=True)
class Targets:
    """Views of the training images with the original's class maps for them."""

    images: NDArray[np.uint8]
    "(N, V, S, S): the network's inputs"
    maps: NDArray[np.float32]
    "(N, V, K, S/32, S/32)"
    labels: NDArray[np.int64]
    "(N,)"

    def batches(self, config: TrainConfig, epoch: int) -> Iterator[tuple[Tensor, Target]]:
        """Each image once, in its next view: inputs (B, 1, S, S) uint8, and their targets."""
        n_images, n_views = self.images.shape[:2]
        for rows, views in next_views(config, n_images, n_views, epoch):
            inputs = torch.from_numpy(self.images[rows, views][:, None])
            maps = torch.from_numpy(np.array(self.maps[rows, views]))
            yield inputs, (maps, torch.from_numpy(self.labels[rows]))


def compute_targets(
    model: KneeVGG,
    bf16: bool,
    samples: Sequence[Sample],
    n_views: int,
    config: TrainConfig,
    folder: Path,
    progress: Progress,
) -> Targets:
    """The original's class maps for the first `n_views` views of each sample, in bf16 or fp32.

    The maps stand in `folder`; what was computed already is taken up again. The images are read
    anew: 50 KB a view.
    """
    pixel_path = config.pixel_path
    jobs = [(sample, k) for sample in samples for k in range(n_views)]
    images = np.empty((len(jobs), config.size, config.size), dtype=np.uint8)
    maps, n_done = _open(model, bf16, jobs, config, folder)
    with progress.stage("the original's answers", len(jobs)) as stage:
        for i in range(0, len(jobs), BATCH):
            part = jobs[i : i + BATCH]
            rows = slice(i, i + len(part))
            for row, (sample, k) in enumerate(part, start=i):
                images[row] = load_view(sample, sample_view(sample, config, k), pixel_path)
            if i >= n_done:
                maps[rows] = _class_maps(model, bf16, images[rows])
                maps.flush()  # type: ignore[attr-defined]
                write_text(folder / "done", str(i + len(part)))
            stage.advance(len(part))
    shape = (len(samples), n_views)
    return Targets(
        images=images.reshape(*shape, *images.shape[1:]),
        maps=maps.reshape(*shape, *maps.shape[1:]),
        labels=np.array([sample.label for sample in samples], dtype=np.int64),
    )


def _class_maps(model: KneeVGG, bf16: bool, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Maps (N, K, S/32, S/32) of images (N, S, S)."""
    device = model.mean.device
    inputs = torch.from_numpy(images[:, None]).to(device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        maps = model.class_map(inputs)
    return np.asarray(maps.float().cpu().numpy(), dtype=np.float32)


def _open(
    model: KneeVGG,
    bf16: bool,
    jobs: Sequence[tuple[Sample, int]],
    config: TrainConfig,
    folder: Path,
) -> tuple[NDArray[np.float32], int]:
    """The array of maps, and how many of its rows are there already."""
    key = _key(model, bf16, jobs, config)
    key_file = folder / "key.json"
    path = folder / "maps.npy"
    done = folder / "done"
    if key_file.is_file() and key_file.read_text() == key and done.is_file():
        open_cache(path)  # refuses what is no array
        return np.lib.format.open_memmap(path, mode="r+"), int(done.read_text())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    side = config.size // 32
    shape = (len(jobs), head(model).out_features, side, side)
    maps = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    write_text(key_file, key)
    return maps, 0


def _key(
    model: KneeVGG, bf16: bool, jobs: Sequence[tuple[Sample, int]], config: TrainConfig
) -> str:
    """JSON of all that the maps depend on."""
    weights = hashlib.sha256()
    for tensor in model.state_dict().values():
        weights.update(tensor.cpu().contiguous().numpy().tobytes())
    rows = "\n".join(f"{sample.sha256}\0{k}" for sample, k in jobs)
    images = hashlib.sha256(rows.encode())
    views = [config.seed, config.rotation, config.flip, config.size, config.fit, bf16]
    return json.dumps([*views, weights.hexdigest(), images.hexdigest()])


@dataclass(frozen=True)
class DistilBatches:
    """The training images' views with the original's answers; the validation images from files."""

    targets: Targets
    files: FileBatches
    config: TrainConfig

    @property
    def batch_sizes(self) -> list[int]:
        return self.files.batch_sizes

    @property
    def val_labels(self) -> NDArray[np.int64]:
        return self.files.val_labels

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Target]]:
        return self.targets.batches(self.config, epoch)

    def val(self) -> Iterator[Batch]:
        return self.files.val()


@dataclass(frozen=True)
class Distillation(Objective):
    """The original's answers, softened (Hinton, Vinyals & Dean 2015, eq. 4), and the labels.

    The class maps say of every place what it speaks for; of the logits they are the mean. The last
    epoch is kept: its learning rate has come to 0, and a choice among epochs would be one more look
    at the validation images.
    """

    variance: float
    "of the original's class maps, over places and images"
    map_weight: float = MAP_WEIGHT

    def loss(self, model: Any, x: Tensor, y: Any, config: TrainConfig) -> tuple[Tensor, int]:
        target_maps, labels = y
        maps = model.class_map(x).float()
        logits = maps.mean(dim=(2, 3))
        target_logits = target_maps.mean(dim=(2, 3))
        label_loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        divergence = F.kl_div(
            F.log_softmax(logits / TEMPERATURE, dim=1),
            F.log_softmax(target_logits / TEMPERATURE, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        answer_loss = TEMPERATURE**2 * divergence
        map_loss = F.mse_loss(maps, target_maps) / self.variance
        answers: Tensor = (1.0 - ANSWER_WEIGHT) * label_loss + ANSWER_WEIGHT * answer_loss
        return answers + self.map_weight * map_loss, count_correct(logits, labels)

    def is_better(self, row: Epoch, best: Epoch | None) -> bool:
        return best is None or row.epoch > best.epoch


def distillation(targets: Targets, map_weight: float = MAP_WEIGHT) -> Distillation:
    """The objective for these targets."""
    return Distillation(float(torch.from_numpy(targets.maps).var()), map_weight)
