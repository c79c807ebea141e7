"""The folder of `kneeedge tune` and its records: what was asked, tried, and what it was worth."""

import math
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import CheckpointError, ConfigError, NotFoundError
from kneeedge.model.provenance import SearchWorth
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.runs.recipe import Recipe, RecipeFields, write_recipe
from kneeedge.runs.record import RunRecord
from kneeedge.statistics.intervals import Interval
from kneeedge.system.files import write_csv, write_text
from kneeedge.system.machine import Environment
from kneeedge.system.strict_json import from_json, to_json

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
"how a trial ended; failed: its loss was no longer finite"
BETTER, NO_BETTER, WORSE = "better", "no better than the default", "worse"
CONFIRM = "confirm"
"part of the images that the search does not see; the other parts are its folds"
CHEAP = (
    "epochs", "batch_size", "head_lr", "lr", "lr_decay", "weight_decay", "label_smoothing",
    "dropout", "mixup", "cutmix", "ema", "views",
)  # fmt: skip
"fields that are searched: the frozen blocks' activations stay as they are"
COSTLY = {"rotation": "rotation", "corruptions": "corruptions", "freeze-blocks": "freeze_blocks"}
"what --also names, and its field: each setting has activations of its own"


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """What `kneeedge tune` was asked to do."""

    train: TrainConfig
    "the default recipe, and what describes data and network"
    fixed: tuple[str, ...] = ()
    "searched fields for which a value was given"
    also: tuple[str, ...] = ()
    "of COSTLY, what is searched beside the fields of CHEAP"
    minutes: float = 60.0
    "that each command has, confirmation included"
    trials: int | None = None
    "of all processes together, the default's included; None: as many as the time allows"
    folds: int = 3
    "of the search, by group"
    confirm: float = 0.25
    "share of the groups that the search does not see"
    seeds: int = 3
    "with which the default and the best recipe are trained to compare them"

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 1e6:
            raise ConfigError(f"--minutes {self.minutes} is no time", "give more than 0")
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"--trials {self.trials} is too few", "give 1 or more")
        if not 2 <= self.folds <= 100:
            raise ConfigError(f"--folds {self.folds} is not one of 2 to 100", "choose one")
        if not 0.05 <= self.confirm <= 0.9:
            problem = f"--confirm {self.confirm} is not one of 0.05 to 0.9"
            raise ConfigError(problem, "give the share of the groups to hold back")
        if not 1 <= self.seeds <= 100:
            raise ConfigError(f"--seeds {self.seeds} is not one of 1 to 100", "choose one")
        for name in self.also:
            if name not in COSTLY:
                raise ConfigError(f"--also {name} is unknown", f"name of {', '.join(COSTLY)}")
        if self.train.frozen_precision == "int8" and not self.may_be_int8:
            problem = "--frozen-precision int8 is of one number of blocks, not --also freeze-blocks"
            raise ConfigError(problem, "leave out one of the two")

    @property
    def may_be_int8(self) -> bool:
        """Whether frozen blocks may be computed in int8, whose ranges are of one number of them."""
        return "freeze-blocks" not in self.also


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """`plan.json`: what a study is made by, the same for all processes that work on it."""

    config: TuneConfig
    record: RunRecord
    "of the default recipe"


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """A recipe on the images of one fold, of the last epoch's averaged weights."""

    log_loss: float
    "nats; at the temperature fitted to these images, as `kneeedge train` fits it"
    log_loss_uncalibrated: float
    "at temperature 1"
    temperature: float
    auroc: float
    "of two classes; of more the mean of one-versus-rest"
    accuracy: float
    "at the largest probability"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe that was tried."""

    number: int
    "from 0, which is the default"
    state: str
    "complete, pruned or failed"
    value: float | None
    "mean log loss of the folds; null where not all were trained"
    fields: RecipeFields
    folds: tuple[FoldScore, ...]
    reports: dict[str, float]
    "log loss by step, of what pruning decides by: see kneeedge/tune/README.md"
    seconds: float

    @property
    def loss(self) -> float:
        """The value, which is infinite where not all folds were trained."""
        return math.inf if self.value is None else self.value


@dataclass(frozen=True, kw_only=True)
class Change:
    """A figure of the best recipe against the default's, on images that the search did not see."""

    default: float
    "mean over the seeds"
    best: float
    delta: float
    "best less default"
    interval: Interval
    "of delta, 95 %: bootstrap over groups and seeds"
    by_seed: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What the search was worth, in full; its figures are those of trained runs."""

    worth: SearchWorth
    changes: dict[str, Change]
    "log_loss, auroc and accuracy; none where the default itself was the best"
    searched_gain: float
    "the same difference of log loss on the search's own folds, which flatters the best"


@dataclass(frozen=True, kw_only=True)
class TuneReport:
    """`study.json`: all of a finished study."""

    study: str
    config: TuneConfig
    parts: dict[str, dict[str, int]]
    "images and groups of the confirmation part and of each fold"
    data_sha256: str
    "hash over the sorted (path, file hash, part, class) rows"
    space: dict[str, str]
    "what each searched field was drawn from"
    trials: tuple[Trial, ...]
    best: int
    "number of the trial of the least mean log loss"
    recipe: RecipeFields
    confirmation: Confirmation
    importance: dict[str, float]
    "of each searched field, summing to 1 (PED-ANOVA); empty where too few trials are complete"
    environment: Environment
    seconds: float
    "of all trials and of the confirmation, whoever ran them"


@dataclass(frozen=True)
class Study:
    """The folder of a study: its files, and who reads and writes them."""

    folder: Path

    @property
    def run(self) -> Run:
        """What it has in common with a run: split, first weights, cache, and report as text."""
        return Run(self.folder)

    @property
    def plan(self) -> Path:
        """Written last of what is begun with."""
        return self.folder / "plan.json"

    @property
    def journal(self) -> Path:
        """Optuna's log of all trials, JSON a line."""
        return self.folder / "journal.log"

    @property
    def report(self) -> Path:
        """Written last of all: the study is finished where it is there."""
        return self.folder / "study.json"

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.json"

    def cache(self, key: str) -> Path:
        """The folder of one setting's activations."""
        return self.run.cache / key

    def lock(self, name: str) -> Path:
        """A file that a process holds; see `kneeedge.system.locks`."""
        return self.folder / "locks" / name

    @property
    def confirmations(self) -> Path:
        """Where the default and the best recipe are trained, to compare the two."""
        return self.folder / "confirm"

    def read_plan(self) -> StudyPlan:
        """`plan.json`; NotFoundError without it, CheckpointError where it does not fit."""
        if not self.plan.is_file():
            remedy = "begin one with `kneeedge tune DATA`"
            raise NotFoundError(f"{self.folder}: no study was begun here", remedy)
        try:
            return from_json(StudyPlan, self.plan.read_bytes())
        except ValueError as error:
            problem = f"no plan of this kneeedge ({error})"
            raise CheckpointError(self.plan, problem, "begin the study again") from error

    def write_plan(self, plan: StudyPlan) -> None:
        write_text(self.plan, to_json(plan))

    def read_report(self) -> TuneReport:
        """`study.json`; raises CheckpointError where it does not fit."""
        try:
            return from_json(TuneReport, self.report.read_bytes())
        except ValueError as error:
            problem = f"no study of this kneeedge ({error})"
            raise CheckpointError(self.report, problem, "begin the study again") from error

    def write_results(self, report: TuneReport, recipe: Recipe, text: str) -> None:
        """Write recipe, table of trials and report, and last `study.json`."""
        write_recipe(recipe, self.recipe)
        names = list(report.space)
        columns = ["trial", "state", "log_loss", "seconds", *names]
        rows = []
        for trial in report.trials:
            values = trial.fields.values
            value = "" if trial.value is None else trial.value
            cells = [values.get(name, "") for name in names]
            rows.append([trial.number, trial.state, value, trial.seconds, *cells])
        write_csv(self.folder / "trials.csv", columns, rows)
        self.run.write_report(text)
        write_text(self.report, to_json(report))
