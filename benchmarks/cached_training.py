"""Trainings above frozen blocks on shared activations: variants with the same seeds, paired.

    python -m benchmarks.cached_training DATA --weights FILE --variant NAME=FIELD:VALUE,… …
        [--group-regex REGEX] [--seeds 5] --out FOLDER [--json FILE]

A FIELD is one of `TrainConfig`, such as frozen_precision, freeze_blocks or epochs; a + in a value
stands for a comma, as of corruptions. Each variant's activations are computed once, with the views
of seed 0; a seed then decides the head's first weights, the order of the images and dropout. The
kept weights of every run answer val and test from frozen blocks in fp32, as `kneeedge train` does,
which are computed once too; so do the last epoch's, which nothing chose. The first variant is what
the others are held against, seed by seed. Runs that are in FOLDER are not trained again.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from benchmarks.seeds import paired
from export.frozen import frozen_to_int8
from kneeedge.data.dataset import Dataset, Sample
from kneeedge.model.decision import fit_temperature
from kneeedge.model.spec import softmax
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.statistics.auroc import auroc
from kneeedge.statistics.reliability import expected_calibration_error, log_loss
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json
from kneeedge.training import loop
from kneeedge.training.cache import ActivationStore, cache_activations, views_wanted
from kneeedge.training.checkpoint import read_weights
from kneeedge.training.cpu import use_cpu
from kneeedge.training.data import EVAL_BATCH, labels_of
from kneeedge.training.loop import fit
from kneeedge.training.lower import BF16, INT8, LowerBlocks, TorchBlocks, open_int8
from kneeedge.training.model import KneeVGG
from kneeedge.training.plan import build_model, choose_frozen, training_device
from kneeedge.training.prepare import gather_images, split_data
from kneeedge.training.run import make_fabric
from kneeedge.training.score import in_full_fp32
from kneeedge.training.weights import load_pretrained

SPLITS = ("val", "test")
N_FROZEN, N_EPOCHS, N_VIEWS = 4, 16, 8
"blocks that a variant freezes where it says no other, its epochs, and its views of an image"
Compare = Callable[[Sequence[dict[str, Any]], Sequence[dict[str, Any]]], dict[str, dict[str, Any]]]
"the first variant's runs and another's → each figure with its change"
PLAIN, MIRRORED = 0, 1
"views of an image"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is trained."""

    name: str
    config: TrainConfig


@dataclass(frozen=True, kw_only=True)
class Study:
    """What all runs above as many frozen blocks share."""

    dataset: Dataset
    model: KneeVGG
    start: dict[str, torch.Tensor]
    "weights that every training begins with, but for the head's"
    exact: ActivationStore
    "of val and test in fp32, the image and where asked for its mirror"
    out: Path
    progress: Progress

    @property
    def samples(self) -> dict[str, tuple[Sample, ...]]:
        return {split: self.dataset.split(split) for split in SPLITS}

    def store(self, config: TrainConfig) -> tuple[ActivationStore, float]:
        """The activations of a variant, and the seconds that they took where they were not there.

        They lie in a folder for each way to make them.
        """
        train = self.dataset.split("train")
        wanted = views_wanted(train, self.dataset.split("val"), config.views)
        begun = time.monotonic()
        kinds = config.corrupted_by
        kind = [config.frozen_precision, f"{config.rotation:g}", str(config.views), *kinds]
        folder = self.out / name_above(choose_frozen(config), "-".join(kind))
        lower = self.lower(config, folder.with_suffix(".onnx"))
        store = cache_activations(self.model, lower, wanted, config, folder, self.progress)
        return store, time.monotonic() - begun

    def lower(self, config: TrainConfig, file: Path) -> LowerBlocks:
        if config.frozen_precision != INT8:
            return TorchBlocks(self.model.eval(), config.frozen_precision == BF16)
        if not file.is_file():
            self.model.load_state_dict(self.start)
            on_cpu = self.model.cpu()
            file.write_bytes(frozen_to_int8(on_cpu, self.dataset, config, self.progress))
            self.model.to(training_device())
        return open_int8(file.read_bytes())

    def run(self, variant: Variant, store: ActivationStore, seed: int) -> dict[str, Any]:
        """The record of one run, which is trained where it is not yet."""
        folder = self.out / f"{variant.name}-{seed}"
        folder.mkdir(exist_ok=True)
        done = folder / "run.json"
        if not done.is_file():
            done.write_text(json.dumps(self.train(variant, store, seed, Run(folder))))
        run: dict[str, Any] = json.loads(done.read_text())
        return run

    def train(
        self, variant: Variant, store: ActivationStore, seed: int, run: Run
    ) -> dict[str, Any]:
        config = replace(variant.config, seed=seed)
        self.model.load_state_dict(self.start)
        self.model.classifier[0].p = config.dropout
        torch.manual_seed(seed)
        torch.nn.init.normal_(self.model.classifier[-1].weight, 0.0, 0.01)
        train, val = self.dataset.split("train"), self.dataset.split("val")
        fabric = make_fabric(training_device(), config.precision == BF16)
        batches = store.batches(train, val, config)
        begun = time.monotonic()
        with val_logits() as by_epoch:
            state = fit(self.model, batches, config, run, fabric, self.progress)
        seconds = time.monotonic() - begun
        np.savez(run.folder / "epochs.npz", val=np.stack(by_epoch), labels=labels_of(val))
        last = load_file(run.last)
        weights = read_weights(run.model, self.model)
        for name in weights:
            weights[name] = last.get(f"average.{name}", last[f"model.{name}"])
        run.last.unlink()
        self.model.load_state_dict(weights)
        of_last = self.figures(self.logits(PLAIN))
        self.model.load_state_dict(read_weights(run.model, self.model))
        return {
            "seed": seed,
            "epochs": len(state.history),
            "kept_epoch": state.best_epoch,
            "seconds": round(seconds, 1),
            "last epoch": of_last,
            "kept epoch": self.figures(self.logits(PLAIN)),
        }

    def logits(self, view: int) -> dict[str, NDArray[np.float64]]:
        """(N, K) of each split, from its blocks in fp32."""
        self.model.eval()
        device = self.model.mean.device
        logits = {}
        for split, samples in self.samples.items():
            rows = self.exact.rows_of(samples) + view
            parts = [rows[i : i + EVAL_BATCH] for i in range(0, len(rows), EVAL_BATCH)]
            with torch.inference_mode(), in_full_fp32():
                answers = [self.model(self.exact.read(part).to(device)) for part in parts]
            logits[split] = torch.cat(answers).double().cpu().numpy()
        return logits

    def figures(self, logits: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, float]]:
        """Accuracy at argmax, AUROC, and log-loss and ECE at val's temperature, of two classes."""
        labels = {split: labels_of(samples) for split, samples in self.samples.items()}
        temperature = fit_temperature(logits["val"], labels["val"])
        return {
            split: figures_of(labels[split], softmax(logits[split], temperature))
            for split in SPLITS
        }


@contextmanager
def val_logits() -> Iterator[list[NDArray[np.float32]]]:
    """A list that gets the logits (N, K) of val at each epoch, as the training loop sees them."""
    logits: list[NDArray[np.float32]] = []
    mean_auroc = loop.mean_auroc

    def kept(of_epoch: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        logits.append(of_epoch.copy())
        return mean_auroc(of_epoch, labels)

    loop.mean_auroc = kept
    try:
        yield logits
    finally:
        loop.mean_auroc = mean_auroc


def figures_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    area = auroc(labels == 1, probabilities[:, 1])
    if area is None:
        raise SystemExit("a split has one class alone")
    return {
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
        "auroc": area,
        "log_loss": log_loss(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
    }


def read_data(config: TrainConfig, progress: Progress) -> Dataset:
    dataset, _ = split_data(gather_images(config, progress).dataset, config)
    return dataset


def begin(
    config: TrainConfig, dataset: Dataset, out: Path, progress: Progress, n_exact: int = 1
) -> Study:
    """Compute what val and test are answered from, of as many views."""
    out.mkdir(parents=True, exist_ok=True)
    use_cpu()
    torch.manual_seed(0)
    n_frozen = choose_frozen(config)
    model = build_model(config.architecture, config, len(dataset.classes), n_frozen)
    load_pretrained(model, config.weights)
    held_out = [*dataset.split("val"), *dataset.split("test")]
    wanted = views_wanted(held_out, (), n_exact)
    in_fp32 = TorchBlocks(model.eval().to(training_device()), bf16=False)
    folder = out / name_above(n_frozen, "exact")
    with in_full_fp32():
        exact = cache_activations(model, in_fp32, wanted, config, folder, progress)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return Study(dataset=dataset, model=model, start=start, exact=exact, out=out, progress=progress)


def name_above(n_frozen: int, kind: str) -> str:
    """Of a folder of activations behind as many frozen blocks."""
    return kind if n_frozen == N_FROZEN else f"{kind}-blocks{n_frozen}"


def compared(
    first: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Of each figure the mean and deviation over seeds, and of its differences from the first's."""
    rows = {}
    for kind in ("kept epoch", "last epoch"):
        for split in SPLITS:
            for name in runs[0][kind][split]:
                values = [run[kind][split][name] for run in runs]
                before = [run[kind][split][name] for run in first]
                rows[f"{kind} {split} {name}"] = paired(before, values)
    return rows


def rows_of(
    texts: Sequence[str], runs: dict[str, list[dict[str, Any]]], compare: Compare
) -> list[dict[str, Any]]:
    """A row of each variant, given as NAME=FIELD:VALUE,…, held against the first."""
    first = next(iter(runs.values()))
    return [
        {
            "name": name,
            "fields": text.partition("=")[2],
            "seconds": round(mean(run["seconds"] for run in of_variant), 1),
            "runs": of_variant,
            "compared": compare(first, of_variant),
        }
        for text, (name, of_variant) in zip(texts, runs.items(), strict=True)
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print each variant's figures with their differences from the first's."""
    for row in rows:
        for name, figures in row["compared"].items():
            change = figures["change"]
            print(
                f"{row['name']:24} {name:28} {figures['mean']:.4f} ± {figures['sd']:.4f}"
                f"   change {change['mean']:+.4f} ± {change['sd']:.4f}"
            )


def named_variant(text: str, base: TrainConfig) -> Variant:
    """NAME=FIELD:VALUE,… as a variant of a config."""
    name, fields = parse_variant(text)
    changes: dict[str, Any] = {key: type(getattr(base, key))(fields[key]) for key in fields}
    return Variant(name=name, config=replace(base, **changes))


def parse_variant(text: str) -> tuple[str, dict[str, str]]:
    """The name and the fields of NAME=FIELD:VALUE,…, with a value's + as commas."""
    name, _, fields = text.partition("=")
    pairs = (field.partition(":") for field in filter(None, fields.split(",")))
    return name, {key: value.replace("+", ",") for key, _, value in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--group-regex")
    parser.add_argument("--precision", default=BF16, help="of the blocks that are trained")
    parser.add_argument("--variant", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    base = TrainConfig(
        data=given.data,
        weights=given.weights,
        group_regex=given.group_regex,
        precision="bf16" if given.precision == BF16 else "32",
        frozen_precision=BF16,
        freeze_blocks=N_FROZEN,
        epochs=N_EPOCHS,
        views=N_VIEWS,
    )
    progress = Progress()
    dataset = read_data(base, progress)
    variants = [named_variant(text, base) for text in given.variant]
    depths = {variant.config.freeze_blocks for variant in variants}
    above = {n: begin(replace(base, freeze_blocks=n), dataset, given.out, progress) for n in depths}
    studies = {variant.name: above[variant.config.freeze_blocks] for variant in variants}
    stores = {variant.name: studies[variant.name].store(variant.config) for variant in variants}
    runs: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in variants}
    # The seeds first, so that a study that is cut short has whole ones.
    for seed in range(given.seeds):
        for variant in variants:
            study = studies[variant.name]
            runs[variant.name].append(study.run(variant, stores[variant.name][0], seed))
            progress(f"{variant.name}, seed {seed}: done")
    rows = rows_of(given.variant, runs, compared)
    for row in rows:
        row["cache_seconds"] = round(stores[row["name"]][1], 1)
    show(rows)
    if given.json:
        shared = {
            "data": Path(given.data).name,
            "seeds": given.seeds,
            "environment": environment(),
        }
        given.json.write_text(to_json({**shared, "variants": rows}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
