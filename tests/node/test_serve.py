"""`kneeedge serve`: what it says before it listens."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from tests.tiny_onnx import write_tiny_model


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    model = write_tiny_model(tmp_path / "m.onnx")
    return ["serve", "--dicom", "--model", str(model), "--out", str(tmp_path / "node")]


def test_without_a_protocol_there_is_nothing_to_serve():
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 2
    assert result.stderr == "error: there is nothing to serve; say which protocol: --dicom\n"


def test_without_pynetdicom_it_says_what_to_install(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "pip install 'kneeedge[node,cpu]'" in result.stderr


def test_a_folder_that_holds_another_table_is_left_alone(command, tmp_path):
    (tmp_path / "node").mkdir()
    (tmp_path / "node/predictions.csv").write_text("mine\n")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "predictions.csv" in result.stderr
    assert (tmp_path / "node/predictions.csv").read_text() == "mine\n"


def test_on_the_network_without_peers_it_does_not_listen(command):
    result = CliRunner().invoke(app, [*command, "--host", "192.0.2.1"])
    assert result.exit_code == 2
    assert "name each sender with --peer AET@ADDRESS, or say --any-peer" in result.stderr


def test_an_address_that_is_not_here_is_one_line(command):
    result = CliRunner().invoke(app, [*command, "--host", "192.0.2.1", "--any-peer"])
    assert result.exit_code == 2
    assert "error: cannot listen on 192.0.2.1:11112: Cannot assign" in result.stderr
