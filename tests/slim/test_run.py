"""A run becomes a narrower one: its goals, its choice, and what its folder holds."""

import csv
import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

import onnx
from safetensors.torch import load_file, save_file

from export.options import ExportOptions
from kneeedge.cli.app import app
from kneeedge.data.dataset import read_split
from kneeedge.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    NotFoundError,
    OutputExistsError,
)
from kneeedge.report.training import slim_text
from kneeedge.runs.folder import Run, open_run
from kneeedge.runs.slim_report import Goal, SlimConfig
from kneeedge.runtime.session import Session
from kneeedge.slim.checks import check_original
from kneeedge.slim.distil import compute_targets
from kneeedge.slim.layer_times import LayerTimes
from kneeedge.slim.run import Slimmer, resume_slim, slim
from kneeedge.slim.survey import Survey, check_reach, choices_of, goals_of
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from kneeedge.training import loop
from kneeedge.training.checkpoint import load_original
from tests.layer_times import even_times

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module", autouse=True)
def timed_evenly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kneeedge.slim.survey.measure_layers", even_times)
        patch.setattr("kneeedge.slim.survey.uniform_times", lambda *_: (0.0, 1.0))
        patch.setattr("kneeedge.slim.survey.choose_bf16", lambda *_: False)
        yield


@pytest.fixture(scope="module", autouse=True)
def exported_without_a_search():
    """tests/export searches for int8 recipes; here the first is taken, seconds a file sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kneeedge.slim.run.ExportOptions", partial(ExportOptions, search_minutes=0))
        yield


@pytest.fixture(scope="module")
def config(trained_run) -> SlimConfig:
    return SlimConfig(
        original=str(trained_run), keep=0.6, tolerance=0.5, threads=1, epochs=2, views=2, lr=1e-3
    )


@pytest.fixture(scope="module")
def slim_run(config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slim") / "narrower"
    slim(config, folder, ["kneeedge", "slim"], QUIET)
    return folder


def test_a_slim_run_is_a_run_of_fewer_channels_that_names_its_original(slim_run, trained_run):
    model, spec = load_original(open_run(slim_run))
    original = Run(trained_run).read_spec()
    slimmed = spec.training.slimmed
    assert slimmed.original == original.name
    assert slimmed.sha256 == file_sha256(trained_run / "model.safetensors")
    assert slimmed.channels == original.architecture.channels
    assert sum(map(sum, spec.architecture.channels)) < sum(map(sum, slimmed.channels))
    original_model, _ = load_original(open_run(trained_run))
    assert n_parameters(model) < 0.7 * n_parameters(original_model)


def n_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_slim_run_holds_what_a_trained_one_holds(slim_run, trained_run):
    names = {path.name for path in trained_run.iterdir()} - {"models"}
    assert names <= {path.name for path in slim_run.iterdir()}
    assert not (slim_run / "cache").exists()


def test_its_own_temperature_and_limit_to_abstain_are_fitted_anew(slim_run, trained_run):
    spec = Run(slim_run).read_spec()
    original = Run(trained_run).read_spec()
    assert spec.temperature_fit is not None
    assert spec.temperature != original.temperature
    assert spec.novelty.limit != original.novelty.limit


def test_each_precision_is_exported_and_runs(slim_run):
    files = Run(slim_run).read_export_report().files
    assert {file.report.precision for file in files} == {"fp32", "fp16", "int8"}
    for file in files:
        assert Session(slim_run / "models" / file.path, "cpu").spec.training.slimmed is not None


def test_the_gate_holds_its_files_against_the_original(slim_run, trained_run):
    reports = [file.report for file in Run(slim_run).read_export_report().files]
    (report,) = [report for report in reports if report.precision == "fp32"]
    original_scores = Run(trained_run).read_spec().training.scores
    slim_scores = Run(slim_run).read_spec().training.scores
    assert report.original.accuracy == original_scores["val"].accuracy
    assert report.variant.accuracy == slim_scores["val"].accuracy


def test_the_answers_of_the_original_travel_with_it(slim_run, trained_run):
    assert (slim_run / "original.csv").read_bytes() == (trained_run / "answers.csv").read_bytes()


def test_the_text_says_verdict_widths_and_what_comes_next(slim_run):
    text = slim_text(Run(slim_run).read_slim(), slim_run)
    (step,) = Run(slim_run).read_slim().steps
    assert step.verdict.upper() in text
    assert "← taken" in text
    assert f"kneeedge bench --run {slim_run}" in text


@pytest.mark.usefixtures("undrawn")
def test_a_stopped_slim_goes_on_to_the_same_weights(config, slim_run, tmp_path, monkeypatch):
    folder = tmp_path / "narrower"
    save_last = loop.save_last

    def stop_after_an_epoch(*arguments):
        save_last(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_last", stop_after_an_epoch)
    with pytest.raises(KeyboardInterrupt):
        slim(config, folder, ["kneeedge", "slim"], QUIET)
    monkeypatch.setattr(loop, "save_last", save_last)
    monkeypatch.setattr("kneeedge.slim.survey.choose_bf16", lambda *_: True)  # as noise may
    resume_slim(folder, ["kneeedge", "slim"], QUIET)
    assert Run(folder).model.read_bytes() == Run(slim_run).model.read_bytes()


def read_survey(folder: Path) -> Survey:
    from kneeedge.system.strict_json import from_json

    return from_json(Survey, (folder / "survey.json").read_text(encoding="utf-8"))


def to_be_asked(trained_run, n_images):
    """The original, how it was trained, and some of its training images."""
    run = open_run(trained_run)
    model, spec = load_original(run)
    config = run.read_config().config
    samples = read_split(run.split, Path(config.data), spec.classes).split("train")[:n_images]
    return model, config, samples


def test_targets_that_were_stopped_equal_those_of_one_go(trained_run, tmp_path):
    model, config, samples = to_be_asked(trained_run, 40)
    whole = compute_targets(model, False, samples, 2, config, tmp_path / "a", QUIET)
    compute_targets(model, False, samples, 2, config, tmp_path / "b", QUIET)
    maps = np.lib.format.open_memmap(tmp_path / "b/maps.npy", mode="r+")
    maps[32:] = np.nan
    maps.flush()
    (tmp_path / "b/done").write_text("32")
    again = compute_targets(model, False, samples, 2, config, tmp_path / "b", QUIET)
    np.testing.assert_array_equal(again.maps, whole.maps)


def test_targets_in_bf16_are_near_those_in_fp32_and_not_taken_for_them(trained_run, tmp_path):
    model, config, samples = to_be_asked(trained_run, 4)
    exact = compute_targets(model, False, samples, 1, config, tmp_path, QUIET).maps.copy()
    rounded = compute_targets(model, True, samples, 1, config, tmp_path, QUIET).maps
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)
    np.testing.assert_allclose(rounded, exact, atol=0.05 * np.abs(exact).max())


def test_targets_of_another_network_are_computed_anew(trained_run, tmp_path):
    model, config, samples = to_be_asked(trained_run, 4)
    before = compute_targets(model, False, samples, 1, config, tmp_path, QUIET).maps.copy()
    model.classifier[-1].bias.data += 1.0
    after = compute_targets(model, False, samples, 1, config, tmp_path, QUIET).maps
    np.testing.assert_allclose(after, before + 1.0, rtol=1e-4, atol=1e-5)


def test_a_slim_run_is_not_slimmed_again(slim_run, config, tmp_path):
    again = dataclasses.replace(config, original=str(slim_run))
    with pytest.raises(ConfigError, match="slim run already"):
        slim(again, tmp_path / "again", [], QUIET)


def test_the_classifier_head_is_refused(trained_run):
    spec = Run(trained_run).read_spec()
    architecture = dataclasses.replace(spec.architecture, head="classifier")
    spec = dataclasses.replace(spec, architecture=architecture)
    with pytest.raises(ConfigError, match="classifier head"):
        check_original(Run(trained_run), Run(trained_run).read_config(), spec)


def test_each_kind_of_goal_becomes_a_latency(slim_run):
    times = read_survey(slim_run).times
    full = times.full_ms
    assert goals_of(times, SlimConfig(original="run", max_latency_ms=7.0)) == (7.0,)
    assert goals_of(times, SlimConfig(original="run", speedup=2.0)) == (full / 2,)
    assert goals_of(times, SlimConfig(original="run", keep=0.99)) == (full,)
    goals = goals_of(times, SlimConfig(original="run"))
    assert list(goals) == sorted(goals, reverse=True)


def test_allotted_widths_are_within_the_latency_and_in_even_steps(slim_run):
    survey = read_survey(slim_run)
    for share in (0.6, 0.8):
        milliseconds = share * survey.times.total(survey.times.full)
        widths = survey.allot(milliseconds).widths
        assert survey.times.total(widths) <= milliseconds
        choices = choices_of(survey.times.full)
        assert all(width in layer for width, layer in zip(widths, choices, strict=True))


def test_widths_are_multiples_of_sixteen_where_there_are_enough_channels():
    assert choices_of((64, 24, 8, 512))[:3] == [[16, 32, 48, 64], [8, 16, 24], [8]]
    wide = choices_of((512,))[0]
    assert wide[:2] == [32, 48]
    assert all(width % 16 == 0 for width in wide)


def test_a_goal_out_of_reach_is_refused(config, slim_run, tmp_path):
    survey = read_survey(slim_run)
    with pytest.raises(ConfigError, match="out of reach"):
        survey.allot(0.5 * survey.times.overhead_ms)


GOALS = {
    "a search": ({}, "a speedup of 4.4, the least that is searched for, is out of reach"),
    "a curve": ({"curve": True}, "a speedup of 4.4, the least that is searched for, is out of"),
    "a speedup": ({"speedup": 50.0}, "--speedup 50 is out of reach: here no width is as fast"),
    "a latency": ({"max_latency_ms": 0.01}, "--max-latency-ms 0.01 is out of reach: here no width"),
}


@pytest.fixture
def no_survey(monkeypatch, exported):
    """Fails where channels are weighed or layers narrowed; the graph is the exported one."""

    def fail(*arguments):
        raise AssertionError("the work began")

    graph = onnx.load(exported["fp32"])
    monkeypatch.setattr("kneeedge.slim.survey.to_onnx", lambda *_: graph)
    monkeypatch.setattr("kneeedge.slim.survey.channel_importance", fail)
    monkeypatch.setattr("kneeedge.slim.survey.measure", fail)
    monkeypatch.setattr("kneeedge.slim.survey.LADDER", (4.4, 6.0))


def no_faster(fp32, threads, progress) -> LayerTimes:
    """Layers so narrow that a call takes its overhead, whatever their widths."""
    return dataclasses.replace(even_times(fp32, threads, progress), overhead_ms=1000.0)


@pytest.mark.parametrize(("goal", "problem"), GOALS.values(), ids=GOALS)
def test_a_goal_far_out_of_reach_is_refused_before_the_layers_are_timed(
    goal, problem, trained_run, tmp_path, monkeypatch, no_survey
):
    monkeypatch.setattr("kneeedge.slim.survey.uniform_times", lambda *_: (0.5, 0.6))
    monkeypatch.setattr("kneeedge.slim.survey.measure_layers", None)
    with pytest.raises(ConfigError, match=problem) as caught:
        slim(SlimConfig(original=str(trained_run), **goal), tmp_path / "slim", [], QUIET)
    assert "at most 1.2 times (0.5 ms in place of 0.6); ask for less" in str(caught.value)
    assert not (tmp_path / "slim").exists()


@pytest.mark.parametrize(("goal", "problem"), GOALS.values(), ids=GOALS)
def test_a_goal_out_of_reach_is_refused_before_anything_is_narrowed(
    goal, problem, trained_run, tmp_path, monkeypatch, no_survey
):
    monkeypatch.setattr("kneeedge.slim.survey.measure_layers", no_faster)
    folder = tmp_path / "slim"
    with pytest.raises(ConfigError, match=problem):
        slim(SlimConfig(original=str(trained_run), **goal), folder, [], QUIET)
    assert {path.name for path in folder.iterdir()} == {"slim.json", "survey.json"}
    monkeypatch.setattr("kneeedge.slim.survey.measure_layers", None)  # the times are kept
    with pytest.raises(ConfigError, match="--speedup 40 is out of reach"):
        resume_slim(folder, [], QUIET, Goal(speedup=40.0))
    assert Run(folder).read_slim().config.speedup == 40.0


@pytest.mark.usefixtures("undrawn")
def test_a_goal_that_was_out_of_reach_may_be_given_anew(config, slim_run, tmp_path, monkeypatch):
    folder = tmp_path / "narrower"
    far = dataclasses.replace(config, keep=None, speedup=1e5)
    with pytest.raises(ConfigError, match="out of reach"):
        slim(far, folder, ["kneeedge", "slim"], QUIET)
    monkeypatch.setattr("kneeedge.slim.survey.measure_layers", None)
    report = resume_slim(folder, ["kneeedge", "slim"], QUIET, Goal(keep=0.6))
    assert report.config == config
    assert Run(folder).model.read_bytes() == Run(slim_run).model.read_bytes()
    with pytest.raises(ConfigError, match="is finished"):
        resume_slim(folder, [], QUIET, Goal(keep=0.7))


def test_a_goal_whose_width_is_begun_is_not_changed(config, slim_run, tmp_path):
    folder = Path(shutil.copytree(slim_run, tmp_path / "begun"))
    report = dataclasses.replace(Run(folder).read_slim(), chosen=None)
    Run(folder).write_slim(report)
    with pytest.raises(ConfigError, match="has begun with the widths of its goal"):
        resume_slim(folder, [], QUIET, Goal(speedup=2.0))


def test_a_goal_just_missed_by_uniform_widths_is_left_to_the_layer_times():
    config = SlimConfig(original="run", speedup=4.0)
    check_reach((0.3, 1.0), config)
    with pytest.raises(ConfigError, match=r"at most 3\.1 times"):
        check_reach((0.32, 1.0), config)
    check_reach((1.0, 1.0), SlimConfig(original="run", keep=0.5))


def test_a_search_goes_through_the_speeds_within_reach(slim_run):
    times = read_survey(slim_run).times
    full = times.full_ms
    slow = dataclasses.replace(times, overhead_ms=full / 6)
    goals = goals_of(slow, SlimConfig(original="run"))
    assert [round(slow.full_ms / goal, 1) for goal in goals] == [4.4]


def test_a_run_of_two_training_images_is_refused(trained_run, tmp_path, monkeypatch):
    config = SlimConfig(original=str(trained_run), keep=0.6)
    read_dataset = Run.read_dataset

    def few(run, root, classes):
        dataset = read_dataset(run, root, classes)
        train = dataset.split("train")
        kept = {sample.name for sample in (train[0], train[-1])}
        samples = [s for s in dataset.samples if s.split != "train" or s.name in kept]
        return dataclasses.replace(dataset, samples=tuple(samples))

    monkeypatch.setattr(Run, "read_dataset", few)
    with pytest.raises(DataError, match="2 training images are too few to choose widths by"):
        slim(config, tmp_path / "slim", [], QUIET)
    assert not (tmp_path / "slim").exists()


def test_a_network_that_answers_all_images_alike_is_refused(trained_run, tmp_path):
    run = Path(shutil.copytree(trained_run, tmp_path / "run", symlinks=True))
    weights = load_file(run / "model.safetensors")
    weights["classifier.1.weight"].zero_()
    save_file(weights, run / "model.safetensors")
    with pytest.raises(CheckpointError, match="it answers all training images alike"):
        slim(SlimConfig(original=str(run), keep=0.6), tmp_path / "slim", [], QUIET)
    assert not (tmp_path / "slim").exists()


def test_a_folder_in_the_place_of_latest_is_refused_before_the_work(config, tmp_path, no_survey):
    (tmp_path / "latest").mkdir()
    with pytest.raises(OutputExistsError, match="it is no link; move it away"):
        slim(config, tmp_path / "slim", [], QUIET)


def test_a_folder_with_something_in_it_is_left_alone(config, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExistsError, match="another --out, or go on with `kneeedge slim"):
        slim(config, tmp_path, [], QUIET)


def test_resuming_where_nothing_was_begun_says_so(tmp_path):
    with pytest.raises(NotFoundError, match="no slim run"):
        resume_slim(tmp_path, [], QUIET)


def test_resume_takes_no_other_choice(tmp_path):
    result = CliRunner().invoke(app, ["slim", "--resume", str(tmp_path), "--epochs", "3"])
    assert result.exit_code == 2
    assert "--resume takes its choices" in result.output


@pytest.mark.usefixtures("undrawn", "one_cold_start")
def test_a_search_with_a_curve_draws_every_width_beside_the_original(
    trained_run, exported, tmp_path, monkeypatch
):
    monkeypatch.setattr("kneeedge.slim.survey.LADDER", (1.2, 1.5))
    monkeypatch.setattr("kneeedge.slim.curve.SECONDS", 0.6)
    config = SlimConfig(
        original=str(trained_run), curve=True, tolerance=0.5, threads=1, epochs=1, views=1
    )
    folder = tmp_path / "curve"
    report = slim(config, folder, ["kneeedge", "slim"], QUIET)
    record = json.loads((folder / "curve.json").read_text())
    single = [row for row in record["results"] if row["scenario"] == "SingleStream"]
    assert [row["precision"] for row in single] == ["pytorch-fp32", "int8", "int8", "int8"]
    assert all(row["accuracy"]["split"] == "test" for row in single)
    assert all(row["accuracy"]["verdict"] for row in single[1:])
    assert (folder / "curve.png").stat().st_size > 10_000
    assert len(report.steps) == 2
    with (folder / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1


def test_corrupted_images_are_asked_for_in_every_export(monkeypatch, tmp_path):
    options = []

    def exported(folder, asked, progress, gate):
        options.append(asked)

    monkeypatch.setattr("kneeedge.slim.run.export_run", exported)
    slimmer = object.__new__(Slimmer)
    slimmer.config = SlimConfig(original="run", stress=True, stress_tolerance=0.02)
    slimmer.progress = QUIET
    slimmer.gate_images = None
    slimmer.export(Run(tmp_path), ("int8",))
    assert [(asked.stress, asked.stress_tolerance) for asked in options] == [(True, 0.02)]
