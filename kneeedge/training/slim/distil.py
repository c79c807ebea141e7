"""Training a narrowed network on what its original answers, rather than on the labels alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kneeedge.training.config import TrainConfig
from kneeedge.training.data import Batch, FileBatches
from kneeedge.training.loop import Epoch, Objective, n_right
from kneeedge.training.slim.targets import Answer, Targets

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
    """The original's answers, softened (Hinton, Vinyals & Dean 2015, eq. 4), where it sees them, and the labels.

    The class maps say of every place what it speaks for; of the logits they are the mean. The last epoch is kept: its
    learning rate has come to 0, and a choice among epochs would be one more look at the validation images.
    """

    variance: float
    "of the original's class maps, over places and images"

    def loss(self, model: Any, x: Tensor, y: Any, config: TrainConfig) -> tuple[Tensor, int]:
        wanted, labels = y
        maps = model.class_map(x).float()
        logits, soft = maps.mean(dim=(2, 3)), wanted.mean(dim=(2, 3)) / TEMPERATURE
        of_labels = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        of_answers = TEMPERATURE**2 * F.kl_div(
            F.log_softmax(logits / TEMPERATURE, dim=1), F.log_softmax(soft, dim=1), reduction="batchmean",
            log_target=True,
        )  # fmt: skip
        of_maps = F.mse_loss(maps, wanted) / self.variance
        total: Tensor = (1.0 - OF_ANSWERS) * of_labels + OF_ANSWERS * of_answers + OF_MAPS * of_maps
        return total, n_right(logits, labels)

    def is_better(self, row: Epoch, best: Epoch | None) -> bool:
        return best is None or row.epoch > best.epoch


def distillation(targets: Targets) -> Distillation:
    """The objective for these targets."""
    return Distillation(float(torch.from_numpy(targets.maps).var()))
