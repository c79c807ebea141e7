"""The kept weights, scored in fp32 through the one pixel path: spec, metrics, report and figures of a run."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.dataset import Dataset, Sample
from kneeedge.metrics import Evaluation, classification_report, evaluate
from kneeedge.preprocess import load_input
from kneeedge.progress import Progress
from kneeedge.spec import DISCLAIMER, Architecture, ModelSpec, PixelPath, TrainingRecord, softmax
from kneeedge.training import figures
from kneeedge.training.checkpoint import (
    Run,
    RunRecord,
    load_model,
    predict_logits,
    write_atomically,
    write_metrics,
)
from kneeedge.training.loop import State
from kneeedge.training.model import IMAGENET_MEAN, IMAGENET_STD, KneeVGG

BATCH = 32


@dataclass(frozen=True)
class Scored:
    """One held-out split with the original's answers."""

    split: str
    labels: NDArray[np.int64]
    "(N,)"
    probabilities: NDArray[np.float64]
    "(N, K)"
    evaluation: Evaluation


def score(run: Run, record: RunRecord, dataset: Dataset, state: State, progress: Progress) -> dict[str, Evaluation]:
    """Write `spec.json`, `metrics.json`, `report.txt` and the figures; returns each held-out split's evaluation."""
    spec = build_spec(run, record, dataset)
    model = load_model(spec, run.model)
    scored = [
        score_split(model, spec, dataset.split(split), split, progress)
        for split in ("val", "test")
        if dataset.split(split)
    ]
    evaluations = {item.split: item.evaluation for item in scored}
    scores = {split: evaluation.score() for split, evaluation in evaluations.items()}
    spec = replace(spec, training=replace(spec.training, scores=scores))
    metrics = {"kept_epoch": state.best_epoch, "epochs": len(state.history), "leaked": spec.training.leaked}
    write_metrics(run, metrics | {split: asdict(evaluation) for split, evaluation in evaluations.items()})
    write_atomically(run.folder / "report.txt", report(spec, evaluations))
    draw(run.folder, dataset, spec, state, scored[-1])
    write_atomically(run.spec, spec.to_json())
    return evaluations


def build_spec(run: Run, record: RunRecord, dataset: Dataset) -> ModelSpec:
    """The spec of the checkpoint, before its scores are known."""
    config = record.config
    training = TrainingRecord(
        recipe=config.recipe, weights=record.weights_origin, seed=config.seed, data_sha256=dataset.sha256(),
        n_images=dataset.counts(), versions=record.environment.versions, leaked=len(dataset.leaked()),
    )  # fmt: skip
    return ModelSpec(
        name=run.folder.resolve().name, classes=dataset.classes, positive=record.positive, training=training,
        architecture=Architecture(config.channels, config.batch_norm, config.head),
        pixel_path=PixelPath(config.size, config.fit), mean=IMAGENET_MEAN, std=IMAGENET_STD,
    )  # fmt: skip


def score_split(model: KneeVGG, spec: ModelSpec, samples: tuple[Sample, ...], split: str, progress: Progress) -> Scored:
    """The original's fp32 answers to one split, and their evaluation."""
    logits = original_logits(model, samples, spec.pixel_path, f"scoring {split}", progress)
    labels = np.array([sample.label for sample in samples])
    probabilities = softmax(logits, spec.temperature)
    return Scored(split, labels, probabilities, evaluate(labels, probabilities, spec))


def original_logits(
    model: KneeVGG, samples: tuple[Sample, ...], pixel_path: PixelPath, what: str, progress: Progress
) -> NDArray[np.float32]:
    """Logits (N, K) of the PyTorch model in fp32 for the samples' files."""
    parts = []
    with progress.stage(what, len(samples)) as stage:
        for i in range(0, len(samples), BATCH):
            part = samples[i : i + BATCH]
            images = np.stack([load_input(sample.path, pixel_path) for sample in part])[:, None]
            parts.append(predict_logits(model, images))
            stage.advance(len(part))
    return np.concatenate(parts)


def report(spec: ModelSpec, evaluations: dict[str, Evaluation]) -> str:
    """The classification report of each split, in scikit-learn's layout, under a line that says how far to trust it."""
    lines = [f"{spec.name}: {spec.architecture.head} head, threshold {spec.threshold:g} on {spec.positive}"]
    if spec.training.leaked:
        lines.append(
            f"LEAKY: {spec.training.leaked} held-out images also stand in another split; all figures are too good"
        )
    for split, evaluation in evaluations.items():
        area = "n/a" if evaluation.auroc is None else f"{evaluation.auroc:.4f}"
        lines += ["", f"{split}: {evaluation.n} images, AUROC {area}", "", classification_report(evaluation)]
    return "\n".join([*lines, "", DISCLAIMER, ""])


def draw(folder: Path, dataset: Dataset, spec: ModelSpec, state: State, scored: Scored) -> None:
    """All figures of a run; those of answers show the test split, or val where there is no test."""
    figures.draw_curves(state.history, state.best_epoch, folder / "curves.png")
    figures.draw_confusion(scored.evaluation, scored.split, folder / "confusion.png")
    figures.draw_roc(scored.labels, scored.probabilities, scored.evaluation, folder / "roc.png")
    figures.draw_calibration(scored.labels, scored.probabilities, scored.evaluation, folder / "calibration.png")
    figures.draw_samples(dataset, spec.pixel_path, spec.training.seed, folder / "samples.png")
