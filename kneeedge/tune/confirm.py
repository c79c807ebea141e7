"""What a search was worth: its best recipe against the default, on images that it did not see."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.decision import fit_decision
from kneeedge.model.provenance import SearchWorth
from kneeedge.model.spec import softmax
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.runs.recipe import RecipeFields
from kneeedge.runs.tuning import BETTER, CONFIRM, NO_BETTER, WORSE, Change, Confirmation, Trial
from kneeedge.statistics.crossed import crossed_estimate
from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.reliability import log_loss
from kneeedge.system.files import write_text
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import read_weights
from kneeedge.training.loop import fit, mean_auroc
from kneeedge.training.score import build_spec
from kneeedge.tune.parts import confirmation_splits, size_of
from kneeedge.tune.pool import Pool, logits_of

DEFAULT, BEST = "default", "best"
ANSWERS = "answers.json"
LOG_LOSS = "log_loss"
SILENT = Progress(quiet=True)


@dataclass(frozen=True)
class ConfirmedAnswers:
    """What one training answers to the images of the confirmation part."""

    probabilities: NDArray[np.float64]
    "(N, K) at the temperature fitted on its val"
    predictions: NDArray[np.intp]
    "(N,), by the threshold chosen on its val"


def confirm(pool: Pool, default: Trial, best: Trial) -> Confirmation:
    """Train both recipes with each seed, as `kneeedge train` does, and compare their answers."""
    samples = pool.parts.split(CONFIRM)
    size = size_of(samples)
    n_seeds = 0 if best.number == default.number else pool.plan.config.seeds
    labels = np.array([sample.label for sample in samples])
    names = [sample.group for sample in samples]
    clusters = np.unique(names, return_inverse=True)[1].astype(np.intp)
    pairs = []
    with pool.progress.stage("confirmation", 2 * n_seeds) as stage:
        for seed in range(n_seeds):
            pair = []
            for name, trial in ((DEFAULT, default), (BEST, best)):
                pair.append(train_once(pool, name, trial.fields, seed))
                stage.advance(note=f"{name}, seed {seed}")
            pairs.append((pair[0], pair[1]))
    changes = compare(labels, clusters, pairs) if pairs else {}
    worth = SearchWorth(
        verdict=verdict_of(changes),
        log_loss=changes[LOG_LOSS].delta if changes else 0.0,
        interval=changes[LOG_LOSS].interval if changes else Interval(0.0, 0.0),
        n_images=size["images"],
        n_groups=size["groups"],
        n_seeds=n_seeds,
    )
    gain = best.loss - default.loss
    return Confirmation(worth=worth, changes=changes, searched_gain=gain)


def verdict_of(changes: dict[str, Change]) -> str:
    """By the interval of the log loss alone: what was searched for, and said before it was seen."""
    if not changes:
        return NO_BETTER
    interval = changes[LOG_LOSS].interval
    if interval.high < 0:
        return BETTER
    return WORSE if interval.low > 0 else NO_BETTER


def train_once(pool: Pool, name: str, fields: RecipeFields, seed: int) -> ConfirmedAnswers:
    """One training by the rules of `kneeedge train`, or what it answered before a stop.

    Trained on all images that the search saw, but for a val by group, which stops it and sets
    temperature and threshold. Trainings share the cached views, whatever their seed.
    """
    first = pool.plan.config.train.seed
    run = pool.study.confirmation(name, seed)
    path = run.folder / ANSWERS
    if not path.is_file():
        config = pool.config(fields, (first + seed) % 2**31)
        answers = train_and_answer(pool, config, run)
        record = {
            "probabilities": answers.probabilities.tolist(),
            "predictions": answers.predictions.tolist(),
        }
        write_text(path, json.dumps(record, allow_nan=False))
        for leftover in (run.model, run.last):
            leftover.unlink(missing_ok=True)
    record = json.loads(path.read_text())
    return ConfirmedAnswers(
        np.array(record["probabilities"], dtype=np.float64),
        np.array(record["predictions"], dtype=np.intp),
    )


def train_and_answer(pool: Pool, config: TrainConfig, run: Run) -> ConfirmedAnswers:
    """Train in the run's folder, going on where it was stopped, and answer the held back images."""
    run.folder.mkdir(parents=True, exist_ok=True)
    splits = confirmation_splits(pool.parts, config)
    train = splits.split("train")
    val = splits.split("val")
    batches = pool.batches(config, train, val)
    model = pool.model(config)
    fabric = pool.fabric()
    fit(model, batches, config, run, fabric, SILENT)
    model.load_state_dict(read_weights(run.model, model))
    spec = build_spec(run, replace(pool.plan.record, config=config), splits)
    logits = logits_of(model, batches, fabric)
    spec = fit_decision(spec, logits, batches.val_labels, config.threshold, "val")
    held_back = pool.batches(config, train, pool.parts.split(CONFIRM))
    probabilities = softmax(logits_of(model, held_back, fabric), spec.temperature)
    return ConfirmedAnswers(probabilities, spec.decide(probabilities).astype(np.intp))


def compare(
    labels: NDArray[np.int64],
    clusters: NDArray[np.intp],
    pairs: list[tuple[ConfirmedAnswers, ConfirmedAnswers]],
) -> dict[str, Change]:
    """Log loss, AUROC and accuracy of the best recipe (second of each pair) against the default's.

    From the labels (N,) and the numbers of the images' groups (N,).
    """

    def of_log_loss(answers: ConfirmedAnswers, rows: NDArray[np.intp]) -> float:
        return log_loss(labels[rows], answers.probabilities[rows])

    def of_auroc(answers: ConfirmedAnswers, rows: NDArray[np.intp]) -> float | None:
        if len(np.unique(labels[rows])) < 2:
            return None
        return mean_auroc(np.log(np.clip(answers.probabilities[rows], 1e-300, 1)), labels[rows])

    def of_accuracy(answers: ConfirmedAnswers, rows: NDArray[np.intp]) -> float:
        return float((answers.predictions[rows] == labels[rows]).mean())

    figures = {LOG_LOSS: of_log_loss, "auroc": of_auroc, "accuracy": of_accuracy}
    return {name: change_of(figure, clusters, pairs) for name, figure in figures.items()}


def change_of(
    figure: Callable[[ConfirmedAnswers, NDArray[np.intp]], float | None],
    clusters: NDArray[np.intp],
    pairs: list[tuple[ConfirmedAnswers, ConfirmedAnswers]],
) -> Change:
    """The change of one figure."""

    def difference(rows: NDArray[np.intp], training: int) -> float | None:
        before, after = (figure(answers, rows) for answers in pairs[training])
        return None if before is None or after is None else after - before

    estimate = crossed_estimate(difference, clusters, len(pairs))
    all_rows = np.arange(len(clusters))
    default, best = (
        float(np.mean([figure(pair[k], all_rows) or 0.0 for pair in pairs])) for k in (0, 1)
    )
    return Change(
        default=default,
        best=best,
        delta=estimate.value,
        interval=estimate.interval,
        by_seed=estimate.by_training,
    )


def drop_trainings(pool: Pool) -> None:
    """Give the disk back: figures stand in the report."""
    shutil.rmtree(pool.study.confirmation(DEFAULT, 0).folder.parent, ignore_errors=True)
