"""The kept weights, scored in fp32 by the one pixel path: a run's spec, metrics and figures."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kneeedge.data.dataset import Dataset, Sample
from kneeedge.errors import PromiseError
from kneeedge.inference.metrics import Evaluation, classification_report, evaluate
from kneeedge.model.certify import LabelledAnswers, certified_text, certify, parse_promise
from kneeedge.model.decision import fit_decision
from kneeedge.model.polarity import Polarity
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.spec import DISCLAIMER, ModelSpec, PixelPath, softmax
from kneeedge.pixels.pixel_path import load_input
from kneeedge.report.scorecard import decision_line, figure_lines, probability_line
from kneeedge.runs.config import SLIM
from kneeedge.runs.folder import Run
from kneeedge.runs.record import RunRecord
from kneeedge.statistics.reliability import probability_errors
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import plain
from kneeedge.training import figures
from kneeedge.training.checkpoint import load_model
from kneeedge.training.data import Batches, FileBatches
from kneeedge.training.loop import State
from kneeedge.training.model import IMAGENET_MEAN, IMAGENET_STD, KneeVGG
from kneeedge.training.novelty import (
    EARLY_VIEWS,
    N_VIEWS,
    PARTS,
    Gaussians,
    Part,
    choose_limit,
    fit_gaussian,
    predict_parts,
    save_gaussians,
    training_features,
)
from kneeedge.training.polarity import fit_polarity

BATCH = 32
FIRST_STEP = "data"
"of a training, by which its time is told"


@dataclass(frozen=True, kw_only=True)
class HeldOutSplit:
    """A held-out split with the original's logits; each image goes through the network once."""

    split: str
    samples: tuple[Sample, ...]
    labels: NDArray[np.int64]
    "(N,)"
    logits: NDArray[np.float32]
    "(N, K)"
    part_distances: NDArray[np.float64] | None
    "(N, P) to the training images' features by part; absent where the model answers every image"
    distances: NDArray[np.float64] | None = None
    "(N,), once the parts' scales are known"

    def measured(self, gaussians: Gaussians | None) -> "HeldOutSplit":
        """The same with the distances that the parts make."""
        if gaussians is None or self.part_distances is None:
            return self
        return replace(self, distances=gaussians.combined(self.part_distances))


@dataclass(frozen=True)
class ScoredSplit:
    """A held-out split at the spec's temperature and threshold, and what its answers are worth."""

    held_out: HeldOutSplit
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
    """Fit temperature, threshold and the limits to abstain and refer on val; score val and test.

    Writes the run's `spec.json`, `metrics.json`, `answers.csv`, `report.txt` and figures. Returns
    each held-out split's evaluation.
    """
    begun = time.monotonic()
    spec = build_spec(run, record, dataset)
    spec = replace(spec, polarity=learn_polarity(dataset, spec.pixel_path, progress))
    model = load_model(spec, run.model).to(record.device)
    gaussians = fit_novelty(model, record, dataset, batches, progress)
    held_out = [
        answer_split(model, gaussians, spec, dataset.split(split), split, progress)
        for split in ("val", "test")
        if dataset.split(split)
    ]
    val = held_out[0]
    unshown = ""
    if gaussians is not None and val.part_distances is not None:
        gaussians = gaussians.scaled_by(val.part_distances)
        held_out = [split.measured(gaussians) for split in held_out]
        val = held_out[0]
    if val.split == "val":
        spec = fit_decision(spec, val.logits, val.labels, record.config.threshold, "val")
        spec = limit_novelty(spec, gaussians, val, run)
        spec, unshown = certify_split(spec, val, record.config.certify)
        if unshown:
            progress(unshown)
    scored = [score_split(split, spec) for split in held_out]
    evaluations = {split.held_out.split: split.evaluation for split in scored}
    scores = {split: evaluation.score() for split, evaluation in evaluations.items()}
    spec = replace(spec, training=replace(spec.training, scores=scores))
    write_answers(run, spec, scored)
    run.write_report(report(spec, evaluations, unshown))
    draw(run, dataset, spec, state, scored[-1])
    metrics = metrics_record(spec, state, evaluations)
    if FIRST_STEP in progress.seconds:  # nothing was done before a stop
        seconds = {**progress.seconds, "scoring": time.monotonic() - begun}
        metrics["seconds"] = {step: round(value, 1) for step, value in seconds.items()}
    run.write_metrics(metrics)
    run.write_spec(spec)
    return evaluations


def metrics_record(
    spec: ModelSpec, state: State, evaluations: dict[str, Evaluation]
) -> dict[str, Any]:
    """What `metrics.json` holds: the kept epoch, what leaked, and each split's evaluation."""
    record: dict[str, Any] = {"kept_epoch": state.best_epoch, "epochs": len(state.history)}
    record |= {name: getattr(spec.training, name) for name in ("leaked", "protocol", "caveat")}
    record |= {split: plain(evaluation) for split, evaluation in evaluations.items()}
    return record


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
        dropped_labels=record.dropped_labels,
        tuned=record.tuned,
    )
    return ModelSpec(
        name=run.name,
        classes=dataset.classes,
        positive=record.positive,
        training=training,
        architecture=record.architecture,
        pixel_path=config.pixel_path,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def learn_polarity(dataset: Dataset, pixel_path: PixelPath, progress: Progress) -> Polarity | None:
    """The test for inverted images, of the training images; None where they do not show it."""
    train = dataset.split("train")
    with progress.stage("polarity of the training images", len(train)) as stage:

        def images() -> Iterator[NDArray[np.uint8]]:
            for sample in train:
                yield load_input(sample.path, pixel_path)
                stage.advance()

        return fit_polarity(images())


def fit_novelty(
    model: KneeVGG, record: RunRecord, dataset: Dataset, batches: Batches, progress: Progress
) -> Gaussians | None:
    """The Gaussians of the training images' features; None without `abstain` or without val.

    It is val that sets the limit. Blocks before the cached activations are computed anew, of fewer
    views; so is all of it where views were corrupted, since such images are to be far.
    """
    config = replace(record.config, corruptions="")
    if not (config.abstain and dataset.split("val")):
        return None
    is_cached = record.n_views > 0 and not record.config.corruptions
    n_done = record.n_frozen_blocks if is_cached else 0
    train = dataset.split("train")
    files = FileBatches(train, (), config, config.pixel_path)

    def features(parts: Sequence[Part], views: Sequence[int]) -> list[NDArray[np.float32]]:
        cached = is_cached and n_done <= min(part.block for part in parts)
        source = batches if cached else files
        inputs = (x for epoch in views for x, _ in source.train(epoch))
        n_images = len(views) * len(train)
        n_before = n_done if cached else 0
        return training_features(model, parts, inputs, n_images, n_before, record.bf16, progress)

    early = [part for part in PARTS if part.block < n_done]
    late = [part for part in PARTS if part.block >= n_done]
    found = dict(zip(late, features(late, range(N_VIEWS)), strict=True)) if late else {}
    if early:
        found |= zip(early, features(early, EARLY_VIEWS), strict=True)
    fitted = tuple(fit_gaussian(found[part]) for part in PARTS)
    return Gaussians(PARTS, fitted, (1.0,) * len(PARTS))


def limit_novelty(
    spec: ModelSpec, gaussians: Gaussians | None, val: HeldOutSplit, run: Run
) -> ModelSpec:
    """The spec with its limit to abstain, set on val; saves the Gaussians beside it."""
    if gaussians is None or val.distances is None:
        return spec
    save_gaussians(gaussians, run.novelty)
    return replace(spec, novelty=choose_limit(val.distances, val.split, gaussians))


def certify_split(
    spec: ModelSpec, held_out: HeldOutSplit, promise: str | None
) -> tuple[ModelSpec, str]:
    """The spec with the limits that keep a promise, by the images that it does not abstain from.

    Where the answers do not show the promise, the spec as it was, and why: a training is not lost.
    """
    if promise is None:
        return spec, ""
    probabilities = softmax(held_out.logits, spec.temperature)
    answered = np.ones(len(held_out.labels), dtype=bool)
    if spec.novelty and held_out.distances is not None:
        answered = ~spec.novelty.refuses(held_out.distances)
    rows = np.flatnonzero(answered)
    answers = LabelledAnswers(
        probabilities=probabilities[rows],
        labels=held_out.labels[rows],
        groups=[held_out.samples[i].group for i in rows],
        split=held_out.split,
    )
    try:
        return certify(spec, answers, parse_promise(promise)), ""
    except PromiseError as error:
        return spec, f"NOT CERTIFIED: {error}"


def answer_split(
    model: KneeVGG,
    gaussians: Gaussians | None,
    spec: ModelSpec,
    samples: tuple[Sample, ...],
    split: str,
    progress: Progress,
) -> HeldOutSplit:
    """The original's fp32 logits for one split, and the parts' distances where it has any."""
    title = f"scoring {split}"
    logits, parts = original_answers(model, gaussians, samples, spec.pixel_path, title, progress)
    return HeldOutSplit(
        split=split,
        samples=samples,
        labels=np.array([sample.label for sample in samples]),
        logits=logits,
        part_distances=parts,
    )


def score_split(held_out: HeldOutSplit, spec: ModelSpec) -> ScoredSplit:
    """The evaluation of one split, with intervals by group and the errors at temperature 1."""
    probabilities = softmax(held_out.logits, spec.temperature)
    groups = [sample.group for sample in held_out.samples]
    evaluation = evaluate(held_out.labels, probabilities, spec, groups)
    if spec.temperature_fit:
        before = softmax(held_out.logits)
        errors = probability_errors(held_out.labels, before, spec.positive_index)
        evaluation = replace(evaluation, uncalibrated=errors)
    return ScoredSplit(held_out, probabilities, evaluation)


def write_answers(run: Run, spec: ModelSpec, scored: Sequence[ScoredSplit]) -> None:
    """Write `answers.csv`: each held-out image's class, answer, probabilities, logits and group."""
    columns = ["path", "split", "class", "prediction", "probability"]
    columns += [f"{kind}_{name}" for kind in ("p", "logit") for name in spec.classes]
    columns += ["distance", "group"]
    rows = []
    for split in scored:
        rows += answer_rows(spec, split)
    run.write_answers(columns, rows)


def answer_rows(spec: ModelSpec, scored: ScoredSplit) -> list[list[str]]:
    """One row for each image, numbers with nine digits, which single precision is restored from."""
    held_out = scored.held_out
    predictions = spec.decide(scored.probabilities)
    rows = []
    for i, sample in enumerate(held_out.samples):
        probabilities = scored.probabilities[i]
        values = [probabilities[spec.positive_index], *probabilities, *held_out.logits[i]]
        if held_out.distances is not None:
            values.append(held_out.distances[i])
        numbers = [f"{value:.9g}" for value in values]
        if held_out.distances is None:
            numbers.append("")
        classes = [spec.classes[sample.label], spec.classes[predictions[i]]]
        rows.append([sample.name, held_out.split, *classes, *numbers, sample.group])
    return rows


def in_full_fp32() -> AbstractContextManager[None]:
    """Convolutions within are fp32 on a GPU too, which else rounds their factors to 10 bits."""
    exact: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return exact


def original_answers(
    model: KneeVGG,
    gaussians: Gaussians | None,
    samples: tuple[Sample, ...],
    pixel_path: PixelPath,
    title: str,
    progress: Progress,
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Logits (N, K) and, with Gaussians, each part's distances (N, P) of samples' files, in fp32.

    `title` names the stage of the work in what is shown of the progress.
    """
    logits = []
    distances = []
    with progress.stage(title, len(samples)) as stage, in_full_fp32():
        for i in range(0, len(samples), BATCH):
            part = samples[i : i + BATCH]
            images = np.stack([load_input(sample.path, pixel_path) for sample in part])[:, None]
            part_logits, part_distances = predict_parts(model, gaussians, images)
            logits.append(part_logits)
            if part_distances is not None:
                distances.append(part_distances)
            stage.advance(len(part))
    return np.concatenate(logits), np.concatenate(distances) if distances else None


def report(spec: ModelSpec, evaluations: dict[str, Evaluation], unshown: str = "") -> str:
    """The classification report of each split, and every figure with its interval.

    `unshown` says why there are no certified limits, where they were asked for.

    The layout of the classification report is scikit-learn's.
    """
    lines = [f"{spec.name}: {spec.architecture.head} head, temperature {spec.temperature:.4g}"]
    if spec.training.caveat:
        lines.append(spec.training.caveat)
    if spec.certified:
        lines.append(certified_text(spec.certified))
    if unshown:
        lines.append(unshown)
    for split, evaluation in evaluations.items():
        lines += [
            "",
            f"{split}: {counted(evaluation.n, 'image')}",
            "",
            classification_report(evaluation),
        ]
        lines += figure_lines(evaluation)
        lines += [decision_line(evaluation, split), probability_line(evaluation)]
    return "\n".join([*lines, "", DISCLAIMER, ""])


def draw(run: Run, dataset: Dataset, spec: ModelSpec, state: State, scored: ScoredSplit) -> None:
    """Draw all figures of a run; `scored` is test, or val where there is no test."""
    held_out = scored.held_out
    evaluation = scored.evaluation
    caveat = spec.training.caveat
    by_auroc = spec.training.recipe != SLIM  # which keeps the last epoch
    curves = run.figure("curves")
    figures.draw_curves(state.history, state.best_epoch, curves, caveat, by_auroc)
    figures.draw_confusion(evaluation, held_out.split, run.figure("confusion"), caveat)
    figures.draw_roc(held_out.labels, scored.probabilities, evaluation, run.figure("roc"), caveat)
    reliability = figures.Reliability(
        split=held_out.split,
        labels=held_out.labels,
        before=softmax(held_out.logits),
        after=scored.probabilities,
    )
    figures.draw_reliability(reliability, evaluation, run.figure("calibration"), caveat)
    figures.draw_samples(dataset, spec.pixel_path, spec.training.seed, run.figure("samples"))
