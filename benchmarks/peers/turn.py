"""One turn of one subject, in a process of its own: single images, then batches, then what memory they took."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.peers.jobs import serve
from benchmarks.peers.load import Answer, Images, Logits, load
from benchmarks.peers.subjects import SUBJECTS, Place
from kneeedge.bench_worker import make_batches, peak_memory_mb, restart_peak_mb, time_runs, warm_up

WARMUP_SECONDS = 0.5


@dataclass(frozen=True)
class TurnRequest:
    """What to run."""

    subject: str
    place: Place
    first: int
    step: int
    "the turn answers the test images first, first + step, …"
    n_single: int
    batch_sizes: tuple[int, ...]
    "ascending"


@dataclass(frozen=True)
class BatchRuns:
    """The timed runs at one batch size."""

    batch_size: int
    samples: tuple[float, ...]
    "milliseconds a run, in order, none left out"
    peak_memory_mb: float | None
    "most resident memory until the end of these runs, above that before the runtime's import"


@dataclass(frozen=True)
class Turn:
    """What a turn found."""

    cold_start_ms: float
    "from before the runtime's import to the first answer"
    runs: tuple[BatchRuns, ...]
    "the first at batch size 1"
    logits: tuple[tuple[float, ...], ...]
    "(N, K) of the turn's images"


def take_turn(request: TurnRequest) -> Turn:
    """Run the subject."""
    images = np.ascontiguousarray(np.load(request.place.images("test"))[request.first :: request.step])
    before = restart_peak_mb()
    start = time.perf_counter()
    subject = next(one for one in SUBJECTS if one.name == request.subject)
    answer = load(subject.name, request.place.file(subject), request.place)
    answer(images[:1])
    cold_start_ms = round((time.perf_counter() - start) * 1e3, 1)
    singles = make_batches(images, 1)[: request.n_single]
    runs = [time_batches(answer, singles, request.n_single, before)[0]]
    logits: list[Logits] = []
    for size, part in zip(request.batch_sizes, share_out(len(images), request.batch_sizes), strict=True):
        if part.stop > part.start:  # memory only grows, so the batches do as well
            batches = make_batches(images[part], size)
            found, answers = time_batches(answer, batches, len(batches), before)
            runs.append(found)
            logits.append(answers[: part.stop - part.start])
    return Turn(cold_start_ms, tuple(runs), tuple(tuple(map(float, row)) for row in np.concatenate(logits)))


def time_batches(
    answer: Answer, batches: Sequence[Images], n_runs: int, memory_before: float | None
) -> tuple[BatchRuns, Logits]:
    """`n_runs` runs over the batches in turn, after a warm-up of their shape, and all their logits."""
    kept: list[Logits] = []
    warm_up(answer, batches[0], WARMUP_SECONDS, time.perf_counter)
    samples = time_runs(lambda batch: kept.append(answer(batch)), batches, 0, n_runs, time.perf_counter)
    peak = peak_memory_mb()
    above = None if peak is None or memory_before is None else round(peak - memory_before, 1)
    return BatchRuns(len(batches[0]), samples, above), np.concatenate(kept)


def share_out(n: int, sizes: Sequence[int]) -> list[slice]:
    """Which of `n` images run at which batch size: equal parts in full batches, the remainder at the smallest."""
    counts = [n // len(sizes) // size * size for size in sizes]
    counts[0] = n - sum(counts[1:])
    ends = np.cumsum(counts)
    return [slice(int(end - count), int(end)) for end, count in zip(ends, counts, strict=True)]


if __name__ == "__main__":
    serve(TurnRequest, take_turn)
