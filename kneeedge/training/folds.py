"""Cross-validation by group: `kneeedge train --folds K`. Each fold is a run of its own; all share one cache."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kneeedge.crossval import FOLDS, FoldsReport, fold_name, read_fold, summarise
from kneeedge.dataset import Dataset, Sample, check_unchanged, read_split
from kneeedge.errors import ConfigError
from kneeedge.progress import Progress, duration
from kneeedge.records import to_json
from kneeedge.splits import check_splits, make_folds
from kneeedge.training.checkpoint import Run, RunRecord, read_record, save_weights, write_atomically
from kneeedge.training.config import TrainConfig
from kneeedge.training.data import ActivationStore, cache_activations, drop_cache, views_wanted
from kneeedge.training.prepare import gather, say_splits
from kneeedge.training.run import Size, begin_run, check_new, finish_run, plan_run, start_model


@dataclass(frozen=True)
class FoldsResult:
    """A finished cross-validation."""

    folder: Path
    report: FoldsReport


def train_folds(config: TrainConfig, folder: Path, command: Sequence[str], progress: Progress) -> FoldsResult:
    """Train `config.folds` runs in `folder`, which must not be there yet; every image is tested by one of them."""
    check_new(folder)
    gathered = gather(config, progress)
    folds = make_folds(gathered.dataset, config.folds, config.val_fraction, config.seed)
    for dataset in folds:
        check_splits(dataset)
    if set(gathered.dataset.counts()) != {"train"}:
        progress("--folds: the split folders are not used; all images are drawn from as one pool")
    say_splits(gathered, folds[0], config, progress)
    progress(f"{config.folds} folds: training takes {config.folds} times as long as one run; the cache is made once")
    model, record = plan_run(config, folds[0], Size(len(gathered.dataset.samples), 0), command, progress)
    start = folder / "start.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, start)
    for k, dataset in reversed(list(enumerate(folds))):  # the first is begun last: with it, all are
        run = Run(folder / fold_name(k))
        run.folder.mkdir()
        _link(start, run.start)
        protocol = f"fold {k + 1}/{config.folds}"
        begin_run(run, replace(record, protocol=protocol, data_report=gathered.report_on(dataset)), dataset)
    start.unlink()
    return finish_folds(folder, progress)


def resume_folds(folder: Path, progress: Progress) -> FoldsResult:
    """Go on with a stopped cross-validation; finished folds are not trained again."""
    if (folder / FOLDS).is_file():
        raise ConfigError(f"{folder} is finished", "train a new run with `kneeedge train DATA`")
    record = read_record(Run(folder / fold_name(0)))
    check_unchanged(_read_dataset(Run(folder / fold_name(0)), record).samples)
    return finish_folds(folder, progress)


def finish_folds(folder: Path, progress: Progress) -> FoldsResult:
    """Train the folds that are not finished, then write `folds.json`."""
    n_folds = read_record(Run(folder / fold_name(0))).config.folds
    runs = [Run(folder / fold_name(k)) for k in range(n_folds)]
    left = [run for run in runs if not run.spec.is_file()]
    store = shared_store(folder, left[0], progress) if left else None
    for i, run in enumerate(left):
        start = time.monotonic()
        record = read_record(run)
        progress(f"{record.protocol}:")
        finish_run(run, record, _read_dataset(run, record), start_model(run, record), progress, store)
        if n_left := len(left) - i - 1:
            took = time.monotonic() - start
            progress(f"{record.protocol} took {duration(took)}; at this pace {duration(n_left * took)} left")
    drop_cache(folder / "cache")
    report = summarise(folder.resolve().name, [read_fold(run.folder) for run in runs])
    write_atomically(folder / FOLDS, to_json(report))
    return FoldsResult(folder, report)


def shared_store(folder: Path, run: Run, progress: Progress) -> ActivationStore | None:
    """The frozen activations of all views of all images, computed once; None where nothing is cached."""
    record = read_record(run)
    if not record.n_views:
        return None
    samples: Sequence[Sample] = _read_dataset(run, record).samples
    model = start_model(run, record).eval()
    wanted = views_wanted(samples, (), record.n_views)
    return cache_activations(model, wanted, record.config, folder / "cache", record.bf16, progress)


def _read_dataset(run: Run, record: RunRecord) -> Dataset:
    return read_split(run.split, Path(record.data_root), record.classes)


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, so that K folds do not take K times its size; a copy where links cannot be."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
