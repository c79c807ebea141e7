"""A GPU build of ONNX Runtime on a machine without a GPU: it says CUDA and computes on the CPU."""

from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from kneeedge.runtime import cuda, providers, session


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *wheels: str) -> None:
    """Of all distributions only these wheels are installed."""

    def version(name: str) -> str:
        if name not in wheels:
            raise metadata.PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr(metadata, "version", version)


class FakeSession:
    """A session of the CPU provider under the names of the providers asked for."""

    def __init__(self, path: str, sess_options: Any, providers: list, enable_fallback: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = sess_options.enable_profiling
        if options.enable_profiling:
            options.profile_file_prefix = sess_options.profile_file_prefix
        self.real = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.providers = providers
        self.enable_fallback = enable_fallback
        self.falls_back = True
        self.no_cpu = sess_options.get_session_config_entry("session.disable_cpu_ep_fallback")

    def get_providers(self) -> list[str]:
        return [name for name, _ in self.providers]

    def end_profiling(self) -> str:
        """The real profile, the provider that was asked for in the place of the CPU's."""
        path = Path(self.real.end_profiling())
        path.write_text(path.read_text().replace("CPUExecutionProvider", self.providers[0][0]))
        return str(path)

    def disable_fallback(self) -> None:
        self.falls_back = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class FakeRuntime(SimpleNamespace):
    """The names of onnxruntime that a GPU session uses; `sessions` are those it opened."""

    __version__ = "9.9"
    __file__ = "/nowhere/onnxruntime/__init__.py"
    cuda_version = "13.0"
    capi = onnxruntime.capi
    SessionOptions = onnxruntime.SessionOptions

    def __init__(self) -> None:
        values = SimpleNamespace(ortvalue_from_shape_and_type=self.allocate)
        super().__init__(sessions=[], OrtValue=values)

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        print("Failed to load libcudnn.so.9")  # noqa: T201 - as the real one does

    def InferenceSession(self, path: str, **asked: Any) -> Any:  # noqa: N802
        if asked["providers"][0][0] == "CPUExecutionProvider":
            return onnxruntime.InferenceSession(
                path, asked["sess_options"], providers=["CPUExecutionProvider"]
            )
        self.sessions.append(FakeSession(path, **asked))
        return self.sessions[-1]

    def allocate(self, shape: list[int], dtype: Any, device: str, index: int) -> Any:
        assert (device, index) == ("cuda", 0)
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cpu", 0)


class FakeLibraries:
    """Shared libraries by name; the missing ones fail as dlopen does.

    `n_gpus` is what the driver counts.
    """

    def __init__(self, missing: str = "-", n_gpus: int = 1) -> None:
        self.missing = missing
        self.n_gpus = n_gpus

    def __call__(self, name: str) -> Any:
        if self.missing in name:
            problem = "cannot open shared object file: No such file or directory"
            raise OSError(f"{name}: {problem}\nand more")
        return self

    def cuInit(self, *_: Any) -> int:  # noqa: N802
        return 0 if self.n_gpus else 100

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.n_gpus
        return 0

    def cuDeviceGetName(self, buffer: Any, *_: Any) -> int:  # noqa: N802
        buffer.value = b"NVIDIA Fake 9000/X"
        return 0

    def cudaHostRegister(self, *_: Any) -> int:  # noqa: N802
        return 2

    def cudaGetLastError(self) -> int:  # noqa: N802
        return 2

    def getInferLibVersion(self) -> int:  # noqa: N802
        return 101_300


def wheel_with_tensorrt(folder: Path) -> FakeRuntime:
    """A runtime whose wheel, below `folder`, links its TensorRT provider to TensorRT 10."""
    library = folder / "capi" / "libonnxruntime_providers_tensorrt.so"
    library.parent.mkdir()
    library.write_bytes(b"\x7fELF\0libnvinfer.so.10\0")
    (folder / "__init__.py").touch()
    runtime = FakeRuntime()
    runtime.__file__ = str(folder / "__init__.py")
    return runtime


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """Sessions find a GPU."""
    runtime = FakeRuntime()
    monkeypatch.setattr(session, "load_runtime", lambda: runtime)
    monkeypatch.setattr(providers, "load_runtime", lambda: runtime)
    monkeypatch.setattr(cuda, "load_library", FakeLibraries())
    return runtime
