"""What Triton is told of its two models: `config.pbtxt`, in Protocol Buffers' text format.

The messages are `ModelConfig`'s (triton-inference-server/common, model_config.proto). The options
of the `onnxruntime` backend are by the names that its README gives them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import ConfigError, ModelFileError
from kneeedge.model.file import ModelFile
from kneeedge.model.spec import ModelSpec
from kneeedge.runtime.cuda import GpuOptions, cuda_options
from kneeedge.runtime.device_buffers import shapes_of
from kneeedge.runtime.session import IMAGE, Session
from kneeedge.runtime.tensorrt import check_int8, tensorrt_options

PROVIDERS = ("cpu", "cuda", "tensorrt")
NETWORK = "_network"
"what the name of the model that takes pixels ends in"
FILE = "file"
"input of the other model: the bytes of one image file, (1, L) uint8"
ANSWER, PROBABILITIES, DISTANCE = "answer", "probabilities", "distance"
"its outputs"
SHA256, PROVIDER, THREADS = "model_sha256", "provider", "threads"
"parameters that its Python reads"
QUEUE = 256
"requests that wait for a model at most; one more is refused at once"
DELAY_MICROSECONDS = 1000
"for which a GPU may wait for a fuller batch"
SAME_AS_REQUESTED = "1"
"the backend's number for `kSameAsRequested`"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TRITON_NAMES = {"trt_max_workspace_size": "max_workspace_size_bytes"}
"the backend's own names of TensorRT options"
_CACHE = "cache"
"in the names of TensorRT options that keep engines on the disk"


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How the server is to run the model."""

    name: str = "kneeedge"
    "of the model that takes files; the one that takes pixels has it with `_network` behind"
    provider: str = "cpu"
    "cpu, cuda or tensorrt, for both models"
    instances: int = 1
    "copies of each model that answer at once: processes for files, sessions for pixels"
    threads: int | None = None
    """CPU threads of each copy; None: the server's cores, shared out to the copies that take files,
    and all of them for each that takes pixels
    """
    max_batch: int = 32
    "images that Triton gathers at most for one run"
    files_only: bool = False
    "without the model that takes pixels, for a server that lacks the `onnxruntime` backend"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            remedy = "take letters, digits, `_`, `-` and `.`"
            raise ConfigError(f"--name {self.name!r} is no name of a folder", remedy)
        if self.provider not in PROVIDERS:
            remedy = f"choose from {', '.join(PROVIDERS)}"
            raise ConfigError(f"--provider {self.provider} is none that Triton is told of", remedy)


def check_for_triton(session: Session, options: ServerOptions) -> None:
    """Raise ModelFileError or ProviderError for a file that the options would make answer wrongly.

    `session` may be on any provider: what it is asked for is a fact of the file.
    """
    if session.takes_pictures:
        problem = "Triton makes batches of one size, and it resizes pictures itself"
        raise ModelFileError(session.path, problem, "take the file without any-size")
    target = session.spec.file.int8_target if session.spec.file else None
    if options.provider == "tensorrt":
        check_int8(session.spec)
    elif options.provider == "cpu" and target == "vnni":
        # The backend passes no `session.x64quantprecision` on.
        problem = "Triton's onnxruntime backend cannot keep its sums from saturating without VNNI"
        remedy = "export for every CPU with `kneeedge export --int8-target any`"
        raise ModelFileError(session.path, problem, remedy)


def network_config(session: Session, options: ServerOptions) -> str:
    """Of the model that takes the network's input, run by Triton's `onnxruntime` backend."""
    spec = session.spec
    shapes = shapes_of(spec, list(session.outputs))
    image = _tensor(IMAGE, "UINT8", (1, shapes.side, shapes.side))
    outputs = [_tensor(name, "FP32", shape) for name, shape in shapes.outputs.items()]
    on_gpu = options.provider != "cpu"
    parameters = {SHA256: session.file.sha256}
    if on_gpu:
        # Where there are parameters, the backend sets this anew after the accelerators' options.
        parameters["arena_extend_strategy"] = SAME_AS_REQUESTED
    elif options.threads:
        parameters["intra_op_thread_count"] = str(options.threads)
    delay = f"  max_queue_delay_microseconds: {DELAY_MICROSECONDS}\n" if on_gpu else ""
    return "".join(
        [
            _head(options.name + NETWORK, "onnxruntime", options),
            f"input [\n{image}\n]\n",
            "output [\n" + ",\n".join(outputs) + "\n]\n",
            _batching(delay),
            _instances(options, on_gpu),
            _accelerators(spec, options) if on_gpu else "",
            _warm_up(shapes.side, options),
            _parameters(parameters),
        ]
    )


def files_config(model: ModelFile, options: ServerOptions) -> str:
    """Of the model that takes files, run by kneeedge in Triton's `python` backend."""
    parameters = {SHA256: model.sha256, PROVIDER: options.provider}
    if options.threads:
        parameters[THREADS] = str(options.threads)
    # Files differ in length, and are gathered all the same: the backend is handed them one by one.
    file = _tensor(FILE, "UINT8", (-1,), " allow_ragged_batch: true")
    outputs = [
        _tensor(ANSWER, "UINT8", (-1,)),
        _tensor(PROBABILITIES, "FP32", (len(model.spec.classes),)),
        _tensor(DISTANCE, "FP32", (1,)),
    ]
    return "".join(
        [
            _head(options.name, "python", options),
            f"input [\n{file}\n]\n",
            "output [\n" + ",\n".join(outputs) + "\n]\n",
            _batching(),
            _instances(options, on_gpu=False),  # which of Triton's devices is left to the session
            _parameters(parameters),
        ]
    )


def _head(name: str, backend: str, options: ServerOptions) -> str:
    batch = f"max_batch_size: {options.max_batch}"
    return f"name: {_text(name)}\nbackend: {_text(backend)}\n{batch}\n"


def _tensor(name: str, kind: str, shape: Sequence[int], more: str = "") -> str:
    """A tensor without its batch dimension; a scalar an image is a reshaped list of one."""
    dims = ", ".join(map(str, shape or (1,)))
    scalar = "" if shape else " reshape: { shape: [ ] }"
    return f"  {{ name: {_text(name)} data_type: TYPE_{kind} dims: [ {dims} ]{scalar}{more} }}"


def _batching(delay: str = "") -> str:
    """Without a delay a batch is what came while the last one was run."""
    queue = f"  default_queue_policy: {{ max_queue_size: {QUEUE} }}\n"
    return f"dynamic_batching {{\n{delay}{queue}}}\n"


def _instances(options: ServerOptions, on_gpu: bool) -> str:
    kind = "KIND_GPU" if on_gpu else "KIND_CPU"  # of KIND_GPU as many on each GPU
    return f"instance_group [ {{ count: {options.instances} kind: {kind} }} ]\n"


def _accelerators(spec: ModelSpec, options: ServerOptions) -> str:
    """ONNX Runtime's providers with kneeedge's options; what TensorRT does not take, CUDA does."""
    gpu = GpuOptions(max_batch=options.max_batch)
    precision = spec.file.precision if spec.file else "fp32"
    accelerators = [_accelerator("cuda", cuda_options(gpu, precision))]
    if options.provider == "tensorrt":
        accelerators.insert(0, _accelerator("tensorrt", _tensorrt(gpu, spec, precision)))
    listed = ",\n".join(accelerators)
    return (
        "optimization { execution_accelerators {\n"
        f"  gpu_execution_accelerator [\n{listed}\n  ]\n"
        "} }\n"
    )


def _tensorrt(gpu: GpuOptions, spec: ModelSpec, precision: str) -> dict[str, str]:
    """TensorRT's options by the backend's names; engines are built anew at each start.

    Where they are kept is for who knows a folder that the server alone can write to.
    """
    options = {"precision_mode": precision.upper()}
    for name, value in tensorrt_options(gpu, spec, Path()).items():
        if _CACHE not in name and name not in ("trt_fp16_enable", "trt_int8_enable"):
            options[_TRITON_NAMES.get(name, name)] = value
    return options


def _accelerator(name: str, options: dict[str, str]) -> str:
    lines = [
        f"      parameters {{ key: {_text(key)} value: {_text(value)} }}"
        for key, value in options.items()
    ]
    return f"    {{ name: {_text(name)}\n" + "\n".join(lines) + "\n    }"


def _warm_up(side: int, options: ServerOptions) -> str:
    """Runs before the first request: of one image and of a full batch, black ones."""
    sizes = sorted({1, options.max_batch})
    pixels = f"data_type: TYPE_UINT8 dims: [ 1, {side}, {side} ] zero_data: true"
    runs = [
        f'  {{ name: "of {n}" batch_size: {n} inputs {{ key: "{IMAGE}" value {{ {pixels} }} }} }}'
        for n in sizes
    ]
    return "model_warmup [\n" + ",\n".join(runs) + "\n]\n"


def _parameters(values: dict[str, str]) -> str:
    return "".join(
        f"parameters {{ key: {_text(key)} value: {{ string_value: {_text(value)} }} }}\n"
        for key, value in values.items()
    )


def _text(value: str) -> str:
    """A string of the text format; none that stands here needs more than these two escapes."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
