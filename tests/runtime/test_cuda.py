"""What sessions ask of CUDA, and what they say where something is missing; no GPU is needed."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import ConfigError, ProviderError
from kneeedge.pixels.phantom import phantoms
from kneeedge.runtime import cuda, providers
from kneeedge.runtime.cuda import GpuOptions, cuda_options, failure_reason, require_gpu
from kneeedge.runtime.providers import available_providers, check_provider, gpu_works
from kneeedge.runtime.session import Session
from tests.fake_gpu import FakeLibraries, FakeRuntime, FakeSession, wheel_with_tensorrt


@pytest.mark.parametrize(("precision", "nhwc"), [("fp32", "0"), ("fp16", "1"), ("int8", "0")])
def test_fp16_files_run_channels_last(precision, nhwc):
    assert cuda_options(GpuOptions(), precision)["prefer_nhwc"] == nhwc


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_fp32_stays_fp32_unless_tf32_is_asked_for(precision):
    assert cuda_options(GpuOptions(), precision)["use_tf32"] == "0"
    assert cuda_options(GpuOptions(tf32=True), precision)["use_tf32"] == "1"


def test_algorithms_are_searched_with_all_the_workspace_they_may_want():
    options = cuda_options(GpuOptions(), "fp32")
    assert options["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert options["cudnn_conv_use_max_workspace"] == "1"


def test_the_arena_takes_what_is_asked_for_and_no_more():
    assert cuda_options(GpuOptions(), "fp32")["arena_extend_strategy"] == "kSameAsRequested"
    assert "gpu_mem_limit" not in cuda_options(GpuOptions(), "fp32")
    assert cuda_options(GpuOptions(memory_gb=1.5), "fp32")["gpu_mem_limit"] == str(3 * 2**29)


def test_a_layout_that_is_asked_for_is_taken():
    assert cuda_options(GpuOptions(nhwc=False), "fp16")["prefer_nhwc"] == "0"
    assert (
        cuda_options(GpuOptions(nhwc=True, fuse_conv_bias=False), "fp16")["fuse_conv_bias"] == "0"
    )


@pytest.mark.parametrize(("precision", "taken"), [("fp32", "0"), ("fp16", "1"), ("int8", "0")])
def test_channels_last_and_the_fused_bias_go_together(precision, taken):
    options = cuda_options(GpuOptions(), precision)
    assert (options["prefer_nhwc"], options["fuse_conv_bias"]) == (taken, taken)


@pytest.mark.parametrize(
    "wrong", [{"memory_gb": 0.0}, {"memory_gb": float("inf")}, {"lanes": 0}, {"builder_level": 6}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        GpuOptions(**wrong)


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("libcuda.so.1", "install the driver"),
        ("libcublasLt.so.13", r"kneeedge\[cuda\]"),
        ("cudnn", r"kneeedge\[cuda\]"),
    ],
)
def test_the_first_missing_library_is_named_in_one_line(missing, remedy, monkeypatch, capsys):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(cuda, "load_library", FakeLibraries(missing))
    with pytest.raises(ProviderError, match=f"{missing}.*{remedy}.*--provider cpu") as refused:
        require_gpu(FakeRuntime(), "cuda")
    assert "\n" not in str(refused.value)
    assert capsys.readouterr() == ("", "")


def test_a_driver_without_a_gpu_is_not_enough(monkeypatch):
    monkeypatch.setattr(cuda, "load_library", FakeLibraries(n_gpus=0))
    with pytest.raises(ProviderError, match=r"finds no GPU.*--gpus all"):
        require_gpu(FakeRuntime(), "cuda")


def cuda_options_of(session: FakeSession) -> dict[str, str]:
    return dict(session.providers)["CUDAExecutionProvider"]


def test_a_cuda_session_answers_as_the_cpu_does(models, fake_gpu):
    images = phantoms(5, 64)
    expected = Session(models["fp32"], "cpu").run(images)
    session = Session(models["fp32"], "cuda")
    for part in (slice(0, 5), slice(0, 1), slice(1, 4)):
        logits = session.run(images[part]).logits
        np.testing.assert_allclose(logits, expected.logits[part], rtol=1e-5, atol=1e-6)
    assert session.provider == "cuda"
    assert not session.notice


def test_a_cuda_session_never_falls_back(models, fake_gpu):
    Session(models["fp32"], "cuda")
    (session,) = fake_gpu.sessions
    assert (session.no_cpu, session.enable_fallback, session.falls_back) == ("1", 0, False)


def test_cuda_that_silently_became_cpu_is_an_error(models, fake_gpu, monkeypatch):
    """Where a library is missing that nobody thought of, ONNX Runtime logs, and runs on the CPU."""

    def fall(path, **asked):
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(fake_gpu, "InferenceSession", fall, raising=False)
    with pytest.raises(ProviderError, match=r"left it out.*use --provider cpu"):
        Session(models["fp32"], "cuda")
    auto = Session(models["fp32"], "auto")
    assert auto.provider == "cpu"
    assert "left it out" in auto.notice


def test_only_the_session_for_the_single_image_records_a_graph(models, fake_gpu):
    session = Session(models["fp16"], "cuda")
    session.run(phantoms(2, 64))
    session.run(phantoms(1, 64))
    options = [cuda_options_of(opened) for opened in fake_gpu.sessions]
    assert [asked["enable_cuda_graph"] for asked in options] == ["0", "1"]


def test_no_graph_is_recorded_where_none_is_wanted(models, fake_gpu):
    Session(models["fp16"], "cuda", gpu=GpuOptions(cuda_graph=False)).run(phantoms(1, 64))
    assert len(fake_gpu.sessions) == 1


def test_int8_on_plain_cuda_says_that_it_is_slow(models, fake_gpu):
    assert "use the fp16 file, or --provider tensorrt" in Session(models["int8"], "cuda").notice


def test_a_run_that_fails_on_the_gpu_is_one_line_with_a_remedy(models, fake_gpu, monkeypatch):
    session = Session(models["fp32"], "cuda")

    def fail(*_):
        raise fake_gpu.capi.onnxruntime_pybind11_state.RuntimeException("out of\nmemory")

    monkeypatch.setattr(fake_gpu.sessions[0], "run_with_iobinding", fail, raising=False)
    with pytest.raises(ProviderError, match="out of memory; lower --batch-size"):
        session.run(phantoms(2, 64))


def test_of_a_failed_cuda_call_the_reason_is_what_cuda_says():
    text = (
        "/src/cuda_call.cc:154 void CudaCall(...) [with\n THRW = true] "
        "CUDA failure 35: driver too old ; GPU=-1 ; expr=cudaSetDevice(0);"
    )
    assert failure_reason(RuntimeError(text)) == "CUDA failure 35: driver too old"
    assert failure_reason(RuntimeError("no\nCUDA")) == "no CUDA"


def test_auto_takes_the_gpu_where_there_is_one(models, fake_gpu):
    assert Session(models["fp32"], "auto").provider == "cuda"
    assert gpu_works()


def test_infer_hands_its_gpu_options_on_and_warns_of_int8(models, fake_gpu, tmp_path):
    image = tmp_path / "knee.png"
    Image.fromarray(phantoms(1, 64)[0, 0]).save(image)
    files = [str(image), "--model", str(models["int8"]), "--out", str(tmp_path / "p.csv")]
    options = ["--provider", "cuda", "--tf32", "--gpu-memory-gb", "2", "--no-cuda-graph"]
    done = CliRunner().invoke(app, ["infer", *files, *options])
    assert done.exit_code == 0
    assert "runs QDQ int8 in float" in done.stderr
    (opened,) = fake_gpu.sessions
    asked = cuda_options_of(opened)
    assert (asked["use_tf32"], asked["gpu_mem_limit"]) == ("1", str(2 * 2**30))


def test_verify_says_where_the_nodes_ran(models, fake_gpu):
    done = CliRunner().invoke(app, ["verify", str(models["fp32"]), "--provider", "cuda"])
    assert done.exit_code == 0
    placed = "(100.0%) and 100.0% of the time on cuda, 0 copies between host and device"
    assert placed in done.stdout


def test_verify_fails_where_a_node_ran_on_no_gpu(models, fake_gpu, monkeypatch):
    monkeypatch.setattr(FakeSession, "end_profiling", lambda self: self.real.end_profiling())
    done = CliRunner().invoke(app, ["verify", str(models["fp32"]), "--provider", "cuda"])
    assert done.exit_code == 3
    assert done.stdout.startswith("FAIL")
    assert "part of it ran elsewhere" in done.stdout


def test_auto_without_a_gpu_says_why_it_runs_on_the_cpu(models, fake_gpu, monkeypatch):
    monkeypatch.setattr(cuda, "load_library", FakeLibraries(cuda.DRIVER))
    session = Session(models["fp32"], "auto")
    assert session.provider == "cpu"
    assert "no NVIDIA driver here" in session.notice
    assert not gpu_works()


NO_DRIVER = FakeLibraries(cuda.DRIVER)


def providers_of_info(model: Path) -> str:
    done = CliRunner().invoke(app, ["info", str(model)])
    (line,) = [line for line in done.stdout.splitlines() if "providers here" in line]
    return line.split("here", 1)[1].strip()


def test_info_names_only_providers_that_can_run_here(models, fake_gpu, monkeypatch):
    assert providers_of_info(models["fp32"]) == "cpu, cuda", "the fake wheel has no TensorRT"
    monkeypatch.setattr(cuda, "load_library", NO_DRIVER)
    assert providers_of_info(models["fp32"]) == "cpu"


def test_tensorrt_is_named_where_its_libraries_are(fake_gpu, tmp_path, monkeypatch):
    wheel = wheel_with_tensorrt(tmp_path)
    monkeypatch.setattr(providers, "load_runtime", lambda: wheel)
    assert available_providers() == ["cpu", "cuda", "tensorrt"]
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(cuda, "load_library", FakeLibraries("libnvonnxparser"))
    assert available_providers() == ["cpu", "cuda"]


def test_an_error_names_only_providers_that_can_run_here(fake_gpu, monkeypatch):
    monkeypatch.setattr(cuda, "load_library", NO_DRIVER)
    with pytest.raises(ProviderError, match="lacks it, and runs cpu here"):
        check_provider(fake_gpu, "openvino")
