"""What one fresh process measures of one model: cold start, latency, throughput, memory and answers.

`python -m kneeedge.bench_worker` reads a WorkRequest as JSON from stdin and writes a Reply as JSON to stdout.
"""

import contextlib
import importlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.dataset import Sample
from kneeedge.errors import KneeEdgeError
from kneeedge.evaluation import Answers, input_batches
from kneeedge.metrics import evaluate
from kneeedge.phantom import phantoms
from kneeedge.preprocess import load_input
from kneeedge.progress import Progress
from kneeedge.records import from_json, to_json
from kneeedge.report import OFFLINE, SINGLE, ColdStart
from kneeedge.session import Session, load_runtime
from kneeedge.spec import ModelSpec, PixelPath, softmax

WARMUP_SECONDS = 0.5
"after the first run of a batch shape, which allocates, runs are left out until clocks have had time to rise"
OFFLINE_MIN_RUNS = 3
N_PHANTOMS = 16
ACCURACY_BATCH = 16

Clock = Callable[[], float]
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class WorkRequest:
    """One model and how to measure it."""

    model: str
    "an .onnx file; for the original, its run folder"
    is_original: bool
    provider: str
    threads: int
    batch_sizes: tuple[int, ...]
    seconds: float
    "for each scenario"
    min_runs: int
    "of the single-image scenario, even where they take longer than `seconds`"
    pixel_path: PixelPath
    inputs: tuple[str, ...]
    "image files to time on; none: phantoms from the seed"
    seed: int
    labelled: tuple[str, ...]
    "image files to answer for accuracy; none: no accuracy"
    labels: tuple[int, ...]
    "class indices of `labelled`"


@dataclass(frozen=True)
class Timing:
    """Every run of one scenario."""

    scenario: str
    "single or offline"
    batch_size: int
    samples: tuple[float, ...]
    "milliseconds a run, in order, none left out"
    n_warmup: int
    "runs before them"
    peak_memory_mb: float | None
    "most resident memory until the end of this scenario, above that before the runtime's import"


@dataclass(frozen=True)
class WorkResult:
    """One model, measured."""

    provider: str
    "the one that ran"
    notice: str
    "what the user should know of the provider, or empty"
    cold_start: ColdStart
    timings: tuple[Timing, ...]
    answers: Answers | None


@dataclass(frozen=True)
class Failure:
    """A KneeEdgeError on its way to the parent."""

    kind: str
    "name of the class in kneeedge.errors"
    message: str


@dataclass(frozen=True)
class Reply:
    """What the worker writes: one of the two."""

    result: WorkResult | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer."""

    answer: Callable[[Images], NDArray[np.floating]]
    "(N, 1, S, S) uint8 → probabilities (N, K)"
    spec: ModelSpec
    provider: str
    notice: str


def measure(request: WorkRequest, clock: Clock = time.perf_counter) -> WorkResult:
    """Everything asked for of one model, in this process."""
    images = read_inputs(request)
    memory_before = restart_peak_mb()
    loaded, cold_start = start_cold(request, images[:1], clock)
    scenarios = [(SINGLE, 1), *((OFFLINE, size) for size in sorted(set(request.batch_sizes)))]
    timings = []
    for scenario, size in scenarios:  # memory only grows, so the batches do as well
        n_least = request.min_runs if scenario == SINGLE else OFFLINE_MIN_RUNS
        batches = make_batches(images, size)
        n_warmup = warm_up(loaded.answer, batches[0], min(WARMUP_SECONDS, request.seconds), clock)
        samples = time_runs(loaded.answer, batches, request.seconds, n_least, clock)
        timings.append(Timing(scenario, size, samples, n_warmup, _above(memory_before, peak_memory_mb())))
    answers = answer_labelled(loaded, request) if request.labelled else None
    return WorkResult(loaded.provider, loaded.notice, cold_start, tuple(timings), answers)


def read_inputs(request: WorkRequest) -> Images:
    """The images to time on, (N, 1, S, S) uint8: the files of the request, else phantoms of rising severity."""
    if request.inputs:
        return np.stack([load_input(Path(path), request.pixel_path) for path in request.inputs])[:, None]
    return phantoms(N_PHANTOMS, request.pixel_path.size, request.seed)


def start_cold(request: WorkRequest, image: Images, clock: Clock) -> tuple[Loaded, ColdStart]:
    """Import the runtime, load the model, answer one image (1, 1, S, S); the model and what each took."""
    began = clock()
    if request.is_original:
        importlib.import_module("kneeedge.training.checkpoint")
    else:
        load_runtime()
    imported = clock()
    loaded = load_original(request) if request.is_original else load_file(request)
    ready = clock()
    loaded.answer(image)
    marks = (began, imported, ready, clock())
    return loaded, ColdStart(*(round((b - a) * 1e3, 3) for a, b in itertools.pairwise(marks)))


def load_file(request: WorkRequest) -> Loaded:
    """An ONNX file through the session that inference uses."""
    session = Session(request.model, request.provider, request.threads)
    return Loaded(lambda images: session.run(images).probabilities, session.spec, session.provider, session.notice)


def load_original(request: WorkRequest) -> Loaded:
    """The PyTorch model of a run as most people run it: eager, fp32, contiguous; on the GPU where it may be there."""
    import torch

    from kneeedge.training import checkpoint

    torch.set_num_threads(request.threads)
    torch.backends.cudnn.allow_tf32 = False  # fp32 is to be fp32, as in our CUDA sessions
    on_gpu = request.provider in ("auto", "cuda", "tensorrt") and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    model, spec = checkpoint.load_original(checkpoint.Run(Path(request.model)))
    model.to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def answer(images: Images) -> NDArray[np.floating]:
        return softmax(checkpoint.predict_logits(model, images, len(images)), spec.temperature)

    notice = "" if request.provider in ("auto", device) else f"PyTorch ran it on {device}, not {request.provider}"
    return Loaded(answer, spec, device, notice)


def make_batches(images: Images, size: int) -> list[Images]:
    """Batches (size, 1, S, S) that between them hold every image (N, 1, S, S), cycled to fill the last."""
    n_batches = -(-len(images) // size)
    order = np.arange(n_batches * size) % len(images)
    return [np.ascontiguousarray(images[part]) for part in np.split(order, n_batches)]


def warm_up(run: Callable[[Images], object], batch: Images, seconds: float, clock: Clock) -> int:
    """Run until `seconds` have passed, once at least; the number of runs."""
    n_runs, start = 0, clock()
    while n_runs == 0 or clock() - start < seconds:
        run(batch)
        n_runs += 1
    return n_runs


def time_runs(
    run: Callable[[Images], object], batches: Sequence[Images], seconds: float, n_least: int, clock: Clock
) -> tuple[float, ...]:
    """Milliseconds of each run over the batches in turn, for `seconds` and `n_least` runs at least."""
    samples: list[float] = []
    turns = itertools.cycle(batches)
    start = end = clock()
    while len(samples) < n_least or end - start < seconds:
        batch = next(turns)
        begin = clock()
        run(batch)
        end = clock()
        samples.append(round((end - begin) * 1e3, 4))
    return tuple(samples)


def answer_labelled(loaded: Loaded, request: WorkRequest) -> Answers:
    """The model's answers to the labelled images, through the pixel path."""
    pairs = zip(request.labelled, request.labels, strict=True)
    samples = [Sample(Path(path), path, "", "", label, "") for path, label in pairs]
    batches = input_batches(samples, loaded.spec.pixel_path, ACCURACY_BATCH, Progress(quiet=True))
    probabilities = np.concatenate([loaded.answer(batch) for batch in batches])
    evaluation = evaluate(np.array(request.labels), probabilities, loaded.spec)
    return Answers(evaluation, tuple(map(int, loaded.spec.decide(probabilities))))


def restart_peak_mb() -> float | None:
    """Forget the process's peak of memory where the system can (Linux), and give what stands now."""
    with contextlib.suppress(OSError):  # no Linux, or a kernel without it: the peak so far stands
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory_mb()


def peak_memory_mb() -> float | None:
    """Most resident memory of this process so far; None where the system does not tell (Windows).

    VmHWM where there is one: on Linux `ru_maxrss` survives an exec, so it would hold the parent's peak.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, the others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def reply_to(text: str) -> Reply:
    """The reply to a WorkRequest in JSON; what kneeedge refuses becomes a Failure."""
    try:
        return Reply(result=measure(from_json(WorkRequest, text)))
    except KneeEdgeError as error:
        return Reply(failure=Failure(type(error).__name__, str(error)))


def main() -> None:
    """Read stdin, measure, write stdout, which is kept clear of what libraries print."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        request = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        out.write(to_json(reply_to(request), indent=None).encode("utf-8", "surrogateescape"))


def _above(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else round(max(0.0, now - before), 1)


if __name__ == "__main__":
    main()
