"""How a narrowed network is best trained: variants with the same seeds, paired.

    python -m benchmarks.slim_study RUN --speedup X --variant NAME=FIELD:VALUE,… …
        [--seeds 3] --out FOLDER [--json FILE]

A FIELD is one of `SlimConfig`, as epochs or lr; or map_weight, of the class maps in the loss; or
stages, in which the channels go, as many epochs behind each. All share the layers' times and
sensitivity, hence the final widths, and the original's answers to the training views; a seed
decides the images that layers are mended by and the order of training. What is judged is the
network in PyTorch, by its flips against the original's answers on val and on test, at argmax.
The first variant is what the others are held against, seed by seed. Of a run that is in FOLDER the
figures alone are computed.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.cached_training import (
    SPLITS,
    figures_of,
    parse_variant,
    rows_of,
    show,
)
from benchmarks.seeds import paired
from kneeedge.model.decision import fit_temperature
from kneeedge.model.spec import Architecture, softmax
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.folder import Run
from kneeedge.runs.slim_report import SlimConfig
from kneeedge.slim.chain import head, most_important, narrow, to_blocks
from kneeedge.slim.distil import MAP_WEIGHT, DistilBatches, Targets, distillation
from kneeedge.slim.importance import channel_importance
from kneeedge.slim.refit import refit
from kneeedge.slim.run import N_REFIT, Slimmer
from kneeedge.slim.survey import N_IMAGES, some_images
from kneeedge.statistics.intervals import clusters_of
from kneeedge.statistics.paired import paired_change
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json
from kneeedge.training.checkpoint import read_weights
from kneeedge.training.data import EVAL_BATCH, FileBatches, labels_of
from kneeedge.training.loop import fit
from kneeedge.training.model import KneeVGG
from kneeedge.training.plan import training_device
from kneeedge.training.run import make_fabric

Logits = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How the narrowed network is trained."""

    name: str
    config: SlimConfig
    map_weight: float = MAP_WEIGHT
    stages: int = 1


@dataclass(frozen=True, kw_only=True)
class Study:
    """What all runs share."""

    slimmer: Slimmer
    inputs: dict[str, Tensor]
    "(N, 1, S, S) uint8 of each held-out split"
    original: Logits
    out: Path

    @property
    def labels(self) -> dict[str, NDArray[np.int64]]:
        return {split: labels_of(self.slimmer.dataset.split(split)) for split in SPLITS}

    def targets(self, variant: Variant) -> Targets:
        """The original's answers to the first views, those of seed 0."""
        whole = self.slimmer.targets
        n = variant.config.views
        return Targets(whole.images[:, :n], whole.maps[:, :n], whole.labels)

    def run(self, variant: Variant, seed: int) -> dict[str, Any]:
        """The record of one run, which is trained where it is not yet."""
        folder = self.out / f"{variant.name}-{seed}"
        done = folder / "run.json"
        if not done.is_file():
            folder.mkdir(exist_ok=True)
            begun = time.monotonic()
            self.train(replace(variant, config=replace(variant.config, seed=seed)), folder)
            done.write_text(json.dumps({"seconds": round(time.monotonic() - begun, 1)}))
        seconds = json.loads(done.read_text())["seconds"]
        return {"seed": seed, "seconds": seconds, **self.figures(self.read(folder))}

    def read(self, folder: Path) -> KneeVGG:
        """The network of a finished run."""
        slimmer = self.slimmer
        (goal,) = slimmer.goals()
        channels = to_blocks(slimmer.survey.allot(goal).widths, slimmer.architecture)
        architecture = replace(slimmer.architecture, channels=channels)
        model = KneeVGG(architecture, head(slimmer.model).out_features)
        model.load_state_dict(read_weights(Run(folder).model, model))
        return model

    def train(self, variant: Variant, folder: Path) -> KneeVGG:
        """Narrow and train in `stages` steps of speed, each as much of a factor as the others."""
        slimmer = self.slimmer
        config = variant.config
        full = slimmer.survey.times.full_ms
        (goal,) = slimmer.goals()
        final = slimmer.survey.allot(goal).widths
        model, architecture = slimmer.model, slimmer.architecture
        for stage in range(1, variant.stages + 1):
            milliseconds = full * (goal / full) ** (stage / variant.stages)
            allotted = slimmer.survey.allot(milliseconds).widths
            widths = tuple(map(max, allotted, final))
            model, architecture = self.narrowed(model, architecture, widths, config.seed)
            share = stage / variant.stages
            before = (stage - 1) / variant.stages
            epochs = round(share * config.epochs) - round(before * config.epochs)
            training = replace(config, epochs=epochs).training(slimmer.record.config)
            targets = self.targets(variant)
            files = FileBatches(
                slimmer.dataset.split("train"),
                slimmer.dataset.split("val"),
                training,
                slimmer.spec.pixel_path,
            )
            batches = DistilBatches(targets, files, training)
            fabric = make_fabric(training_device(), slimmer.survey.bf16)
            run = Run(folder)
            objective = distillation(targets, variant.map_weight)
            fit(model, batches, training, run, fabric, slimmer.progress, objective)
            run.last.unlink()
            model.load_state_dict(read_weights(run.model, model))
            model.cpu().eval()
        return model

    def narrowed(
        self, wide: KneeVGG, architecture: Architecture, widths: tuple[int, ...], seed: int
    ) -> tuple[KneeVGG, Architecture]:
        """The network with its most important channels alone, mended by least squares."""
        slimmer = self.slimmer
        kept = slimmer.survey.kept(widths)
        if wide is not slimmer.model:
            images = some_images(slimmer.dataset, slimmer.spec.pixel_path, N_IMAGES, seed)
            kept = most_important(channel_importance(wide, images, slimmer.progress), widths)
        slim, slim_architecture = narrow(wide, architecture, kept)
        images = some_images(slimmer.dataset, slimmer.spec.pixel_path, N_REFIT, seed + 1)
        refit(wide, slim, kept, images, slimmer.progress)
        return slim, slim_architecture

    def figures(self, model: KneeVGG) -> dict[str, dict[str, float]]:
        """Of each split: what answers are worth, and how they differ from the original's."""
        logits = answers(model, self.inputs)
        temperature = fit_temperature(logits["val"], self.labels["val"])
        figures = {}
        for split in SPLITS:
            labels = self.labels[split]
            groups = [sample.group for sample in self.slimmer.dataset.split(split)]
            wide, narrowed = (each[split].argmax(1) for each in (self.original, logits))
            change = paired_change(labels, wide, narrowed, clusters_of(groups, len(groups)))
            figures[split] = {
                **figures_of(labels, softmax(logits[split], temperature)),
                "accuracy_change": change.delta,
                "worst_loss": change.worst_loss,
                "flips": change.flips / change.n,
            }
        return figures


def answers(model: KneeVGG, inputs: dict[str, Tensor]) -> Logits:
    """(N, K) of each split, in fp32."""
    model.eval()
    logits = {}
    for split, images in inputs.items():
        with torch.inference_mode():
            parts = [model(part) for part in torch.split(images, EVAL_BATCH)]
        logits[split] = torch.cat(parts).numpy()
    return logits


def begin(config: SlimConfig, out: Path, progress: Progress) -> Study:
    """Measure what the widths are chosen by, where that is not done, and ask the original."""
    out.mkdir(parents=True, exist_ok=True)
    slimmer = Slimmer(config, out, [], progress)
    Run(out).write_survey(slimmer.survey)
    inputs = {}
    for split in SPLITS:
        samples = slimmer.dataset.split(split)
        pixels = [load_input(sample.path, slimmer.spec.pixel_path) for sample in samples]
        inputs[split] = torch.from_numpy(np.stack(pixels)[:, None])
    original = answers(slimmer.model, inputs)
    return Study(slimmer=slimmer, inputs=inputs, original=original, out=out)


def compared(
    first: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Of each figure the mean and deviation over seeds, and of its differences from the first's."""
    rows = {}
    for split in SPLITS:
        for name in runs[0][split]:
            values = [run[split][name] for run in runs]
            before = [run[split][name] for run in first]
            rows[f"{split} {name}"] = paired(before, values)
    return rows


def named_variant(text: str, base: SlimConfig) -> Variant:
    """NAME=FIELD:VALUE,… as a variant of a config."""
    name, fields = parse_variant(text)
    variant = Variant(name=name, config=base)
    for key, value in fields.items():
        if key in ("map_weight", "stages"):
            number = type(getattr(variant, key))(value)
            variant = replace(variant, **{key: number})
        else:
            number = type(getattr(base, key))(value)
            variant = replace(variant, config=replace(variant.config, **{key: number}))
    return variant


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--speedup", type=float, required=True)
    parser.add_argument("--variant", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    base = SlimConfig(original=given.run, speedup=given.speedup)
    variants = [named_variant(text, base) for text in given.variant]
    most = max(variant.config.views for variant in variants)
    progress = Progress()
    study = begin(replace(base, views=most), given.out, progress)
    survey = study.slimmer.survey
    (goal,) = study.slimmer.goals()
    allotment = survey.allot(goal)
    _ = study.slimmer.targets
    runs: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in variants}
    # The seeds first, so that a study that is cut short has whole ones.
    for seed in range(given.seeds):
        for variant in variants:
            run = study.run(variant, seed)
            runs[variant.name].append(run)
            progress(f"{variant.name}, seed {seed}: val flips {run['val']['flips']:.2%}")
    rows = rows_of(given.variant, runs, compared)
    show(rows)
    if given.json:
        shared = {
            "data": study.slimmer.dataset.root.name,
            "original": study.slimmer.slimmed.sha256,
            "speedup": given.speedup,
            "expected_ms": round(allotment.milliseconds + survey.times.overhead_ms, 3),
            "widths": allotment.widths,
            "bf16": survey.bf16,
            "seeds": given.seeds,
            "environment": environment(),
        }
        given.json.write_text(to_json({**shared, "variants": rows}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
