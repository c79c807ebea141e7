"""The TensorRT provider's options, its libraries and the folder of its engines; without a GPU."""

import dataclasses
from pathlib import Path

import pytest

from kneeedge.errors import ProviderError
from kneeedge.model.metadata import read_model_spec
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.phantom import phantoms
from kneeedge.runtime import cuda
from kneeedge.runtime import session as session_module
from kneeedge.runtime.cuda import GpuOptions, require_gpu
from kneeedge.runtime.session import Session
from kneeedge.runtime.tensorrt import (
    check_int8,
    engine_folder,
    private_folder,
    tensorrt_options,
)
from tests.fake_gpu import FakeLibraries, wheel_with_tensorrt
from tests.tiny_onnx import tiny_spec


def test_tensorrt_without_its_library_says_which_package_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(cuda, "load_library", FakeLibraries("libnvinfer"))
    words = r"libnvinfer\.so\.10.*pip install 'tensorrt-cu13<11'.*--provider cuda"
    with pytest.raises(ProviderError, match=words):
        require_gpu(wheel_with_tensorrt(tmp_path), "tensorrt")


def test_tensorrt_is_loaded_from_pips_package(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    package = tmp_path / "site" / "tensorrt_libs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "libnvinfer.so.10").touch()
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(cuda, "load_library", FakeLibraries(f"{package}/libnvinfer.so.10"))
    with pytest.raises(ProviderError, match="tensorrt_libs/libnvinfer"):
        require_gpu(wheel_with_tensorrt(tmp_path), "tensorrt")


@pytest.mark.parametrize(
    ("precision", "fp16", "int8"),
    [("fp32", "False", "False"), ("fp16", "True", "False"), ("int8", "False", "True")],
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


def int8_spec(model: Path, target: str | None) -> ModelSpec:
    spec = read_model_spec(model)
    return dataclasses.replace(spec, file=dataclasses.replace(spec.file, int8_target=target))


@pytest.mark.parametrize("target", [None, "tensorrt"])
def test_int8_made_for_tensorrt_or_for_nobody_in_particular_is_taken(models, target):
    check_int8(int8_spec(models["int8"], target))


def test_int8_made_for_another_device_is_refused_by_tensorrt(models):
    with pytest.raises(ProviderError, match=r"made for vnni.*--int8-target tensorrt"):
        check_int8(int8_spec(models["int8"], "vnni"))


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
    monkeypatch.setattr(cuda, "load_library", FakeLibraries())
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
