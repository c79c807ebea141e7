"""What the benchmark and its worker processes say to each other: one line of JSON each way."""

from dataclasses import dataclass, field

from kneeedge.model.spec import PixelPath
from kneeedge.runs.benchmark import ColdStart
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.system.processes import Failure


@dataclass(frozen=True, kw_only=True)
class WorkRequest:
    """One model to load: the first line that a worker reads."""

    model: str
    "an .onnx file; for the original, its run folder"
    is_original: bool
    provider: str
    threads: int
    pixel_path: PixelPath
    inputs: tuple[str, ...]
    "image files to time on"
    labelled: tuple[str, ...] = ()
    "image files to answer for accuracy"
    labelled_sha256: tuple[str, ...] = ()
    "of their bytes when they were listed with their labels"
    gpu: GpuOptions = field(default_factory=GpuOptions)
    public_key: str | None = None
    "the key that must have signed the file; None: no signature is asked for"


@dataclass(frozen=True)
class Started:
    """The answer to a WorkRequest."""

    provider: str
    "the one that runs it"
    notice: str
    "what the user should know of the provider, or empty"
    cold_start: ColdStart


@dataclass(frozen=True)
class Turn:
    """Time one scenario for a while."""

    batch_size: int
    seconds: float
    n_least: int
    "runs, even where they take longer"


@dataclass(frozen=True, kw_only=True)
class Window:
    """What one turn measured."""

    samples: tuple[float, ...]
    "milliseconds a run, in order, none left out"
    n_warmup: int
    "runs before them"
    peak_memory_mb: float | None
    "most resident memory so far, above that before the runtime's import"
    joules: float | None
    "that the machine's meters counted during the samples; absent where it has none"
    idle_cpu: float
    "0 to 1: share of its threads' time that this process was busy in the wait before this turn"


@dataclass(frozen=True)
class FileTurn:
    """Time single images from the file to the answer for a while."""

    seconds: float
    n_least: int


@dataclass(frozen=True, kw_only=True)
class FileRun:
    """One image from its file to its answer, in milliseconds."""

    read: float
    "the file's bytes, from the system's cache"
    preprocess: float
    "decode and resize"
    copy_in: float | None
    "to the device; absent where nothing is copied, or the runtime does not tell"
    compute: float
    copy_out: float | None
    end_to_end: float


@dataclass(frozen=True)
class AnswerImages:
    """Answer some of the labelled images."""

    batch_size: int
    first: int = 0
    "of the labelled images"
    end: int | None = None
    "the one behind the last; None: all to the end"


@dataclass(frozen=True)
class Command:
    """What a started worker is asked for: one of these."""

    turn: Turn | None = None
    file_turn: FileTurn | None = None
    answer: AnswerImages | None = None
    placement: bool = False
    "say where the nodes run"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a worker answers: one of these."""

    started: Started | None = None
    window: Window | None = None
    file_runs: tuple[FileRun, ...] | None = None
    logits: tuple[tuple[float, ...], ...] | None = None
    "(N, K) of the labelled images asked for"
    placement: str | None = None
    failure: Failure | None = None
