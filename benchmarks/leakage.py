"""What leakage is worth: the paper's protocol beside an honest one, same images, recipe and budget.

    python -m benchmarks.leakage --data DATA --weights FILE [--group-regex R] [--seeds 3]
        [--json FILE]

Some images are put aside first and neither protocol sees them: DATA/test where it is there, else a
quarter of the groups, drawn anew for each seed. What is left is the pool.

- paper: 80 % of the pool trains, 20 % chooses the epoch, and 30 % of the whole pool, a second draw,
  is the test.
- grouped: the pool drawn by group (patients and copies together) into 65 % / 15 % / 20 %, as
  `--split grouped` does.

Each protocol claims what it scores on its own test; the truth is what the same model scores on the
images put aside. Both see the same number of training views, as nearly as whole epochs allow. Seeds
change draws, order and dropout; the starting weights stay. The frozen blocks' activations are
computed once for all runs, in bf16 where this CPU is faster with it, and val and test are scored
through them (the upper block in fp32); `kneeedge train` scores in fp32 throughout.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from kneeedge.data.dataset import Dataset, Sample
from kneeedge.data.splits import assign_splits, check_splits, draw_by_group, paper_split, pooled
from kneeedge.inference.metrics import confusion
from kneeedge.model.provenance import GROUPED, PAPER, Score
from kneeedge.model.spec import default_positive, softmax
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.statistics.auroc import auroc
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress, duration
from kneeedge.system.strict_json import to_json
from kneeedge.training.cache import (
    ActivationStore,
    cache_activations,
    views_wanted,
)
from kneeedge.training.checkpoint import read_weights
from kneeedge.training.data import EVAL_BATCH
from kneeedge.training.loop import fit
from kneeedge.training.lower import TorchBlocks, seconds_an_image
from kneeedge.training.model import KneeVGG
from kneeedge.training.plan import build_model, choose_bf16, choose_frozen, forward
from kneeedge.training.prepare import GatheredImages, gather_images
from kneeedge.training.run import make_fabric
from kneeedge.training.weights import load_pretrained

ASIDE = 0.25
"share of the groups put aside where the data has no test folder"
HEADS = (
    "protocol", "trained on", "test images known from training", "figure", "claimed", "true",
    "too good by",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Result:
    """One model under one protocol."""

    protocol: str
    seed: int
    n_train: int
    n_val: int
    epochs: int
    views_seen: int
    "training views over all epochs"
    n_known: int
    "test images that are trained on, or of whose group an image is"
    val: Score
    claimed: Score
    "on the protocol's own test"
    claimed_apart: Score | None
    "on those test images of whose group nothing is trained on; absent where there are none"
    true: Score
    "on the images put aside"


@dataclass(frozen=True)
class Division:
    """The pool that both protocols draw from, and the images that neither sees."""

    pool: Dataset
    aside: tuple[Sample, ...]


def divide(dataset: Dataset, seed: int) -> Division:
    """Put DATA/test aside where it is there, else a share of the groups.

    Of DATA/test only the images whose group is not in the pool.
    """
    test = dataset.split("test")
    if test:
        others = tuple(sample for sample in dataset.samples if sample.split != "test")
        pool = pooled(replace(dataset, samples=others))
        known = {sample.group for sample in pool.samples}
        return Division(pool, tuple(sample for sample in test if sample.group not in known))
    shares = {"train": 1 - ASIDE, "test": ASIDE}
    split_of = draw_by_group(dataset.samples, shares, np.random.default_rng([seed, 9]))
    kept = tuple(sample for sample in dataset.samples if split_of[sample.group] == "train")
    aside = tuple(sample for sample in dataset.samples if split_of[sample.group] == "test")
    return Division(replace(dataset, samples=kept), aside)


def grouped_split(dataset: Dataset, config: TrainConfig, seed: int) -> Dataset:
    """What `kneeedge train --split grouped` draws."""
    return assign_splits(pooled(dataset), config.val_fraction, config.test_fraction, seed)


def thin(dataset: Dataset, n: int | None) -> Dataset:
    """At most `n` images of each class and split, the first by name."""
    if n is None:
        return dataset
    counts: dict[tuple[str, int], int] = {}
    kept = []
    for sample in dataset.samples:
        key = (sample.split, sample.label)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= n:
            kept.append(sample)
    return replace(dataset, samples=tuple(kept))


def study(
    config: TrainConfig, seeds: int, n: int | None, progress: Progress
) -> tuple[GatheredImages, list[Result]]:
    """Both protocols under each seed."""
    torch.manual_seed(config.seed)
    gathered = gather_images(config, progress)
    gathered = replace(gathered, dataset=thin(gathered.dataset, n))
    dataset = gathered.dataset
    n_frozen = max(1, choose_frozen(config))
    model = build_model(config.architecture, config, len(dataset.classes), n_frozen)
    load_pretrained(model, config.weights)
    bf16 = choose_bf16(model, config.precision, config.size, progress)
    only_seen = dataset.split("test")
    trained_on = [sample for sample in dataset.samples if sample.split != "test"]
    wanted = views_wanted(trained_on, only_seen, config.views)
    n_views = sum(wanted.values())
    seconds = n_views * seconds_an_image(forward(model.eval(), bf16), config.size)
    progress(f"{n_views:,} views, about {duration(seconds)}")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        lower = TorchBlocks(model, bf16)
        store = cache_activations(model, lower, wanted, config, Path(folder) / "cache", progress)
        trial = Trial(
            config=config,
            model=model,
            start={name: tensor.clone() for name, tensor in model.state_dict().items()},
            store=store,
            bf16=bf16,
            progress=progress,
        )
        for seed in range(seeds):
            division = divide(dataset, seed)
            drawn = {
                PAPER: paper_split(division.pool, seed),
                GROUPED: grouped_split(division.pool, config, seed),
            }
            for protocol, splits in drawn.items():
                check_splits(splits)
                run_folder = Path(folder) / f"{protocol}-{seed}"
                result = trial.run(protocol, splits, division.aside, seed, run_folder)
                results.append(result)
                progress(result_line(result))
    return gathered, results


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What all runs of a study share."""

    config: TrainConfig
    model: KneeVGG
    start: dict[str, torch.Tensor]
    store: ActivationStore
    bf16: bool
    progress: Progress

    def run(
        self, protocol: str, splits: Dataset, aside: Sequence[Sample], seed: int, folder: Path
    ) -> Result:
        """Train on one draw and score it on its own test and on what was put aside."""
        folder.mkdir()
        train, val, test = (splits.split(name) for name in ("train", "val", "test"))
        budget = self.config.epochs * 0.8 * len({sample.name for sample in splits.samples})
        config = replace(self.config, seed=seed, epochs=max(1, round(budget / len(train))))
        self.model.load_state_dict(self.start)
        batches = self.store.batches(train, val, config)
        run = Run(folder)
        fabric = make_fabric("cpu", self.bf16)
        state = fit(self.model, batches, config, run, fabric, self.progress)
        self.model.load_state_dict(read_weights(run.model, self.model))
        groups = {sample.group for sample in train}
        apart = [sample for sample in test if sample.group not in groups]
        positive = splits.classes.index(config.positive or default_positive(splits.classes))

        def scored(samples: Sequence[Sample]) -> Score:
            return score(self.model, self.store, samples, positive)

        return Result(
            protocol=protocol,
            seed=seed,
            n_train=len(train),
            n_val=len(val),
            epochs=config.epochs,
            views_seen=len(state.history) * len(train),
            n_known=len(test) - len(apart),
            val=scored(val),
            claimed=scored(test),
            claimed_apart=scored(apart) if apart else None,
            true=scored(aside),
        )


def score(
    model: KneeVGG, store: ActivationStore, samples: Sequence[Sample], positive: int
) -> Score:
    """Accuracy at argmax, AUROC, sensitivity and specificity through the stored activations."""
    model.eval()
    rows = store.rows_of(samples)
    with torch.inference_mode():
        parts = [
            model(store.read(rows[i : i + EVAL_BATCH]).float())
            for i in range(0, len(rows), EVAL_BATCH)
        ]
    probabilities = softmax(torch.cat(parts).numpy())
    labels = np.array([sample.label for sample in samples])
    answers = probabilities.argmax(axis=1)
    matrix = confusion(labels, answers, probabilities.shape[1])
    true_positives = int(matrix[positive, positive])
    n_positive = int(matrix[positive].sum())
    n_negative = len(labels) - n_positive
    false_positives = int(matrix[:, positive].sum()) - true_positives
    return Score(
        n=len(labels),
        accuracy=float((answers == labels).mean()),
        auroc=auroc(labels == positive, probabilities[:, positive]),
        sensitivity=true_positives / n_positive if n_positive else None,
        specificity=(n_negative - false_positives) / n_negative if n_negative else None,
    )


def result_line(result: Result) -> str:
    """One line about one model."""
    claimed = f"claimed {result.claimed.accuracy:.4f} on {result.claimed.n} images"
    known = f"{result.n_known} known from training"
    true = f"true {result.true.accuracy:.4f} on {result.true.n}"
    return f"{result.protocol}, seed {result.seed}: {claimed} ({known}), {true}"


def table(results: Sequence[Result]) -> str:
    """The study as a markdown table: means over the seeds with their range."""
    lines = [f"| {' | '.join(HEADS)} |", "|---|--:|--:|---|--:|--:|--:|"]
    for protocol in (PAPER, GROUPED):
        rows = [result for result in results if result.protocol == protocol]
        first = rows[0]
        name = "paper (**leaky**)" if protocol == PAPER else "honest: by group"
        n_known = mean(row.n_known for row in rows)
        for title, value in (("accuracy", _accuracy), ("AUROC", _auroc)):
            claimed = [value(row.claimed) for row in rows]
            true = [value(row.true) for row in rows]
            gaps = np.subtract(claimed, true).tolist()
            cells = (
                name,
                str(first.n_train),
                f"{n_known:.0f} of {first.claimed.n}",
                title,
                _span(claimed),
                _span(true),
                _span(gaps, "+.3f"),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _accuracy(score: Score) -> float:
    return score.accuracy


def _auroc(score: Score) -> float:
    return float("nan") if score.auroc is None else score.auroc


def _span(values: Sequence[float], digits: str = ".3f") -> str:
    return f"{mean(values):{digits}} ({min(values):{digits}} to {max(values):{digits}})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Callable[..., object] = parser.add_argument
    add("--data", required=True)
    add("--weights", default="imagenet")
    add("--group-regex")
    add("--seeds", type=int, default=3)
    add("--epochs", type=int, default=6)
    add("--views", type=int, default=3)
    trial = "at most so many images of each class and split, for a trial of the script"
    add("--n", type=int, help=trial)
    add("--json", type=Path)
    given = parser.parse_args()
    config = TrainConfig(
        data=given.data,
        weights=given.weights,
        group_regex=given.group_regex,
        epochs=given.epochs,
        views=given.views,
        patience=0,
        freeze_blocks=4,
    )
    gathered, results = study(config, given.seeds, given.n, Progress())
    print(table(results))
    if given.json:
        samples = gathered.dataset.samples
        # the names of data and weights, not where they lie
        config = replace(config, data=Path(given.data).name, weights=Path(given.weights).name)
        record = {
            "environment": environment(),
            "config": config,
            "data_report": gathered.data_report,
            "n_images": len(samples),
            "n_groups": len({sample.group for sample in samples}),
            "results": results,
        }
        given.json.write_text(to_json(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
