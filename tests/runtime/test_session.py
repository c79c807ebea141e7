import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from kneeedge.errors import (
    MissingExtraError,
    ModelFileError,
    NotFoundError,
    ProviderError,
    RuntimeConflictError,
    SpecError,
)
from kneeedge.runtime import providers
from kneeedge.runtime.providers import load_runtime
from kneeedge.runtime.session import Session
from tests.tiny_onnx import write_tiny_model

pytestmark = pytest.mark.torch


def test_cuda_without_its_wheel_says_what_to_install(exported):
    with pytest.raises(
        ProviderError, match=r"has only cpu; run `pip uninstall -y onnxruntime && pip install"
    ):
        Session(exported["fp32"], "cuda")


def test_an_unknown_provider_lists_the_known(exported):
    with pytest.raises(ProviderError, match="choose one of auto, cpu, cuda"):
        Session(exported["fp32"], "tpu")


def test_no_runtime_says_which_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kneeedge\[cpu\]'"):
        load_runtime()


def test_two_runtimes_say_which_to_remove(monkeypatch):
    monkeypatch.setattr(
        providers, "_is_installed", lambda name: name in ("onnxruntime", "onnxruntime-gpu")
    )
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


def test_a_truncated_model_is_refused(exported, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(exported["fp32"].read_bytes()[:10_000])
    with pytest.raises(ModelFileError, match="export the model again"):
        Session(path, "cpu")


def altered(source: Path, target: Path, change) -> Path:
    model = onnx.load(source)
    change(model)
    onnx.save(model, target)
    return target


def test_a_model_without_a_spec_is_refused(exported, tmp_path):
    path = altered(exported["fp32"], tmp_path / "m.onnx", lambda m: m.metadata_props.pop(0))
    with pytest.raises(SpecError, match="no kneeedge spec"):
        Session(path, "cpu")


def test_a_spec_that_does_not_fit_the_graph_is_refused(exported, tmp_path):
    def other_size(model):
        entry = next(e for e in model.metadata_props if e.key == "kneeedge")
        entry.value = entry.value.replace('"size": 64', '"size": 96')

    with pytest.raises(ModelFileError, match=r"not image uint8 \[N, 1, 96, 96\]"):
        Session(altered(exported["fp32"], tmp_path / "m.onnx", other_size), "cpu")


def test_altered_weights_fail_the_golden_check(exported, tmp_path):
    from onnx import numpy_helper

    from kneeedge.runtime.golden import verify

    def halve(model):
        tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 0.5, tensor.name))

    report = verify(Session(altered(exported["fp32"], tmp_path / "m.onnx", halve), "cpu"), "", "")
    assert not report.passed
    assert report.max_change_from_file > report.device_tolerance
    assert report.wrong_cases


def test_a_limit_without_a_distance_is_refused(exported, tmp_path):
    def drop(model):
        output = next(node for node in model.graph.output if node.name == "distance")
        model.graph.output.remove(output)

    with pytest.raises(ModelFileError, match=r"no output distance \[N\]"):
        Session(altered(exported["fp32"], tmp_path / "m.onnx", drop), "cpu")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_variant_gives_its_distance_in_single_precision(exported, precision):
    images = np.zeros((3, 1, 64, 64), dtype=np.uint8)
    distance = Session(exported[precision], "cpu").run(images).distance
    assert (distance.shape, distance.dtype) == ((3,), np.float32)


def test_a_model_that_never_abstains_gives_no_distance(tmp_path):
    session = Session(write_tiny_model(tmp_path / "tiny.onnx"), "cpu")
    assert session.run(np.zeros((1, 1, 64, 64), dtype=np.uint8)).distance is None


def test_threads_are_honoured(exported):
    session = Session(exported["fp32"], "cpu", threads=1)
    assert session._session.get_session_options().intra_op_num_threads == 1


def test_answers_that_are_not_finite_are_no_answers(exported, tmp_path):
    from onnx import numpy_helper

    def poison(model):
        tensor = next(t for t in model.graph.initializer if t.name.endswith("bias"))
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor) * float("nan"), tensor.name)
        )

    session = Session(altered(exported["fp32"], tmp_path / "m.onnx", poison), "cpu")
    with pytest.raises(ModelFileError, match="NaN or infinity on provider cpu"):
        session.run(np.zeros((1, 1, 64, 64), dtype=np.uint8))
