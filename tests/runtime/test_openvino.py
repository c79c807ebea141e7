"""The OpenVINO provider: what it is asked for, and what its user reads where it is missing."""

import json
from pathlib import Path

import numpy as np
import pytest

from kneeedge.errors import ProviderError, RuntimeConflictError
from kneeedge.inference.predictor import Predictor
from kneeedge.report.verification import golden_text
from kneeedge.runtime import session as session_module
from kneeedge.runtime.batches import BatchRunner
from kneeedge.runtime.golden import int8_concern, verify
from kneeedge.runtime.providers import load_runtime, openvino_options
from kneeedge.runtime.session import Session
from tests.fake_gpu import FakeRuntime, FakeSession, pretend_installed
from tests.tiny_onnx import write_tiny_model


class OpenVinoRuntime(FakeRuntime):
    """A build with OpenVINO that computes with ONNX Runtime's own kernels."""

    def get_available_providers(self) -> list[str]:
        return ["OpenVINOExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> OpenVinoRuntime:
    openvino = OpenVinoRuntime()
    monkeypatch.setattr(session_module, "load_runtime", lambda: openvino)
    return openvino


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "m.int8.onnx", "int8")


def test_fp32_stays_fp32_and_the_threads_are_those_asked_for() -> None:
    options = openvino_options(3)
    assert options["device_type"] == "CPU"
    assert json.loads(options["load_config"]) == {
        "CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "3", "NUM_STREAMS": "1"}
    }


def test_a_session_passes_them_and_forbids_the_cpu_provider_to_step_in(
    runtime: OpenVinoRuntime, model: Path
) -> None:
    session = Session(model, "openvino", threads=3)
    (opened,) = runtime.sessions
    assert opened.providers == [("OpenVINOExecutionProvider", openvino_options(3))]
    assert (opened.no_cpu, opened.enable_fallback, opened.falls_back) == ("1", 0, False)
    assert session.runner is None  # it computes where the pixels are
    images = np.zeros((2, 1, 64, 64), np.uint8)
    assert session.run(images).logits.shape == (2, 2)


def test_a_run_that_fails_is_one_line_with_a_remedy(runtime: OpenVinoRuntime, model: Path) -> None:
    session = Session(model, "openvino")

    def fail(*_: object) -> None:
        text = "within f(…) [OpenVINO-EP] Exception from src/node.cpp:8:\nno kernel\n"
        raise runtime.capi.onnxruntime_pybind11_state.Fail(text)

    runtime.sessions[0].run = fail
    words = "model: no kernel; lower --batch-size, or use --provider cpu"
    with pytest.raises(ProviderError, match=words):
        session.run(np.zeros((2, 1, 64, 64), np.uint8))


def test_where_memory_does_not_suffice_batches_halve(runtime: OpenVinoRuntime, model: Path) -> None:
    session = Session(model, "openvino")
    real_run = runtime.sessions[0].real.run

    def fail_beyond_two(names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        if len(feed["image"]) > 2:
            text = "Failed to allocate 308281344 bytes of memory"
            raise runtime.capi.onnxruntime_pybind11_state.Fail(text)
        return real_run(names, feed)

    runtime.sessions[0].run = fail_beyond_two
    runner = BatchRunner(session, lambda _: None)
    assert runner.run(np.zeros((8, 1, 64, 64), np.uint8)).logits.shape == (8, 2)
    assert runner.limit == 2


def test_auto_stays_on_onnx_runtimes_own_kernels(runtime: OpenVinoRuntime, model: Path) -> None:
    assert Session(model, "auto").provider == "cpu"


def test_verify_fails_where_a_node_ran_elsewhere(
    runtime: OpenVinoRuntime, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSession, "end_profiling", lambda self: self.real.end_profiling())
    report = verify(Session(model, "openvino", threads=1), "0" * 64, "CPU")
    assert not report.passed
    assert "part of it ran elsewhere: use --provider cpu" in golden_text(report)


def test_its_wheel_over_the_plain_one_is_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, "onnxruntime", "onnxruntime-openvino")
    words = r"pip uninstall -y onnxruntime onnxruntime-openvino .*\[openvino\]"
    with pytest.raises(RuntimeConflictError, match=words):
        load_runtime()


def test_verify_proves_where_the_nodes_ran(runtime: OpenVinoRuntime, model: Path) -> None:
    report = verify(Session(model, "openvino", threads=1), "0" * 64, "CPU")
    assert report.passed
    assert report.placement.share_of_nodes == 1.0
    assert "on openvino" in str(report.placement)


def test_a_folder_runs_in_batches_on_all_cores(runtime: OpenVinoRuntime, model: Path) -> None:
    predictor = Predictor(model, "openvino", threads=2, n_images=1000)
    assert (predictor.lanes, predictor.session.threads, predictor.batch_size) == (1, 2, 8)


def test_int8_that_does_not_suit_the_cpu_is_a_concern_with_openvino_too() -> None:
    assert "may saturate" in int8_concern("vnni", "openvino", ("avx2",))
    assert "may saturate" in int8_concern("vnni", "openvino", ())
    assert int8_concern("any", "openvino", ("avx2",)) == ""


def test_without_the_wheel_the_error_says_what_to_install(model: Path) -> None:
    with pytest.raises(ProviderError, match=r"pip install 'kneeedge\[openvino\]'") as caught:
        Session(model, "openvino")
    assert "pip uninstall -y onnxruntime" in str(caught.value)
