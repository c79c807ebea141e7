"""A model in a worker process, ready to answer: an ONNX file, or a run's PyTorch original."""

import importlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.bench.messages import WorkRequest
from kneeedge.model.file import open_model
from kneeedge.runs.benchmark import ColdStart
from kneeedge.runtime.placement import placement
from kneeedge.runtime.providers import load_runtime
from kneeedge.runtime.session import Session

Clock = Callable[[], float]
Images = NDArray[np.uint8]

Parts = tuple[float, float, float]
"seconds of one run: copy in, compute, copy out"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model ready to answer."""

    logits: Callable[[Images], NDArray[np.floating]]
    "(N, 1, S, S) uint8 → (N, K)"
    provider: str
    notice: str
    parts: Callable[[Images], Parts] | None = None
    "runs once and times its parts; absent where nothing is copied"
    placement: Callable[[], str] | None = None
    "where a profile shows its nodes to run; absent for the original"


def start_cold(request: WorkRequest, image: Images, clock: Clock) -> tuple[Loaded, ColdStart]:
    """Import the runtime, load the model and answer one image (1, 1, S, S) uint8, all timed."""
    began = clock()
    if request.is_original:
        importlib.import_module("kneeedge.training.checkpoint")
    else:
        load_runtime()
    imported = clock()
    loaded = load_original(request) if request.is_original else load_file(request)
    ready = clock()
    loaded.logits(image)
    answered = clock()
    cold_start = ColdStart(
        import_ms=round((imported - began) * 1e3, 3),
        load_ms=round((ready - imported) * 1e3, 3),
        first_run_ms=round((answered - ready) * 1e3, 3),
    )
    return loaded, cold_start


def load_file(request: WorkRequest) -> Loaded:
    """An ONNX file through the session that inference uses."""
    file = open_model(request.model, Path(request.public_key) if request.public_key else None)
    session = Session(file, request.provider, request.threads, request.gpu)
    return Loaded(
        logits=lambda images: session.run(images).logits,
        provider=session.provider,
        notice=session.notice,
        parts=session.runner.time_parts if session.runner else None,
        placement=lambda: str(placement(session)),
    )


def load_original(request: WorkRequest) -> Loaded:
    """The PyTorch model of a run as most people run it: eager, fp32, contiguous.

    On the GPU where the provider asks for one and PyTorch has it.
    """
    import torch

    from kneeedge.runs.folder import Run
    from kneeedge.training import checkpoint

    torch.set_num_threads(request.threads)
    torch.backends.cudnn.allow_tf32 = False  # fp32 is to be fp32, as in our CUDA sessions
    on_gpu = request.provider in ("auto", "cuda", "tensorrt") and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    model, _ = checkpoint.load_original(Run(Path(request.model)))
    model.to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    notice = ""
    if request.provider not in ("auto", device):
        notice = f"PyTorch ran it on {device}, not {request.provider}"
    return Loaded(
        logits=lambda images: checkpoint.predict_logits(model, images, len(images)),
        provider=device,
        notice=notice,
    )


def make_batches(images: Images, size: int) -> list[Images]:
    """Batches (size, 1, S, S) that hold every image (N, 1, S, S), the first ones again at the end.

    Every batch is full, since a batch of another shape would be another run.
    """
    n_batches = math.ceil(len(images) / size)
    order = np.arange(n_batches * size) % len(images)
    return [np.ascontiguousarray(images[part]) for part in np.split(order, n_batches)]


def warm_up(run: Callable[[Images], object], batch: Images, seconds: float, clock: Clock) -> int:
    """Run until `seconds` have passed, once at least; the number of runs."""
    n_runs = 0
    start = clock()
    while n_runs == 0 or clock() - start < seconds:
        run(batch)
        n_runs += 1
    return n_runs


def time_runs(
    run: Callable[[Images], object],
    batches: Sequence[Images],
    seconds: float,
    n_least: int,
    clock: Clock,
) -> tuple[float, ...]:
    """Milliseconds of each run over the batches in turn.

    It goes on for `seconds` at least, and for `n_least` runs at least.
    """
    samples: list[float] = []
    batches_in_turn = itertools.cycle(batches)
    start = clock()
    end = start
    while len(samples) < n_least or end - start < seconds:
        batch = next(batches_in_turn)
        begin = clock()
        run(batch)
        end = clock()
        samples.append(round((end - begin) * 1e3, 4))
    return tuple(samples)
