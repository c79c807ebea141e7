"""A model file → a site: what is written, and what is refused before anything is."""

import json
import shutil

import onnx
import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import ConfigError, ModelFileError, OutputExistsError, PackageError, SpecError
from kneeedge.inference.predictor import say_nothing
from kneeedge.model.file import open_model
from kneeedge.model.spec import GOLDEN_KEY
from kneeedge.system.files import file_sha256
from kneeedge.web import site as site_module
from kneeedge.web.site import write_site
from tests.tiny_onnx import write_tiny_model


@pytest.fixture(autouse=True)
def no_packages(monkeypatch):
    """The sites of these tests have nothing from npm."""
    monkeypatch.setattr(site_module, "read_packages", lambda: ())


@pytest.fixture
def model(tmp_path):
    return write_tiny_model(tmp_path / "tiny.onnx")


def write(model, out):
    return write_site(open_model(model), out, None, say_nothing)


def test_a_site_has_the_model_as_it_is_and_the_hash_of_every_file(model, tmp_path):
    report = write(model, tmp_path / "new/site")
    record = json.loads((tmp_path / "new/site/model.json").read_text())
    assert (tmp_path / "new/site/model.onnx").read_bytes() == model.read_bytes()
    assert record["files"]["model.onnx"]["sha256"] == report.model_sha256
    on_disk = {
        path.relative_to(tmp_path / "new/site").as_posix(): file_sha256(path)
        for path in (tmp_path / "new/site").rglob("*")
        if path.is_file() and path.name != "model.json"
    }
    assert {name: file["sha256"] for name, file in record["files"].items()} == on_disk
    assert {"index.html", "worker.js", "pixels/index.js"} <= on_disk.keys()
    assert record["backends"] == ["webgpu", "wasm"]
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new/site"]


def test_an_int8_file_is_left_to_wasm(tmp_path):
    report = write(write_tiny_model(tmp_path / "i.onnx", "int8"), tmp_path / "site")
    assert report.backends == ("wasm",)


def test_an_older_site_is_replaced_and_what_it_had_besides_is_gone(model, tmp_path):
    write(model, tmp_path / "site")
    other = write_tiny_model(tmp_path / "other.onnx", seed=1)
    report = write(other, tmp_path / "site")
    assert file_sha256(tmp_path / "site/model.onnx") == report.model_sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.onnx", "site", "tiny.onnx"]


def holds_a_stranger(out):
    (out / "thesis.txt").write_text("years of work")


def lacks_its_record(out):
    (out / "model.json").unlink()


def is_of_another_program(out):
    (out / "model.json").write_text("{}")


@pytest.mark.parametrize("change", [holds_a_stranger, lacks_its_record, is_of_another_program])
def test_a_folder_that_is_no_site_is_left_as_it_is(change, model, tmp_path):
    write(model, tmp_path / "site")
    change(tmp_path / "site")
    before = sorted(path.name for path in (tmp_path / "site").iterdir())
    with pytest.raises(OutputExistsError, match="it is no site that kneeedge wrote, or holds more"):
        write(model, tmp_path / "site")
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == before


def test_a_link_a_file_and_the_folder_one_stands_in_are_refused(model, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OutputExistsError, match="it is a link"):
        write(model, tmp_path / "link")
    with pytest.raises(OutputExistsError, match="it is no folder"):
        write(model, model)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigError, match="name the folder from outside of it"):
        write(model, tmp_path / "here")


def test_what_fails_half_way_leaves_the_older_site(model, tmp_path, monkeypatch):
    def fail(path, content):
        raise PackageError("thing", "damaged")

    report = write(model, tmp_path / "site")
    monkeypatch.setattr(site_module, "_write", fail)
    with pytest.raises(PackageError):
        write(write_tiny_model(tmp_path / "other.onnx", seed=1), tmp_path / "site")
    assert file_sha256(tmp_path / "site/model.onnx") == report.model_sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.onnx", "site", "tiny.onnx"]


def test_a_model_that_a_page_could_not_prove_is_refused(model, tmp_path):
    graph = onnx.load(model)
    (entry,) = [prop for prop in graph.metadata_props if prop.key == GOLDEN_KEY]
    entry.value = json.dumps(json.loads(entry.value) | {"pictures": []})
    onnx.save(graph, model)
    with pytest.raises(ModelFileError, match="no golden pictures"):
        write(model, tmp_path / "site")
    graph.metadata_props.remove(entry)
    onnx.save(graph, model)
    with pytest.raises(SpecError, match="carries no golden answers"):
        write(model, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_file_larger_than_a_page_holds_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(site_module, "MAX_BYTES", 1000)
    with pytest.raises(ModelFileError, match="a browser runs 1,000 at most; take the int8 file"):
        write(model, tmp_path / "site")


def test_the_command_says_what_was_written_and_how_it_is_served(model, tmp_path):
    out = tmp_path / "site"
    result = CliRunner().invoke(app, ["web", str(model), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "8 golden pictures and 2 golden inputs, on webgpu or else wasm" in result.output
    assert f"next: python -m http.server --bind 127.0.0.1 --directory {out}" in result.output
    result = CliRunner().invoke(app, ["web", str(model), "--out", str(out), "--json", "-"])
    record = json.loads(result.stdout)
    assert record["format"] == "kneeedge-web/1"
    assert record["model_sha256"] == file_sha256(model)


def test_a_site_does_not_need_the_file_that_it_was_made_of(model, tmp_path):
    write(model, tmp_path / "site")
    shutil.move(model, tmp_path / "gone.onnx")
    assert open_model(tmp_path / "site/model.onnx").spec.name == "tiny"
