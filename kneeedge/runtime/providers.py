"""ONNX Runtime's execution providers by kneeedge's names: which are installed, what each needs."""

import json
import os
from importlib import metadata
from types import ModuleType

from kneeedge.errors import MissingExtraError, ProviderError, RuntimeConflictError
from kneeedge.runtime.cuda import CUDA, GPU_PROVIDERS, TENSORRT, require_gpu

OPENVINO = "OpenVINOExecutionProvider"

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": CUDA,
    "tensorrt": TENSORRT,
    "openvino": OPENVINO,
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
CPU_PROVIDERS = ("cpu", "openvino")
"that compute on the CPU"
EXTRAS = {"cuda": "cuda", "tensorrt": "cuda", "openvino": "openvino"}
"of kneeedge, which bring the wheel that a provider needs"
WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


def load_runtime() -> ModuleType:
    """The onnxruntime module, its telemetry switched off.

    From 1.29 on it tells Microsoft of each model that it loads, and keeps files for that in the
    user's cache, unless this variable is set before it is imported. Raises MissingExtraError with
    none installed, RuntimeConflictError with several.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    wheels = [name for name in WHEELS if _is_installed(name)]
    if len(wheels) > 1:
        raise RuntimeConflictError(wheels)
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        other_devices = "with an NVIDIA GPU: 'kneeedge[cuda]'; with OpenVINO: 'kneeedge[openvino]'"
        install = f"pip install 'kneeedge[cpu]' ({other_devices})"
        raise MissingExtraError("running a model", "ONNX Runtime", install) from error
    return onnxruntime  # type: ignore[no-any-return]


def check_provider(runtime: ModuleType, provider: str) -> None:
    """Raise ProviderError where this ONNX Runtime, or this machine, lacks what `provider` needs."""
    if provider not in PROVIDERS:
        remedy = f"choose one of auto, {', '.join(_runnable(runtime))}"
        raise ProviderError(provider, "kneeedge does not know it", remedy)
    if provider not in _names_in(runtime):
        wheel = next((name for name in WHEELS if _is_installed(name)), "onnxruntime")
        here = ", ".join(_runnable(runtime))
        reason = f"the installed {wheel} {runtime.__version__} lacks it, and runs {here} here"
        remedy = "use --provider cpu"
        if provider in EXTRAS:
            swap = f"pip uninstall -y {wheel} && pip install 'kneeedge[{EXTRAS[provider]}]'"
            remedy = f"run `{swap}`, or {remedy}"
        raise ProviderError(provider, reason, remedy)
    if provider in GPU_PROVIDERS:
        require_gpu(runtime, provider)


def gpu_works() -> bool:
    """Whether the provider `auto` takes the GPU here."""
    runtime = load_runtime()
    return "cuda" in _names_in(runtime) and _runs_here(runtime, "cuda")


def available_providers() -> list[str]:
    """Kneeedge's names of the providers that the installed wheel has and this machine can run.

    A wheel for GPUs has CUDA and TensorRT on every machine.
    """
    return _runnable(load_runtime())


def openvino_options(threads: int) -> dict[str, str]:
    """The provider's options: the CPU device, all its threads on one run at a time.

    Left to itself OpenVINO computes an fp32 file in bf16 where the CPU has it; here fp32 stays
    fp32, and an fp16 file is computed in fp32. Quantised layers run in 8 bits all the same. The
    provider's own options for precision, threads and streams are deprecated in favour of
    `load_config` (onnxruntime.ai, OpenVINO Execution Provider).
    """
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
    }
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": properties})}


def _runnable(runtime: ModuleType) -> list[str]:
    return [name for name in _names_in(runtime) if _runs_here(runtime, name)]


def _runs_here(runtime: ModuleType, provider: str) -> bool:
    if provider not in GPU_PROVIDERS:
        return True
    try:
        require_gpu(runtime, provider)
    except ProviderError:
        return False
    return True


def _names_in(runtime: ModuleType) -> list[str]:
    available = runtime.get_available_providers()
    return [name for name, full in PROVIDERS.items() if full in available]


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
