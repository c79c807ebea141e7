"""The training loop: PyTorch on Lightning Fabric, one optimiser step a batch, best weights kept."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kneeedge.errors import DivergedError
from kneeedge.model.spec import softmax
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.statistics.auroc import auroc
from kneeedge.system.progress import Progress, duration
from kneeedge.system.strict_json import from_json, to_json
from kneeedge.training.average import WeightAverage
from kneeedge.training.checkpoint import load_last, save_last, save_weights
from kneeedge.training.data import Batches, eval_rows
from kneeedge.training.mixing import draw_mixture
from kneeedge.training.model import KneeVGG
from kneeedge.training.team import Team, peers_needed


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One row of `history.csv`."""

    epoch: int
    "counted from 1"
    loss: float
    "mean training loss, label smoothing included"
    accuracy: float
    "on the augmented training views, as they were seen"
    val_loss: float
    "cross-entropy without smoothing"
    val_accuracy: float
    "at argmax"
    val_auroc: float
    "of the positive class; with more than two classes the mean over one-versus-rest"
    lr: float
    "of the highest block, at the epoch's end"
    seconds: float


@dataclass(frozen=True)
class State:
    """What a stopped run needs besides the tensors."""

    history: tuple[Epoch, ...] = ()
    best_epoch: int = 0

    def best(self) -> Epoch | None:
        return self.history[self.best_epoch - 1] if self.best_epoch else None


class Objective:
    """What training strives for: the labels, and the epoch that ranks validation images best."""

    def loss(self, model: Any, x: Tensor, y: Any, config: TrainConfig) -> tuple[Tensor, int]:
        """The loss of a batch of `Batches.train`, and how many of its answers are correct.

        Of a mixed image the class of its larger part is.
        """
        side = x.shape[-1] // 2**model.n_frozen if x.dtype == torch.uint8 else x.shape[-1]
        mixture = draw_mixture(config, len(x), side)
        if mixture is None:
            logits = model(x).float()
            loss = F.cross_entropy(logits, y, label_smoothing=config.label_smoothing)
            return loss, count_correct(logits, y)
        logits = model(x, mixture.mixed).float()
        loss = mixture.loss(logits, y, config.label_smoothing)
        return loss, count_correct(logits, mixture.main_labels(y))

    def is_better(self, row: Epoch, best: Epoch | None) -> bool:
        """Whether the epoch's weights are kept in place of the best's so far.

        By validation AUROC; between equals by the lower validation loss.
        """
        return best is None or (row.val_auroc, -row.val_loss) > (best.val_auroc, -best.val_loss)


def count_correct(logits: Tensor, labels: Tensor) -> int:
    """How many of logits (N, K) are largest at the label (N,)."""
    return int((logits.detach().argmax(1) == labels).sum())


def fit(
    model: KneeVGG,
    batches: Batches,
    config: TrainConfig,
    run: Run,
    fabric: Fabric,
    progress: Progress,
    objective: Objective | None = None,
) -> State:
    """Train until `config.epochs` or until validation stops getting better.

    `run.model` holds the best epoch. Goes on from `run.last` where that is there. Everything random
    in an epoch is drawn from (seed, epoch), and dropout and mixtures from the process's place too,
    so a resumed run equals an unbroken one. Of several processes the first decides and writes.
    """
    team = Team(fabric.global_rank, fabric.world_size)
    optimizer = build_optimizer(model, config)
    fabric.to_device(model)
    average = WeightAverage(model, config.ema)
    state = State()
    if run.last.is_file():
        state = from_json(State, load_last(model, optimizer, average, run.last))
    # Fabric moves the model in place, so `model` stays the plain module with the same weights.
    with peers_needed():
        wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    wrapped.mark_forward_method("class_map")
    objective = objective or Objective()
    trainer = Trainer(
        model=wrapped,
        optimizer=wrapped_optimizer,
        average=average,
        batches=batches,
        config=config,
        fabric=fabric,
        team=team,
        progress=progress,
        objective=objective,
    )
    with progress.timed("epochs"):
        for epoch in range(len(state.history), config.epochs):
            if state.history and is_stale(state, config.patience):
                progress(f"no better validation AUROC for {config.patience} epochs: stopped")
                break
            row = trainer.run_epoch(epoch)
            improved = objective.is_better(row, state.best())
            state = State((*state.history, row), row.epoch if improved else state.best_epoch)
            if not team.is_first:
                continue
            if improved:
                with average.applied():
                    save_weights(model, run.model)
            columns = [field.name for field in fields(Epoch)]
            run.write_history(columns, map(asdict, state.history))
            save_last(model, optimizer, average, to_json(state, indent=None), run.last)
            progress(describe(row, config.epochs, improved))
    return state


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What an epoch needs: model and optimiser as Fabric wrapped them, their average, the data."""

    model: Any
    optimizer: Any
    average: WeightAverage
    batches: Batches
    config: TrainConfig
    fabric: Fabric
    team: Team
    progress: Progress
    objective: Objective

    def run_epoch(self, epoch: int) -> Epoch:
        """Train and validate epoch number `epoch`, counted from 0; all have the first's figures."""
        start = time.monotonic()
        torch.manual_seed(dropout_seed(self.config.seed, epoch, self.team.number))
        loss, accuracy = self.train(epoch)
        val_loss, val_accuracy, val_auroc = self.validate(epoch)
        row = Epoch(
            epoch=epoch + 1,
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            val_auroc=val_auroc,
            lr=_top_lr(self.optimizer),
            seconds=round(time.monotonic() - start, 2),
        )
        figures = list(asdict(row).values())
        _, *others = self.team.of_first(torch.tensor(figures, dtype=torch.float64)).tolist()
        names = [field.name for field in fields(Epoch)]
        return Epoch(**dict(zip(names, [row.epoch, *others], strict=True)))

    def train(self, epoch: int) -> tuple[float, float]:
        """Mean loss and accuracy of one pass; raises DivergedError on a loss that is not finite."""
        self.model.train()
        config = self.config
        sizes = self.batches.batch_sizes
        n_steps = len(sizes)
        total_loss = 0.0
        n_correct = 0
        n_seen = 0
        batches = zip(sizes, self._on_device(self.batches.train(epoch)), strict=True)
        with self.progress.stage(f"epoch {epoch + 1}/{config.epochs}", n_steps) as stage:
            for step, (n, (x, y)) in enumerate(batches, start=epoch * n_steps):
                set_learning_rate(self.optimizer, config, step, n_steps * config.epochs)
                loss, n_right, n_own = self.step(x, y, n)
                total_loss += loss
                n_correct += n_right
                n_seen += n_own
                stage.advance(note=f"loss {total_loss / max(n_seen, 1):.4f}")
        self.team.share_statistics(self.model.module)
        totals = torch.tensor([total_loss, n_correct, n_seen], dtype=torch.float64)
        total_loss, n_correct, n_seen = self.team.total(totals).tolist()
        if not math.isfinite(total_loss):
            raise DivergedError(epoch + 1)
        return total_loss / n_seen, n_correct / n_seen

    def step(self, x: Tensor, y: Any, n: int) -> tuple[float, int, int]:
        """One optimiser step on a batch of `n` images, of which `x` and `y` are the process's own.

        Returns their summed loss, how many are answered right, and how many they are. DDP takes the
        plain mean of all processes' gradients: their weights make it that over the images.
        """
        part = self.team.part(n)
        n_own = part.stop - part.start  # 0: a stand-in, which counts nothing
        self.optimizer.zero_grad(set_to_none=True)
        with peers_needed():
            loss, n_correct = self.objective.loss(self.model, x, y, self.config)
            self.fabric.backward(loss * (n_own * self.team.size / n))
        self.optimizer.step()
        self.average.update()
        return loss.item() * n_own, n_correct if n_own else 0, n_own

    def validate(self, epoch: int) -> tuple[float, float, float]:
        """Cross-entropy, accuracy and AUROC of the averaged weights on the validation split.

        Raises DivergedError where an answer is not finite: the epoch's last step did that.
        """
        self.model.eval()
        labels = torch.from_numpy(self.batches.val_labels)
        logits = torch.zeros(len(labels), self.model.module.classifier[-1].out_features)
        own = eval_rows(self.team, len(labels))
        with torch.inference_mode(), self.average.applied():
            for rows, (x, _) in zip(own, self._on_device(self.batches.val()), strict=True):
                logits[rows.start : rows.stop] = self.model(x).float().cpu()
        logits = self.team.total(logits)  # each row is one process's, and 0 in the others
        if not logits.isfinite().all():
            raise DivergedError(epoch + 1)
        loss = F.cross_entropy(logits, labels).item()
        accuracy = (logits.argmax(1) == labels).float().mean().item()
        return loss, accuracy, mean_auroc(logits.numpy(), labels.numpy())

    def _on_device(self, batches: Iterator[tuple[Tensor, Any]]) -> Iterator[tuple[Tensor, Any]]:
        for x, y in batches:
            yield self.fabric.to_device(x), self.fabric.to_device(y)


def dropout_seed(seed: int, epoch: int, process: int) -> int:
    """The seed of an epoch's dropout and mixtures; no two processes draw the same."""
    if process == 0:
        return seed * 1_000_003 + epoch
    return int(np.random.SeedSequence([seed, epoch, process]).generate_state(1, np.uint64)[0])


def mean_auroc(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """AUROC for two classes; for more, the mean of one-versus-rest over the classes that occur."""
    probabilities = softmax(logits)
    columns = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    values = [auroc(labels == k, probabilities[:, k]) for k in columns]
    return float(np.mean([value for value in values if value is not None]))


def is_stale(state: State, patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    return 0 < patience <= len(state.history) - state.best_epoch


def build_optimizer(model: KneeVGG, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or Adam; the learning rate falls by `lr_decay` a block from the top.

    Biases and norms do not decay.
    """
    parts: list[tuple[Any, float]] = [(model.classifier, config.head_lr)]
    for depth, block in enumerate(reversed(model.blocks())):
        parts.append((block, config.lr * config.lr_decay**depth))
    groups = []
    for part, lr in parts:
        for matrices, decay in ((True, config.weight_decay), (False, 0.0)):
            weights = [p for p in part.parameters() if (p.ndim > 1) == matrices]
            groups.append({"params": weights, "lr": lr, "base_lr": lr, "weight_decay": decay})
    groups = [group for group in groups if group["params"]]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, fused=True)  # one pass over the weights in place of ten


def set_learning_rate(optimizer: Any, config: TrainConfig, step: int, total: int) -> None:
    """Give every group its learning rate for this step."""
    factor = lr_factor(config, step, total)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def lr_factor(config: TrainConfig, step: int, total: int) -> float:
    """Linear warm-up, then half a cosine to 0 (Loshchilov & Hutter 2017), or constant."""
    if config.schedule == "constant":
        return 1.0
    rising = max(1, round(config.warmup * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def read_history(run: Run) -> State:
    """What `history.csv` says of a run whose last epoch was kept."""
    rows = run.read_history()
    history = tuple(Epoch(epoch=int(row.pop("epoch")), **row) for row in rows)
    return State(history, len(history))


def describe(row: Epoch, n_epochs: int, improved: bool) -> str:
    """One plain line about an epoch."""
    best = "  best so far" if improved else ""
    left = duration((n_epochs - row.epoch) * row.seconds)
    return (
        f"epoch {row.epoch:3d}/{n_epochs}  loss {row.loss:.4f}  val loss {row.val_loss:.4f}  "
        f"val accuracy {row.val_accuracy:.4f}  val AUROC {row.val_auroc:.4f}  "
        f"{duration(row.seconds)}, at most {left} left{best}"
    )


def _top_lr(optimizer: Any) -> float:
    group = optimizer.param_groups[min(2, len(optimizer.param_groups) - 1)]  # behind the head's two
    return float(group["lr"])
