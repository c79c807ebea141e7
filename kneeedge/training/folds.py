"""Cross-validation by group: `kneeedge train --folds K`. Each fold is a run; all share a cache."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kneeedge.data.dataset import Dataset, Sample, check_unchanged
from kneeedge.data.splits import check_splits, make_folds
from kneeedge.errors import ConfigError
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.runs.folds import FoldsReport, folds_report, read_fold
from kneeedge.runs.recipe import tuned_by
from kneeedge.runs.record import RunRecord
from kneeedge.system.files import copy_file
from kneeedge.system.progress import Progress, duration
from kneeedge.training.cache import ActivationStore, cache_activations, drop_cache, views_wanted
from kneeedge.training.lower import MakeInt8
from kneeedge.training.plan import Size, plan_run
from kneeedge.training.prepare import GatheredImages, check_folders, gather_images, say_splits
from kneeedge.training.run import (
    begin_run,
    check_new,
    check_resumed_by,
    check_team,
    finish_run,
    lower_blocks,
    save_start,
    start_model,
)
from kneeedge.training.team import ALONE, Team
from kneeedge.training.weights import check_weights


@dataclass(frozen=True)
class FoldsResult:
    """A finished cross-validation."""

    folder: Path
    report: FoldsReport


def train_folds(
    config: TrainConfig,
    folder: Path,
    command: Sequence[str],
    progress: Progress,
    team: Team = ALONE,
    make_int8: MakeInt8 | None = None,
) -> FoldsResult:
    """Train `config.folds` runs in a new `folder`; every image is tested by one of them.

    Several processes, which all call this, train each fold together.
    """
    check_team(config, team)
    if team.is_first:
        plan_folds(config, folder, command, progress, team, make_int8)
    team.wait()
    return finish_folds(folder, progress, team)


def plan_folds(
    config: TrainConfig,
    folder: Path,
    command: Sequence[str],
    progress: Progress,
    team: Team,
    make_int8: MakeInt8 | None,
) -> None:
    """Look at the data, decide on all that is open, and begin all folds."""
    check_new(folder)
    check_folders(config)
    check_weights(config, progress)
    gathered = gather_images(config, progress)
    folds = make_folds(gathered.dataset, config.folds, config.val_fraction, config.seed)
    for dataset in folds:
        check_splits(dataset)
    if set(gathered.dataset.counts()) != {"train"}:
        progress("--folds: the split folders are not used; all images are drawn from as one pool")
    say_splits(gathered, folds[0], config, progress)
    progress(
        f"{config.folds} folds: training takes {config.folds} times as long as one run; "
        "the cache is made once"
    )
    size = Size(len(gathered.dataset.samples), 0)
    plan = plan_run(config, folds[0], size, command, progress, team, make_int8)
    whole = Run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_start(plan, whole)
    begin_folds(whole, plan.record, folds, gathered)
    whole.start.unlink()
    whole.lower.unlink(missing_ok=True)


def begin_folds(
    whole: Run, record: RunRecord, folds: Sequence[Dataset], gathered: GatheredImages
) -> None:
    """Write what each fold is trained from; what `save_start` writes must be there already.

    The first fold is begun last: where it is there, all are.
    """
    for k in reversed(range(len(folds))):
        run = whole.fold(k)
        run.folder.mkdir()
        _link(whole.start, run.start)
        if whole.lower.is_file():
            _link(whole.lower, run.lower)
        protocol = f"fold {k + 1}/{len(folds)}"
        data_report = gathered.report_on(folds[k])
        of_fold = replace(
            record,
            protocol=protocol,
            data_report=data_report,
            dropped_labels=gathered.dropped_labels,
            tuned=tuned_by(record.config, folds[k]),
        )
        begin_run(run, of_fold, folds[k])


def resume_folds(folder: Path, progress: Progress, team: Team = ALONE) -> FoldsResult:
    """Go on with a stopped cross-validation; finished folds are not trained again."""
    whole = Run(folder)
    if whole.folds.is_file():
        raise ConfigError(f"{folder} is finished", "train a new run with `kneeedge train DATA`")
    first = whole.fold(0)
    record = first.read_config()
    check_resumed_by(folder, record, team)
    if team.is_first:
        check_unchanged(_read_dataset(first, record).samples)
    team.wait()
    return finish_folds(folder, progress, team)


def finish_folds(folder: Path, progress: Progress, team: Team = ALONE) -> FoldsResult:
    """Train the folds that are not finished, then write `folds.json`."""
    whole = Run(folder)
    n_folds = whole.fold(0).read_config().config.folds
    runs = [whole.fold(k) for k in range(n_folds)]
    unfinished = [run for run in runs if not run.spec.is_file()]
    store = shared_store(whole, unfinished[0], progress, team) if unfinished else None
    for n_left, run in zip(reversed(range(len(unfinished))), unfinished, strict=True):
        start = time.monotonic()
        progress.seconds.clear()  # of a part of one fold they would say nothing
        record = run.read_config()
        progress(f"{record.protocol}:")
        dataset = _read_dataset(run, record)
        finish_run(run, record, dataset, start_model(run, record), progress, store, team)
        if n_left:
            seconds = time.monotonic() - start
            left = duration(n_left * seconds)
            progress(f"{record.protocol} took {duration(seconds)}; at this pace {left} left")
    report = folds_report(whole.name, [read_fold(run) for run in runs])
    if team.is_first:
        drop_cache(whole.cache)
        whole.write_folds(report)
    return FoldsResult(folder, report)


def shared_store(
    whole: Run, run: Run, progress: Progress, team: Team = ALONE
) -> ActivationStore | None:
    """The frozen activations of all views of all images, or None where nothing is cached."""
    record = run.read_config()
    if not record.n_views:
        return None
    samples: Sequence[Sample] = _read_dataset(run, record).samples
    model = start_model(run, record)
    lower = lower_blocks(run, record, model, team)
    wanted = views_wanted(samples, (), record.n_views)
    return cache_activations(model, lower, wanted, record.config, whole.cache, progress, team)


def _read_dataset(run: Run, record: RunRecord) -> Dataset:
    return run.read_dataset(Path(record.data_root), record.classes)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, so that K folds do not take K times its size, or copy it."""
    try:
        target.hardlink_to(source)
    except OSError:
        copy_file(source, target)
