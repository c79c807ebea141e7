"""What a search is said to be worth, and where a run that follows its recipe says so."""

import dataclasses
import json

import numpy as np
import pytest
from typer.testing import CliRunner

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("optuna", reason="the extra tune is not installed")

from kneeedge.cli import console
from kneeedge.cli.app import app
from kneeedge.report.tuning import tune_text
from kneeedge.runs.folder import Run
from kneeedge.runs.tuning import BETTER, NO_BETTER, WORSE, Study
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from kneeedge.tune.confirm import compare, verdict_of
from kneeedge.tune.run import tune
from kneeedge.tune.trainings import ConfirmedAnswers

QUIET = Progress(quiet=True)
N_GROUPS = 40


def answers(rng: np.random.Generator, labels: np.ndarray, skill: float) -> ConfirmedAnswers:
    """Probabilities whose logits have `skill` of the truth in them, and noise."""
    logits = skill * (labels - 0.5) + 0.5 * rng.normal(size=len(labels))
    positive = 1 / (1 + np.exp(-logits))
    probabilities = np.stack([1 - positive, positive], axis=1)
    return ConfirmedAnswers(probabilities, (positive > 0.5).astype(np.intp))


def verdict(seed: int, default: float, best: float) -> str:
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(N_GROUPS), 2)
    labels = np.repeat(rng.integers(0, 2, N_GROUPS), 2)
    pairs = [(answers(rng, labels, default), answers(rng, labels, best)) for _ in range(3)]
    return verdict_of(compare(labels, clusters, pairs))


def test_of_pure_noise_it_is_no_better_than_the_default():
    verdicts = [verdict(seed, 1.0, 1.0) for seed in range(10)]
    assert verdicts.count(NO_BETTER) >= 9


def test_what_is_better_is_better_and_what_is_worse_is_worse():
    assert [verdict(seed, 0.0, 2.0) for seed in range(3)] == [BETTER] * 3
    assert [verdict(seed, 2.0, 0.0) for seed in range(3)] == [WORSE] * 3


def test_where_the_default_is_the_best_nothing_is_trained(tune_config, tmp_path, monkeypatch):
    monkeypatch.setattr("kneeedge.tune.run.draw", lambda *_: None)
    monkeypatch.setattr("kneeedge.tune.trainings.fit", None)
    report = tune(dataclasses.replace(tune_config, trials=1), tmp_path / "study", [], QUIET)
    assert report.confirmation.worth.verdict == NO_BETTER
    assert report.confirmation.changes == {}
    text = (tmp_path / "study/report.txt").read_text()
    assert "the default alone was tried: nothing was searched" in text


def test_the_report_advises_the_default_where_nothing_better_is_shown(finished):
    report = Study(finished).read_report()
    worth = dataclasses.replace(report.confirmation.worth, verdict=NO_BETTER)
    confirmation = dataclasses.replace(report.confirmation, worth=worth)
    text = tune_text(dataclasses.replace(report, confirmation=confirmation), finished)
    assert "next: train with the default" in text
    worth = dataclasses.replace(worth, verdict=BETTER)
    confirmation = dataclasses.replace(confirmation, worth=worth)
    text = tune_text(dataclasses.replace(report, confirmation=confirmation), finished)
    assert f"next: kneeedge train DATA --recipe {finished / 'recipe.json'}" in text


def test_a_run_by_the_recipe_says_where_it_came_from(finished, tune_config, tmp_path, monkeypatch):
    monkeypatch.setattr("kneeedge.training.score.draw", lambda *_: None)
    recipe = finished / "recipe.json"
    train = tune_config.train
    words = [
        "train", train.data, "--recipe", recipe, "--weights", "none", "--width", train.width,
        "--size", train.size, "--precision", "32", "--group-regex", train.group_regex,
        "--no-audit", "--runs", tmp_path, "--name", "run", "--quiet",
    ]  # fmt: skip
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    run = Run(tmp_path / "run")
    tuned = run.read_spec().training.tuned
    assert tuned.sha256 == file_sha256(recipe)
    assert tuned.n_test_searched == 0
    assert tuned.worth == Study(finished).read_report().confirmation.worth
    record = run.read_config()
    assert record.config.recipe == "tuned"
    for name, value in Study(finished).read_report().recipe.values.items():
        assert getattr(record.config, name) == value
    card = run.card.read_text()
    assert f"recipe of study {finished.name} (12 trials, file {tuned.sha256[:12]})" in card
    assert tuned.worth.verdict in card


def test_the_command_writes_a_study_and_its_record(tune_config, tmp_path, monkeypatch):
    monkeypatch.setattr("kneeedge.tune.run.draw", lambda *_: None)
    train = tune_config.train
    words = [
        "tune", train.data, "--weights", "none", "--width", train.width, "--size", train.size,
        "--precision", "32", "--group-regex", train.group_regex, "--no-audit", "--epochs", 1,
        "--views", 2, "--freeze-blocks", 2, "--trials", 2, "--folds", 2, "--seeds", 1,
        "--runs", tmp_path, "--name", "study", "--json", tmp_path / "study.json",
    ]  # fmt: skip
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    assert "what the search was worth: " in result.stdout
    assert "trial 1: log loss" in result.stderr
    record = json.loads((tmp_path / "study.json").read_text())
    assert record["format"] == "kneeedge-tune/1"
    assert len(record["trials"]) == 2
    assert "epochs" not in record["space"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("tune", "no data folder is given; write `kneeedge tune DATA`, or --resume FOLDER"),
        ("tune . --resume runs/x", "--resume takes its choices from the study"),
        ("tune . --minutes 0", "--minutes 0.0 is no time"),
        ("tune . --trials 0", "--trials 0 is too few"),
        ("tune . --folds 1", "--folds 1 is not one of 2 to 100"),
        ("tune . --confirm 1", "--confirm 1.0 is not one of"),
        ("tune . --seeds 0", "--seeds 0 is not one of"),
        ("tune . --also head", "--also head is unknown; name of rotation"),
        ("tune . --split paper", "--split paper trains on its test images"),
    ],
)
def test_what_contradicts_itself_is_one_line(words, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 2
    assert problem in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    real = console.find_spec
    monkeypatch.setattr(console, "find_spec", lambda name: real(name) if name != "optuna" else None)
    result = CliRunner().invoke(app, ["tune", "data"])
    assert result.exit_code == 1
    assert "run: pip install 'kneeedge[tune,cpu]'" in result.output
