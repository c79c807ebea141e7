"""What sessions ask of NVIDIA GPUs, and what they say where something is missing; no GPU is needed."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import ConfigError, ModelFileError, ProviderError, SpecError
from kneeedge.model.metadata import read_metadata, read_model_spec
from kneeedge.pixels.phantom import phantoms
from kneeedge.runs import choose
from kneeedge.runtime import cuda as gpu
from kneeedge.runtime import providers
from kneeedge.runtime import session as session_module
from kneeedge.runtime.cuda import GpuOptions, cuda_options, failure_reason, require_gpu
from kneeedge.runtime.providers import gpu_works
from kneeedge.runtime.session import Session
from kneeedge.runtime.tensorrt import (
    check_int8,
    engine_folder,
    private_folder,
    tensorrt_options,
    user_cache,
)
from tests.fake_gpu import FakeLibraries, FakeRuntime, FakeSession, fake_gpu
from tests.tiny_onnx import tiny_spec, write_tiny_model

__all__ = ["fake_gpu"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        name: write_tiny_model(folder / f"tiny.{name}.onnx", name)
        for name in ("fp32", "fp16", "int8")
    }


def require(monkeypatch, runtime, provider: str, libraries: FakeLibraries) -> None:
    monkeypatch.setattr(gpu, "load_library", libraries)
    require_gpu(runtime, provider)


@pytest.mark.parametrize(("precision", "nhwc"), [("fp32", "0"), ("fp16", "1"), ("int8", "0")])
def test_fp16_files_run_channels_last(precision, nhwc):
    assert cuda_options(GpuOptions(), precision)["prefer_nhwc"] == nhwc


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_fp32_stays_fp32_unless_tf32_is_asked_for(precision):
    assert cuda_options(GpuOptions(), precision)["use_tf32"] == "0"
    assert cuda_options(GpuOptions(tf32=True), precision)["use_tf32"] == "1"


def test_algorithms_are_searched_with_all_the_workspace_they_may_want():
    options = cuda_options(GpuOptions(), "fp32")
    assert (options["cudnn_conv_algo_search"], options["cudnn_conv_use_max_workspace"]) == (
        "EXHAUSTIVE",
        "1",
    )


def test_the_arena_takes_what_is_asked_for_and_no_more():
    assert cuda_options(GpuOptions(), "fp32")["arena_extend_strategy"] == "kSameAsRequested"
    assert "gpu_mem_limit" not in cuda_options(GpuOptions(), "fp32")
    assert cuda_options(GpuOptions(memory_gb=1.5), "fp32")["gpu_mem_limit"] == str(3 * 2**29)


def test_a_layout_that_is_asked_for_is_taken():
    assert cuda_options(GpuOptions(nhwc=False), "fp16")["prefer_nhwc"] == "0"
    assert cuda_options(GpuOptions(nhwc=True, fuse_conv_bias=True), "fp32")["fuse_conv_bias"] == "1"


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
    with pytest.raises(ProviderError, match=f"{missing}.*{remedy}.*--provider cpu") as refused:
        require(monkeypatch, FakeRuntime(), "cuda", FakeLibraries(missing))
    assert "\n" not in str(refused.value)
    assert capsys.readouterr() == ("", "")


def test_a_driver_without_a_gpu_is_not_enough(monkeypatch):
    with pytest.raises(ProviderError, match=r"finds no GPU.*--gpus all"):
        require(monkeypatch, FakeRuntime(), "cuda", FakeLibraries(n_gpus=0))


def wheel_with_tensorrt(folder: Path) -> SimpleNamespace:
    library = folder / "capi" / "libonnxruntime_providers_tensorrt.so"
    library.parent.mkdir()
    library.write_bytes(b"\x7fELF\0libnvinfer.so.10\0")
    (folder / "__init__.py").touch()
    module = FakeRuntime()
    module.__file__ = str(folder / "__init__.py")
    return module


def test_tensorrt_without_its_library_says_which_package_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(
        ProviderError, match=r"libnvinfer\.so\.10.*pip install 'tensorrt-cu13<11'.*--provider cuda"
    ):
        require(monkeypatch, wheel_with_tensorrt(tmp_path), "tensorrt", FakeLibraries("libnvinfer"))


def test_tensorrt_is_loaded_from_pips_package(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    package = tmp_path / "site" / "tensorrt_libs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "libnvinfer.so.10").touch()
    monkeypatch.syspath_prepend(package.parent)
    libraries = FakeLibraries(f"{package}/libnvinfer.so.10")
    with pytest.raises(ProviderError, match="tensorrt_libs/libnvinfer"):
        require(monkeypatch, wheel_with_tensorrt(tmp_path), "tensorrt", libraries)


def test_a_cuda_session_answers_as_the_cpu_does(models, fake_gpu):
    images = phantoms(5, 64)
    expected = Session(models["fp32"], "cpu").run(images)
    session = Session(models["fp32"], "cuda")
    for part in (images, images[:1], images[1:4]):
        start = 1 if len(part) == 3 else 0
        np.testing.assert_allclose(
            session.run(part).logits,
            expected.logits[start : start + len(part)],
            rtol=1e-5,
            atol=1e-6,
        )
    assert session.provider == "cuda"
    assert not session.notice


def test_a_cuda_session_never_falls_back(models, fake_gpu):
    Session(models["fp32"], "cuda")
    (session,) = fake_gpu.sessions
    assert (session.no_cpu, session.enable_fallback, session.falls_back) == ("1", 0, False)


def test_cuda_that_silently_became_cpu_is_an_error(models, fake_gpu, monkeypatch):
    """What ONNX Runtime does where a library is missing that nobody thought of: it logs, and runs
    on the CPU.
    """

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
    graphs = [
        dict(one.providers)["CUDAExecutionProvider"]["enable_cuda_graph"]
        for one in fake_gpu.sessions
    ]
    assert graphs == ["0", "1"]


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
        "/src/cuda_call.cc:154 void CudaCall(...) [with\n THRW = true] CUDA failure 35: driver too old ; GPU=-1 ;"
        " expr=cudaSetDevice(0);"
    )
    assert failure_reason(RuntimeError(text)) == "CUDA failure 35: driver too old"
    assert failure_reason(RuntimeError("no\nCUDA")) == "no CUDA"


def test_auto_takes_the_gpu_where_there_is_one(models, fake_gpu):
    assert Session(models["fp32"], "auto").provider == "cuda"
    assert gpu_works()


@pytest.mark.parametrize(("works", "precision"), [(True, "fp16"), (False, "int8")])
def test_auto_prefers_the_file_that_suits_what_it_will_run_on(
    works, precision, monkeypatch, tmp_path
):
    names = [
        SimpleNamespace(
            path=f"m.{name}.onnx", report=SimpleNamespace(precision=name, verdict="pass")
        )
        for name in ("fp32", "fp16", "int8")
    ]
    (tmp_path / "latest").mkdir()
    monkeypatch.delenv("KNEEEDGE_MODEL", raising=False)
    monkeypatch.setattr(choose.Run, "read_export_report", lambda _: SimpleNamespace(files=names))
    monkeypatch.setattr(providers, "gpu_works", lambda: works)
    assert choose.choose_model(None, "auto", tmp_path).path.name == f"m.{precision}.onnx"


def test_infer_hands_its_gpu_options_on_and_warns_of_int8(models, fake_gpu, tmp_path):
    image = tmp_path / "knee.png"
    Image.fromarray(phantoms(1, 64)[0, 0]).save(image)
    options = ["--provider", "cuda", "--tf32", "--gpu-memory-gb", "2", "--no-cuda-graph"]
    command = [
        "infer",
        str(image),
        "--model",
        str(models["int8"]),
        "--out",
        str(tmp_path / "p.csv"),
        *options,
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "runs QDQ int8 in float" in done.stderr
    (asked,) = [dict(one.providers)["CUDAExecutionProvider"] for one in fake_gpu.sessions]
    assert (asked["use_tf32"], asked["gpu_mem_limit"]) == ("1", str(2 * 2**30))


def test_verify_says_where_the_nodes_ran(models, fake_gpu):
    done = CliRunner().invoke(app, ["verify", str(models["fp32"]), "--provider", "cuda"])
    assert done.exit_code == 0
    assert (
        "(100.0%) and 100.0% of the time on cuda, 0 copies between host and device" in done.stdout
    )


def test_verify_fails_where_a_node_ran_on_no_gpu(models, fake_gpu, monkeypatch):
    monkeypatch.setattr(FakeSession, "end_profiling", lambda self: self.real.end_profiling())
    done = CliRunner().invoke(app, ["verify", str(models["fp32"]), "--provider", "cuda"])
    assert done.exit_code == 1
    assert done.stdout.startswith("FAIL")
    assert "part of it ran elsewhere" in done.stdout


def test_auto_without_a_gpu_says_why_it_runs_on_the_cpu(models, fake_gpu, monkeypatch):
    monkeypatch.setattr(gpu, "load_library", FakeLibraries(gpu.DRIVER))
    opened = Session(models["fp32"], "auto")
    assert opened.provider == "cpu"
    assert "no NVIDIA driver here" in opened.notice
    assert not gpu_works()


@pytest.mark.parametrize(
    ("precision", "fp16", "int8"), [("fp32", "0", "0"), ("fp16", "1", "0"), ("int8", "0", "1")]
)
def test_tensorrt_computes_in_the_files_precision(models, precision, fp16, int8, tmp_path):
    options = tensorrt_options(GpuOptions(), read_model_spec(models[precision]), tmp_path)
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (fp16, int8)


def test_tensorrts_workspace_is_bounded_where_memory_is(tmp_path):
    assert "trt_max_workspace_size" not in tensorrt_options(GpuOptions(), tiny_spec(), tmp_path)
    options = tensorrt_options(GpuOptions(memory_gb=2), tiny_spec(), tmp_path)
    assert options["trt_max_workspace_size"] == str(2 * 2**30)


def test_tensorrts_profile_spans_all_batches(tmp_path):
    options = tensorrt_options(GpuOptions(max_batch=32), tiny_spec(), tmp_path)
    shapes = [options[f"trt_profile_{name}_shapes"] for name in ("min", "opt", "max")]
    assert shapes == ["image:1x1x64x64", "image:32x1x64x64", "image:32x1x64x64"]


def test_int8_made_for_another_device_is_refused_by_tensorrt(models):
    spec = read_model_spec(models["int8"])
    check_int8(spec)
    for target, refused in (("tensorrt", False), ("x86", True)):
        made_for = dataclasses.replace(
            spec, file=dataclasses.replace(spec.file, int8_target=target)
        )
        if refused:
            with pytest.raises(ProviderError, match=r"made for x86.*--int8-target tensorrt"):
                check_int8(made_for)
        else:
            check_int8(made_for)


def test_a_tensorrt_session_has_cuda_behind_it_and_keeps_its_engines(
    models, fake_gpu, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    wheel = wheel_with_tensorrt(tmp_path)
    monkeypatch.setattr(session_module, "load_runtime", lambda: wheel)
    Session(models["fp16"], "tensorrt").run(phantoms(3, 64))
    names = wheel.sessions[0].get_providers()
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    folder = Path(wheel.sessions[0].providers[0][1]["trt_engine_cache_path"])
    assert folder.is_dir()
    assert tmp_path in folder.parents
    assert folder.stat().st_mode & 0o777 == 0o700


def test_engines_of_other_options_files_or_versions_are_kept_apart(models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheel = wheel_with_tensorrt(tmp_path)
    monkeypatch.setattr(gpu, "load_library", FakeLibraries())
    folders = {
        engine_folder(GpuOptions(), "ab" * 32, wheel),
        engine_folder(GpuOptions(tf32=True), "ab" * 32, wheel),
        engine_folder(GpuOptions(), "cd" * 32, wheel),
    }
    assert len(folders) == 3
    assert engine_folder(GpuOptions(), "ab" * 32, wheel) in folders
    assert all("trt101300" in folder.name and "Fake_9000_X" in folder.name for folder in folders)


def test_a_folder_that_others_can_write_to_keeps_no_engines(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ProviderError, match="others can write"):
        private_folder(shared)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(ProviderError, match="others can write"):
        private_folder(link)


@pytest.mark.parametrize(
    ("system", "end"), [("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "Local")]
)
def test_the_cache_lies_where_the_system_keeps_caches(system, end, monkeypatch):
    monkeypatch.setattr("sys.platform", system)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert user_cache().as_posix().endswith(end)


def test_metadata_is_read_without_a_session(models):
    assert read_metadata(models["fp16"]) == Session(models["fp16"], "cpu").metadata
    assert read_model_spec(models["fp16"]).file.precision == "fp16"


@pytest.mark.parametrize(
    "content", [b"\x3a\xff\xff\x01", b"\x0f\x01", b"\x80", b"\xff" * 11, b"\x72\x02\x0a\x00"]
)
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="no ONNX file"):
        read_metadata(path)


def test_a_file_without_a_spec_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x0a")
    with pytest.raises(SpecError, match="no kneeedge spec"):
        read_model_spec(path)
