"""ONNX file → session: the provider asked for and really used, threads, the contract checked."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import KneeEdgeError, ModelFileError, ProviderError
from kneeedge.model.file import ModelFile, open_model
from kneeedge.runtime.cuda import (
    CUDA,
    GPU_PROVIDERS,
    INT8_ON_CUDA,
    GpuOptions,
    cuda_options,
    failure_reason,
)
from kneeedge.runtime.device_buffers import DeviceRunner, shapes_of
from kneeedge.runtime.providers import (
    OPENVINO,
    PROVIDERS,
    check_provider,
    load_runtime,
    openvino_options,
)
from kneeedge.system import machine

OUTPUTS = ("probabilities", "logits", "cam", "distance")
"of a model file"
IMAGE, PICTURE = "image", "picture"
"""the input of a model file: pixels (N, 1, S, S) uint8 by the pixel path, or, of an any-size file,
grey pixels (N, 1, H, W) uint8 of any size, which it resizes itself"""


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
    "(N,) of the features from those of the training images; absent where the model never abstains"


class Session:
    """One `.onnx` file, loaded and checked. Threads may share it.

    A path is opened with `open_model`; a ModelFile may hold bytes whose signature was verified.
    Raises ProviderError where the provider asked for does not take the model, ModelFileError where
    ONNX Runtime cannot load it or its inputs and outputs are not the contract's, and SpecError
    where the spec is missing or damaged.
    """

    def __init__(
        self,
        model: Path | str | ModelFile,
        provider: str = "auto",
        threads: int | None = None,
        gpu: GpuOptions | None = None,
    ) -> None:
        self.file = model if isinstance(model, ModelFile) else open_model(model)
        self.path = self.file.path
        self.metadata = self.file.metadata
        self.spec = self.file.spec
        self.threads = threads or machine.available_cpus()
        self.gpu = gpu or GpuOptions()
        self.notice = ""
        "one line about the provider that its user should know, or empty"
        self._runtime = load_runtime()
        self.provider, self._session = self._open(self._runtime, provider)
        self.file.check_same()
        self.takes_pictures = self._session.get_inputs()[0].name == PICTURE
        "whether the file resizes pictures of any size itself"
        self._input = PICTURE if self.takes_pictures else IMAGE
        self._outputs = self._check_contract()
        self.runner = self._device_runner() if self.provider in GPU_PROVIDERS else None
        "what holds the buffers on the GPU, where one computes"
        if self.provider == "cuda" and self.spec.file and self.spec.file.precision == "int8":
            self.notice = INT8_ON_CUDA

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs that are asked for, in the order of OUTPUTS."""
        return tuple(self._outputs)

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Answers for `images` (N, 1, S, S) uint8; ModelFileError where one is not finite."""
        gpu_remedy = "give --gpu-memory-gb more, " if self.runner else ""
        remedy = f"lower --batch-size, {gpu_remedy}or use --provider cpu"
        with self._failures(self.provider, remedy, "run"):
            results = self.runner.run(images) if self.runner else self._run_plain(images)
        for name in ("logits", "distance"):
            if name in results and not np.isfinite(results[name]).all():
                problem = f"the network gave NaN or infinity on provider {self.provider}"
                raise ModelFileError(self.path, problem)
        return Outputs(
            results["probabilities"], results["logits"], results.get("cam"), results.get("distance")
        )

    def run_picture(self, grey: NDArray[np.uint8]) -> Outputs:
        """Answers for grey pixels (H, W) uint8 of any size, which the file resizes itself.

        Raises ModelFileError where it does not: that takes an any-size file.
        """
        if not self.takes_pictures:
            problem = "it takes pixels that are resized already"
            raise ModelFileError(self.path, problem, "export one with `kneeedge export --any-size`")
        return self.run(grey[None, None])

    def profile(self, images: NDArray[np.uint8], folder: Path) -> Path:
        """What ONNX Runtime writes into `folder` of two runs in a session like this one."""
        session = self._create(self._runtime, self.provider, profile=folder)
        for _ in range(2):
            session.run(self._outputs, {self._input: images})
        return Path(session.end_profiling())

    def _run_plain(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        arrays = self._session.run(self._outputs, {self._input: images})
        return dict(zip(self._outputs, arrays, strict=True))

    def _open(self, runtime: ModuleType, provider: str) -> tuple[str, Any]:
        if provider != "auto":
            return provider, self._create(runtime, provider)
        if PROVIDERS["cuda"] in runtime.get_available_providers():
            try:
                return "cuda", self._create(runtime, "cuda")
            except ProviderError as error:
                self.notice = f"running on the CPU, since {error}"
        return "cpu", self._create(runtime, "cpu")

    def _create(
        self, runtime: ModuleType, provider: str, record: bool = False, profile: Path | None = None
    ) -> Any:
        """ONNX Runtime's session; with `record` one for single images that replays a CUDA graph."""
        check_provider(runtime, provider)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 4  # an error is raised, and said once
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile / "profile")
        if self._may_saturate():
            # On an x86 CPU without VNNI this takes u8×u8 products, which are added in 32 bits.
            options.add_session_config_entry("session.x64quantprecision", "1")
        if provider != "cpu":
            # A node that the provider cannot take must be an error, not a silent trip to the CPU.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        remedy = "fix that, try the fp16 or fp32 file, or use --provider cpu"
        with self._failures(provider, remedy):
            session = runtime.InferenceSession(
                self.file.source,
                sess_options=options,
                providers=self._providers(provider, record),
                enable_fallback=0,
            )
        if session.get_providers()[0] != PROVIDERS[provider]:
            reason = "ONNX Runtime left it out and gave no reason"
            raise ProviderError(provider, reason, "use --provider cpu")
        session.disable_fallback()  # else a failing run would go on with the CPU
        return session

    def _may_saturate(self) -> bool:
        """Whether AVX2's sums of pairs of the file's products may pass 16 bits."""
        record = self.spec.file
        return record is None or (record.precision == "int8" and record.int8_target != "any")

    def _providers(self, provider: str, record: bool) -> list[tuple[str, dict[str, str]]]:
        """ONNX Runtime's providers with their options; what TensorRT does not take, CUDA does."""
        if provider == "openvino":
            return [(OPENVINO, openvino_options(self.threads))]
        if provider not in GPU_PROVIDERS:
            return [(PROVIDERS[provider], {})]
        precision = self.spec.file.precision if self.spec.file else "fp32"
        cuda = (CUDA, cuda_options(self.gpu, precision, record))
        if provider == "cuda":
            return [cuda]
        from kneeedge.runtime.tensorrt import tensorrt_provider

        return [tensorrt_provider(self.gpu, self.spec, self.file.sha256, self._runtime), cuda]

    def _device_runner(self) -> DeviceRunner:
        def open_recorded() -> Any:
            return self._create(self._runtime, "cuda", record=True)

        replays = self.gpu.cuda_graph and self.provider == "cuda"
        return DeviceRunner(
            self._runtime,
            self._session,
            shapes_of(self.spec, self._outputs),
            open_recorded if replays else None,
            n_lanes=self.gpu.lanes,
            max_batch=self.gpu.max_batch,
        )

    @contextlib.contextmanager
    def _failures(self, provider: str, remedy: str, what: str = "load") -> Iterator[None]:
        """Turn ONNX Runtime's errors into ModelFileError on the CPU, ProviderError elsewhere."""
        state = self._runtime.capi.onnxruntime_pybind11_state
        failures = (
            state.Fail, state.InvalidProtobuf, state.InvalidGraph, state.NotImplemented,
            state.InvalidArgument, state.RuntimeException, state.NoModel, state.EPFail,
            RuntimeError,
        )  # fmt: skip
        try:
            yield
        except KneeEdgeError:
            raise
        except failures as error:
            reason = failure_reason(error)
            if provider == "cpu":
                problem = f"ONNX Runtime cannot {what} it ({reason})"
                raise ModelFileError(self.path, problem) from error
            raise ProviderError(provider, reason, remedy) from error

    def _check_contract(self) -> list[str]:
        """The names of the outputs to ask for, once the graph is known to keep the spec's contract.

        Raises ModelFileError where an input or an output is not what the spec says.
        """
        problem = self._input_problem() or self._output_problem()
        if problem:
            raise ModelFileError(self.path, problem)
        names = [node.name for node in self._session.get_outputs()]
        return [name for name in OUTPUTS if name in names]

    def _input_problem(self) -> str:
        side = self.spec.pixel_path.size
        inputs = [(node.name, node.type, node.shape[1:]) for node in self._session.get_inputs()]
        if self.takes_pictures and self.provider in GPU_PROVIDERS:
            return "it resizes pictures on the CPU alone; take the file without any-size"
        wanted = (IMAGE, "tensor(uint8)", [1, side, side])
        any_size = (PICTURE, "tensor(uint8)", [1, "height", "width"])
        if inputs not in ([wanted], [any_size]):
            return f"its input is {inputs}, not image uint8 [N, 1, {side}, {side}]"
        return ""

    def _output_problem(self) -> str:
        n_classes = len(self.spec.classes)
        shapes = {node.name: node.shape for node in self._session.get_outputs()}
        unknown = sorted(set(shapes) - set(OUTPUTS))
        if unknown:
            return f"it has an output {unknown[0]!r}, and a model gives {', '.join(OUTPUTS)}"
        for name in ("probabilities", "logits"):
            if name not in shapes or list(shapes[name][1:]) != [n_classes]:
                return f"it has no output {name} [N, {n_classes}] as its spec says"
        if self.spec.novelty and len(shapes.get("distance", ())) != 1:
            return "it has no output distance [N], to which its spec gives a limit"
        return ""
