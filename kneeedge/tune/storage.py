"""The trials of a study: Optuna's journal in its folder, which several processes write to.

The journal is JSON, a line an event. Draws follow from the seed, the number of the trial and the
trials before, so that a study that was stopped goes on as it would have.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from kneeedge.errors import CheckpointError
from kneeedge.runs.tuning import COMPLETE, FAILED, PRUNED, FoldScore, Study, StudyPlan, Trial
from kneeedge.system.locks import is_held
from kneeedge.tune.space import Space, default_values, fields_of

NAME = "kneeedge"
N_STARTUP = 8
"trials that are drawn at random before the sampler learns from them"
REDRAWN = 0.5
"share of the fields of such a trial that leave the default's values: far from it most are bad"
N_BEFORE_PRUNING = 5
"trials that have come to a step before one is pruned there"
EARLY = (0.5, 0.75)
"of the first fold's epochs, behind which its loss is looked at"
FIRST_FOLD = len(EARLY)
"step at the end of the first fold; those of the other folds follow"
STATES = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"from which the sampler learns"
CHOSEN = "chosen"
"attribute of the study: number of the trial that is confirmed; nothing is searched behind it"
WORKER, FOLDS, LOSSES, SECONDS = "worker", "folds", "losses", "seconds"
"attributes of a trial"


class SamplerByNumber(BaseSampler):
    """Multivariate TPE (Bergstra et al. 2011; Falkner et al. 2018), seeded anew for each trial.

    Trials that other processes are at count as bad ones, so that no two try the same.
    """

    def __init__(self, seed: int, default: dict[str, Any]) -> None:
        self.seed = seed
        self.default = default

    def sampler(self, trial: FrozenTrial, name: str = "") -> TPESampler:
        key = [self.seed, trial.number, zlib.crc32(name.encode())]
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        return TPESampler(
            seed=seed, n_startup_trials=N_STARTUP, multivariate=True, constant_liar=True
        )

    def redrawn(self, number: int) -> list[str]:
        """The fields of an early trial that leave the default's values."""
        rng = np.random.default_rng([self.seed, number])
        n = max(1, round(REDRAWN * len(self.default)))
        return [str(name) for name in rng.choice(sorted(self.default), n, replace=False)]

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        n_ended = len(study.get_trials(deepcopy=False, states=ENDED))
        if n_ended < N_STARTUP and param_name not in self.redrawn(trial.number):
            return self.default[param_name]
        sampler = self.sampler(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


class FoldPruner(BasePruner):
    """Prunes what does worse than others did at the same step, on the same images; never trial 0.

    At the end of the first fold the worse half goes, before and after it the worst quarter. A trial
    is held against others by what it reports last, not by the best it ever reported: folds differ.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if trial.number == 0 or step is None:
            return False
        others = [
            other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
            if step in other.intermediate_values and other.number != trial.number
        ]
        if len(others) < N_BEFORE_PRUNING:
            return False
        share = 0.5 if step == FIRST_FOLD else 0.75
        return bool(trial.intermediate_values[step] > np.quantile(others, share))


@dataclass(frozen=True)
class Trials:
    """The trials of a study, as Optuna keeps them."""

    study: Study
    plan: StudyPlan
    space: Space
    optuna: optuna.Study
    storage: JournalStorage

    def prepare(self) -> None:
        """Let the default be the first trial, and those of processes that are gone be tried again.

        They keep number and values.
        """
        if not self.optuna.get_trials(deepcopy=False):
            self.optuna.enqueue_trial(default_values(self.plan, self.space))
        study_id = self.storage.get_study_id_from_name(NAME)
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get(WORKER)
            if worker is None or not is_held(self.study.lock(worker)):
                place = self.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
                self.storage.set_trial_state_values(place, TrialState.WAITING)

    @property
    def default_waits(self) -> bool:
        """Whether the default is still to be tried; without it there is nothing to compare with."""
        default, *_ = self.optuna.get_trials(deepcopy=False)
        return default.state == TrialState.WAITING

    @property
    def any_waits(self) -> bool:
        """Whether a trial with its values drawn is still to be tried."""
        waiting = (TrialState.WAITING,)
        return bool(self.optuna.get_trials(deepcopy=False, states=waiting))

    @property
    def n_open(self) -> int | None:
        """How many may still begin; None where only time sets a limit."""
        if self.plan.config.trials is None:
            return None
        trials = self.optuna.get_trials(deepcopy=False)
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        return max(0, self.plan.config.trials - len(trials)) + waiting

    @property
    def chosen(self) -> int | None:
        """Number of the trial that is confirmed; None while the search goes on."""
        number: int | None = self.optuna.user_attrs.get(CHOSEN)
        return number

    def choose(self) -> int:
        """Let the complete trial of the least loss be the one that is confirmed; its number."""
        number = self.chosen
        if number is None:
            number = min(self.complete(), key=lambda trial: (trial.loss, trial.number)).number
            self.optuna.set_user_attr(CHOSEN, number)
        return number

    def records(self) -> tuple[Trial, ...]:
        """All trials that have ended, by number."""
        trials = self.optuna.get_trials(deepcopy=False, states=tuple(STATES))
        return tuple(self.record(trial) for trial in trials)

    def complete(self) -> list[Trial]:
        """Those of which every fold was trained."""
        return [trial for trial in self.records() if trial.state == COMPLETE]

    def best_losses(self) -> list[list[float]]:
        """Of each fold's images, by the complete trial of the least loss; [] without any."""
        complete = self.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = min(complete, key=lambda trial: (trial.value, trial.number), default=None)
        losses: list[list[float]] = best.user_attrs.get(LOSSES, []) if best else []
        return losses

    def record(self, trial: FrozenTrial) -> Trial:
        folds = trial.user_attrs.get(FOLDS, [])
        return Trial(
            number=trial.number,
            state=STATES[trial.state],
            value=trial.value if trial.state == TrialState.COMPLETE else None,
            fields=fields_of(self.plan, trial.params),
            folds=tuple(FoldScore(**fold) for fold in folds),
            reports={str(step): value for step, value in trial.intermediate_values.items()},
            seconds=trial.user_attrs.get(SECONDS, 0.0),
        )


def open_trials(study: Study, plan: StudyPlan, space: Space) -> Trials:
    """The trials of a study's journal; raises CheckpointError where that is damaged."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = str(study.journal)
    try:
        storage = JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
        found = optuna.create_study(
            storage=storage,
            sampler=SamplerByNumber(plan.config.train.seed, default_values(plan, space)),
            pruner=FoldPruner(),
            study_name=NAME,
            direction="minimize",
            load_if_exists=True,
        )
    except (ValueError, KeyError) as error:
        problem = f"no journal of Optuna's ({error})"
        raise CheckpointError(path, problem, "begin the study again") from error
    return Trials(study, plan, space, found, storage)
