"""`infer --new-only`: what a finished output lacks, night after night."""

import csv
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.inference import watch
from kneeedge.pixels.phantom import write_dataset
from tests.tiny_onnx import write_tiny_model


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch.Watch.__init__, "__defaults__", (None, 0.0, time.monotonic))


@pytest.fixture
def night(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "night", {"": 6}, size=64)
    return tmp_path / "night"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "m.onnx")


def infer(night: Path, model: Path, *options: str) -> Any:
    out = night.parent / "p.csv"
    command = ["infer", str(night), "--model", str(model), "--out", str(out), "--provider", "cpu"]
    return CliRunner().invoke(app, [*command, "--no-isolate", *options])


def names(night: Path) -> list[str]:
    with (night.parent / "p.csv").open(newline="", encoding="utf-8") as file:
        return [row["path"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("first", [(), ("--new-only",)])
def test_only_what_a_finished_output_lacks_is_answered(
    night: Path, model: Path, first: tuple[str, ...]
) -> None:
    assert infer(night, model, *first).exit_code == 0
    before = names(night)
    assert len(before) == 6
    image = next(night.rglob("*.png"))
    shutil.copy(image, night / "new.png")
    again = infer(night, model, "--new-only")
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith("1 image: ")
    assert "6 images had rows before" in again.stdout
    assert names(night) == [*before, "new.png"]
    nothing = infer(night, model, "--new-only")
    assert nothing.exit_code == 0
    assert nothing.stdout.startswith("0 images: ")
    assert names(night) == [*before, "new.png"]


def test_a_file_that_changed_has_a_second_row_and_one_that_was_touched_has_none(
    night: Path, model: Path
) -> None:
    infer(night, model)
    first, second, third = sorted(night.rglob("*.png"))[:3]
    shutil.copy(third, first)
    os.utime(second, ns=(1, 1))
    again = infer(night, model, "--new-only")
    below = first.relative_to(night).as_posix()
    assert f"{below} has changed since its first row, and has a second one now" in again.stderr
    assert names(night)[6:] == [below]


def test_an_unreadable_new_file_is_a_row_and_the_exit_code_says_so(
    night: Path, model: Path
) -> None:
    infer(night, model)
    (night / "broken.png").write_bytes(b"no picture")
    assert infer(night, model, "--new-only").exit_code == 3
    assert names(night)[6:] == ["broken.png"]
    assert infer(night, model, "--new-only").exit_code == 0


def test_another_model_does_not_add_to_the_rows_of_the_first(
    night: Path, model: Path, tmp_path: Path
) -> None:
    infer(night, model)
    other = write_tiny_model(tmp_path / "other.onnx", seed=1)
    refused = infer(night, other, "--new-only")
    assert refused.exit_code == 2
    assert "is of another model sha256" in refused.stderr
    assert len(names(night)) == 6


def test_a_file_that_is_still_being_written_is_left_to_the_next_run(
    night: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer(night, model)
    whole = next(night.rglob("*.png")).read_bytes()
    (night / "new.png").write_bytes(whole[:50])
    monkeypatch.setattr(watch.Watch.__init__, "__defaults__", (None, 0.2, time.monotonic))

    def write_on(_: float) -> None:
        (night / "new.png").write_bytes(whole[:60])
        time.sleep(0.25)

    monkeypatch.setattr(watch.answer_new, "__defaults__", (write_on,))
    again = infer(night, model, "--new-only")
    assert "still being written: 1 file; the next run" in again.stdout
    assert len(names(night)) == 6


def test_the_json_holds_what_is_new(night: Path, model: Path) -> None:
    infer(night, model)
    shutil.copy(next(night.rglob("*.png")), night / "new.png")
    again = infer(night, model, "--new-only", "--json", str(night.parent / "r.json"))
    assert again.exit_code == 0
    assert '"path": "new.png"' in (night.parent / "r.json").read_text()
