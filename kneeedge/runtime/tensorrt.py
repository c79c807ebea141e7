"""The TensorRT provider: its options for a file, and the private folder that keeps its engines
between starts.
"""

import hashlib
import os
import re
import stat
import sys
from pathlib import Path
from types import ModuleType

from kneeedge.errors import ProviderError
from kneeedge.model.spec import ModelSpec
from kneeedge.runtime import cuda as gpu

TYPICAL_BATCH = 64
"images a run for which an engine is made fastest; all sizes up to the largest run"


def tensorrt_provider(
    options: gpu.GpuOptions, spec: ModelSpec, sha256: str, runtime: ModuleType
) -> tuple[str, dict[str, str]]:
    """ONNX Runtime's name of the provider with its options for the file of that hash.

    Raises ProviderError where the file's int8 was made for another device, or the engines' folder
    is not private.
    """
    check_int8(spec)
    if not options.tf32:
        # TensorRT takes TF32 for fp32, and the provider has no option against it; NVIDIA's
        # libraries read this.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    return gpu.TENSORRT, tensorrt_options(options, spec, engine_folder(options, sha256, runtime))


def tensorrt_options(options: gpu.GpuOptions, spec: ModelSpec, folder: Path) -> dict[str, str]:
    """ONNX Runtime's options of the TensorRT provider; engines and kernel timings are kept in
    `folder`.

    An int8 file carries its ranges in QDQ nodes, so TensorRT calibrates nothing.
    """
    precision = spec.file.precision if spec.file else "fp32"
    flags = {
        "trt_fp16_enable": precision == "fp16",
        "trt_int8_enable": precision == "int8",
        "trt_engine_cache_enable": True,
        "trt_timing_cache_enable": True,
    }
    side = spec.pixel_path.size
    typical = min(TYPICAL_BATCH, options.max_batch)
    limit = (
        {}
        if options.memory_gb is None
        else {"trt_max_workspace_size": str(int(options.memory_gb * gpu.GIB))}
    )
    sizes = {"min": 1, "opt": typical, "max": options.max_batch}
    return {
        **{name: str(int(flag)) for name, flag in flags.items()},
        **{f"trt_profile_{name}_shapes": f"image:{n}x1x{side}x{side}" for name, n in sizes.items()},
        **limit,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_path": str(folder),
        "trt_builder_optimization_level": str(options.builder_level),
    }


def check_int8(spec: ModelSpec) -> None:
    """Raise ProviderError for an int8 file made for another device: TensorRT takes symmetric signed
    values alone.
    """
    target = spec.file.int8_target if spec.file else None
    if target not in (None, "tensorrt"):
        remedy = "export for it with `kneeedge export --int8-target tensorrt`, or use the fp16 file"
        raise ProviderError("tensorrt", f"its int8 values were made for {target}", remedy)


def engine_folder(options: gpu.GpuOptions, sha256: str, runtime: ModuleType) -> Path:
    """The private folder of this file's engines, one for each TensorRT, GPU, ONNX Runtime and
    choice of options.
    """
    version = gpu.load_library(gpu.tensorrt_libraries(runtime)[0]).getInferLibVersion()
    choice = hashlib.sha256(repr(options).encode()).hexdigest()[:8]
    parts = (sha256[:32], f"trt{version}", gpu.gpu_name(), f"ort{runtime.__version__}", choice)
    return private_folder(
        user_cache() / "kneeedge" / "tensorrt" / re.sub(r"[^A-Za-z0-9.-]+", "_", "-".join(parts))
    )


def user_cache() -> Path:
    """Where this system keeps what a user's programs can make again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def private_folder(path: Path) -> Path:
    """The folder, made for this user alone; raises ProviderError where another could have put an
    engine into it.

    An engine is code that the GPU runs.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid"):
        facts = path.stat(follow_symlinks=False)
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
            raise ProviderError(
                "tensorrt", f"others can write to {path}, which keeps engines", f"remove {path}"
            )
    return path
