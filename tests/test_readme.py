"""Every command of the README is run, in its order, on phantoms in place of the reader's
radiographs.
"""

import re
import shlex
from glob import glob
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.pixels.phantom import write_dataset

pytestmark = pytest.mark.torch

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
NARROW = [
    "--weights",
    "none",
    "--width",
    "0.07",
    "--size",
    "64",
    "--epochs",
    "2",
    "--precision",
    "32",
]
"what makes a training command of the README one of seconds"
REFUSED = {"cuda": 1}
"exit codes of commands that need what a test machine has not"


def readme_commands() -> list[list[str]]:
    """The `kneeedge` lines of the console blocks, without the prompt."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [
        line for block in blocks for line in block.splitlines() if line.startswith("$ kneeedge ")
    ]
    return [shlex.split(line.removeprefix("$ kneeedge "), comments=True) for line in lines]


def shortened(command: list[str]) -> list[str]:
    if command[0] == "train" and "--resume" not in command:
        weights = command.index("--weights") if "--weights" in command else len(command)
        return [*command[:weights], *command[weights + 2 :], *NARROW]
    if command[0] == "bench":
        return [*command, "--seconds", "0.2", "--batch-sizes", "1,2"]
    if (
        command[0] == "slim"
    ):  # the times of a network this narrow are noise, and no goal is sure to be within reach
        return ["slim", "--max-latency-ms", "1000", "--epochs", "1", "--tolerance", "0.9"]
    if command[0] == "export":
        return [*command, "--tolerance", "0.9"]
    return command


def expanded(command: list[str]) -> list[str]:
    """As a shell expands `*`."""
    return [name for word in command for name in (sorted(glob(word)) if "*" in word else [word])]  # noqa: PTH207


def test_the_readme_shows_the_main_commands():
    assert {"train", "export", "infer", "evaluate", "verify", "bench", "info"} <= {
        command[0] for command in readme_commands()
    }


def test_every_readme_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "radiographs", {"train": 120, "val": 40, "test": 40}, size=64)
    for command in readme_commands():
        result = CliRunner().invoke(app, expanded(shortened(command)))
        expected = next((code for word, code in REFUSED.items() if word in command), 0)
        assert result.exit_code == expected, f"kneeedge {shlex.join(command)}\n{result.output}"


def test_the_python_example_runs(exported, phantoms, tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    image = next((phantoms / "test/Healthy").iterdir())
    (tmp_path / "model.onnx").write_bytes(exported["int8"].read_bytes())
    (tmp_path / "xray.png").write_bytes(image.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - our own text
    assert re.search(r"(Healthy|Osteoporosis) 0\.\d+", capsys.readouterr().out)
