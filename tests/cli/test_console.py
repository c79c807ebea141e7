"""What every command refuses before it works, and how it shows what others wrote."""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import get_type_hints

import pytest
import typer.main
from typer.testing import CliRunner, Result

from kneeedge.bench.page import FittingTable, parts_of
from kneeedge.bench.sheets import Sheet
from kneeedge.cli.app import app
from kneeedge.cli.console import show
from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.terminal import HarmlessConsole
from tests.tiny_onnx import write_tiny_model

COMMANDS = typer.main.get_command(app).commands


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Here stand a model, and twelve phantoms below knees/test."""
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "m.onnx")
    write_dataset(tmp_path / "knees", {"test": 12}, size=64)
    return tmp_path


def refused(result: Result, words: str, code: int = 2) -> None:
    """The command ended with the code and one line that has the words."""
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["info", ""], ["info", "m.onnx", "--json="], ["audit", ""]])
def test_an_empty_argument_is_not_the_folder_where_one_stands(arguments: list[str]) -> None:
    refused(CliRunner().invoke(app, arguments), "is empty; give a value")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_number_is_taken_for_one_by_any_option(name: str) -> None:
    kinds = get_type_hints(getattr(import_module(f"kneeedge.cli.{name}"), name))
    numbers = [p.opts[0] for p in COMMANDS[name].params if "float" in str(kinds.get(p.name))]
    assert numbers or name in ("audit", "demo", "info", "report", "runs", "triton", "verify", "web")
    for option in numbers:
        for value in ("nan", "inf", "-inf", "1e999"):
            result = CliRunner().invoke(app, [name, "x", option, value])
            assert result.exit_code == 2, (name, option, value, result.output)


@pytest.mark.parametrize("value", ["nan", "inf", "1e99", "-1"])
def test_no_limit_is_no_number_of_pixels(place: Path, value: str) -> None:
    command = ["infer", "knees", "--model", "m.onnx", "--max-megapixels", value]
    assert CliRunner().invoke(app, command).exit_code == 2
    assert not (place / "predictions.csv").exists()


@pytest.mark.parametrize("value", ["99999999999999999999999", "100000"])
def test_threads_without_end_are_refused(place: Path, value: str) -> None:
    assert CliRunner().invoke(app, ["verify", "m.onnx", "--threads", value]).exit_code == 2


@pytest.mark.parametrize("name", ["infer", "evaluate", "verify", "info", "bench"])
def test_an_empty_demand_for_a_signature_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("KNEEEDGE_REQUIRE_SIGNATURE", "")
    data = ["knees"] if name == "evaluate" else []
    words = "KNEEEDGE_REQUIRE_SIGNATURE is set and empty"
    refused(CliRunner().invoke(app, [name, "m.onnx", *data]), words)


def test_an_empty_name_of_the_model_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNEEEDGE_MODEL", "")
    refused(CliRunner().invoke(app, ["infer", "knees"]), "KNEEEDGE_MODEL is set and empty")


@pytest.mark.parametrize("name", ["m.onnx", "./m.onnx", "link.onnx"])
def test_a_report_does_not_overwrite_the_model(place: Path, name: str) -> None:
    (place / "link.onnx").symlink_to("m.onnx")
    before = (place / "m.onnx").read_bytes()
    words = "name the file itself" if name == "link.onnx" else "name another"
    refused(CliRunner().invoke(app, ["info", "m.onnx", "--json", name]), words, code=1)
    assert (place / "m.onnx").read_bytes() == before


def test_two_reports_do_not_share_a_file(place: Path) -> None:
    command = ["bench", "m.onnx", "--csv", "x", "--markdown", "x"]
    refused(CliRunner().invoke(app, command), "--markdown and --csv both name x")


@pytest.mark.parametrize("option", ["--json", "--out"])
def test_a_folder_is_no_file_to_write(place: Path, option: str) -> None:
    (place / "reports").mkdir()
    command = ["infer", "knees", "--model", "m.onnx", option, "reports"]
    refused(CliRunner().invoke(app, command), "name a file", code=1)


def test_a_file_is_no_folder_to_write_to(place: Path) -> None:
    command = ["infer", "knees", "--model", "m.onnx", "--heatmaps", "m.onnx"]
    refused(CliRunner().invoke(app, command), "it is no folder", code=1)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
@pytest.mark.parametrize(
    "command",
    ["info X --json J", "verify X --json J", "evaluate X D --json J", "infer D --model X"],
)
def test_names_that_are_no_utf8_pass_through_every_command(place: Path, command: str) -> None:
    shutil.copy(place / "m.onnx", place / "m\udce9.onnx")
    (place / "knees").rename(place / "kn\udce9es")
    names = {"X": "m\udce9.onnx", "D": "kn\udce9es", "J": "j\udce9.json"}
    done = subprocess.run(
        [sys.executable, "-m", "kneeedge", *(names.get(word, word) for word in command.split())],
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_report_in_colours_obeys_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("model")
    table.add_row(Text("\x1b[31mred\x07"))
    show(table, {}, None)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert r"\x1b[31" in shown


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("infer --provider te", "tensorrt"),
        ("bench --provider cpu,cu", "cpu,cuda"),
        ("export --precision fp32,i", "fp32,int8"),
        ("train --recipe p", "paper"),
        ("train --head c", "classifier"),
    ],
)
def test_the_shell_completes_values(words: str, completed: str) -> None:
    code = "import sys; sys.argv = ['kneeedge']; from kneeedge.cli.start import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "_KNEEEDGE_COMPLETE": "complete_bash",
            "COMP_WORDS": f"kneeedge {words}",
            "COMP_CWORD": str(len(words.split())),
        },
    )
    assert done.stdout.split() == [completed], done.stderr


def test_the_model_is_taken_as_an_option_by_every_command_that_has_it_as_an_argument(
    place: Path,
) -> None:
    for words in (
        "info --model m.onnx",
        "verify -q --model m.onnx",
        "evaluate knees --model m.onnx",
    ):
        done = CliRunner().invoke(app, words.split())
        assert done.exit_code == 0, done.output


def test_an_old_spelling_is_still_taken() -> None:
    command = ["bench", "nothing.onnx", "--batch-sizes=x"]
    refused(CliRunner().invoke(app, command), "--batch-size x is no list of numbers")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_options(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {"--quiet", "-q"} <= options
    assert "--json" in options or name in ("demo", "serve")
    for flag in ("-h", "--help"):
        done = CliRunner().invoke(app, [name, flag])
        assert done.exit_code == 0
        assert "Exit codes: 0 done" in done.output


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_word_of_a_report_is_broken_at_the_edge(
    place: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    wide = CliRunner().invoke(app, ["evaluate", "m.onnx", "knees"], env={"COLUMNS": "1000"})
    narrow = CliRunner().invoke(app, ["evaluate", "m.onnx", "knees"])
    assert narrow.stdout.split() == wide.stdout.split()
    assert all(len(line) <= width for line in narrow.stdout.splitlines())


@pytest.mark.parametrize("width", [70, 80, 120, 160])
def test_a_table_that_is_too_wide_comes_in_turns_and_loses_no_figure(width: int) -> None:
    sheet = Sheet(
        title="",
        names=("model", "provider"),
        figures=tuple(f"figure {k}" for k in range(12)),
        rows=(("knee.int8.onnx", "cpu", *(f"{k}.25 [{k}.1, {k}.5]" for k in range(12))),),
    )
    shown = StringIO()
    HarmlessConsole(file=shown, width=width).print(FittingTable(sheet))
    text = shown.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    for k in range(12):
        assert f"{k}.25 [{k}.1, {k}.5]" in text
    assert text.count("knee.int8.onnx") == len(parts_of(sheet, width))


def test_a_report_ends_in_what_was_written_and_what_comes_next(place: Path) -> None:
    done = CliRunner().invoke(app, ["info", "m.onnx", "--json", "i.json"])
    assert done.stdout.splitlines()[-2:] == ["wrote: i.json", "next: kneeedge verify m.onnx"]
