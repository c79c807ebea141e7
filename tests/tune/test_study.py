"""A study tries recipes by folds, keeps the test out of it, and goes on where it was stopped."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
optuna = pytest.importorskip("optuna", reason="the extra tune is not installed")

from kneeedge.errors import CheckpointError, ConfigError, DataError, DivergedError, NotFoundError
from kneeedge.report.runs import runs_text
from kneeedge.runs.overview import STUDY, UNFINISHED, list_runs
from kneeedge.runs.recipe import RecipeFields, read_recipe
from kneeedge.runs.tuning import COMPLETE, CONFIRM, FAILED, PRUNED, Study, Trial
from kneeedge.system.locks import is_held, try_hold
from kneeedge.system.progress import Progress
from kneeedge.tune import search as searching
from kneeedge.tune import trainings as confirming
from kneeedge.tune import trial as trying
from kneeedge.tune.parts import cut, fold_splits, gather_pool, search_part
from kneeedge.tune.race import is_behind
from kneeedge.tune.run import go_on, tune
from kneeedge.tune.space import build_space
from kneeedge.tune.storage import FoldPruner, open_trials

QUIET = Progress(quiet=True)
JOIN = """
import sys
from pathlib import Path
from kneeedge.system.progress import Progress
from kneeedge.tune import run
run.draw = lambda *_: None
run.go_on(Path(sys.argv[1]), None, Progress(quiet=True))
"""


def timeless(trials: tuple[Trial, ...]) -> list[Trial]:
    return [dataclasses.replace(trial, seconds=0.0) for trial in trials]


def test_a_study_folder_holds_records_tables_and_figures(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "plan.json", "journal.log", "study.json", "recipe.json", "trials.csv", "report.txt",
        "split.csv", "history.png", "slices.png", "importance.png", "locks",
    }  # fmt: skip


def test_every_trial_is_recorded(finished):
    report = Study(finished).read_report()
    assert [trial.number for trial in report.trials] == list(range(12))
    states = [trial.state for trial in report.trials]
    assert states[0] == COMPLETE
    assert states.count(PRUNED) > 0
    assert states.count(COMPLETE) + states.count(PRUNED) == 12
    for trial in report.trials:
        assert (trial.value is None) == (trial.state == PRUNED)
        if trial.state == COMPLETE:
            assert trial.value == pytest.approx(np.mean([fold.log_loss for fold in trial.folds]))
            assert len(trial.folds) == 2
        else:
            assert trial.reports
    complete = [trial for trial in report.trials if trial.state == COMPLETE]
    assert report.best == min(complete, key=lambda trial: trial.loss).number
    with (finished / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == states
    assert sum(report.importance.values()) == pytest.approx(1.0)


def test_the_default_comes_first(finished, tune_config):
    default = Study(finished).read_report().trials[0]
    config = default.fields.applied(tune_config.train)
    assert dataclasses.replace(config, freeze_blocks=2) == tune_config.train


@pytest.mark.usefixtures("undrawn_study")
def test_the_same_seed_gives_the_same_study_and_another_one_does_not(tune_config, tmp_path):
    first, second = (tune(tune_config, tmp_path / name, [], QUIET) for name in "ab")
    assert timeless(first.trials) == timeless(second.trials)
    assert first.confirmation == second.confirmation
    train = dataclasses.replace(tune_config.train, seed=1)
    other = tune(dataclasses.replace(tune_config, train=train), tmp_path / "c", [], QUIET)
    assert other.trials[1].fields != first.trials[1].fields


@pytest.mark.usefixtures("undrawn_study")
@pytest.mark.parametrize("where", ["in a trial", "between trials", "in the confirmation"])
def test_a_stopped_study_goes_on_and_equals_an_unbroken_one(
    tune_config, tmp_path, monkeypatch, where
):
    whole = tune(tune_config, tmp_path / "whole", [], QUIET)
    stop_at = {"in a trial": 3, "between trials": 2, "in the confirmation": 1}[where]
    module, name = {
        "in a trial": (trying, "train_fold"),
        "between trials": (searching, "try_recipe"),
        "in the confirmation": (confirming, "fit"),
    }[where]
    real = getattr(module, name)
    calls = []

    def stop(*arguments, **options):
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, stop)
    with pytest.raises(KeyboardInterrupt):
        tune(tune_config, tmp_path / "broken", [], QUIET)
    monkeypatch.setattr(module, name, real)
    broken = go_on(tmp_path / "broken", None, QUIET)
    assert timeless(broken.trials) == timeless(whole.trials)
    assert broken.confirmation == whole.confirmation
    assert broken.best == whole.best


def test_two_processes_try_no_recipe_twice_and_both_finish(tune_config, tmp_path, monkeypatch):
    monkeypatch.setattr("kneeedge.tune.run.draw", lambda *_: None)
    folder = tmp_path / "study"
    joined = []

    def join() -> None:
        command = [sys.executable, "-c", JOIN, str(folder)]
        joined.append(subprocess.run(command, capture_output=True, text=True, check=False))

    begin = searching.begin_trial
    threads = []

    def begin_and_call_another(trials, pool, worker, deadline):
        if not threads:
            threads.append(threading.Thread(target=join))
            threads[0].start()
        elif trials.n_open == 14:  # until the other one is there
            while not is_held(trials.study.lock("worker-2")):
                time.sleep(0.1)
        return begin(trials, pool, worker, deadline)

    monkeypatch.setattr(searching, "begin_trial", begin_and_call_another)
    report = tune(dataclasses.replace(tune_config, trials=16), folder, [], QUIET)
    threads[0].join()
    assert joined[0].returncode == 0, joined[0].stderr
    assert [trial.number for trial in report.trials] == list(range(16))
    assert len({json.dumps(trial.fields.values) for trial in report.trials}) == 16
    journal = (folder / "journal.log").read_text().splitlines()
    workers = {
        record["user_attr"]["worker"]
        for record in map(json.loads, journal)
        if "worker" in record.get("user_attr", {})
    }
    assert workers == {"worker-1", "worker-2"}


@pytest.mark.usefixtures("undrawn_study")
def test_processes_share_the_trainings_that_confirm(tune_config, tmp_path, monkeypatch):
    whole = tune(tune_config, tmp_path / "whole", [], QUIET)
    train_once = confirming.train_once
    begun, others = [], []

    def train_while_another_does(pool, training, run):
        begun.append(training.name)
        command = [sys.executable, "-c", JOIN, str(pool.study.folder)]
        others.append(subprocess.Popen(command))
        while not is_held(pool.study.lock("best-seed0")):
            assert others[0].poll() is None
            time.sleep(0.001)
        return train_once(pool, training, run)

    monkeypatch.setattr(confirming, "train_once", train_while_another_does)
    shared = tune(tune_config, tmp_path / "shared", [], QUIET)
    assert others[0].wait() == 0
    assert begun == ["default-seed0"]
    assert shared.confirmation == whole.confirmation


def test_the_confirmation_takes_less_where_several_search(finished):
    study = Study(finished)
    plan = study.read_plan()
    plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, seeds=3))
    trials = open_trials(study, plan, build_space(plan))
    alone = searching.confirmation_seconds(trials)
    locks = [try_hold(study.lock(searching.worker_name(n))) for n in (1, 2, 3, 4)]
    assert searching.confirmation_seconds(trials) == pytest.approx(alone * 2 / 6)
    for lock in locks:
        lock.close()
    assert alone > 0


@pytest.mark.usefixtures("undrawn_study")
def test_no_file_of_the_test_split_is_opened(knees, tune_config, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(knees, data)
    for path in (data / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    train = dataclasses.replace(tune_config.train, data=str(data), audit=True)
    config = dataclasses.replace(tune_config, train=train, trials=1)
    report = tune(config, tmp_path / "study", [], QUIET)
    assert sum(part["images"] for part in report.parts.values()) == 56
    with pytest.raises(DataError, match="is not a JPEG"):
        gather_pool(dataclasses.replace(train, split="grouped"), QUIET)


def test_without_splits_the_test_that_train_draws_is_left_alone(knees, tune_config):
    from kneeedge.training.prepare import gather_images, split_data

    config = dataclasses.replace(tune_config.train, data=str(knees / "train"))
    pool = gather_pool(config, QUIET).dataset
    drawn, _ = split_data(gather_images(config, QUIET).dataset, config)
    test = {sample.name for sample in drawn.split("test")}
    assert test
    assert {sample.name for sample in pool.samples} == {s.name for s in drawn.samples} - test


def test_no_group_stands_in_two_parts(tune_config):
    parts = cut(gather_pool(tune_config.train, QUIET).dataset, tune_config)
    of_group: dict[str, set[str]] = {}
    for sample in parts.samples:
        of_group.setdefault(sample.group, set()).add(sample.split)
    assert all(len(names) == 1 for names in of_group.values())
    n_confirm = len(parts.split(CONFIRM))
    assert n_confirm == pytest.approx(14, abs=2)
    splits = fold_splits(parts, "fold-1")
    assert len(splits.samples) == len(search_part(parts)) == 56 - n_confirm
    assert {s.name for s in splits.split("val")} == {s.name for s in parts.split("fold-1")}


@pytest.mark.usefixtures("undrawn_study")
def test_files_are_read_where_nothing_is_cached(tune_config, tmp_path):
    train = dataclasses.replace(tune_config.train, freeze_blocks=0)
    config = dataclasses.replace(tune_config, train=train, trials=2)
    report = tune(config, tmp_path / "study", [], QUIET)
    assert "views" not in report.space
    assert report.trials[1].state == COMPLETE


@pytest.mark.usefixtures("undrawn_study")
def test_the_activations_may_be_of_int8(tune_config, tmp_path):
    from export.frozen import frozen_to_int8

    train = dataclasses.replace(tune_config.train, frozen_precision="int8")
    config = dataclasses.replace(tune_config, train=train, trials=2)
    report = tune(config, tmp_path / "study", [], QUIET, frozen_to_int8)
    assert report.trials[1].state == COMPLETE
    assert Study(tmp_path / "study").read_plan().record.frozen_precision == "int8"
    with pytest.raises(ConfigError, match="leave out one of the two"):
        dataclasses.replace(config, also=("freeze-blocks",))


@pytest.mark.usefixtures("undrawn_study")
def test_what_changes_the_activations_is_searched_where_it_is_asked_for(tune_config, tmp_path):
    lines = []

    class Listening(Progress):
        def __call__(self, line: str) -> None:
            lines.append(line)

    config = dataclasses.replace(tune_config, also=("rotation", "freeze-blocks"), trials=3)
    report = tune(config, tmp_path / "study", [], Listening(quiet=True))
    assert {"rotation", "freeze_blocks"} <= set(report.space)
    assert any("up to 12 sets of activations" in line for line in lines)
    tiny = dataclasses.replace(config.train, cache_gb=3e-4)
    with pytest.raises(ConfigError, match=r"sets of activations.*raise --cache-gb"):
        tune(dataclasses.replace(config, train=tiny), tmp_path / "other", [], QUIET)


def test_a_finished_study_is_not_gone_on_with(finished):
    with pytest.raises(ConfigError, match="is finished, and its confirmation images"):
        go_on(finished, None, QUIET)


def test_what_is_no_study_is_one_line(tmp_path, finished, tune_config):
    with pytest.raises(NotFoundError, match="no study was begun here; begin one with"):
        go_on(tmp_path, None, QUIET)
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "study.json").unlink()
    (copy / "plan.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no plan of this kneeedge"):
        go_on(copy, None, QUIET)


def test_a_part_without_a_class_is_refused(tune_config):
    pool = gather_pool(tune_config.train, QUIET).dataset
    few = dataclasses.replace(pool, samples=pool.samples[:6])
    with pytest.raises(DataError, match="has no image of 'Osteoporosis'; lower --folds"):
        cut(few, tune_config)


def test_runs_lists_a_study_as_one(finished, tmp_path):
    (summary,) = list_runs(finished.parent)
    assert summary.state == STUDY
    assert "a study of `kneeedge tune`" in runs_text([summary])
    assert Study(finished).read_report().confirmation.worth.verdict in runs_text([summary])
    copy = tmp_path / "runs/copy"
    shutil.copytree(finished, copy)
    (copy / "study.json").unlink()
    (summary,) = list_runs(copy.parent)
    assert (summary.state, "kneeedge tune --resume" in summary.problem) == (UNFINISHED, True)


@pytest.mark.usefixtures("undrawn_study")
def test_without_time_the_default_alone_is_tried_and_it_says_so(tune_config, tmp_path):
    lines = []

    class Listening(Progress):
        def __call__(self, line: str) -> None:
            lines.append(line)

    config = dataclasses.replace(tune_config, minutes=1e-6, trials=None)
    report = tune(config, tmp_path / "study", [], Listening(quiet=True))
    assert len(report.trials) == 1
    assert any("another trial" in line and "give more --minutes" in line for line in lines)


@pytest.mark.usefixtures("undrawn_study")
def test_a_trial_that_the_time_is_too_short_for_ends_behind_a_fold(
    tune_config, tmp_path, monkeypatch
):
    left = iter([1e9, 1e9, 1e9, *[0.0] * 9])  # none any more once the second trial is begun
    monkeypatch.setattr(searching, "left_to_search", lambda *_: next(left))
    monkeypatch.setattr(trying, "is_behind", lambda *_: False)
    report = tune(tune_config, tmp_path / "study", [], QUIET)
    assert [(trial.state, len(trial.folds)) for trial in report.trials] == [
        (COMPLETE, 2),
        (PRUNED, 1),
    ]


@pytest.mark.usefixtures("undrawn_study")
def test_a_recipe_that_diverges_is_a_failed_trial(tune_config, tmp_path, monkeypatch):
    real = trying.train_fold

    def diverge(pool, config, fold, on_loss):
        if config.dropout != tune_config.train.dropout:
            raise DivergedError(1)
        return real(pool, config, fold, on_loss)

    monkeypatch.setattr(trying, "train_fold", diverge)
    monkeypatch.setattr("kneeedge.tune.storage.REDRAWN", 1.0)
    report = tune(tune_config, tmp_path / "study", [], QUIET)
    assert [trial.state for trial in report.trials] == [COMPLETE, FAILED, FAILED]
    assert report.best == 0
    assert "2 failed" in (tmp_path / "study/report.txt").read_text()


def test_a_default_that_diverges_stops_the_study(tune_config, tmp_path, monkeypatch):
    def diverge(*_):
        raise DivergedError(1)

    monkeypatch.setattr(trying, "train_fold", diverge)
    with pytest.raises(DivergedError, match="lower --lr"):
        tune(tune_config, tmp_path / "study", [], QUIET)


@pytest.mark.parametrize(
    ("step", "loss", "is_pruned"),
    [(1, 0.79, False), (1, 0.81, True), (2, 0.59, False), (2, 0.61, True), (3, 0.61, False)],
)
def test_what_does_worse_at_the_same_step_is_pruned(step, loss, is_pruned):
    study = optuna.create_study(pruner=FoldPruner(), sampler=optuna.samplers.RandomSampler(0))
    for number, other in enumerate((0.4, 0.5, 0.6, 0.8, 0.9)):
        trial = study.ask()
        trial.report(other, step)
        if number < 4:
            trial.report(5.0, step + 1)  # what it came to later counts there
        assert not trial.should_prune(), "fewer than five have come there"
        study.tell(trial, other)
    trial = study.ask()
    trial.report(loss, step)
    assert trial.should_prune() == is_pruned


def test_what_is_surely_worse_on_the_same_images_is_behind():
    rng = np.random.default_rng(0)
    best = [rng.exponential(0.2, 400), rng.exponential(0.2, 400)]
    groups = [[f"P{i // 2}" for i in range(400)]]
    noise = rng.normal(0, 0.1, 200).repeat(2)  # a patient's two images move together
    noise -= noise.mean()
    for shift, is_worse in ((0.03, True), (0.0, False), (-0.03, False)):
        assert is_behind([best[0] + noise + shift], best, groups) == is_worse
    barely = [best[0] + noise + 1.9 * noise.std() / 400**0.5]
    assert is_behind(barely, best, [list(map(str, range(400)))])
    assert not is_behind(barely, best, groups)


@pytest.mark.usefixtures("undrawn_study")
def test_a_recipe_that_is_behind_after_a_fold_is_given_up(tune_config, tmp_path, monkeypatch):
    real = trying.train_fold

    def worse(pool, config, fold, on_loss):
        score, losses = real(pool, config, fold, on_loss)
        if config.dropout == tune_config.train.dropout:
            return score, losses
        return score, [loss + 0.5 for loss in losses]

    monkeypatch.setattr(trying, "train_fold", worse)
    monkeypatch.setattr("kneeedge.tune.storage.REDRAWN", 1.0)
    report = tune(tune_config, tmp_path / "study", [], QUIET)
    assert [trial.state for trial in report.trials] == [COMPLETE, PRUNED, PRUNED]
    assert [len(trial.folds) for trial in report.trials] == [2, 1, 1]


def test_early_recipes_keep_half_of_the_default(tune_config, tmp_path):
    report = tune(dataclasses.replace(tune_config, trials=4), tmp_path / "study", [], QUIET)
    default, *others = (dataclasses.asdict(trial.fields) for trial in report.trials)
    for fields in others:
        n_changed = sum(fields[name] != default[name] for name in report.space)
        assert 1 <= n_changed <= len(report.space) / 2 + 1


def test_the_recipe_is_read_back(finished):
    recipe = read_recipe(finished / "recipe.json")
    report = Study(finished).read_report()
    assert recipe.fields == report.recipe
    assert recipe.worth == report.confirmation.worth
    assert recipe.n_trials == 12
    assert len(recipe.searched) == 56
    assert isinstance(recipe.fields, RecipeFields)


def test_pictures_of_a_study_are_known_as_its_own(finished):
    from kneeedge.system.own import is_own_file

    assert all(is_own_file(path) for path in Path(finished).glob("*.png"))
