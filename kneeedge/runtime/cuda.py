"""NVIDIA GPUs through ONNX Runtime: what a session asks of the CUDA provider, and the libraries
that it needs.
"""

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

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
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
    """most GPU memory for the arena, GiB; the CUDA graph has an arena of its own; None: as much as
    there is
    """
    nhwc: bool | None = None
    "channels last, as tensor cores want it; None: for fp16 files"
    fuse_conv_bias: bool = False
    "let cuDNN add the bias within the convolution, in kernels that it compiles at the first run"
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
            raise ConfigError(
                f"{self.memory_gb} GB of GPU memory hold nothing", "give --gpu-memory-gb above 0"
            )
        if self.lanes < 1 or self.max_batch < 1 or not 0 <= self.builder_level <= 5:
            raise ConfigError(
                "lanes and max_batch must be 1 or more, and builder_level 0 to 5",
                "correct GpuOptions",
            )


def cuda_options(options: GpuOptions, precision: str, capture: bool = False) -> dict[str, str]:
    """ONNX Runtime's options of the CUDA provider for a file of this precision.

    `capture` records a CUDA graph: such a session runs one shape, on fixed buffers, and in one
    stream.
    """
    nhwc = precision == "fp16" if options.nhwc is None else options.nhwc
    chosen = {
        "use_tf32": options.tf32,
        "prefer_nhwc": nhwc,
        "fuse_conv_bias": options.fuse_conv_bias,
        "cudnn_conv_use_max_workspace": True,
        "enable_cuda_graph": capture,
    }
    found = {name: str(int(value)) for name, value in chosen.items()}
    found["cudnn_conv_algo_search"] = "EXHAUSTIVE"
    # The other strategy doubles what it takes each time and gives nothing back (onnxruntime#9509).
    found["arena_extend_strategy"] = "kSameAsRequested"
    if options.memory_gb is not None:
        found["gpu_mem_limit"] = str(int(options.memory_gb * GIB))
    return found


def require_gpu(runtime: ModuleType, provider: str) -> None:
    """Load the libraries of `provider`; raise ProviderError naming the first thing that is missing.

    ONNX Runtime itself would log the reason, leave the provider out, and give no error.
    """
    with contextlib.redirect_stdout(
        io.StringIO()
    ):  # it prints what it did not find, which is said below
        runtime.preload_dlls()
    try:
        count_gpus(load_library(DRIVER), provider)
    except OSError as error:
        reason = f"no NVIDIA driver here ({_first_line(error)})"
        raise ProviderError(
            provider, reason, "install the driver, or use --provider cpu"
        ) from error
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
    found = re.search(r"(?:CUDA|CUDNN|CUBLAS) failure \d+: [^;]+", text)
    if found:
        return found[0].strip()
    return re.sub(r"Exception from \S+:\d+: ?", "", text.rpartition("[OpenVINO-EP]")[2]).strip()


def load_library(name: str) -> Any:
    """The shared library, for this process and what it loads later; raises OSError where it is not
    there.
    """
    return ctypes.CDLL(name)


def count_gpus(driver: Any, provider: str) -> int:
    """The GPUs that the driver's library finds; raises ProviderError where it finds none."""
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        reason = f"the NVIDIA driver finds no GPU (error {status})"
        raise ProviderError(
            provider,
            reason,
            "make a GPU visible (in a container: --gpus all), or use --provider cpu",
        )
    return count.value


def gpu_name() -> str:
    """The first GPU's name as its driver gives it; call it after `require_gpu`."""
    driver = load_library(DRIVER)
    name = ctypes.create_string_buffer(128)
    driver.cuDeviceGetName(name, len(name), 0)
    return name.value.decode("utf-8", "replace")


def cuda_libraries(runtime: ModuleType) -> list[str]:
    """What the CUDA provider links to or opens at its first convolution; its wheel says which CUDA
    it was built for.
    """
    major = cuda_major(runtime)
    return [
        f"libcudart.so.{major}",
        f"libcublasLt.so.{major}",
        f"libcublas.so.{major}",
        "libcurand.so.10",
        "libcudnn.so.9",
    ]


def cuda_major(runtime: ModuleType) -> str:
    """The CUDA version that this ONNX Runtime was built for, as 13."""
    return str(getattr(runtime, "cuda_version", "") or "12").partition(".")[0]


def tensorrt_libraries(runtime: ModuleType) -> list[str]:
    """TensorRT's libraries in the version that this wheel's provider links to."""
    library = Path(str(runtime.__file__)).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    found = (
        re.search(rb"libnvinfer\.so\.(\d+)", library.read_bytes()) if library.is_file() else None
    )
    if found is None:
        reason = f"{library} is missing or not linked to TensorRT"
        raise ProviderError("tensorrt", reason, "reinstall onnxruntime-gpu, or use --provider cuda")
    return [
        f"{name}.so.{found[1].decode()}"
        for name in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
    ]


def _require(provider: str, library: str, remedy: str) -> None:
    try:
        load_library(library)
    except OSError as error:
        raise ProviderError(
            provider, f"a library is missing ({_first_line(error)})", remedy
        ) from error


def _require_tensorrt(runtime: ModuleType, library: str) -> None:
    """Load one of TensorRT's libraries: pip's, which ONNX Runtime does not look for, else the
    system's.
    """
    wheel = find_spec("tensorrt_libs")
    folders = list(wheel.submodule_search_locations or ()) if wheel else []
    paths = [path for path in (Path(folder) / library for folder in folders) if path.is_file()]
    package = f"tensorrt-cu{cuda_major(runtime)}<{int(library.rpartition('.')[2]) + 1}"
    _require(
        "tensorrt",
        str(paths[0] if paths else library),
        f"run `pip install '{package}'`, or use --provider cuda",
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
