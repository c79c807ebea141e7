"""ONNX file → session: the provider asked for and really used, threads, and the file's own contract checked."""

import contextlib
import ctypes
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge import machine
from kneeedge.errors import (
    MissingExtraError,
    ModelFileError,
    NotFoundError,
    ProviderError,
    RuntimeConflictError,
    SpecError,
)
from kneeedge.spec import SPEC_KEY, ModelSpec

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


@dataclass(frozen=True)
class Outputs:
    """The network's answers for N images and K classes."""

    probabilities: NDArray[np.float32]
    "(N, K), each row sums to 1"
    logits: NDArray[np.float32]
    "(N, K)"
    cam: NDArray[np.float32] | None
    "(N, K, S/32, S/32) class activation map; absent for the classifier head"
    distance: NDArray[np.float32] | None = None
    "(N,) how far the image's features lie from those of the training images; absent where the model never abstains"


class Session:
    """One `.onnx` file, loaded and checked.

    Raises ProviderError where the provider asked for does not take the model, ModelFileError where ONNX Runtime
    cannot load it or its signature is not the contract's, and SpecError where the spec is missing or damaged.
    """

    def __init__(self, model: Path | str, provider: str = "auto", threads: int | None = None) -> None:
        self.path = Path(model)
        if not self.path.is_file():
            raise NotFoundError(f"{model}: no such model file", "give the path of an .onnx file from `kneeedge export`")
        self.threads = threads or machine.available_cpus()
        self.notice = ""
        "one line about the provider that its user should know, or empty"
        runtime = load_runtime()
        self.provider, self._session = self._open(runtime, provider)
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        if SPEC_KEY not in self.metadata:
            raise SpecError(self.path, "this ONNX file carries no kneeedge spec, so its classes and pixels are unknown")
        self.spec = ModelSpec.from_json(self.metadata[SPEC_KEY], str(self.path))
        self._outputs = self._check_signature()

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Answers for `images` (N, 1, S, S) uint8. Raises ModelFileError where an answer is not finite."""
        results = dict(zip(self._outputs, self._session.run(self._outputs, {"image": images}), strict=True))
        if not all(np.isfinite(results[name]).all() for name in ("logits", "distance") if name in results):
            raise ModelFileError(self.path, f"the network gave NaN or infinity on provider {self.provider}")
        return Outputs(results["probabilities"], results["logits"], results.get("cam"), results.get("distance"))

    def _open(self, runtime: ModuleType, provider: str) -> tuple[str, Any]:
        if provider != "auto":
            return provider, self._create(runtime, provider)
        if PROVIDERS["cuda"] in runtime.get_available_providers():
            try:
                return "cuda", self._create(runtime, "cuda")
            except ProviderError as error:
                self.notice = f"running on the CPU, since {error}"
        return "cpu", self._create(runtime, "cpu")

    def _create(self, runtime: ModuleType, provider: str) -> Any:
        check_provider(runtime, provider)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        if provider != "cpu":
            # A node that the provider cannot take must be an error, not a silent trip to the CPU.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        state = runtime.capi.onnxruntime_pybind11_state
        failures = (state.Fail, state.InvalidProtobuf, state.InvalidGraph, state.NotImplemented, state.InvalidArgument,
                    state.RuntimeException, state.NoModel, state.EPFail)  # fmt: skip
        try:
            session = runtime.InferenceSession(
                str(self.path), sess_options=options, providers=provider_options(provider)
            )
        except failures as error:
            reason = " ".join(str(error).split())
            if provider == "cpu":
                raise ModelFileError(self.path, f"ONNX Runtime cannot load it ({reason})") from error
            raise ProviderError(provider, reason, "fix that or use --provider cpu") from error
        if session.get_providers()[0] != PROVIDERS[provider]:
            raise ProviderError(provider, missing_library(runtime, provider), PROVIDER_REMEDY)
        return session

    def _check_signature(self) -> list[str]:
        """The names of the outputs to ask for, after the graph has been held against the spec."""
        side, n_classes = self.spec.pixel_path.size, len(self.spec.classes)
        inputs = [(node.name, node.type, node.shape[1:]) for node in self._session.get_inputs()]
        if inputs != [("image", "tensor(uint8)", [1, side, side])]:
            raise ModelFileError(self.path, f"its input is {inputs}, not image uint8 [N, 1, {side}, {side}]")
        shapes = {node.name: node.shape for node in self._session.get_outputs()}
        for name in ("probabilities", "logits"):
            if name not in shapes or list(shapes[name][1:]) != [n_classes]:
                raise ModelFileError(self.path, f"it has no output {name} [N, {n_classes}] as its spec says")
        if self.spec.novelty and len(shapes.get("distance", ())) != 1:
            raise ModelFileError(self.path, "it has no output distance [N], to which its spec gives a limit")
        return [name for name in ("probabilities", "logits", "cam", "distance") if name in shapes]


PROVIDER_REMEDY = "install the NVIDIA driver and `pip install 'kneeedge[cuda]'`, or use --provider cpu"


def load_runtime() -> ModuleType:
    """The onnxruntime module; raises MissingExtraError with none installed, RuntimeConflictError with several."""
    wheels = [name for name in WHEELS if _is_installed(name)]
    if len(wheels) > 1:
        raise RuntimeConflictError(wheels)
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "running a model",
            "ONNX Runtime",
            "pip install 'kneeedge[cpu]' (with an NVIDIA GPU: 'kneeedge[cuda]')",
        ) from error
    return onnxruntime  # type: ignore[no-any-return]


def check_provider(runtime: ModuleType, provider: str) -> None:
    """Raise ProviderError where this wheel of ONNX Runtime does not have `provider`; preload CUDA's libraries."""
    if provider not in PROVIDERS:
        raise ProviderError(provider, "kneeedge does not know it", f"choose one of auto, {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in runtime.get_available_providers():
        here = [name for name, full in PROVIDERS.items() if full in runtime.get_available_providers()]
        wheel = next((name for name in WHEELS if _is_installed(name)), "onnxruntime")
        remedy = f"use --provider {here[0] if here else 'cpu'}"
        if provider in ("cuda", "tensorrt"):
            remedy = f"run `pip uninstall -y {wheel} && pip install 'kneeedge[cuda]'`, or {remedy}"
        raise ProviderError(provider, f"the installed {wheel} {runtime.__version__} has only {', '.join(here)}", remedy)
    if provider in ("cuda", "tensorrt"):
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it could not load
            runtime.preload_dlls()


def provider_options(provider: str) -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's provider list for one provider; with CUDA, fp32 stays fp32 (TF32 off)."""
    options = {"use_tf32": "0"} if provider == "cuda" else {}
    return [(PROVIDERS[provider], options)]


def missing_library(runtime: ModuleType, provider: str) -> str:
    """Why ONNX Runtime left out a provider that its wheel has: the shared library that does not load."""
    library = Path(str(runtime.__file__)).parent / "capi" / f"libonnxruntime_providers_{provider}.so"
    for candidate in ("libcuda.so.1", str(library)):
        try:
            ctypes.CDLL(candidate)
        except OSError as error:
            return str(error).splitlines()[0]
    return "ONNX Runtime did not take it and gave no reason"


def available_providers() -> list[str]:
    """Kneeedge's names of the providers in the installed wheel."""
    found = load_runtime().get_available_providers()
    return [name for name, full in PROVIDERS.items() if full in found]


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
