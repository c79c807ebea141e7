"""Several seeds made one network by averaging or distilling, against one seed and the ensemble.

    python -m benchmarks.members DATA --weights FILE [--group-regex REGEX] --variant NAME=FIELDS
        --out FOLDER [--members 5] [--distil N] [--json FILE]

The members are the runs of that variant which `benchmarks.cached_training` left in FOLDER, with its
activations. `ensemble` is the mean of the members' logits, K networks on the device; `soup` is one
network of their mean weights; `greedy soup` takes members in the order of their AUROC on val, each
where val's AUROC does not fall (Wortsman et al. 2022, ICML, "Model soups"); `distilled` is one
network trained from the start on the ensemble's probabilities of every view (Hinton et al. 2015),
with --distil N seeds of its own. Val chooses, test chooses nothing.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.cached_training import (
    MIRRORED,
    N_EPOCHS,
    N_FROZEN,
    N_VIEWS,
    PLAIN,
    SPLITS,
    Study,
    begin,
    named_variant,
    read_data,
)
from benchmarks.seeds import spread
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json
from kneeedge.training.cache import ActivationStore, CachedBatches
from kneeedge.training.checkpoint import read_weights
from kneeedge.training.data import EVAL_BATCH, next_views, own_rows
from kneeedge.training.loop import Objective, count_correct, fit
from kneeedge.training.lower import BF16
from kneeedge.training.plan import training_device
from kneeedge.training.run import make_fabric

Weights = dict[str, Tensor]
Logits = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class SoftBatches(CachedBatches):
    """Views with the ensemble's probabilities, and the labels beside them."""

    targets: NDArray[np.float32]
    "(rows of the store, K)"

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Any]]:
        for batch, views in next_views(self.config, len(self.train_rows), self.n_views, epoch):
            own = own_rows(self.rank, len(batch))
            rows = self.train_rows[batch[own]] + views[own]
            labels = torch.from_numpy(self.train_labels[batch[own]])
            yield self.store.read(rows), [torch.from_numpy(self.targets[rows]), labels]


class Distil(Objective):
    """The ensemble's probabilities, without smoothing: they are soft already."""

    def loss(self, model: Any, x: Tensor, y: Any, config: TrainConfig) -> tuple[Tensor, int]:  # noqa: ARG002
        targets, labels = y
        logits = model(x).float()
        return F.cross_entropy(logits, targets), count_correct(logits, labels)


def answers(study: Study, weights: Weights) -> tuple[Logits, Logits]:
    """Logits of val and test from the image, and from its mirror."""
    study.model.load_state_dict(weights)
    return study.logits(PLAIN), study.logits(MIRRORED)


def averaged(members: Sequence[Weights]) -> Weights:
    """The mean of each tensor."""
    return {name: torch.stack([member[name] for member in members]).mean(0) for name in members[0]}


def together(logits: Sequence[Logits]) -> Logits:
    return {split: np.mean([each[split] for each in logits], axis=0) for split in SPLITS}


def greedy(study: Study, members: Sequence[Weights]) -> tuple[Weights, int]:
    """A greedy soup, and of how many members it is."""

    def on_val(weights: Weights) -> float:
        return study.figures(answers(study, weights)[0])["val"]["auroc"]

    order = sorted(members, key=on_val, reverse=True)
    chosen = [order[0]]
    best = on_val(order[0])
    for member in order[1:]:
        area = on_val(averaged([*chosen, member]))
        if area >= best:
            chosen.append(member)
            best = area
    return averaged(chosen), len(chosen)


def soft_targets(
    study: Study, store: ActivationStore, members: Sequence[Weights]
) -> NDArray[np.float32]:
    """The mean of the members' probabilities (rows, K) of every stored view."""
    total = np.zeros((len(store.rows), len(study.dataset.classes)), dtype=np.float32)
    study.model.eval()
    device = study.model.mean.device
    for member in members:
        study.model.load_state_dict(member)
        for start in range(0, len(total), EVAL_BATCH):
            rows = np.arange(start, min(start + EVAL_BATCH, len(total)))
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
                logits = study.model(store.read(rows).to(device)).float()
            total[rows] += torch.softmax(logits, 1).cpu().numpy() / len(members)
    return total


def distilled(
    study: Study,
    config: TrainConfig,
    store: ActivationStore,
    targets: NDArray[np.float32],
    folder: Path,
) -> Weights:
    """A network trained on `targets`; its weights are kept in `folder`."""
    run = Run(folder)
    if not run.model.is_file() or run.last.is_file():
        folder.mkdir(exist_ok=True)
        study.model.load_state_dict(study.start)
        torch.manual_seed(config.seed)
        torch.nn.init.normal_(study.model.classifier[-1].weight, 0.0, 0.01)
        train, val = study.dataset.split("train"), study.dataset.split("val")
        plain = store.batches(train, val, config)
        batches = SoftBatches(**{**vars(plain), "targets": targets})
        fabric = make_fabric(training_device(), config.precision == BF16)
        fit(study.model, batches, config, run, fabric, study.progress, Distil())
        run.last.unlink()
    return read_weights(run.model, study.model)


def both(study: Study, pair: tuple[Logits, Logits]) -> dict[str, Any]:
    """Figures from the image alone, and with its mirror's logits averaged in."""
    return {"plain": study.figures(pair[0]), "with mirror": study.figures(together(pair))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--group-regex")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--distil", type=int, default=0, metavar="N")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    base = TrainConfig(
        data=given.data,
        weights=given.weights,
        group_regex=given.group_regex,
        precision=BF16,
        frozen_precision=BF16,
        freeze_blocks=N_FROZEN,
        epochs=N_EPOCHS,
        views=N_VIEWS,
    )
    progress = Progress()
    study = begin(base, read_data(base, progress), given.out, progress, n_exact=2)
    variant = named_variant(given.variant, base)
    folders = [given.out / f"{variant.name}-{seed}" for seed in range(given.members)]
    members = [read_weights(Run(folder).model, study.model) for folder in folders]
    singles = [answers(study, member) for member in members]
    greedy_weights, n_greedy = greedy(study, members)
    rows: dict[str, list[dict[str, Any]]] = {
        "one seed": [both(study, pair) for pair in singles],
        "ensemble": [
            both(study, (together([a for a, _ in singles]), together([b for _, b in singles])))
        ],
        "soup": [both(study, answers(study, averaged(members)))],
        f"greedy soup of {n_greedy}": [both(study, answers(study, greedy_weights))],
    }
    if given.distil:
        store, _ = study.store(variant.config)
        targets = soft_targets(study, store, members)
        config = variant.config
        nets = [
            distilled(
                study,
                TrainConfig(**{**vars(config), "seed": 100 + seed}),
                store,
                targets,
                given.out / f"distilled-{seed}",
            )
            for seed in range(given.distil)
        ]
        rows["distilled"] = [both(study, answers(study, net)) for net in nets]
    summary = {name: summarised(of_row) for name, of_row in rows.items()}
    for name, figures in summary.items():
        for key, value in figures.items():
            print(f"{name:18} {key:28} {value['mean']:.4f} ± {value['sd']:.4f}")
    if given.json:
        shared = {"data": Path(given.data).name, "members": given.members}
        record = {**shared, "environment": environment(), "rows": rows, "summary": summary}
        given.json.write_text(to_json(record) + "\n", encoding="utf-8")


def summarised(of_row: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and deviation of each figure over the networks of a row."""
    return {
        f"{kind} {split} {name}": spread([each[kind][split][name] for each in of_row])
        for kind in of_row[0]
        for split in SPLITS
        for name in of_row[0][kind][split]
    }


if __name__ == "__main__":
    main()
