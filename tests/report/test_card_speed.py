"""The record of a run's speed: a bench of less is kept beside it, and old files have no speed."""

import dataclasses
from pathlib import Path

import pytest

from kneeedge.report.card import add_speed, write_card
from kneeedge.runs.benchmark import Accuracy, BenchResult, Row
from kneeedge.runs.folder import Run
from kneeedge.system.strict_json import plain, to_json
from tests.bench_rows import OFFLINE_8, accuracy, result, row
from tests.run_records import dataset, evaluation, export_report, run_record, write_finished_run

PRECISIONS = ("fp32", "fp16", "int8")
MILLISECONDS = {"pytorch-fp32": 100.0, "fp32": 50.0, "fp16": 60.0, "int8": 20.0}
FULL = ("pytorch-fp32", *PRECISIONS)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished run with three exported files."""
    run = write_finished_run(tmp_path / "run")
    run.write_config(run_record())
    run.write_dataset(dataset(tmp_path))
    run.write_metrics({"test": plain(evaluation())})
    run.models.mkdir()
    export(run)
    return run


def export(run: Run, turn: int = 0) -> None:
    """Write an export report whose files have other bytes in each turn."""
    report = export_report(fp32="pass", fp16="pass", int8="pass")
    files = [
        dataclasses.replace(file, sha256=sha256_of(precision, turn))
        for file, precision in zip(report.files, PRECISIONS, strict=True)
    ]
    run.write_export_report(dataclasses.replace(report, files=tuple(files)))


def sha256_of(precision: str, turn: int = 0) -> str:
    return f"{precision}-{turn}".ljust(64, "0")


def measured_row(precision: str, turn: int, **changes: object) -> Row:
    shown = {"model": f"models/tiny.{precision}.onnx", "model_sha256": sha256_of(precision, turn)}
    return row(precision, MILLISECONDS[precision], **shown | changes)


def session(
    *precisions: str, on: str = "2026-11-26T10:17:00Z", turn: int = 0, **changes: object
) -> BenchResult:
    """A benchmark of these models."""
    rows = [measured_row(precision, turn, **changes) for precision in precisions]
    return dataclasses.replace(result(*rows), measured=on)


def keep(run: Run, measured: BenchResult) -> str:
    return add_speed(run, measured, to_json(measured))


def card_of(run: Run) -> str:
    return run.card.read_text(encoding="utf-8")


def test_a_benchmark_of_all_files_is_the_record_and_in_the_card(run: Run) -> None:
    full = session(*FULL)
    assert keep(run, full) == f"the figures are in {run.card} now"
    assert run.read_benchmark() == full
    assert "| tiny.int8.onnx | int8 | cpu | 20 | 5.00 |" in card_of(run)
    assert "2 threads, CPU, 2026-11-26T10:17:00Z." in card_of(run)


LESS = {
    "one file": (session("pytorch-fp32", "int8"), "tiny.fp32.onnx on cpu, tiny.fp16.onnx on cpu"),
    "no original": (session(*PRECISIONS), "tiny.pytorch-fp32.onnx on cpu"),
    "another provider": (session(*FULL, provider="cuda"), "tiny.pytorch-fp32.onnx on cpu"),
    "another scenario": (session(*FULL, **OFFLINE_8), "SingleStream"),
    "no accuracy": (session(*FULL), "accuracy"),
}


@pytest.mark.parametrize(("less", "missing"), LESS.values(), ids=LESS)
def test_a_benchmark_of_less_leaves_the_record_and_stands_beside_it(
    run: Run, less: BenchResult, missing: str
) -> None:
    keep(run, session(*FULL, accuracy=accuracy(None)))
    before = (run.benchmark.read_bytes(), run.card.read_bytes())
    later = dataclasses.replace(less, measured="2026-11-27T08:00:00Z")
    line = keep(run, later)
    apart = run.folder / "bench-20261127T080000Z.json"
    assert line.startswith(f"kept in {apart}: ")
    assert f"they also have {missing}" in line
    assert apart.read_text(encoding="utf-8") == to_json(later) + "\n"
    assert (run.benchmark.read_bytes(), run.card.read_bytes()) == before


def test_a_benchmark_of_as_much_replaces_the_record_and_says_so(run: Run) -> None:
    keep(run, session("pytorch-fp32", "int8"))
    later = session(*FULL, on="2026-11-27T08:00:00Z")
    line = keep(run, later)
    assert line.endswith("now, in place of those of 2026-11-26T10:17:00Z")
    assert run.read_benchmark() == later


def test_files_that_were_exported_anew_have_no_speed_and_the_card_says_so(run: Run) -> None:
    keep(run, session(*FULL))
    export(run, turn=1)
    write_card(run)
    assert "| tiny.int8.onnx |" not in card_of(run)
    assert "| tiny.pytorch-fp32.onnx | pytorch-fp32 |" in card_of(run)
    left_out = "tiny.fp32.onnx, tiny.fp16.onnx, tiny.int8.onnx"
    assert f"Left out, since they are not this run's files as they are: {left_out}." in card_of(run)


def test_rows_of_files_that_are_gone_protect_no_record(run: Run) -> None:
    keep(run, session(*FULL))
    export(run, turn=1)
    later = session("pytorch-fp32", "int8", turn=1)
    later = dataclasses.replace(
        later, results=(measured_row("pytorch-fp32", 0), measured_row("int8", 1))
    )
    keep(run, later)
    assert run.read_benchmark() == later
    assert "Left out" not in card_of(run)


def test_a_record_that_cannot_be_read_is_replaced(run: Run) -> None:
    run.benchmark.write_text("{}")
    full = session(*FULL)
    keep(run, full)
    assert run.read_benchmark() == full


def test_a_result_older_than_the_hashes_is_told_by_its_names(run: Run) -> None:
    keep(run, session(*FULL, model_sha256=""))
    assert "tiny.fp16.onnx on cpu" in keep(run, session("pytorch-fp32", "int8", model_sha256=""))


def test_accuracy_in_one_row_is_accuracy(run: Run) -> None:
    measured: Accuracy = accuracy(None)
    keep(run, session(*FULL, accuracy=measured))
    later = session(*FULL, on="2026-11-27T08:00:00Z", accuracy=measured)
    keep(run, later)
    assert run.read_benchmark() == later


def test_the_card_says_where_a_measurement_has_warnings_or_too_few_rounds(run: Run) -> None:
    busy = dataclasses.replace(session(*FULL, unstable=None), warnings=("the machine was busy",))
    keep(run, busy)
    assert "Too few rounds to tell whether the machine was steady." in card_of(run)
    assert "Measured with warnings: the machine was busy." in card_of(run)
    keep(run, session(*FULL))
    assert "Too few rounds" not in card_of(run)
    assert "warnings" not in card_of(run)


def test_the_card_says_why_one_file_passed_and_another_with_the_same_answers_did_not(
    run: Run,
) -> None:
    report = export_report(fp32="pass", fp16="inconclusive")
    run.write_export_report(report)
    write_card(run)
    assert "fp32 passed as the same network: logits are alike up to rounding." in card_of(run)
    assert "Inconclusive: too few images to exclude such a loss" in card_of(run)
