import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]
torch = pytest.importorskip("torch")

from kneeedge.cli.app import app
from kneeedge.data.dataset import read_split
from kneeedge.errors import ConfigError, NotFoundError
from kneeedge.inference.metrics import evaluate
from kneeedge.model.provenance import GROUPED, PAPER
from kneeedge.report.training import folds_text
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run, open_run
from kneeedge.runs.folds import FoldAnswers, folds_report, pool_answers, read_fold
from kneeedge.system.progress import Progress
from kneeedge.training import folds, loop
from kneeedge.training import run as training
from kneeedge.training.cache import cache_activations, views_wanted
from kneeedge.training.checkpoint import load_original
from kneeedge.training.folds import FoldsResult, resume_folds, train_folds
from kneeedge.training.prepare import gather_images, split_data

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def crossed(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> FoldsResult:
    folder = tmp_path_factory.mktemp("folds") / "crossed"
    return train_folds(dataclasses.replace(config, folds=3), folder, ["kneeedge", "train"], QUIET)


def test_folds_test_every_image_once_by_a_model_that_saw_none_of_its_group(crossed):
    tested: list[str] = []
    for k in range(3):
        path = crossed.folder / f"fold-{k + 1}/split.csv"
        dataset = read_split(path, Path(), ("Healthy", "Osteoporosis"))
        assert dataset.leaked() == ()
        tested += [sample.name for sample in dataset.split("test")]
    assert len(tested) == len(set(tested)) == 37


def test_each_fold_is_a_run_of_its_own(crossed):
    for k in range(3):
        _, spec = load_original(open_run(crossed.folder / f"fold-{k + 1}"))
        assert spec.training.protocol == f"fold {k + 1}/3"
        assert spec.training.leaked == 0
    names = {path.name for path in crossed.folder.iterdir()}
    assert names == {"fold-1", "fold-2", "fold-3", "folds.json"}


def test_mean_spread_and_pooled_figures_are_those_of_the_folds(crossed):
    report = crossed.report
    values = [score.accuracy for score in report.folds.values()]
    assert report.spread["accuracy"].mean == pytest.approx(np.mean(values))
    assert report.spread["accuracy"].sd == pytest.approx(np.std(values, ddof=1))
    counts = [score.n for score in report.folds.values()]
    assert report.pooled.n == report.n_images == sum(counts) == 37
    assert report.pooled.accuracy.value == pytest.approx(np.average(values, weights=counts))
    assert (
        json.loads((crossed.folder / "folds.json").read_text())["n_groups"] == report.n_groups == 18
    )


def test_the_text_shows_each_fold_mean_spread_and_interval(crossed):
    text = folds_text(crossed.report, crossed.folder)
    figures = ("fold-3: ", "accuracy: mean ", "standard deviation ")
    for words in (*figures, "out-of-fold answers", "95 % intervals"):
        assert words in text


def test_a_pooled_answer_is_that_of_the_images_own_model(crossed):
    answers = [read_fold(Run(crossed.folder / f"fold-{k + 1}")) for k in range(3)]
    moved = []
    n_correct = 0
    for fold, threshold in zip(answers, (0.2, 0.45, 0.9), strict=True):
        spec = dataclasses.replace(fold.spec, threshold=threshold)
        moved.append(dataclasses.replace(fold, spec=spec))
        n_correct += np.trace(evaluate(fold.labels, fold.probabilities, spec).confusion)
    pooled = pool_answers(moved)
    plain = pool_answers(answers)
    assert pooled.accuracy.value == pytest.approx(n_correct / 37)
    assert (pooled.ece, pooled.brier, pooled.log_loss) == (plain.ece, plain.brier, plain.log_loss)


def test_a_folder_of_folds_is_no_run_to_export(crossed):
    problem = "it holds the folds of a cross-validation; name one of them"
    with pytest.raises(NotFoundError, match=problem):
        open_run(crossed.folder)


def test_finished_folds_are_not_trained_again(config, crossed, tmp_path, monkeypatch):
    save_last = loop.save_last

    def stop_in_the_second(model, optimizer, average, state, path):
        if path.parent.name == "fold-2":
            raise KeyboardInterrupt
        save_last(model, optimizer, average, state, path)

    monkeypatch.setattr(loop, "save_last", stop_in_the_second)
    folder = tmp_path / "crossed"
    with pytest.raises(KeyboardInterrupt):
        train_folds(dataclasses.replace(config, folds=3), folder, [], QUIET)
    first = (folder / "fold-1/model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(loop, "save_last", save_last)
    report = resume_folds(folder, QUIET).report
    assert (folder / "fold-1/model.safetensors").stat().st_mtime_ns == first
    assert report.folds == crossed.report.folds
    with pytest.raises(ConfigError, match="is finished"):
        resume_folds(folder, QUIET)


def test_the_frozen_blocks_run_once_for_all_folds(config, tmp_path, monkeypatch):
    n_views = []

    def counted(model, lower, wanted, *arguments):
        n_views.append(sum(wanted.values()))
        return cache_activations(model, lower, wanted, *arguments)

    monkeypatch.setattr(folds, "cache_activations", counted)
    monkeypatch.setattr(training, "cache_activations", counted)
    train_folds(dataclasses.replace(config, folds=2), tmp_path / "crossed", [], QUIET)
    assert n_views == [37 * 2]


def test_a_shared_cache_gives_the_weights_of_a_cache_of_its_own(config, tmp_path):
    gathered = gather_images(config, QUIET)
    changed = dataclasses.replace(config, split=GROUPED)
    dataset, _ = split_data(gathered.dataset, changed)
    training.train(changed, tmp_path / "own", [], QUIET)
    size = training.Size(len(dataset.samples), 0)
    plan = training.plan_run(changed, dataset, size, [], QUIET)
    wanted = views_wanted(dataset.samples, (), plan.record.n_views)
    cache = tmp_path / "cache"
    store = cache_activations(plan.model, plan.lower, wanted, changed, cache, QUIET)
    shared = Run(tmp_path / "shared")
    shared.folder.mkdir()
    training.begin_run(shared, plan.record, dataset)
    training.finish_run(shared, plan.record, dataset, plan.model, QUIET, store)
    own = Run(tmp_path / "own")
    assert own.model.read_bytes() == shared.model.read_bytes()


def test_the_command_line_trains_folds_and_leaves_latest_alone(config, tmp_path):
    options = [
        "--name", "cv", "--folds", "2", "--weights", "none", "--width", "0.07", "--size", "32",
        "--epochs", "1", "--precision", "32", "--no-audit", "--group-regex", r"(P\d+|copy)",
    ]  # fmt: skip
    options += ["--runs", str(tmp_path), "--json", str(tmp_path / "folds.json")]
    result = CliRunner().invoke(app, ["train", config.data, *options])
    assert result.exit_code == 0, result.output
    assert "fold-2: " in result.stdout
    assert json.loads((tmp_path / "folds.json").read_text())["n_images"] == 37
    assert not (tmp_path / "latest").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            "DATA --split paper --val-fraction 0.3",
            "has sizes of its own, not --val-fraction; leave it out",
        ),
        ("DATA --folds 5 --test-fraction 0.3", "whatever --test-fraction says; leave it out"),
        ("--resume RUN --recipe paper", "leave out DATA and the other options"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(options, complaint):
    result = CliRunner().invoke(app, ["train", *options.split()])
    assert result.exit_code == 2
    assert complaint in result.output


def test_the_leakage_study_claims_and_tests_both_protocols(flat, config):
    from benchmarks.leakage import study, table

    gathered, results = study(dataclasses.replace(config, epochs=2), 2, None, QUIET)
    protocols = [(result.protocol, result.seed) for result in results]
    assert protocols == [(PAPER, 0), (GROUPED, 0), (PAPER, 1), (GROUPED, 1)]
    for result in results:
        assert result.claimed.n + result.true.n < len(gathered.dataset.samples)
        assert (result.n_known > 0) == (result.protocol == PAPER)
    assert "paper (**leaky**)" in table(results)


def test_summaries_need_every_fold(crossed):
    answers: list[FoldAnswers] = [
        read_fold(Run(crossed.folder / f"fold-{k + 1}")) for k in range(3)
    ]
    assert folds_report("x", answers) == dataclasses.replace(crossed.report, run="x")
