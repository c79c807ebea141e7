"""One trial: a recipe trained on the folds in turn, and given up where others do better."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from optuna.trial import Trial, TrialState

from kneeedge.errors import DivergedError
from kneeedge.model.decision import fit_temperature
from kneeedge.model.spec import softmax
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.tuning import FoldScore
from kneeedge.statistics.reliability import log_loss, log_losses
from kneeedge.system.progress import Progress
from kneeedge.training.average import WeightAverage
from kneeedge.training.data import Batches
from kneeedge.training.loop import Objective, Trainer, build_optimizer, mean_auroc
from kneeedge.training.team import ALONE
from kneeedge.tune.parts import fold_names, fold_splits
from kneeedge.tune.pool import Pool, logits_of
from kneeedge.tune.race import is_behind
from kneeedge.tune.space import fields_of
from kneeedge.tune.storage import EARLY, FIRST_FOLD, FOLDS, LOSSES, SECONDS, Trials

SILENT = Progress(quiet=True)
OnLoss = Callable[[int, float], None]
"hears the step and the log loss there"


class PrunedError(Exception):
    """The trial is given up."""


def try_recipe(trials: Trials, trial: Trial, pool: Pool, seconds_left: Callable[[], float]) -> None:
    """Train a trial's recipe on every fold and record what comes of it.

    Any but the default is given up behind a fold where others do better, or where its other folds
    take more than `seconds_left`. Raises DivergedError where the default's loss is not finite.
    """
    config = pool.config(fields_of(trials.plan, trial.params))
    pool.store(config)  # computed once, which is no part of what a trial takes
    start = time.monotonic()
    reported = trials.optuna.trials[trial.number].intermediate_values
    folds: list[FoldScore] = []
    losses: list[list[float]] = []
    names = fold_names(trials.plan.config.folds)

    def report(step: int, loss: float) -> None:
        if step not in reported:  # of a process that is gone
            trial.report(loss, step)
        if trial.should_prune():
            raise PrunedError

    try:
        for k, name in enumerate(names):
            early = report if k == 0 else None
            fold, of_images = train_fold(pool, config, name, early)
            folds.append(fold)
            losses.append(of_images)
            if k + 1 < len(names):
                report(FIRST_FOLD + k, mean_loss(folds))
                a_fold = (time.monotonic() - start) / (k + 1)
                if trial.number > 0:
                    check_other_folds(trials, pool, losses, seconds_left() / a_fold)
        state = TrialState.COMPLETE
    except PrunedError:
        state = TrialState.PRUNED
    except DivergedError:
        if trial.number == 0:
            raise
        state = TrialState.FAIL
    trial.set_user_attr(FOLDS, [asdict(fold) for fold in folds])
    trial.set_user_attr(LOSSES, losses)
    trial.set_user_attr(SECONDS, round(time.monotonic() - start, 2))
    value = mean_loss(folds) if state == TrialState.COMPLETE else None
    trials.optuna.tell(trial, value, state=state)


def check_other_folds(
    trials: Trials, pool: Pool, losses: list[list[float]], folds_in_time: float
) -> None:
    """Raise PrunedError where a trial is not to go on behind the folds of these losses."""
    names = fold_names(trials.plan.config.folds)
    seen = names[: len(losses)]
    best = trials.best_losses()
    if best and is_behind(losses, best, [patients(pool, name) for name in seen]):
        raise PrunedError
    if folds_in_time < len(names) - len(seen):
        pool.progress("no time is left for the trial's other folds")
        raise PrunedError


def mean_loss(folds: list[FoldScore]) -> float:
    return float(np.mean([fold.log_loss for fold in folds]))


def patients(pool: Pool, fold: str) -> list[str]:
    """Whose each image of a fold is, in the order in which they are scored."""
    return [sample.group for sample in pool.parts.split(fold)]


def train_fold(
    pool: Pool, config: TrainConfig, fold: str, on_loss: OnLoss | None
) -> tuple[FoldScore, list[float]]:
    """Train on the other folds to the last epoch, and score on this one; also each image's loss.

    No epoch is chosen by the fold's own images. `on_loss` hears of the epochs of EARLY.
    """
    splits = fold_splits(pool.parts, fold)
    batches = pool.batches(config, splits.split("train"), splits.split("val"))
    trainer = make_trainer(pool, config, batches)
    looked_at = {math.ceil(share * config.epochs): step for step, share in enumerate(EARLY)}
    for epoch in range(config.epochs):
        trainer.run_epoch(epoch)
        step = looked_at.get(epoch + 1)
        if on_loss and step is not None and epoch + 1 < config.epochs:
            on_loss(step, score(trainer)[0].log_loss)
    return score(trainer)


def make_trainer(pool: Pool, config: TrainConfig, batches: Batches) -> Trainer:
    """What trains a network from the study's first weights."""
    model = pool.model(config)
    fabric = pool.fabric()
    optimizer = build_optimizer(model, config)
    fabric.to_device(model)
    average = WeightAverage(model, config.ema)
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    return Trainer(
        model=wrapped,
        optimizer=wrapped_optimizer,
        average=average,
        batches=batches,
        config=config,
        fabric=fabric,
        team=ALONE,
        progress=SILENT,
        objective=Objective(),
    )


def score(trainer: Trainer) -> tuple[FoldScore, list[float]]:
    """The averaged weights on the validation images, and the log loss of each.

    The temperature is fitted to these images themselves: one number for all of them, alike for all
    recipes. `kneeedge train` fits it too, so that what regularisation does to confidence alone is
    not what a recipe is chosen by (Berta et al. 2025, "Rethinking early stopping: refine, then
    calibrate").
    """
    with trainer.average.applied():
        logits = logits_of(trainer.model.module, trainer.batches, trainer.fabric)
    labels = trainer.batches.val_labels
    if not np.isfinite(logits).all():
        raise DivergedError(trainer.config.epochs)
    temperature = fit_temperature(logits, labels)
    losses = log_losses(labels, softmax(logits, temperature))
    found = FoldScore(
        log_loss=float(losses.mean()),
        log_loss_uncalibrated=log_loss(labels, softmax(logits)),
        temperature=temperature,
        auroc=mean_auroc(logits, labels),
        accuracy=float((logits.argmax(1) == labels).mean()),
    )
    return found, losses.tolist()
