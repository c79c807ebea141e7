"""The TensorRT provider: its options for a file, and the private folder that keeps its engines."""

import hashlib
import os
import re
import stat
from pathlib import Path
from types import ModuleType

from kneeedge.errors import ProviderError
from kneeedge.model.spec import ModelSpec
from kneeedge.runtime import cuda
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.system.machine import user_cache

TYPICAL_BATCH = 64
"images a run for which an engine is made fastest; all sizes up to the largest run"


def tensorrt_provider(
    options: GpuOptions, spec: ModelSpec, sha256: str, runtime: ModuleType
) -> tuple[str, dict[str, str]]:
    """ONNX Runtime's name of the provider with its options for the file of that hash.

    Raises ProviderError where the file's int8 was made for another device, or the engines' folder
    is not private.
    """
    check_int8(spec)
    if not options.tf32:
        # TensorRT takes TF32 for fp32 and the provider has no option against it; NVIDIA's libraries
        # read this.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    folder = engine_folder(options, sha256, runtime)
    return cuda.TENSORRT, tensorrt_options(options, spec, folder)


def tensorrt_options(options: GpuOptions, spec: ModelSpec, folder: Path) -> dict[str, str]:
    """ONNX Runtime's options of the provider; `folder` keeps engines and kernel timings.

    An int8 file carries its ranges in QDQ nodes, so TensorRT calibrates nothing.
    """
    precision = spec.file.precision if spec.file else "fp32"
    flags = {
        "trt_fp16_enable": precision == "fp16",
        "trt_int8_enable": precision == "int8",
        "trt_engine_cache_enable": True,
        "trt_timing_cache_enable": True,
    }
    # ONNX Runtime refuses the 1 and 0 that it takes for CUDA.
    settings = {name: str(flag) for name, flag in flags.items()}
    side = spec.pixel_path.size
    typical = min(TYPICAL_BATCH, options.max_batch)
    for bound, n in (("min", 1), ("opt", typical), ("max", options.max_batch)):
        settings[f"trt_profile_{bound}_shapes"] = f"image:{n}x1x{side}x{side}"
    if options.memory_gb is not None:
        settings["trt_max_workspace_size"] = str(int(options.memory_gb * cuda.GIB))
    settings["trt_engine_cache_path"] = str(folder)
    settings["trt_timing_cache_path"] = str(folder)
    settings["trt_builder_optimization_level"] = str(options.builder_level)
    return settings


def check_int8(spec: ModelSpec) -> None:
    """Raise ProviderError for an int8 file made for another device.

    TensorRT takes symmetric signed values alone.
    """
    target = spec.file.int8_target if spec.file else None
    if target not in (None, "tensorrt"):
        remedy = "export for it with `kneeedge export --int8-target tensorrt`, or use the fp16 file"
        raise ProviderError("tensorrt", f"its int8 values were made for {target}", remedy)


def engine_folder(options: GpuOptions, sha256: str, runtime: ModuleType) -> Path:
    """The private folder of this file's engines, which are of one TensorRT, GPU, runtime, options.

    `sha256` is the model file's.
    """
    version = cuda.load_library(cuda.tensorrt_libraries(runtime)[0]).getInferLibVersion()
    choice = hashlib.sha256(repr(options).encode()).hexdigest()[:8]
    parts = (sha256[:32], f"trt{version}", cuda.gpu_name(), f"ort{runtime.__version__}", choice)
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", "-".join(parts))
    return private_folder(user_cache() / "kneeedge" / "tensorrt" / name)


def private_folder(path: Path) -> Path:
    """The folder, made for this user alone; ProviderError where another can write to it.

    An engine is code that the GPU runs.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid"):
        status = path.stat(follow_symlinks=False)
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if not is_ours or status.st_mode & 0o022:
            reason = f"others can write to {path}, which keeps engines"
            raise ProviderError("tensorrt", reason, f"remove {path}")
    return path
