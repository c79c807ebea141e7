"""`kneeedge audit`: its exit codes, what it writes, and what it asks for before it works."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneeedge.audit.findings import CONFLICT, LEAK
from kneeedge.cli.app import app
from kneeedge.data.groups import read_groups
from kneeedge.pixels.phantom import write_dataset
from tests.audit.pixel_features import PixelFeatures
from tests.tiny_onnx import write_tiny_model

HEALTHY = "train/Healthy/P00000L.png"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """8 training and 4 test images without a fault."""
    folder = tmp_path / "data"
    write_dataset(folder, {"train": 8, "test": 4}, size=96)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(app, ["audit", "-q", *map(str, arguments)])


def test_strict_fails_on_a_fault_alone(data):
    assert run("--strict", data).exit_code == 0
    shutil.copy(data / HEALTHY, data / "test/Healthy/again.png")
    assert run(data).exit_code == 0
    assert run("--strict", data).exit_code == 3


def test_the_command_writes_json_page_and_groups(data, tmp_path):
    shutil.copy(data / HEALTHY, data / "test/Osteoporosis/again.png")
    page = tmp_path / "page.html"
    groups = tmp_path / "groups.csv"
    outputs = ("--json", "-", "--html", page, "--write-groups", groups)
    result = run(data, "--group-regex", "([P0-9a-z]+)[LR.]", *outputs)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["failed"] is True
    assert {finding["kind"] for finding in record["findings"]} >= {CONFLICT, LEAK}
    assert len(record["audit"]["images"]) == len(read_groups(groups)) == 13
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    if os.name == "posix":
        assert stat.S_IMODE(page.stat().st_mode) == stat.S_IMODE(groups.stat().st_mode) == 0o600


def test_a_folder_that_is_not_there_is_made(data, tmp_path):
    assert run(data, "--html", tmp_path / "new/one/page.html").exit_code == 0
    assert (tmp_path / "new/one/page.html").is_file()


@pytest.mark.slow
def test_three_classes_give_a_report_and_nothing_on_stderr(tmp_path):
    """Of scikit-learn's threads came a warning for each of hundreds of trees."""
    write_dataset(tmp_path / "data", {"": 84}, size=48)
    third = tmp_path / "data/Osteopenia"
    third.mkdir()
    for path in sorted(tmp_path.glob("data/*/P*.png"))[::3]:
        path.rename(third / path.name)
    done = subprocess.run(
        [sys.executable, "-W", "always", "-m", "kneeedge", "audit", "-q", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "Osteopenia from the rest with AUROC" in " ".join(done.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_names_that_are_no_utf8_pass_through_every_output(data, tmp_path):
    shutil.copy(data / HEALTHY, data / "test/Healthy" / "kn\udce9e.png")
    page = tmp_path / "page.html"
    groups = tmp_path / "groups.csv"
    record = tmp_path / "audit.json"
    result = run(data, "--html", page, "--write-groups", groups, "--json", record)
    assert result.exit_code == 0, result.output
    images = json.loads(record.read_text(encoding="utf-8"))["audit"]["images"]
    names = [image["name"] for image in images]
    assert "test/Healthy/kn\udce9e.png" in names
    assert "test/Healthy/kn\udce9e.png" in read_groups(groups)
    assert "kn\\udce9e.png" in page.read_text(encoding="utf-8")


def test_a_folder_is_no_place_for_a_page(data, tmp_path):
    result = run(data, "--html", tmp_path)
    assert result.exit_code == 1
    assert "it is a folder; name a file" in result.output


def test_without_the_extra_the_command_says_what_to_install(data):
    code = (
        "import sys, importlib.machinery\nfrom importlib import util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'sklearn' else find(name, *more)\n"
        "from kneeedge.cli.app import main\n"
        f"sys.argv = ['kneeedge', 'audit', {str(data)!r}]\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'kneeedge[audit]'" in done.stderr


@pytest.fixture
def pixel_features(monkeypatch):
    """Coarse pixels in place of a network's features."""
    monkeypatch.setattr("kneeedge.cli.audit.frozen_features", lambda *_: PixelFeatures())


@pytest.mark.torch
@pytest.mark.usefixtures("pixel_features")
def test_joint_and_labels_are_in_every_output(data, tmp_path):
    page = tmp_path / "page.html"
    listed = tmp_path / "labels.csv"
    shutil.copy(data / HEALTHY, data / "test/Osteoporosis/again.png")
    model = write_tiny_model(tmp_path / "model.onnx")
    outputs = ("--json", "-", "--html", page, "--write-labels", listed, "--model", model)
    result = run(data, "--joint", "--labels", *outputs)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)["audit"]
    assert record["joint"]["verdict"] == "too few"
    names = {suspect["name"] for suspect in record["labels"]["suspects"]}
    assert names == {HEALTHY, "test/Osteoporosis/again.png"}
    assert len(listed.read_text(encoding="utf-8").splitlines()) == 3
    assert page.read_text(encoding="utf-8").count("the model: ") == 2
    if os.name == "posix":
        assert stat.S_IMODE(listed.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--write-labels", "list.csv"), "add --labels"),
        (("--labels", "--model", "m.onnx"), "--html"),
    ],
)
def test_options_that_go_with_another_are_refused_without_it(data, options, remedy):
    result = run(data, *options)
    assert result.exit_code == 2
    assert remedy in result.output
