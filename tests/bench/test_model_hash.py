"""Whoever reads a result can tell which file gave it."""

import json

import pytest
from typer.testing import CliRunner

from kneeedge.bench.run import check_files_unchanged
from kneeedge.bench.subjects import open_file
from kneeedge.cli.app import app
from kneeedge.errors import ModelFileError
from kneeedge.system.files import file_sha256
from tests.tiny_onnx import write_tiny_model

pytestmark = pytest.mark.torch


@pytest.fixture
def model(tmp_path):
    return write_tiny_model(tmp_path / "m.onnx")


def outputs(tmp_path, *command: object) -> tuple[str, dict]:
    """The report and the JSON of one run."""
    file = tmp_path / "result.json"
    result = CliRunner().invoke(app, [*map(str, command), "--json", str(file)])
    assert result.exit_code == 0, result.output
    return result.stdout, json.loads(file.read_text())


@pytest.mark.parametrize("name", ["infer", "evaluate", "info"])
def test_report_and_json_name_the_file_by_its_hash(name, model, phantoms, tmp_path):
    arguments = {
        "infer": [phantoms / "test", "--model", model, "--out", tmp_path / "p.csv"],
        "evaluate": [model, phantoms],
        "info": [model],
    }
    text, record = outputs(tmp_path, name, *arguments[name])
    assert record["model_sha256"] == file_sha256(model)
    assert file_sha256(model)[:12] in text


def test_verify_names_each_file_by_its_hash(model, tmp_path):
    other = write_tiny_model(tmp_path / "other.onnx", seed=1)
    text, record = outputs(tmp_path, "verify", model, other)
    assert [file["sha256"] for file in record] == [file_sha256(model), file_sha256(other)]
    assert f"{model} ({file_sha256(model)[:12]})" in text


@pytest.mark.slow
@pytest.mark.usefixtures("one_cold_start")
def test_bench_names_the_file_of_each_row_by_its_hash(model, tmp_path):
    out = tmp_path / "b.csv"
    options = ("--seconds", "0.2", "--rounds", "1", "--batch-size", "1", "--csv", out)
    text, record = outputs(tmp_path, "bench", model, *options)
    assert {row["model_sha256"] for row in record["results"]} == {file_sha256(model)}
    assert f"models: m.onnx {file_sha256(model)[:12]}" in text
    assert file_sha256(model) in out.read_text()


def test_rows_do_not_carry_the_hash_of_a_file_that_was_replaced(model):
    subject = open_file(str(model), "cpu")
    check_files_unchanged([subject])
    write_tiny_model(model, seed=1)
    with pytest.raises(ModelFileError, match="replaced while it was measured; measure again"):
        check_files_unchanged([subject])


@pytest.mark.slow
def test_the_card_alone_is_printed_as_it_stands_in_the_file(exported):
    result = CliRunner().invoke(app, ["info", str(exported["fp32"]), "--card"])
    assert result.stdout.startswith("#")
