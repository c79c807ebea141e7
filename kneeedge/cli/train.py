"""`kneeedge train`: one option for each field of TrainConfig, whose defaults it shows."""

import dataclasses
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kneeedge.cli import train_options as options
from kneeedge.cli.checks import new_folder, run_folder
from kneeedge.cli.console import Json, Quiet, completes, require_train, show, stopped
from kneeedge.cli.json_format import stamped
from kneeedge.cli.together import one_voice, told_by_first
from kneeedge.cli.train_options import DEFAULTS, PAPER
from kneeedge.errors import ConfigError, PeerLostError, WorkerError
from kneeedge.model.provenance import PAPER as PAPER_SPLIT
from kneeedge.runs.config import RECIPES, TrainConfig, paper_recipe
from kneeedge.runs.folder import RUNS, Run
from kneeedge.runs.recipe import tuned_config
from kneeedge.system.progress import Progress
from kneeedge.system.ranks import Rank, started_by_torchrun, this_rank, was_restarted

if TYPE_CHECKING:
    from kneeedge.training.lower import MakeInt8
    from kneeedge.training.team import Team

CONFIG_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(TrainConfig)
    if field.name not in ("data", "recipe", "recipe_file")
)


def train(
    ctx: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(help="Folder of CLASS/… or {train,val,test}/CLASS/…, or CSV path,label."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; the time by default.")] = None,
    runs: Annotated[
        Path, typer.Option(callback=new_folder, help="Where run folders stand.")
    ] = RUNS,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this stopped run; takes no other choice.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            autocompletion=completes(*RECIPES),
            help="default, paper (rotation and flip, 200 epochs, no more), or a file of `tune`.",
        ),
    ] = "default",
    seed: options.Seed = None,
    positive: options.Positive = None,
    threshold: options.Threshold = None,
    certify: options.Certify = None,
    abstain: options.Abstain = None,
    group_regex: options.GroupRegex = None,
    groups: options.Groups = None,
    audit: options.Audit = None,
    drop_conflicts: options.DropConflicts = None,
    drop_labels: options.DropLabels = None,
    split: options.Split = None,
    folds: options.Folds = None,
    val_fraction: options.ValFraction = None,
    test_fraction: options.TestFraction = None,
    size: options.Size = None,
    fit: options.Fit = None,
    grey_bits: options.GreyBits = None,
    rotation: options.Rotation = None,
    flip: options.Flip = None,
    corruptions: options.Corruptions = None,
    views: options.Views = None,
    cache_gb: options.CacheGb = None,
    workers: options.Workers = None,
    devices: options.Devices = None,
    weights: options.Weights = None,
    head: options.Head = None,
    width: options.Width = None,
    batch_norm: options.BatchNorm = None,
    freeze_blocks: options.FreezeBlocks = None,
    dropout: options.Dropout = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    optimizer: options.Optimizer = None,
    lr: options.Lr = None,
    head_lr: options.HeadLr = None,
    lr_decay: options.LrDecay = None,
    weight_decay: options.WeightDecay = None,
    schedule: options.Schedule = None,
    warmup: options.Warmup = None,
    label_smoothing: options.LabelSmoothing = None,
    mixup: options.Mixup = None,
    cutmix: options.Cutmix = None,
    ema: options.Ema = None,
    patience: options.Patience = None,
    precision: options.Precision = None,
    frozen_precision: options.FrozenPrecision = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Fine-tune VGG19 on a labelled folder; writes runs/NAME/ and lets runs/latest name it."""
    require_train("train")
    given = options.given_of(ctx.params, CONFIG_FIELDS)

    if resume is None and data is None:
        raise ConfigError("no data folder is given", "write `kneeedge train DATA`, or --resume RUN")
    if resume is not None and (data is not None or given or name or recipe != DEFAULTS.recipe):
        problem = "--resume takes its choices from the stopped run"
        raise ConfigError(problem, "leave out DATA and the other options")
    rank = this_rank()
    with told_by_first(rank):
        config = None if resume is not None else make_config(str(data), recipe, given)
        folder = resume or run_folder(runs / (name or datetime.now().strftime("%Y%m%d-%H%M%S")))
        n_processes = processes_wanted(config, folder)
        is_asked = devices is not None or resume is not None
        check_launch(rank, n_processes if is_asked else None, resume is not None)
    if rank.size == 1 and n_processes > 1:
        is_named = bool(name or resume)
        named = [] if is_named else ["--name", folder.name]  # all are to take the same
        raise typer.Exit(train_by_processes(n_processes, folder, [*sys.argv[1:], *named]))
    try:
        with one_voice(rank) as team:
            folder = Path(team.text_of_first(str(folder)))
            progress = Progress(quiet or not team.is_first)
            text, record = run_or_resume(config, folder, progress, team)
            record = stamped("folds" if Run(folder).is_cross_validation else "train", record)
    except PeerLostError as error:
        raise PeerLostError(how_to_go_on(folder)) from error
    except KeyboardInterrupt:
        raise stopped(stop_message(folder)) from None
    if rank.is_first:
        show(text, record, json)


def check_launch(rank: Rank, n_processes: int | None, is_resumed: bool) -> None:
    """Raise ConfigError where torchrun and `n_processes`, which are asked for, do not agree."""
    if not started_by_torchrun():
        return
    if n_processes not in (None, rank.size):
        problem = f"the training is of {n_processes} processes, and torchrun started {rank.size}"
        raise ConfigError(problem, "leave out torchrun, which `kneeedge train` does without")
    if not is_resumed and was_restarted():
        problem = "torchrun restarted a training, which would begin anew"
        raise ConfigError(problem, "go on with `kneeedge train --resume RUN`")


def processes_wanted(config: TrainConfig | None, folder: Path) -> int:
    """How many processes are to train: as asked for, or as they were before a stop."""
    if config is not None:
        return config.devices
    run = Run(folder)
    first = run.fold(0) if run.is_cross_validation else run
    return first.read_config().n_processes


def train_by_processes(n_processes: int, folder: Path, arguments: Sequence[str]) -> int:
    """Let a command line train in `folder` by several processes; the exit code.

    Raises WorkerError where one of them ends without a word.
    """
    from kneeedge.training.launch import train_together

    try:
        return train_together(n_processes, arguments)
    except WorkerError as error:
        raise WorkerError(error.what, error.reason, how_to_go_on(folder)) from error
    except KeyboardInterrupt:
        raise stopped(stop_message(folder)) from None


def how_to_go_on(folder: Path) -> str:
    """What to do after a training that ended before it was done."""
    if is_begun(folder):
        return f"go on with `kneeedge train --resume {folder}`"
    return "give the command again"


def stop_message(folder: Path) -> str:
    """What is said after a stop."""
    return f"stopped; {how_to_go_on(folder)}" if is_begun(folder) else "stopped"


def is_begun(folder: Path) -> bool:
    """Whether a training has written what it is to go on with."""
    run = Run(folder)
    return run.config.is_file() or run.is_cross_validation


def run_or_resume(
    config: TrainConfig | None, folder: Path, progress: Progress, team: "Team"
) -> tuple[str, Any]:
    """Train a run or folds in `folder`, or without a config go on with what is there.

    Returns the report as text, and the record that --json writes.
    """
    from kneeedge.report.training import folds_text, run_text
    from kneeedge.training.folds import resume_folds, train_folds
    from kneeedge.training.run import resume, train

    command = ["kneeedge", *sys.argv[1:]]
    has_folds = config.folds > 0 if config else Run(folder).is_cross_validation
    if has_folds:
        if config:
            crossed = train_folds(config, folder, command, progress, team, int8_maker())
        else:
            crossed = resume_folds(folder, progress, team)
        return folds_text(crossed.report, folder), crossed.report
    if config:
        result = train(config, folder, command, progress, team, int8_maker())
    else:
        result = resume(folder, progress, team)
    caveat = result.training.caveat
    record: dict[str, Any] = dict(result.evaluations)
    if caveat:
        record["caveat"] = caveat
    if seconds := result.run.read_seconds():
        record["seconds"] = seconds
    return run_text(result.run, result.evaluations, caveat), record


def int8_maker() -> "MakeInt8 | None":
    """What computes frozen blocks in int8; None where there is no ONNX Runtime."""
    if find_spec("onnxruntime") is None:
        return None
    from export.frozen import frozen_to_int8

    return frozen_to_int8


def make_config(data: str, recipe: str, given: dict[str, Any]) -> TrainConfig:
    """The recipe's config with the options that were given.

    Raises ConfigError where an option would have no effect.
    """
    shares = sorted({"val_fraction", "test_fraction"} & given.keys())
    if given.get("split") == PAPER_SPLIT and shares:
        name = shares[0].replace("_", "-")
        raise ConfigError(f"--split paper has sizes of its own, not --{name}", "leave it out")
    if given.get("folds") and "test_fraction" in given:
        problem = "--folds K tests each image once, whatever --test-fraction says"
        raise ConfigError(problem, "leave it out")
    return dataclasses.replace(recipe_config(recipe, TrainConfig(data=data)), **given)


def recipe_config(recipe: str, base: TrainConfig) -> TrainConfig:
    """The config with what a recipe, by its name or its file, says.

    Raises ConfigError for a name that is none, and what `read_recipe` does.
    """
    if recipe == DEFAULTS.recipe:
        return base
    if recipe == PAPER.recipe:
        return paper_recipe(base)
    if Path(recipe).suffix == ".json" or Path(recipe).is_file():
        return tuned_config(Path(recipe), base)
    remedy = f"choose one of {', '.join(RECIPES)}, or give recipe.json of `kneeedge tune`"
    raise ConfigError(f"--recipe {recipe} is unknown", remedy)
