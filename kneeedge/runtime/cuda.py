"""NVIDIA GPUs through ONNX Runtime: options of the CUDA provider, and the libraries it needs."""

import contextlib
import ctypes
import io
import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from kneeedge.errors import ConfigError, ProviderError

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
GPU_PROVIDERS = ("cuda", "tensorrt")
GIB = 1 << 30
DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
INT8_ON_CUDA = (
    "the CUDA provider runs QDQ int8 in float and slowly; use the fp16 file, or --provider tensorrt"
)


@dataclass(frozen=True, kw_only=True)
class GpuOptions:
    """How a session uses the GPU; the defaults are right for most."""

    tf32: bool = False
    "round fp32 products to TF32's 10 bits of mantissa: faster, and no longer fp32"
    memory_gb: float | None = None
    "most GPU memory for the arena, GiB; a CUDA graph has another arena; None: all there is"
    nhwc: bool | None = None
    "channels last, as tensor cores want it; None: for fp16 files"
    fuse_conv_bias: bool | None = None
    "let cuDNN add the bias within the convolution, in kernels that it compiles at the first run; "
    "None: with channels last, where it has no fast kernels without (5 × slower on an H100)"
    cuda_graph: bool = True
    "replay a recorded graph for the single image in place of launching kernel by kernel"
    lanes: int = 2
    "sets of buffers for each batch shape: while one computes, another copies"
    max_batch: int = 256
    "images a run at most; more are run in parts"
    builder_level: int = 3
    "TensorRT's effort in building an engine, 0 to 5"

    def __post_init__(self) -> None:
        if self.memory_gb is not None and not 0 < self.memory_gb < float("inf"):
            problem = f"{self.memory_gb} GB of GPU memory hold nothing"
            raise ConfigError(problem, "give --gpu-memory-gb above 0")
        if self.lanes < 1 or self.max_batch < 1 or not 0 <= self.builder_level <= 5:
            problem = "lanes and max_batch must be 1 or more, and builder_level 0 to 5"
            raise ConfigError(problem, "correct GpuOptions")


def cuda_options(options: GpuOptions, precision: str, capture: bool = False) -> dict[str, str]:
    """ONNX Runtime's options of the CUDA provider for a file of this precision.

    `capture` records a CUDA graph: such a session runs one shape, on fixed buffers, and in one
    stream.
    """
    nhwc = precision == "fp16" if options.nhwc is None else options.nhwc
    fused = nhwc if options.fuse_conv_bias is None else options.fuse_conv_bias
    flags = {
        "use_tf32": options.tf32,
        "prefer_nhwc": nhwc,
        "fuse_conv_bias": fused,
        "cudnn_conv_use_max_workspace": True,
        "enable_cuda_graph": capture,
    }
    settings = {name: str(int(flag)) for name, flag in flags.items()}
    settings["cudnn_conv_algo_search"] = "EXHAUSTIVE"
    # The other strategy doubles what it takes each time and gives nothing back (onnxruntime#9509).
    settings["arena_extend_strategy"] = "kSameAsRequested"
    if options.memory_gb is not None:
        settings["gpu_mem_limit"] = str(int(options.memory_gb * GIB))
    return settings


def require_gpu(runtime: ModuleType, provider: str) -> None:
    """Load the libraries of `provider`; raise ProviderError naming the first thing that is missing.

    ONNX Runtime itself would log the reason, leave the provider out, and give no error.
    """
    try:
        count_gpus(load_library(DRIVER), provider)
    except OSError as error:
        reason = f"no NVIDIA driver here ({_first_line(error)})"
        remedy = "install the driver, or use --provider cpu"
        raise ProviderError(provider, reason, remedy) from error
    # It prints what it did not find, which is said below.
    with contextlib.redirect_stdout(io.StringIO()):
        runtime.preload_dlls()
    if sys.platform != "linux":
        return
    for name in cuda_libraries(runtime):
        _require(provider, name, "run `pip install 'kneeedge[cuda]'`, or use --provider cpu")
    if provider == "tensorrt":
        for name in tensorrt_libraries(runtime):
            _require_tensorrt(runtime, name)


def failure_reason(error: Exception) -> str:
    """What went wrong in one line: what CUDA or OpenVINO says, without the C++ around it."""
    text = " ".join(str(error).split())
    cuda_failure = re.search(r"(?:CUDA|CUDNN|CUBLAS) failure \d+: [^;]+", text)
    if cuda_failure:
        return cuda_failure[0].strip()
    message = text.rpartition("[OpenVINO-EP]")[2]
    return re.sub(r"Exception from \S+:\d+: ?", "", message).strip()


def load_library(name: str) -> Any:
    """The shared library, for this process and what it loads later; OSError where there is none."""
    return ctypes.CDLL(name)


def count_gpus(driver: Any, provider: str) -> int:
    """The GPUs that the driver's library finds; raises ProviderError where it finds none."""
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        reason = f"the NVIDIA driver finds no GPU (error {status})"
        remedy = "make a GPU visible (in a container: --gpus all), or use --provider cpu"
        raise ProviderError(provider, reason, remedy)
    return count.value


def gpu_name() -> str:
    """The first GPU's name as its driver gives it; call it after `require_gpu`."""
    driver = load_library(DRIVER)
    name = ctypes.create_string_buffer(128)
    driver.cuDeviceGetName(name, len(name), 0)
    return name.value.decode("utf-8", "replace")


def cuda_libraries(runtime: ModuleType) -> list[str]:
    """What the CUDA provider links to, or opens at its first convolution."""
    major = cuda_major(runtime)
    return [
        f"libcudart.so.{major}",
        f"libcublasLt.so.{major}",
        f"libcublas.so.{major}",
        "libcurand.so.10",
        "libcudnn.so.9",
    ]


def cuda_major(runtime: ModuleType) -> str:
    """The CUDA version that the wheel says it was built for, as 13."""
    return str(getattr(runtime, "cuda_version", "") or "12").partition(".")[0]


def tensorrt_libraries(runtime: ModuleType) -> list[str]:
    """TensorRT's libraries in the version that this wheel's provider links to."""
    library = Path(str(runtime.__file__)).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    content = library.read_bytes() if library.is_file() else b""
    link = re.search(rb"libnvinfer\.so\.(\d+)", content)
    if link is None:
        reason = f"{library} is missing or not linked to TensorRT"
        raise ProviderError("tensorrt", reason, "reinstall onnxruntime-gpu, or use --provider cuda")
    version = link[1].decode()
    names = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
    return [f"{name}.so.{version}" for name in names]


def _require(provider: str, library: str, remedy: str) -> None:
    try:
        load_library(library)
    except OSError as error:
        reason = f"a library is missing ({_first_line(error)})"
        raise ProviderError(provider, reason, remedy) from error


def _require_tensorrt(runtime: ModuleType, library: str) -> None:
    """Load a library of TensorRT: pip's, which ONNX Runtime does not look for, or the system's."""
    wheel = find_spec("tensorrt_libs")
    folders = list(wheel.submodule_search_locations or ()) if wheel else []
    candidates = [Path(folder) / library for folder in folders]
    installed = [str(path) for path in candidates if path.is_file()]
    version = int(library.rpartition(".")[2])
    package = f"tensorrt-cu{cuda_major(runtime)}<{version + 1}"
    remedy = f"run `pip install '{package}'`, or use --provider cuda"
    _require("tensorrt", installed[0] if installed else library, remedy)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
