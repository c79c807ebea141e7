"""The page of what `--json` holds is that of the code, and what commands write is on it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.cli.json_format import FORMATS, stamped
from kneeedge.inference.evaluation import EvaluationReport
from kneeedge.pixels.phantom import write_dataset
from kneeedge.runs.benchmark import read_benchmark
from tests.docs.json_fields import FIELDS, PAGE, page
from tests.run_records import evaluation, export_report
from tests.tiny_onnx import write_tiny_model


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "m.onnx")
    write_dataset(tmp_path / "knees", {"test": 12}, size=64)
    return tmp_path


def paths(value: Any, known: set[str], path: str = "") -> Iterator[str]:
    """The path of each figure or text, by the names of the page."""
    if isinstance(value, dict):
        for key, item in value.items():
            named = f"{path}.{key}" if path else key
            is_known = any(f"{name}.[".startswith((f"{named}.", f"{named}[")) for name in known)
            yield from paths(item, known, named if is_known else f"{path}.*")
    elif isinstance(value, list):
        for item in value:
            yield from paths(item, known, f"{path}[]")
    elif value is not None:
        yield path


def check(name: str, record: dict[str, Any]) -> None:
    known = {path for path, _, _ in FIELDS[name]()}
    assert next(iter(record)) == "format"
    assert record.pop("format") == f"kneeedge-{name}/{FORMATS[name]}"
    assert set(paths(record, known)) - known == set()
    top = {path.split(".")[0].split("[")[0] for path in known}
    assert top - set(record) <= ({"caveat", "val", "test"} if name == "train" else set())


def test_the_page_is_that_of_the_code() -> None:
    words = "write it anew with `python -m tests.docs.json_fields`"
    assert PAGE.read_text(encoding="utf-8") == page(), words


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("info", "info m.onnx"),
        ("verify", "verify m.onnx"),
        ("evaluate", "evaluate m.onnx knees --prevalence 0.2"),
        ("evaluate", "evaluate m.onnx knees --joint"),
        ("infer", "infer knees --model m.onnx"),
        ("audit", "audit knees"),
        pytest.param(
            "bench",
            "bench m.onnx --data knees --seconds 0.2 --rounds 1 --batch-size 1",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_a_command_writes_is_on_the_page(place: Path, name: str, command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--json", "r.json"])
    assert done.exit_code == 0, done.output
    record = json.loads((place / "r.json").read_text(encoding="utf-8"))
    for each in record if isinstance(record, list) else [record]:
        check(name, each)
    if name == "bench":
        assert read_benchmark(place / "r.json").results
        compared = ["bench", "--compare", "r.json", "r.json", "--json", "c.json"]
        CliRunner().invoke(app, compared)
        check("compare", json.loads((place / "c.json").read_text(encoding="utf-8")))


def test_records_of_training_and_export_are_on_the_page() -> None:
    check("train", stamped("train", {"val": evaluation(), "test": evaluation()}))
    check("export", stamped("export", export_report(fp32="pass", int8="fail")))
    report = EvaluationReport(
        model="m", split="test", provider="cpu", n_seen=0, evaluation=evaluation()
    )
    check("evaluate", stamped("evaluate", report.as_record()))


def test_every_format_has_its_fields() -> None:
    assert set(FORMATS) == set(FIELDS)
