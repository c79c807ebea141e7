"""`kneeedge tune`: the options of `train` on data and network, and those of the search."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from kneeedge.cli import train_options as options
from kneeedge.cli.checks import new_folder, run_folder
from kneeedge.cli.console import Json, Quiet, completes, require_tune, show, stopped
from kneeedge.cli.json_format import stamped
from kneeedge.cli.train import int8_maker, make_config
from kneeedge.cli.train_options import IMAGES, STEPS, option
from kneeedge.errors import ConfigError
from kneeedge.runs.folder import RUNS
from kneeedge.runs.tuning import COSTLY, Study, TuneConfig
from kneeedge.system.progress import Progress

SEARCH = "The search"
SEARCH_FIELDS = ("minutes", "trials", "folds", "confirm", "seeds")
FIXABLE = ("epochs", "batch_size")
"searched fields that an option takes out of the search"
TRAIN_FIELDS = (
    "seed", "positive", "threshold", "group_regex", "groups", "audit", "drop_conflicts",
    "drop_labels", "split", "val_fraction", "test_fraction", "size", "fit", "grey_bits",
    "rotation", "flip", "corruptions", "views", "cache_gb", "workers", "weights", "head", "width",
    "batch_norm", "freeze_blocks", "precision", "frozen_precision", *FIXABLE,
)  # fmt: skip
DEFAULTS = TuneConfig.__dataclass_fields__


def search_option(name: str, text: str) -> Any:
    """An option of TuneConfig's field `name`."""
    default = DEFAULTS[name].default
    suffix = "" if default is None else f" (default {default})"
    return typer.Option(help=text + suffix, rich_help_panel=SEARCH, show_default=False)


def tune(
    ctx: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(help="Folder of CLASS/… or {train,val,test}/CLASS/…, or CSV path,label."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the study; the time by default.")
    ] = None,
    runs: Annotated[
        Path, typer.Option(callback=new_folder, help="Where study folders stand.")
    ] = RUNS,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            "--join",
            help="Go on with this stopped study, or help others with it; --minutes may be given.",
        ),
    ] = None,
    minutes: Annotated[
        float | None, search_option("minutes", "Time for search and confirmation")
    ] = None,
    trials: Annotated[int | None, search_option("trials", "Recipes to try at most")] = None,
    folds: Annotated[int | None, search_option("folds", "Folds of the search, by group")] = None,
    confirm: Annotated[
        float | None, search_option("confirm", "Share of the groups that the search does not see")
    ] = None,
    seeds: Annotated[
        int | None, search_option("seeds", "Trainings of either recipe to compare them")
    ] = None,
    also: Annotated[
        str | None,
        typer.Option(
            autocompletion=completes(*COSTLY),
            help=f"Search {', '.join(COSTLY)} too; each setting has activations of its own.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    epochs: Annotated[
        int | None, option("epochs", "Passes over the images; given: not searched", STEPS)
    ] = None,
    batch_size: Annotated[
        int | None, option("batch_size", "Images a step; given: not searched", STEPS)
    ] = None,
    seed: options.Seed = None,
    threshold: Annotated[
        str | None, option("threshold", "Rule by which the confirmation decides", STEPS)
    ] = None,
    precision: options.Precision = None,
    frozen_precision: options.FrozenPrecision = None,
    positive: options.Positive = None,
    group_regex: options.GroupRegex = None,
    groups: options.Groups = None,
    audit: options.Audit = None,
    drop_conflicts: options.DropConflicts = None,
    drop_labels: options.DropLabels = None,
    split: Annotated[str | None, option("split", "auto or grouped", IMAGES)] = None,
    val_fraction: options.ValFraction = None,
    test_fraction: Annotated[
        float | None, option("test_fraction", "Share for the test, left alone", IMAGES)
    ] = None,
    size: options.Size = None,
    fit: options.Fit = None,
    grey_bits: options.GreyBits = None,
    rotation: options.Rotation = None,
    flip: options.Flip = None,
    corruptions: options.Corruptions = None,
    views: Annotated[int | None, option("views", "Cached views an image at most", IMAGES)] = None,
    cache_gb: Annotated[
        float | None, option("cache_gb", "Disk for all activations, GB", IMAGES)
    ] = None,
    workers: Annotated[int | None, option("workers", "Image reading processes", IMAGES)] = None,
    weights: options.Weights = None,
    head: options.Head = None,
    width: options.Width = None,
    batch_norm: options.BatchNorm = None,
    freeze_blocks: options.FreezeBlocks = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Search how `train` is to train, without the test, and say what that was worth.

    Writes runs/NAME/ with recipe.json for `train --recipe`.
    """
    require_tune()
    given = options.given_of(ctx.params, TRAIN_FIELDS)
    asked = {key: ctx.params[key] for key in SEARCH_FIELDS if ctx.params[key] is not None}
    if resume is None and data is None:
        remedy = "write `kneeedge tune DATA`, or --resume FOLDER"
        raise ConfigError("no data folder is given", remedy)
    if resume is not None and (data or given or name or also or asked.keys() - {"minutes"}):
        problem = "--resume takes its choices from the study"
        raise ConfigError(problem, "leave out DATA and the options but --minutes")

    from kneeedge.report.tuning import tune_text
    from kneeedge.tune.run import go_on
    from kneeedge.tune.run import tune as tune_data

    progress = Progress(quiet)
    folder = resume or run_folder(runs / (name or datetime.now().strftime("%Y%m%d-%H%M%S")))
    try:
        if resume is None:
            config = TuneConfig(
                train=make_config(str(data), "default", given),
                fixed=tuple(key for key in FIXABLE if key in given),
                also=tuple(filter(None, map(str.strip, (also or "").split(",")))),
                **asked,
            )
            command = ["kneeedge", *sys.argv[1:]]
            report = tune_data(config, folder, command, progress, int8_maker())
        else:
            report = go_on(folder, minutes, progress)
    except KeyboardInterrupt:
        raise stopped(stop_message(folder)) from None
    show(tune_text(report, folder), stamped("tune", report), json)


def stop_message(folder: Path) -> str:
    """What is said after a stop."""
    if Study(folder).plan.is_file():
        return f"stopped; go on with `kneeedge tune --resume {folder}`"
    return "stopped"
