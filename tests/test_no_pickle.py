"""No pickle is ever loaded: one that would leave a mark is fed to every place that reads a file."""

import dataclasses
import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.system.progress import Progress
from kneeedge.training import loop
from kneeedge.training.run import train

pytestmark = pytest.mark.torch

SHORT = ("--size", "64", "--epochs", "1", "--precision", "32", "--no-audit")
NARROW = ("--width", "0.125", *SHORT)


class Malicious:
    """Loading its pickle makes the folder `mark`."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture(params=["pickle", "torch zip"])
def poison(request, tmp_path) -> bytes:
    """The bytes of a malicious pickle, bare and as `torch.save` packs one."""
    bare = pickle.dumps(Malicious(tmp_path / "owned"))
    if request.param == "pickle":
        return bare
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", bare)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return packed.getvalue()


@pytest.fixture(scope="module")
def stopped_run(narrow_config, tmp_path_factory) -> Path:
    """A run stopped in its first epoch, its frozen activations cached."""
    folder = tmp_path_factory.mktemp("stopped") / "run"

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    config = dataclasses.replace(narrow_config, epochs=1, freeze_blocks=2, views=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_last", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder, [], Progress(quiet=True))
    return folder


def refused(tmp_path: Path, *command: object) -> str:
    """The one line in which the command refuses; that it ran no code is checked too."""
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exit_code == 1, f"{result.output} {result.exception!r}"
    assert not (tmp_path / "owned").exists()
    assert "Traceback" not in result.output
    progress = ("bench:", "positive class")
    lines = [line for line in result.stderr.splitlines() if not line.startswith(progress)]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_the_pickle_is_malicious(tmp_path):
    pickle.loads(pickle.dumps(Malicious(tmp_path / "owned")))  # noqa: S301
    assert (tmp_path / "owned").is_dir()


@pytest.mark.parametrize("command", ["infer", "evaluate", "verify", "info", "bench"])
def test_no_command_of_the_device_loads_it(command, poison, phantoms, tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(poison)
    arguments = {
        "infer": [phantoms / "test", "--model", model],
        "evaluate": [model, phantoms],
    }.get(command, [model])
    assert "it is no ONNX file" in refused(tmp_path, command, *arguments)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "w.bin"])
def test_train_does_not_load_it_as_weights(name, poison, phantoms, tmp_path):
    (tmp_path / name).write_bytes(poison)
    command = ["train", phantoms, *NARROW, "--runs", tmp_path, "--weights", tmp_path / name, "-q"]
    assert "it is no safetensors file" in refused(tmp_path, *command)


def test_train_does_not_load_it_from_torchs_cache(poison, phantoms, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cached = tmp_path / "torch/hub/checkpoints/vgg19-dcbb9e9d.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(poison)
    command = ["train", phantoms, *SHORT, "--runs", tmp_path, "--weights", "imagenet", "-q"]
    assert "vgg19-dcbb9e9d.pth" in refused(tmp_path, *command)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["start.safetensors", "last.safetensors", "cache/views.npy", "config.json"]
)
def test_a_resumed_training_does_not_load_it(name, poison, stopped_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(stopped_run, run)
    (run / name).write_bytes(poison)
    assert str(run / name) in refused(tmp_path, "train", "--resume", run, "-q")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["model.safetensors", "novelty.safetensors", "spec.json", "config.json"]
)
def test_export_does_not_load_it(name, poison, trained_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, symlinks=True, ignore=shutil.ignore_patterns("models"))
    (run / name).write_bytes(poison)
    assert str(run / name) in refused(tmp_path, "export", run, "--precision", "fp32", "-q")


@pytest.mark.slow
def test_the_benchmark_of_an_original_does_not_load_it(poison, trained_run, exported, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, symlinks=True)
    (run / "model.safetensors").write_bytes(poison)
    command = ["bench", exported["fp32"], "--run", run, "--seconds", "0.1", "--rounds", "1", "-q"]
    assert "model.safetensors" in refused(tmp_path, *command)


@pytest.mark.parametrize("module", ["kneeedge", "export"])
def test_no_module_can_read_one(module):
    """Nothing imports pickle but for its error's name; nothing lets numpy or torch read one.

    But for tensors alone, of the one file that torchvision offers in no other form.
    """
    folder = Path(__file__).parent.parent / module
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "pickle.load" not in text, path
        loads = [line for line in text.splitlines() if "torch.load(" in line]
        assert loads == [] or path.name == "weights.py", path
        assert all("weights_only=True" in line for line in loads), path
        assert "allow_pickle=True" not in text, path
