"""The command line: exit codes, what goes to stdout and what to stderr, errors of one line."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kneeedge.cli.app import app
from kneeedge.pixels.phantom import write_dataset
from kneeedge.runs.folder import Run
from kneeedge.version import __version__
from tests.tiny_onnx import write_tiny_model

HELP_WITHOUT_HEAVY_MODULES = """
import sys

for name in ("torch", "onnxruntime", "onnx"):
    sys.modules[name] = None

from typer.testing import CliRunner
from kneeedge.cli.app import app

for words in (["--help"], ["train", "--help"], ["bench", "--help"]):
    assert CliRunner().invoke(app, words).exit_code == 0
assert not {"PIL", "matplotlib", "lightning_fabric"} & set(sys.modules)
"""
SHORT_TRAINING = "--weights none --width 0.07 --size 64 --epochs 2 --precision 32 --no-audit"


def run(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*shlex.split(command), *map(str, arguments)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six phantoms below test/Healthy and test/Osteoporosis."""
    write_dataset(tmp_path / "knees", {"test": 6}, size=64)
    return tmp_path / "knees"


def test_help_imports_neither_torch_nor_a_runtime():
    subprocess.run([sys.executable, "-c", HELP_WITHOUT_HEAVY_MODULES], check=True)


def test_version():
    assert run("--version").output == f"kneeedge {__version__}\n"


@pytest.mark.torch
@pytest.mark.parametrize(
    ("command", "exit_code", "words"),
    [
        ("infer nowhere --model nothing.onnx", 1, "error: nowhere"),
        ("infer . --model nothing.onnx", 1, "error: "),
        ("evaluate nothing.onnx .", 1, "error: nothing.onnx: no such model file"),
        ("train nowhere", 1, "error: "),
        ("train", 2, "no data folder is given"),
        ("train . --epochs 0", 2, "--epochs 0 is too small"),
        ("train . --resume runs/x", 2, "leave out DATA"),
        ("train --resume nowhere", 1, "no training run here"),
        ("slim nowhere", 1, "no training run here"),
        ("slim", 1, "no finished run; train one with"),
        ("slim nowhere --keep 0.5 --speedup 2", 2, "two goals"),
        ("slim --resume nowhere", 1, "no slim run was begun here"),
        ("export nowhere", 1, "no training run here; train one with"),
        ("export", 1, "no finished run; train one with"),
        ("bench --batch-size 0", 1, "no finished run"),
        ("bench nothing.onnx --batch-size x", 2, "is no list of numbers"),
        ("infer", 2, "there is nothing to answer; name images or folders"),
        ("frobnicate", 2, "No such command"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    command, exit_code, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = run(command)
    assert result.exit_code == exit_code, result.output
    assert words in result.output
    assert "Traceback" not in result.output
    if exit_code == 1:
        assert len(result.output.strip().splitlines()) == 1


def test_debug_shows_the_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kneeedge", "--debug", "info", "nothing.onnx"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in done.stderr
    assert done.returncode == 1


def test_reports_go_to_stdout_and_progress_to_stderr(model, images, tmp_path):
    result = run("infer", images, "--model", model, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0
    assert "6 images" in result.stdout
    assert "model: " in result.stderr
    assert "model: " not in result.stdout


@pytest.mark.parametrize("command", ["infer", "evaluate", "verify", "info"])
def test_json_on_stdout_is_json_alone(command, model, images, tmp_path):
    arguments = {
        "infer": [images, "--model", model, "--out", tmp_path / "p.csv"],
        "evaluate": [model, images],
    }.get(command, [model])
    result = run(command, *arguments, "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)


def test_quiet_says_nothing_on_stderr(model, images, tmp_path):
    result = run("infer -q", images, "--model", model, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0
    assert result.stderr == ""


def test_an_output_below_a_file_is_one_line(model, images, tmp_path):
    (tmp_path / "no").write_text("a file")
    result = run("infer", images, "--model", model, "--out", tmp_path / "no/p.csv")
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.torch
@pytest.mark.slow
def test_failing_verification_exits_with_3(exported, tmp_path):
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(exported["fp32"])
    tensor = next(tensor for tensor in graph.graph.initializer if len(tensor.dims) == 4)
    half = numpy_helper.to_array(tensor) * 0.5
    tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    onnx.save(graph, tmp_path / "broken.onnx")
    result = run("verify", exported["fp32"], tmp_path / "broken.onnx")
    assert result.exit_code == 3
    assert result.stdout.startswith("PASS")
    assert "\nFAIL" in result.stdout


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_run_is_trained_and_exported_by_the_command_line(phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = f"{SHORT_TRAINING} --name first --positive Healthy"
    result = run(f"train {options}", phantoms, "--json", tmp_path / "train.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "train.json").read_text())["test"]["positive"] == "Healthy"
    record = Run(Path("runs/first")).read_config()
    assert (record.config.epochs, record.positive) == (2, "Healthy")
    result = run("export --precision fp32")
    assert result.exit_code == 0, result.output
    assert Path("runs/latest/models/first.fp32.onnx").is_file()
    assert run("infer", phantoms / "test").exit_code == 0


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_in_training_says_how_to_go_on(phantoms, tmp_path, monkeypatch):
    from kneeedge.training import loop

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_last", stop)
    folder = tmp_path / "runs" / "stopped"
    options = f"{SHORT_TRAINING} --name stopped -q --runs"
    result = run(f"train {options}", folder.parent, phantoms)
    assert result.exit_code == 130
    assert result.stderr == f"stopped; go on with `kneeedge train --resume {folder}`\n"
    monkeypatch.undo()
    assert run("train -q --resume", folder).exit_code == 0
