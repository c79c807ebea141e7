"""A data folder → a finished study folder: `kneeedge tune`."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from kneeedge.data.dataset import check_unchanged
from kneeedge.errors import ConfigError
from kneeedge.report.tuning import tune_text
from kneeedge.runs.recipe import FORMAT, Recipe
from kneeedge.runs.tuning import Study, StudyPlan, Trial, TuneConfig, TuneReport
from kneeedge.system.locks import POLL_SECONDS, holding
from kneeedge.system.progress import Progress
from kneeedge.training.cpu import use_cpu
from kneeedge.training.lower import MakeInt8
from kneeedge.training.plan import Size, plan_run
from kneeedge.training.prepare import check_folders
from kneeedge.training.run import check_new, save_start
from kneeedge.training.weights import check_weights
from kneeedge.tune.confirm import confirm
from kneeedge.tune.figures import draw
from kneeedge.tune.parts import (
    check_split,
    cut,
    fold_names,
    fold_splits,
    gather_pool,
    search_part,
    sizes,
)
from kneeedge.tune.pool import Pool, share_disk
from kneeedge.tune.search import n_searching, search
from kneeedge.tune.space import build_space, in_words
from kneeedge.tune.storage import Trials, open_trials
from kneeedge.tune.trainings import Pair, drop_trainings, read_pairs, train_all, trainings

CHOOSING, SETTLING = "choose", "settle"
"locks of the process that says which recipe is confirmed, and of the one that says its worth"
WAITING = "waiting for the processes that still search"
FEWEST = 10
"complete trials, under which importances are chance"


def tune(
    config: TuneConfig,
    folder: Path,
    command: Sequence[str],
    progress: Progress,
    make_int8: MakeInt8 | None = None,
) -> TuneReport:
    """Begin a study in `folder`, which must not be there yet, and finish it.

    Without `make_int8` the frozen blocks are computed in float.
    """
    start = time.monotonic()
    check_new(folder, f"give another --name, or go on with `kneeedge tune --resume {folder}`")
    check_split(config.train)
    check_folders(config.train)
    check_weights(config.train, progress)
    begin(config, Study(folder), command, progress, make_int8)
    return finish(folder, config.minutes, start, progress)


def begin(
    config: TuneConfig,
    study: Study,
    command: Sequence[str],
    progress: Progress,
    make_int8: MakeInt8 | None,
) -> None:
    """Look at the images, cut them into parts, decide on all that is open, and write the plan."""
    gathered = gather_pool(config.train, progress)
    parts = cut(gathered.dataset, config)
    for remark in parts.remarks:
        progress(remark)
    for name, counts in sizes(parts).items():
        progress(f"{name}: {counts['images']:,} images, {counts['groups']:,} groups")
    first = fold_splits(parts, fold_names(config.folds)[0])
    size = Size(len(search_part(parts)), len(parts.samples) - len(search_part(parts)))
    if not config.may_be_int8:
        make_int8 = None
    use_cpu()
    planned = plan_run(config.train, first, size, command, progress, make_int8=make_int8)
    study.folder.mkdir(parents=True, exist_ok=True)
    save_start(planned, study.run)
    study.run.write_dataset(parts)
    plan = StudyPlan(config=config, record=planned.record)
    study.write_plan(share_disk(Pool(study, plan, parts, progress)))


def go_on(folder: Path, minutes: float | None, progress: Progress) -> TuneReport:
    """Go on with a study, or join those who work on it, for as long as it was begun for."""
    start = time.monotonic()
    study = Study(folder)
    plan = study.read_plan()
    if study.report.is_file():
        problem = f"{folder} is finished, and its confirmation images have been looked at"
        raise ConfigError(problem, "begin another study with `kneeedge tune DATA`")
    if minutes is not None:
        plan = replace(plan, config=replace(plan.config, minutes=minutes))
    return finish(folder, plan.config.minutes, start, progress, is_new=False)


def finish(
    folder: Path, minutes: float, start: float, progress: Progress, is_new: bool = True
) -> TuneReport:
    """Search until the time is needed for the confirmation, and take part in that."""
    study = Study(folder)
    plan = study.read_plan()
    record = plan.record
    parts = study.run.read_dataset(Path(record.data_root), record.classes)
    if not is_new:
        check_unchanged(parts.samples)
    use_cpu()
    pool = Pool(study, plan, parts, progress)
    space = build_space(plan)
    trials = open_trials(study, plan, space)
    deadline = start + 60 * minutes
    search(trials, pool, deadline)
    default, best = choose(trials, pool, deadline)
    wanted = trainings(default, best, plan.config.seeds)
    train_all(pool, wanted)
    with holding(study.lock(SETTLING), progress):
        if not study.report.is_file():
            settle(trials, pool, default, best, read_pairs(study, wanted))
    return study.read_report()


def choose(trials: Trials, pool: Pool, deadline: float) -> tuple[Trial, Trial]:
    """The default and the best recipe, once no process searches any more."""
    with holding(trials.study.lock(CHOOSING), pool.progress, WAITING):
        if trials.chosen is None:
            await_others(trials, pool.progress)
            trials.prepare()
            if trials.any_waits:  # what a process that is gone has left
                search(trials, pool, deadline)
            trials.choose()
    complete = {trial.number: trial for trial in trials.complete()}
    best = complete[trials.choose()]
    pool.progress(
        f"best of {len(complete)} complete trials: {best.number}, log loss {best.value:.4f}; "
        f"the default's is {complete[0].value:.4f}"
    )
    return complete[0], best


def await_others(trials: Trials, progress: Progress) -> None:
    """Wait until no process searches any more."""
    if n_searching(trials):
        progress(WAITING)
    while n_searching(trials):
        time.sleep(POLL_SECONDS)


def settle(trials: Trials, pool: Pool, default: Trial, best: Trial, pairs: Sequence[Pair]) -> None:
    """Say what the search was worth, and write all that a finished study holds."""
    study = trials.study
    confirmation = confirm(pool, default, best, pairs)
    records = trials.records()
    seconds = sum(trial.seconds for trial in records)
    seconds += sum(answers.seconds for pair in pairs for answers in pair)
    report = TuneReport(
        study=study.run.name,
        config=trials.plan.config,
        parts=sizes(pool.parts),
        data_sha256=pool.parts.sha256(),
        space=in_words(trials.space),
        trials=records,
        best=best.number,
        recipe=best.fields,
        confirmation=confirmation,
        importance=importance_of(trials),
        environment=trials.plan.record.environment,
        seconds=round(seconds, 1),
    )
    recipe = Recipe(
        format=FORMAT,
        fields=best.fields,
        study=report.study,
        n_trials=len(records),
        worth=confirmation.worth,
        data_sha256=report.data_sha256,
        searched=tuple(sorted({sample.short_hash for sample in pool.parts.samples})),
    )
    draw(study, report)
    study.write_results(report, recipe, tune_text(report, study.folder))
    clear(pool)


def importance_of(trials: Trials) -> dict[str, float]:
    """How much each field has to do with a recipe's being among the best tenth; {} for few trials.

    PED-ANOVA, Watanabe et al. 2023, of complete trials.
    """
    if len(trials.complete()) < FEWEST or len(trials.space) < 2:
        return {}
    found = get_param_importances(trials.optuna, evaluator=PedAnovaImportanceEvaluator())
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else {}


def clear(pool: Pool) -> None:
    """Give the disk back."""
    pool.stores.clear()  # they are mapped
    shutil.rmtree(pool.study.run.cache, ignore_errors=True)
    for leftover in (pool.study.run.start, pool.study.run.lower):
        leftover.unlink(missing_ok=True)
    drop_trainings(pool.study)
