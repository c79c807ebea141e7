"""A session opens a file that keeps its contract, on the provider asked for, or says why not."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from kneeedge.errors import (
    MissingExtraError,
    ModelFileError,
    NotFoundError,
    ProviderError,
    RuntimeConflictError,
    SpecError,
)
from kneeedge.model.spec import SPEC_KEY
from kneeedge.runtime.providers import load_runtime
from kneeedge.runtime.session import Session
from tests.fake_gpu import pretend_installed
from tests.tiny_onnx import write_tiny_model

IMAGE = np.zeros((1, 1, 64, 64), dtype=np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def rewrite(path: Path, change) -> Path:
    graph = onnx.load(path)
    change(graph)
    onnx.save(graph, path)
    return path


def change_spec(path: Path, change) -> Path:
    def edit(graph):
        entry = next(entry for entry in graph.metadata_props if entry.key == SPEC_KEY)
        spec = json.loads(entry.value)
        change(spec)
        entry.value = json.dumps(spec)

    return rewrite(path, edit)


def test_cuda_without_its_wheel_says_what_to_install(model):
    words = r"lacks it, and runs cpu here; run `pip uninstall -y onnxruntime && pip install"
    with pytest.raises(ProviderError, match=words):
        Session(model, "cuda")


def test_an_unknown_provider_lists_those_that_run_here(model):
    with pytest.raises(ProviderError, match=r"choose one of auto, cpu$"):
        Session(model, "tpu")


def test_no_runtime_says_which_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kneeedge\[cpu\]'"):
        load_runtime()


def test_two_runtimes_say_which_to_remove(monkeypatch):
    pretend_installed(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    with pytest.raises(RuntimeConflictError, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        load_runtime()


def test_a_missing_model_says_where_models_come_from(tmp_path):
    with pytest.raises(NotFoundError, match="kneeedge export"):
        Session(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08"])
def test_a_damaged_model_is_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises((ModelFileError, SpecError), match="export the model again"):
        Session(path, "cpu")


def test_a_truncated_model_is_refused(model):
    content = model.read_bytes()
    model.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match="export the model again"):
        Session(model, "cpu")


def test_a_model_without_a_spec_is_refused(model):
    def drop(graph):
        entry = next(entry for entry in graph.metadata_props if entry.key == SPEC_KEY)
        graph.metadata_props.remove(entry)

    with pytest.raises(SpecError, match="no kneeedge spec"):
        Session(rewrite(model, drop), "cpu")


def test_a_spec_that_does_not_fit_the_input_is_refused(model):
    change_spec(model, lambda spec: spec["pixel_path"].update(size=96))
    with pytest.raises(ModelFileError, match=r"not image uint8 \[N, 1, 96, 96\]"):
        Session(model, "cpu")


def test_a_spec_of_more_classes_than_the_outputs_have_is_refused(model):
    change_spec(model, lambda spec: spec["classes"].append("Osteopenia"))
    with pytest.raises(ModelFileError, match=r"no output probabilities \[N, 3\] as its spec says"):
        Session(model, "cpu")


def test_an_output_that_no_model_gives_is_refused(model):
    def add(graph):
        output = helper.make_tensor_value_info("scaled", onnx.TensorProto.FLOAT, ["N", 2])
        graph.graph.output.append(output)

    words = "an output 'scaled', and a model gives probabilities, logits, cam, distance"
    with pytest.raises(ModelFileError, match=words):
        Session(rewrite(model, add), "cpu")


def test_a_limit_without_a_distance_is_refused(model):
    limit = {"limit": 3.0, "refused": 0.01, "split": "val", "n": 60, "method": "Mahalanobis"}
    change_spec(model, lambda spec: spec.update(novelty=limit))
    with pytest.raises(ModelFileError, match=r"no output distance \[N\]"):
        Session(model, "cpu")


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_variant_gives_its_distance_in_single_precision(exported, precision):
    images = np.zeros((3, 1, 64, 64), dtype=np.uint8)
    distance = Session(exported[precision], "cpu").run(images).distance
    assert (distance.shape, distance.dtype) == ((3,), np.float32)


def test_a_model_that_never_abstains_gives_no_distance(model):
    assert Session(model, "cpu").run(IMAGE).distance is None


def test_threads_are_honoured(model, monkeypatch):
    open_session = onnxruntime.InferenceSession
    threads = []

    def record_threads(*arguments, sess_options, **options):
        threads.append(sess_options.intra_op_num_threads)
        return open_session(*arguments, sess_options=sess_options, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", record_threads)
    Session(model, "cpu", threads=1)
    assert threads == [1]


def test_answers_that_are_not_finite_are_no_answers(model):
    def poison(graph):
        bias = next(tensor for tensor in graph.graph.initializer if tensor.name == "b2")
        values = numpy_helper.to_array(bias) * np.float32("nan")
        bias.CopyFrom(numpy_helper.from_array(values, "b2"))

    session = Session(rewrite(model, poison), "cpu")
    with pytest.raises(ModelFileError, match="NaN or infinity on provider cpu"):
        session.run(IMAGE)
