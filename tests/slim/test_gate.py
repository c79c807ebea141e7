"""The gate holds a slimmed network's files against the original, not against its own network."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

from onnx import numpy_helper

from export import run as export_module
from export.gate import gate_report
from export.options import ExportOptions
from export.ranges import METHODS
from export.run import export_run
from kneeedge.data.dataset import Sample, read_split
from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.model.spec import softmax
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, MAX_LOGIT_CHANGE, PASS
from kneeedge.pixels.phantom import write_dataset
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.answers import ORIGINAL, Answers, read_original_answers
from kneeedge.runs.folder import Run, open_run
from kneeedge.runs.slim_report import SlimConfig
from kneeedge.runtime.golden import golden_inputs, read_golden
from kneeedge.runtime.session import Session
from kneeedge.slim.run import Slimmer
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import from_json, to_json
from kneeedge.training.checkpoint import load_original, predict_logits
from tests.tiny_onnx import tiny_spec

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def published(slim_run, tmp_path_factory) -> Path:
    """The slim run with fp32 and int8 files that a wide tolerance let pass."""
    run = tmp_path_factory.mktemp("published") / "slim"
    shutil.copytree(slim_run, run)
    options = ExportOptions(precisions=("fp32", "int8"), n_calibration=40, tolerance=0.3)
    assert not export_run(run, options, QUIET).failed
    return run


@pytest.fixture(scope="module")
def reports(published):
    files = Run(published).read_export_report().files
    return {file.report.precision: file.report for file in files}


@pytest.fixture(scope="module")
def val(slim_run) -> tuple[Sample, ...]:
    record = Run(slim_run).read_config()
    return read_split(slim_run / "split.csv", Path(record.data_root), record.classes).split("val")


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "slim", ignore=shutil.ignore_patterns("models")))


def test_the_report_says_against_whom(reports, trained_run):
    assert {report.against for report in reports.values()} == {trained_run.name}


def test_an_int8_file_that_passes_without_float_layers_has_none(published):
    files = Run(published).read_export_report().files
    (int8,) = [file for file in files if file.report.precision == "int8"]
    assert (int8.report.verdict, int8.calibration.float_layers) == (PASS, ())
    assert [trial.method for trial in int8.calibration.trials] == list(METHODS)


def test_the_run_that_was_slimmed_is_held_against_itself(exported):
    for file in Run(exported["fp32"].parent.parent).read_export_report().files:
        assert (file.report.against, file.report.own_logit_change) == (None, None)


def test_the_originals_score_in_the_report_is_that_of_its_own_run(reports, trained_run):
    metrics = json.loads((trained_run / "metrics.json").read_text())["val"]
    for report in reports.values():
        for name in ("accuracy", "auroc", "sensitivity", "specificity"):
            assert getattr(report.original, name) == pytest.approx(metrics[name], abs=1e-12)


def test_the_logit_change_is_that_from_the_original(reports, slim_run, val):
    spec = load_original(open_run(slim_run))[1]
    original = read_original_answers(slim_run / "original.csv", val, spec).logits
    with (slim_run / "answers.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    columns = [f"logit_{name}" for name in spec.classes]
    own = [[float(rows[sample.name][column]) for column in columns] for sample in val]
    expected = np.abs(np.array(own) - original).max()
    assert reports["fp32"].max_abs_logit_change == pytest.approx(expected, abs=1e-3)
    assert reports["fp32"].max_abs_logit_change > 10 * MAX_LOGIT_CHANGE["fp32"]


def test_the_logit_change_from_its_own_network_is_conversion_alone(reports):
    assert reports["fp32"].own_logit_change < 1e-4
    assert reports["fp32"].own_logit_change < reports["int8"].own_logit_change < 2.0


def test_each_side_is_decided_by_its_own_temperature_and_threshold(slim_run, val):
    """Twice the original's logits at twice its temperature: not an answer changes."""
    spec = load_original(open_run(slim_run))[1]
    original = read_original_answers(slim_run / "original.csv", val, spec)
    doubled = dataclasses.replace(
        spec, temperature=2 * original.spec.temperature, threshold=original.spec.threshold
    )
    variant = Answers("int8", doubled, 2 * original.logits)
    report = gate_report(val, original, variant, "cpu", 0.5, variant.logits)
    assert (report.flips, report.ece_change) == ((), 0.0)
    assert report.original == report.variant


def test_with_three_classes_each_side_is_ranked_at_its_own_temperature():
    spec = tiny_spec(classes=("a", "b", "c"))
    samples = tuple(
        Sample(
            path=Path(f"{i}.png"), name=f"{i}.png", sha256="", split="val", label=i % 3, group=""
        )
        for i in range(60)
    )
    logits = np.random.default_rng(0).normal(0, 2, (60, 3))
    original = Answers(ORIGINAL, spec, logits)
    doubled = Answers("int8", dataclasses.replace(spec, temperature=2.0), 2 * logits)
    report = gate_report(samples, original, doubled, "cpu", 0.5, doubled.logits)
    assert (report.auroc_change, report.flips) == (0.0, ())


def test_equal_logits_do_not_pass_a_slimmed_network_by_themselves(slim_run, val):
    """Rounding is no evidence about another network, and 60 images are too few for 1 %."""
    spec = load_original(open_run(slim_run))[1]
    original = read_original_answers(slim_run / "original.csv", val, spec)
    variant = Answers("fp32", original.spec, original.logits)
    assert gate_report(val, original, variant, "cpu", 0.01).verdict == PASS
    assert gate_report(val, original, variant, "cpu", 0.01, original.logits).verdict == INCONCLUSIVE


def test_a_fault_of_conversion_fails_though_the_answers_are_the_originals(slim_run, val):
    spec = load_original(open_run(slim_run))[1]
    original = read_original_answers(slim_run / "original.csv", val, spec)
    variant = Answers("fp32", original.spec, original.logits)
    report = gate_report(val, original, variant, "cpu", 0.5, original.logits + 0.02)
    assert report.verdict == FAIL
    assert "a logit moved by 0.02, and fp32 may move it by 0.01" in report.reason


def test_the_flips_name_what_the_original_answered(slim_run, val):
    spec = load_original(open_run(slim_run))[1]
    original = read_original_answers(slim_run / "original.csv", val, spec)
    opposite = Answers("int8", original.spec, original.logits[:, ::-1])
    report = gate_report(val, original, opposite, "cpu", 0.01, opposite.logits)
    predictions = zip(val, original.predictions, strict=True)
    names = {sample.name: spec.classes[k] for sample, k in predictions}
    assert len(report.flips) > 30
    assert all(case.original == names[case.path] != case.variant for case in report.flips)


def test_a_slimmed_network_that_was_broken_fails(slim_run, tmp_path, monkeypatch):
    run = copy_of(slim_run, tmp_path)
    real = export_module.to_onnx

    def broken(*arguments):
        graph = real(*arguments)
        head = next(t for t in graph.graph.initializer if len(t.dims) == 4 and t.dims[0] == 2)
        head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head)[::-1].copy(), head.name))
        return graph

    monkeypatch.setattr(export_module, "to_onnx", broken)
    assert export_run(run, ExportOptions(precisions=("fp32",), tolerance=1.0), QUIET).failed


def test_refusals_stay_beside_its_own_pytorch_model(reports, slim_run):
    assert load_original(open_run(slim_run))[1].novelty is not None
    assert reports["fp32"].refusals.changed == 0
    assert reports["fp32"].refusals.largest_change < 1e-2


def test_golden_answers_are_the_slim_networks_own(published):
    model, _ = load_original(open_run(published))
    session = Session(published / "models/slim.fp32.onnx", "cpu")
    golden = read_golden(session)
    expected = predict_logits(model, golden_inputs(session, golden))
    logits = [case.original_logits for case in golden.cases]
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_what_the_file_says_of_its_gate_is_against_the_original(published, reports):
    spec = Session(published / "models/slim.fp32.onnx", "cpu").spec
    assert spec.training.slimmed.original == reports["fp32"].against
    assert spec.file.verification.original == reports["fp32"].original


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_an_original_that_cannot_be_compared_with_is_said_before_the_work(
    slim_run, tmp_path, monkeypatch, damage
):
    run = copy_of(slim_run, tmp_path)
    lines = (run / "original.csv").read_text().splitlines(keepends=True)
    (run / "original.csv").unlink()
    if damage == "short":
        (run / "original.csv").write_text("".join(lines[:20]))

    def begin(*_):
        pytest.fail("a file was begun")

    monkeypatch.setattr(export_module.Exporter, "publish", begin)
    problem = r"original\.csv: the original's answer.*; slim the original again"
    with pytest.raises(CheckpointError, match=problem):
        export_run(run, ExportOptions(precisions=("fp32",)), QUIET)


def test_a_report_from_before_slimming_still_reads(published, tmp_path):
    report = Run(published).read_export_report()
    record = json.loads(to_json(report))
    for file in record["files"]:
        del file["report"]["against"], file["report"]["own_logit_change"]
    old = from_json(type(report), json.dumps(record))
    assert [file.report.against for file in old.files] == [None, None]
    (tmp_path / "models").mkdir()
    Run(tmp_path).write_export_report(report)
    assert Run(tmp_path).read_export_report() == report


@pytest.fixture(scope="module")
def gate_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate") / "more"
    write_dataset(folder, {"test": 20}, size=64, seed=4000)
    return folder


def test_further_images_are_answered_by_the_network_it_was_slimmed_from(
    slim_run, trained_run, gate_folder, tmp_path
):
    folder = Path(shutil.copytree(slim_run, tmp_path / "slim", symlinks=True))
    options = ExportOptions(precisions=("fp32",), tolerance=0.5, gate_data=str(gate_folder))
    (file,) = export_run(folder, options, QUIET).files
    assert file.report.images == "60 val + 20 gate images (more)"
    assert file.report.changes["accuracy"].n == 80
    assert file.report.own_logit_change < 1e-3
    model, spec = load_original(open_run(trained_run))
    paths = sorted(gate_folder.glob("test/*/*.png"))
    images = np.stack([load_input(path, spec.pixel_path) for path in paths])[:, None]
    answers = spec.decide(softmax(predict_logits(model, images), spec.temperature))
    right = [spec.classes[k] == path.parent.name for k, path in zip(answers, paths, strict=True)]
    n_right_on_val = round(60 * spec.training.scores["val"].accuracy)
    assert file.report.original.accuracy == pytest.approx((sum(right) + n_right_on_val) / 80)


def test_without_that_run_further_images_are_refused(slim_run, gate_folder, tmp_path):
    run = Run(Path(shutil.copytree(slim_run, tmp_path / "slim", symlinks=True)))
    gone = dataclasses.replace(run.read_config(), original=str(tmp_path / "gone"))
    run.write_config(gone)
    options = ExportOptions(precisions=("fp32",), gate_data=str(gate_folder))
    with pytest.raises(NotFoundError, match="is not there; export without --gate-data, or slim"):
        export_run(run.folder, options, QUIET)


def test_a_slim_run_asks_its_original_once_for_all_its_exports(
    slim_run, trained_run, gate_folder, tmp_path, monkeypatch
):
    config = SlimConfig(original=str(trained_run), keep=0.6, gate_data=str(gate_folder))
    slimmer = Slimmer(config, tmp_path, [], QUIET)
    logits = slimmer.gate.logits
    monkeypatch.setattr("export.original.slimmed_from", None)
    asked = []

    def exported(folder, options, progress, gate):
        asked.append((options.gate_data, gate.logits is logits))

    monkeypatch.setattr("kneeedge.slim.run.export_run", exported)
    for _ in range(2):
        slimmer.export(Run(tmp_path), ("int8",))
    assert asked == [(str(gate_folder), True)] * 2
    monkeypatch.undo()
    folder = Path(shutil.copytree(slim_run, tmp_path / "slim", symlinks=True))
    options = ExportOptions(precisions=("fp32",), tolerance=0.5, gate_data=str(gate_folder))
    (file,) = export_run(folder, options, QUIET, slimmer.gate).files
    assert file.report.changes["accuracy"].n == 80
