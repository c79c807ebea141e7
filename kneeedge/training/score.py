"""The kept weights, scored in fp32 through the one pixel path: spec, metrics, report and figures of
a run.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Dataset, Sample
from kneeedge.inference.metrics import Evaluation, classification_report, evaluate
from kneeedge.model.decision import fit_decision
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.spec import DISCLAIMER, ModelSpec, PixelPath, softmax
from kneeedge.pixels.pixel_path import load_input
from kneeedge.report.scorecard import decision_line, figure_lines, probability_line
from kneeedge.runs.config import RunRecord
from kneeedge.runs.folder import Run
from kneeedge.statistics.reliability import probability_errors
from kneeedge.system.progress import Progress
from kneeedge.training import figures
from kneeedge.training.checkpoint import load_model
from kneeedge.training.data import Batches, FileBatches
from kneeedge.training.loop import State
from kneeedge.training.model import IMAGENET_MEAN, IMAGENET_STD, KneeVGG
from kneeedge.training.novelty import (
    BLOCK,
    N_VIEWS,
    FeatureGaussian,
    choose_limit,
    fit_gaussian,
    predict,
    save_gaussian,
    training_features,
)

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One held-out split with the original's logits, which each image goes through the network once
    for.
    """

    split: str
    samples: tuple[Sample, ...]
    labels: NDArray[np.int64]
    "(N,)"
    logits: NDArray[np.float32]
    "(N, K)"
    distances: NDArray[np.float64] | None
    "(N,) to the training images' features; absent where the model answers every image"


@dataclass(frozen=True)
class Scored:
    """The answers to one held-out split at the spec's temperature and threshold, and what they are
    worth.
    """

    answered: Answered
    probabilities: NDArray[np.float64]
    "(N, K)"
    evaluation: Evaluation


def score(
    run: Run,
    record: RunRecord,
    dataset: Dataset,
    state: State,
    batches: Batches,
    progress: Progress,
) -> dict[str, Evaluation]:
    """Fit temperature, threshold and the limit to abstain on val, score val and test, and write the
    run's results.

    These are `spec.json`, `metrics.json`, `answers.csv`, `report.txt` and the figures. Returns each
    held-out split's evaluation.
    """
    spec = build_spec(run, record, dataset)
    model = load_model(spec, run.model)
    splits = [split for split in ("val", "test") if dataset.split(split)]
    gaussian = fit_novelty(model, record, dataset, batches, progress)
    answered = [
        answer_split(model, gaussian, spec, dataset.split(split), split, progress)
        for split in splits
    ]
    if answered[0].split == "val":
        spec = fit_decision(
            spec, answered[0].logits, answered[0].labels, record.config.threshold, "val"
        )
        spec = limit_novelty(spec, gaussian, answered[0], run)
    scored = [score_split(each, spec) for each in answered]
    evaluations = {each.answered.split: each.evaluation for each in scored}
    scores = {split: evaluation.score() for split, evaluation in evaluations.items()}
    spec = replace(spec, training=replace(spec.training, scores=scores))
    metrics: dict[str, Any] = {"kept_epoch": state.best_epoch, "epochs": len(state.history)}
    metrics |= {name: getattr(spec.training, name) for name in ("leaked", "protocol", "caveat")}
    metrics |= {split: asdict(evaluation) for split, evaluation in evaluations.items()}
    run.write_metrics(metrics)
    write_answers(run, spec, scored)
    run.write_report(report(spec, evaluations))
    draw(run, dataset, spec, state, scored[-1])
    run.write_spec(spec)
    return evaluations


def build_spec(run: Run, record: RunRecord, dataset: Dataset) -> ModelSpec:
    """The spec of the checkpoint, before its scores are known."""
    config = record.config
    training = TrainingRecord(
        recipe=config.recipe,
        weights=record.weights_origin,
        seed=config.seed,
        data_sha256=dataset.sha256(),
        n_images=dataset.counts(),
        versions=record.environment.versions,
        leaked=len(dataset.leaked()),
        protocol=record.protocol,
        data_report=record.data_report,
        slimmed=record.slimmed,
    )
    return ModelSpec(
        name=run.name,
        classes=dataset.classes,
        positive=record.positive,
        training=training,
        architecture=record.architecture,
        pixel_path=PixelPath(config.size, config.fit),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def fit_novelty(
    model: KneeVGG, record: RunRecord, dataset: Dataset, batches: Batches, progress: Progress
) -> FeatureGaussian | None:
    """The Gaussian of the training images' features; None where it was not asked for or no val
    could set its limit.
    """
    if not (record.config.abstain and dataset.split("val")):
        return None
    n_done = record.n_frozen_blocks if record.n_views else 0
    train = dataset.split("train")
    if n_done > BLOCK:  # the cache holds what stands behind the features
        batches = FileBatches(
            train, (), record.config, PixelPath(record.config.size, record.config.fit)
        )
        n_done = 0
    inputs = (x for epoch in range(N_VIEWS) for x, _ in batches.train(epoch))
    return fit_gaussian(
        training_features(model, inputs, N_VIEWS * len(train), n_done, record.bf16, progress)
    )


def limit_novelty(
    spec: ModelSpec, gaussian: FeatureGaussian | None, val: Answered, run: Run
) -> ModelSpec:
    """The spec with its limit to abstain, set on val; saves the Gaussian beside it."""
    if gaussian is None or val.distances is None:
        return spec
    save_gaussian(gaussian, run.novelty)
    return replace(spec, novelty=choose_limit(val.distances, val.split, len(gaussian.variances)))


def answer_split(
    model: KneeVGG,
    gaussian: FeatureGaussian | None,
    spec: ModelSpec,
    samples: tuple[Sample, ...],
    split: str,
    progress: Progress,
) -> Answered:
    """The original's fp32 logits for one split, and its distances where there is a Gaussian."""
    logits, distances = original_answers(
        model, gaussian, samples, spec.pixel_path, f"scoring {split}", progress
    )
    return Answered(
        split=split,
        samples=samples,
        labels=np.array([sample.label for sample in samples]),
        logits=logits,
        distances=distances,
    )


def score_split(answered: Answered, spec: ModelSpec) -> Scored:
    """The evaluation of one split, its intervals by the images' groups, beside the errors at
    temperature 1.
    """
    probabilities = softmax(answered.logits, spec.temperature)
    labels = answered.labels
    evaluation = evaluate(
        labels, probabilities, spec, [sample.group for sample in answered.samples]
    )
    if spec.temperature_fit:
        before = probability_errors(labels, softmax(answered.logits), spec.positive_index)
        evaluation = replace(evaluation, uncalibrated=before)
    return Scored(answered, probabilities, evaluation)


def write_answers(run: Run, spec: ModelSpec, scored: Sequence[Scored]) -> None:
    """Write `answers.csv`: each held-out image with its class, the answer, probabilities, logits
    and group.
    """
    columns = ["path", "split", "class", "prediction", "probability"]
    columns += [f"{kind}_{name}" for kind in ("p", "logit") for name in spec.classes]
    rows = [row for each in scored for row in answer_rows(spec, each)]
    run.write_answers([*columns, "distance", "group"], rows)


def answer_rows(spec: ModelSpec, scored: Scored) -> list[list[str]]:
    """One row for each image, numbers with nine digits, which single precision is restored from."""
    rows = []
    positive = spec.positive_index
    answers = zip(scored.answered.samples, spec.decide(scored.probabilities), strict=True)
    for i, (sample, answer) in enumerate(answers):
        probabilities = scored.probabilities[i]
        logits = scored.answered.logits[i]
        numbers = [f"{value:.9g}" for value in (probabilities[positive], *probabilities, *logits)]
        classes = [spec.classes[sample.label], spec.classes[answer]]
        distances = scored.answered.distances
        numbers.append("" if distances is None else f"{distances[i]:.9g}")
        rows.append([sample.name, scored.answered.split, *classes, *numbers, sample.group])
    return rows


def original_answers(
    model: KneeVGG,
    gaussian: FeatureGaussian | None,
    samples: tuple[Sample, ...],
    pixel_path: PixelPath,
    what: str,
    progress: Progress,
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Logits (N, K) and, with a Gaussian, distances (N,) of the PyTorch model in fp32 for the
    samples' files.
    """
    logits = []
    distances = []
    with progress.stage(what, len(samples)) as stage:
        for i in range(0, len(samples), BATCH):
            part = samples[i : i + BATCH]
            images = np.stack([load_input(sample.path, pixel_path) for sample in part])[:, None]
            answers = predict(model, gaussian, images)
            logits.append(answers[0])
            distances += [] if answers[1] is None else [answers[1]]
            stage.advance(len(part))
    return np.concatenate(logits), np.concatenate(distances) if distances else None


def report(spec: ModelSpec, evaluations: dict[str, Evaluation]) -> str:
    """The classification report of each split, in scikit-learn's layout, and every figure with its
    interval.
    """
    lines = [f"{spec.name}: {spec.architecture.head} head, temperature {spec.temperature:.4g}"]
    if spec.training.caveat:
        lines.append(spec.training.caveat)
    for split, evaluation in evaluations.items():
        lines += ["", f"{split}: {evaluation.n} images", "", classification_report(evaluation)]
        lines += [
            *figure_lines(evaluation),
            decision_line(evaluation, split),
            probability_line(evaluation),
        ]
    return "\n".join([*lines, "", DISCLAIMER, ""])


def draw(run: Run, dataset: Dataset, spec: ModelSpec, state: State, scored: Scored) -> None:
    """All figures of a run; those of answers show the test split, or val where there is no test."""
    answered = scored.answered
    evaluation = scored.evaluation
    caveat = spec.training.caveat
    figures.draw_curves(state.history, state.best_epoch, run.figure("curves"), caveat)
    figures.draw_confusion(evaluation, answered.split, run.figure("confusion"), caveat)
    figures.draw_roc(answered.labels, scored.probabilities, evaluation, run.figure("roc"), caveat)
    shown = figures.Reliability(
        answered.split, answered.labels, softmax(answered.logits), scored.probabilities
    )
    figures.draw_calibration(shown, evaluation, run.figure("calibration"), caveat)
    figures.draw_samples(dataset, spec.pixel_path, spec.training.seed, run.figure("samples"))
