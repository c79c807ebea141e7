"""Every command writes over its own older results, and over nothing else."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kneeedge.cli.app import app
from kneeedge.cli.json_format import FORMATS, stamped
from kneeedge.errors import OutputExistsError
from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.outputs import DOCUMENT, check_output
from kneeedge.system.strict_json import to_json
from tests.bench_rows import result as bench_result
from tests.bench_rows import row
from tests.tiny_onnx import write_tiny_model

SOMEBODY_ELSES = '{"labels": [0, 1]}'
BENCH = "bench MODEL --provider cpu --seconds 0.1 --rounds 1 --batch-sizes 2"


def run(command: str, folder: Path, *arguments: object) -> Result:
    words = [str(folder / word) if word in ("MODEL", "DATA") else word for word in command.split()]
    return CliRunner().invoke(app, [*words, *map(str, arguments)])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model and labelled images."""
    write_tiny_model(tmp_path / "MODEL.onnx").rename(tmp_path / "MODEL")
    write_dataset(tmp_path / "DATA", {"train": 8, "test": 6}, size=64)
    return tmp_path


COMMANDS = ["info MODEL", "verify MODEL --provider cpu", "evaluate MODEL DATA -q", "audit DATA -q"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_replaces_its_own_json_and_no_other(place: Path, command: str) -> None:
    out = place / "new/result.json"
    for _ in range(2):
        result = run(command, place, "--json", out)
        assert result.exit_code == 0, result.output
    json.loads(out.read_text(encoding="utf-8"))
    out.write_text(SOMEBODY_ELSES)
    result = run(command, place, "--json", out)
    assert result.exit_code == 1
    assert "it is no JSON document that kneeedge wrote" in result.stderr
    assert out.read_text() == SOMEBODY_ELSES


@pytest.mark.parametrize("name", FORMATS)
def test_the_documents_of_every_command_are_known(tmp_path: Path, name: str) -> None:
    for record in (stamped(name, {"a": 1}), [stamped(name, {"a": 1})]):
        (tmp_path / name).write_text(to_json(record), encoding="utf-8")
        check_output(tmp_path / name, DOCUMENT)
    for other in ("{}", '{"labels": [0]}', '{"labels": [0], "format": "kneeedge-infer/1"}'):
        (tmp_path / name).write_text(other, encoding="utf-8")
        with pytest.raises(OutputExistsError):
            check_output(tmp_path / name, DOCUMENT)


@pytest.mark.parametrize(
    ("command", "option"), [("audit DATA -q", "--html"), ("audit DATA -q", "--write-groups")]
)
def test_the_audit_replaces_its_own_files_and_no_other(
    place: Path, command: str, option: str
) -> None:
    out = place / "new/file"
    for _ in range(2):
        assert run(command, place, option, out).exit_code == 0
    radiograph = next((place / "DATA").rglob("*.png"))
    before = radiograph.read_bytes()
    assert (
        "that kneeedge wrote; name another place" in run(command, place, option, radiograph).stderr
    )
    assert radiograph.read_bytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("one_cold_start")
def test_the_benchmark_replaces_its_own_files_and_no_other(place: Path) -> None:
    outs = {option: place / option.strip("-") for option in ("--csv", "--markdown", "--json")}
    options = [word for option, path in outs.items() for word in (option, path)]
    for _ in range(2):
        result = run(BENCH, place, *options)
        assert result.exit_code == 0, result.output
    model = (place / "MODEL").read_bytes()
    for option in outs:
        result = run(BENCH, place, option, place / "MODEL")
        assert result.exit_code in (1, 2)
        assert "MODEL; name another" in result.stderr or "is there already" in result.stderr
    assert (place / "MODEL").read_bytes() == model


def test_an_input_of_the_comparison_is_not_replaced(place: Path) -> None:
    from kneeedge.bench.page import bench_json

    old = place / "old.json"
    document = json.loads(bench_json(bench_result(row("fp32", 30.0))))
    old.write_text(to_json(stamped("bench", document)), encoding="utf-8")
    before = old.read_bytes()
    result = run("bench -q --compare", place, old, old, "--json", old)
    assert "--json and --compare both name" in result.stderr
    assert old.read_bytes() == before


def test_standard_output_is_for_json_alone(place: Path) -> None:
    result = run("audit DATA -q --html -", place)
    assert result.exit_code == 2
    assert "- is no place for a page; name a file, or /dev/stdout" in result.stderr


@pytest.mark.torch
def test_the_demo_needs_a_folder(place: Path) -> None:
    result = run("demo", place, "--out", place / "MODEL")
    assert result.exit_code == 1
    assert "it is no folder; name one" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="devices and pipes are POSIX's")
@pytest.mark.parametrize("target", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_json_goes_into_a_descriptor(place: Path, target: str) -> None:
    words = ["info", str(place / "MODEL"), "--json", target]
    code = "from kneeedge.cli.app import main; main()"
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"model_sha256"' in done.stdout


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="there is no /dev/zero here")
@pytest.mark.parametrize("option", ["--json", "--html", "--write-groups"])
def test_a_device_is_neither_replaced_nor_written_to(place: Path, option: str) -> None:
    result = run(shlex.join(["audit", "DATA", "-q", option, "/dev/zero"]), place)
    assert result.exit_code == 1
    assert "it is no regular file; name one, or use - with --json" in result.stderr
    assert Path("/dev/zero").is_char_device()
