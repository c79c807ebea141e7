"""One trial after the other, by all processes of a study, until time or number end."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import optuna

from kneeedge.runs.tuning import COMPLETE, PRUNED, TuneConfig
from kneeedge.system.locks import holding, is_held, try_hold
from kneeedge.system.progress import duration
from kneeedge.tune.pool import Pool
from kneeedge.tune.storage import WORKER, Trials
from kneeedge.tune.trial import try_recipe

ASK = "ask"
"the lock under which a trial begins"
MARGIN = 1.15
"on the time that the confirmation is expected to take"


def search(trials: Trials, pool: Pool, deadline: float) -> None:
    """Try recipes until there are as many as asked for, or the rest of the time is needed.

    `deadline` is by the clock of `time.monotonic`.
    """
    with as_worker(trials, pool) as worker:
        while (trial := begin_trial(trials, pool, worker, deadline)) is not None:
            try_recipe(trials, trial, pool, lambda: left_to_search(trials, deadline))
            pool.progress(line_of(trials, trial.number, deadline))


@contextmanager
def as_worker(trials: Trials, pool: Pool) -> Iterator[str]:
    """Within, this process is known to be at work by the name that is given."""
    with holding(trials.study.lock(ASK), pool.progress):
        trials.prepare()
        number = 1
        while (file := try_hold(trials.study.lock(worker_name(number)))) is None:
            number += 1
    with file:
        yield worker_name(number)


def worker_name(n: int) -> str:
    return f"worker-{n}"


def n_searching(trials: Trials) -> int:
    """How many processes are trying recipes, this one included."""
    names = trials.study.lock(worker_name(1)).parent.glob("worker-*")
    return sum(is_held(path) for path in names)


def begin_trial(
    trials: Trials, pool: Pool, worker: str, deadline: float
) -> optuna.trial.Trial | None:
    """The next trial, with its values drawn; None where the search is over."""
    with holding(trials.study.lock(ASK), pool.progress):
        trials.prepare()
        if trials.chosen is not None or trials.n_open == 0:
            return None
        left = left_to_search(trials, deadline)
        if not trials.default_waits and trial_seconds(trials) > left:
            pool.progress(end_line(trials))
            return None
        trial = trials.optuna.ask(dict(trials.space))
        trial.set_user_attr(WORKER, worker)
        return trial


def left_to_search(trials: Trials, deadline: float) -> float:
    """Seconds until the rest of the time is needed for the confirmation."""
    return deadline - time.monotonic() - confirmation_seconds(trials)


def trial_seconds(trials: Trials) -> float:
    """What another trial is expected to take."""
    seconds = [trial.seconds for trial in trials.records()]
    return sum(seconds) / max(1, len(seconds))


def end_line(trials: Trials) -> str:
    """Why no other trial begins, and what to do where none but the default was tried."""
    trial = duration(trial_seconds(trials))
    needed = duration(confirmation_seconds(trials))
    line = f"the rest of the time is for the confirmation, {needed}"
    if len(trials.records()) > 1:
        return line
    remedy = "give more --minutes, fewer --epochs or --seeds, or freeze more blocks"
    return f"{line}; another trial, {trial}, does not fit: {remedy}"


def confirmation_seconds(trials: Trials) -> float:
    """What the trainings of the default and of the best recipe so far are expected to take.

    A fold of a trial trains on (folds - 1) / folds of the images that the search sees, and a
    training to confirm on all of them but its val. The processes that search share the trainings.
    """
    config: TuneConfig = trials.plan.config
    complete = trials.complete()
    if not complete:
        return 0.0
    default = complete[0]
    best = min(complete, key=lambda trial: trial.loss)
    share = (1 - config.train.val_fraction) / (config.folds - 1)
    each = math.ceil(2 * config.seeds / max(1, n_searching(trials)))
    return MARGIN * each * share * (default.seconds + best.seconds) / 2


def line_of(trials: Trials, number: int, deadline: float) -> str:
    """What became of a trial, the best so far, and how much time the search has left."""
    records = trials.records()
    (trial,) = [record for record in records if record.number == number]
    complete = trials.complete()
    best = min(complete, key=lambda record: record.loss)
    if trial.state == COMPLETE:
        what = f"log loss {trial.value:.4f}"
    elif trial.state == PRUNED:
        step = max(trial.reports, key=int)
        where = f"after fold {len(trial.folds)}" if trial.folds else "within the first fold"
        what = f"pruned {where}, log loss {trial.reports[step]:.4f}"
    else:
        what = "failed: its loss is not finite"
    name = " (the default)" if number == 0 else ""
    left = left_to_search(trials, deadline)
    return (
        f"trial {number}{name}: {what}, {duration(trial.seconds)}; best {best.value:.4f} of trial "
        f"{best.number}; {duration(max(0.0, left))} left to search"
    )
