import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.version import __version__

pytestmark = pytest.mark.torch


def run(command: str, *more: object):
    return CliRunner().invoke(app, [*shlex.split(command), *map(str, more)])


def test_help_imports_neither_torch_nor_a_runtime():
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['onnxruntime'] = sys.modules['onnx'] = None\n"
        "from typer.testing import CliRunner\nfrom kneeedge.cli.app import app\n"
        "for words in (['--help'], ['train', '--help'], ['bench', '--help']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0\n"
        "assert not {'PIL', 'matplotlib', 'lightning_fabric'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version():
    assert run("--version").output == f"kneeedge {__version__}\n"


@pytest.mark.parametrize(
    ("command", "code", "said"),
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
        ("bench --batch-sizes 0", 1, "no finished run"),
        ("bench nothing.onnx --batch-sizes x", 2, "is no list of numbers"),
        ("infer", 2, "Missing argument"),
        ("frobnicate", 2, "No such command"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(command, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(command)
    assert result.exit_code == code, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    if said.startswith("error") or code == 1:
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


def test_reports_go_to_stdout_and_progress_to_stderr(exported, phantoms, tmp_path):
    result = run(
        "infer", phantoms / "test", "--model", exported["fp32"], "--out", tmp_path / "p.csv"
    )
    assert result.exit_code == 0
    assert "60 images" in result.stdout
    assert "model: " in result.stderr
    assert "model: " not in result.stdout


def test_json_on_stdout_is_json_alone(exported, phantoms, tmp_path):
    for command in (
        ("infer", phantoms / "test", "--model", exported["fp32"], "--out", tmp_path / "p.csv"),
        ("evaluate", exported["int8"], phantoms),
        ("verify", exported["int8"]),
        ("info", exported["int8"]),
    ):
        result = run("", *command, "--json", "-")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)


def test_quiet_says_nothing_on_stderr(exported, phantoms, tmp_path):
    result = run(
        "infer -q", phantoms / "test", "--model", exported["fp32"], "--out", tmp_path / "p.csv"
    )
    assert result.stderr == ""


def test_an_output_folder_that_is_not_there_is_one_line(exported, phantoms, tmp_path):
    result = run(
        "infer", phantoms / "test", "--model", exported["fp32"], "--out", tmp_path / "no/p.csv"
    )
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")


def test_failing_verification_exits_1(exported, tmp_path):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(exported["fp32"])
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 0.5, tensor.name))
    onnx.save(model, tmp_path / "broken.onnx")
    result = run("verify", exported["fp32"], tmp_path / "broken.onnx")
    assert result.exit_code == 1
    assert result.stdout.startswith("PASS")
    assert "\nFAIL" in result.stdout


def test_a_run_is_trained_and_exported_by_the_command_line(phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = "--weights none --width 0.07 --size 64 --epochs 2 --precision 32 --name first --positive Healthy"
    result = run(f"train {options}", phantoms, "--json", tmp_path / "train.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "train.json").read_text())["test"]["positive"] == "Healthy"
    config = json.loads(Path("runs/first/config.json").read_text())
    assert (config["config"]["epochs"], config["positive"]) == (2, "Healthy")
    result = run("export --precision fp32")
    assert result.exit_code == 0, result.output
    assert Path("runs/latest/models/first.fp32.onnx").is_file()
    assert run("infer", phantoms / "test").exit_code == 0


def test_ctrl_c_in_training_says_how_to_go_on(phantoms, tmp_path, monkeypatch):
    from kneeedge.training import loop

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_last", stop)
    options = "--weights none --width 0.07 --size 64 --epochs 2 --precision 32 --name one -q --runs"
    result = run(f"train {options}", tmp_path / "runs", phantoms)
    assert result.exit_code == 130
    assert (
        result.stderr == f"stopped; go on with `kneeedge train --resume {tmp_path / 'runs/one'}`\n"
    )
    monkeypatch.undo()
    assert run("train -q --resume", tmp_path / "runs/one").exit_code == 0
