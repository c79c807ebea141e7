"""A model file → a model repository: what is written, and what is refused before anything is."""

import dataclasses
import json

import onnx
import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import ConfigError, ModelFileError, OutputExistsError, ProviderError
from kneeedge.inference.predictor import say_nothing
from kneeedge.model.file import open_model
from kneeedge.model.spec import GOLDEN_KEY, SPEC_KEY, ModelSpec
from kneeedge.runtime.cuda import INT8_ON_CUDA
from kneeedge.system.files import file_sha256
from kneeedge.triton.config import ServerOptions
from kneeedge.triton.repository import write_repository
from tests.tiny_onnx import write_tiny_model


@pytest.fixture
def model(tmp_path):
    return write_tiny_model(tmp_path / "tiny.onnx", limit=140.0)


def write(model, out, **options):
    return write_repository(open_model(model), out, ServerOptions(**options), say_nothing)


def config(out, name="kneeedge_network"):
    return (out / name / "config.pbtxt").read_text()


def changed(model, key, change):
    """The model with another text under a key of its metadata."""
    graph = onnx.load(model)
    (entry,) = [prop for prop in graph.metadata_props if prop.key == key]
    entry.value = change(entry.value)
    onnx.save(graph, model)
    return model


def made_for(target):
    def change(text):
        spec = ModelSpec.from_json(text, "it")
        record = dataclasses.replace(spec.file, precision="int8", int8_target=target)
        return dataclasses.replace(spec, file=record).to_json()

    return change


def test_each_of_the_two_models_has_the_file_and_the_record_has_their_hashes(model, tmp_path):
    out = tmp_path / "new/repository"
    report = write(model, out)
    record = json.loads((out / "kneeedge.json").read_text())
    assert sorted(record["files"]) == [
        "kneeedge/1/model.onnx",
        "kneeedge/1/model.py",
        "kneeedge/config.pbtxt",
        "kneeedge_network/1/model.onnx",
        "kneeedge_network/config.pbtxt",
    ]
    for name, file in record["files"].items():
        assert file_sha256(out / name) == file["sha256"]
    assert report.model_sha256 == record["model_sha256"] == file_sha256(model)
    assert record["files"]["kneeedge/1/model.onnx"]["sha256"] == report.model_sha256
    assert record["spec"]["classes"] == ["Healthy", "Osteoporosis"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["repository"]


def test_names_and_shapes_are_those_of_the_model_file(tmp_path):
    model = write_tiny_model(tmp_path / "m.onnx", classes=("A", "B", "C"), size=96)
    write(model, tmp_path / "out", max_batch=8)
    text = config(tmp_path / "out")
    assert "max_batch_size: 8\n" in text
    assert '{ name: "image" data_type: TYPE_UINT8 dims: [ 1, 96, 96 ] }' in text
    assert '{ name: "probabilities" data_type: TYPE_FP32 dims: [ 3 ] }' in text
    assert '{ name: "cam" data_type: TYPE_FP32 dims: [ 3, 3, 3 ] }' in text
    assert "distance" not in text
    assert "dims: [ 3 ]" in config(tmp_path / "out", "kneeedge")


def test_the_model_that_takes_pixels_can_be_left_out(model, tmp_path):
    report = write(model, tmp_path / "out", files_only=True)
    assert report.network_model == ""
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["kneeedge", "kneeedge.json"]


def test_the_signature_goes_with_each_copy(model, tmp_path):
    model.with_name("tiny.onnx.sig").write_text("{}")
    report = write(model, tmp_path / "out")
    assert report.signed
    for name in ("kneeedge", "kneeedge_network"):
        assert (tmp_path / "out" / name / "1/model.onnx.sig").read_text() == "{}"


def test_gpus_get_kneeedges_options_of_onnx_runtime(model, tmp_path):
    write(model, tmp_path / "out", provider="tensorrt", max_batch=16)
    text = config(tmp_path / "out")
    assert text.index('name: "tensorrt"') < text.index('name: "cuda"')
    assert 'key: "use_tf32" value: "0"' in text
    assert 'key: "precision_mode" value: "FP32"' in text
    assert 'key: "trt_profile_max_shapes" value: "image:16x1x64x64"' in text
    assert 'key: "arena_extend_strategy" value: { string_value: "1" }' in text
    assert "kind: KIND_GPU" in text
    assert "kind: KIND_CPU" in config(tmp_path / "out", "kneeedge")
    assert 'value: { string_value: "tensorrt" }' in config(tmp_path / "out", "kneeedge")


def test_a_file_made_for_cpus_with_vnni_is_refused_for_a_cpu(model, tmp_path):
    changed(model, SPEC_KEY, made_for("vnni"))
    with pytest.raises(ModelFileError, match=r"from saturating.*--int8-target any"):
        write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_int8_for_tensorrt_must_be_made_for_it_and_on_cuda_it_is_said_to_be_slow(model, tmp_path):
    changed(model, SPEC_KEY, made_for("any"))
    assert write(model, tmp_path / "cuda", provider="cuda").notice == INT8_ON_CUDA
    with pytest.raises(ProviderError, match="were made for any"):
        write(model, tmp_path / "out", provider="tensorrt")


def test_a_file_that_answers_its_golden_inputs_otherwise_is_refused(model, tmp_path):
    def change(text):
        return json.dumps(json.loads(text) | {"device_tolerance": 0.0, "original_tolerance": -1.0})

    changed(model, GOLDEN_KEY, change)
    with pytest.raises(ModelFileError, match="its own golden inputs otherwise here, on cpu"):
        write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_are_none_of_a_folder_and_unknown_providers_are_refused():
    with pytest.raises(ConfigError, match="is no name of a folder"):
        ServerOptions(name="../knee")
    with pytest.raises(ConfigError, match="choose from cpu, cuda, tensorrt"):
        ServerOptions(provider="openvino")


def test_an_older_repository_is_replaced_with_what_python_left_in_it(model, tmp_path):
    out = tmp_path / "out"
    write(model, out)
    cache = out / "kneeedge/1/__pycache__"
    cache.mkdir()
    (cache / "model.cpython-311.pyc").touch()
    write(model, out, name="knee")
    assert sorted(path.name for path in out.iterdir()) == ["knee", "knee_network", "kneeedge.json"]


def test_a_repository_with_a_model_of_another_owner_is_left_as_it_is(model, tmp_path):
    out = tmp_path / "out"
    write(model, out)
    (out / "hip/1").mkdir(parents=True)
    (out / "hip/1/model.onnx").touch()
    with pytest.raises(OutputExistsError, match="no model repository that kneeedge wrote, or hold"):
        write(model, out)
    assert (out / "hip/1/model.onnx").exists()


def test_the_command_says_what_was_written_and_how_it_is_served(model, tmp_path):
    out = tmp_path / "out"
    command = ["triton", str(model), "--out", str(out), "--instances", "2", "--threads", "1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "put a proxy before it" in result.output
    assert f"next: tritonserver --model-repository {out} --http-address 127.0.0.1" in result.output
    assert "count: 2" in config(out, "kneeedge")
    result = CliRunner().invoke(app, [*command, "--json", "-"])
    record = json.loads(result.stdout)
    assert (record["format"], record["provider"]) == ("kneeedge-triton/1", "cpu")
    assert record["model_sha256"] == file_sha256(model)


@pytest.mark.torch
@pytest.mark.slow
def test_export_writes_a_repository_of_the_file_that_passed(trained_run, tmp_path, monkeypatch):
    words = ["export", str(trained_run), "--precision", "fp32", "--tolerance", "0.2"]
    result = CliRunner().invoke(app, [*words, "--triton", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out/kneeedge.json").read_text())
    hashes = {file_sha256(path) for path in (trained_run / "models").glob("*.onnx")}
    assert record["model_sha256"] in hashes
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    result = CliRunner().invoke(app, [*words, "--triton", str(tmp_path / "mine")])
    assert result.exit_code == 1
    assert "making the graph" not in result.output
