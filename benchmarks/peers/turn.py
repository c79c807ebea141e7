"""One turn of one subject, in a process of its own: single images, batches, and their memory."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.peers.jobs import serve
from benchmarks.peers.load import Answer, Images, Logits, load
from benchmarks.peers.subjects import SUBJECTS, Place
from kneeedge.bench.meters import growth_mb, peak_memory_mb, restart_peak_mb
from kneeedge.bench.models import make_batches, time_runs, warm_up

WARMUP_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
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
    """What a turn measured."""

    cold_start_ms: float
    "from before the runtime's import to the first answer"
    runs: tuple[BatchRuns, ...]
    "the first at batch size 1"
    logits: tuple[tuple[float, ...], ...]
    "(N, K) of the turn's images"


def take_turn(request: TurnRequest) -> Turn:
    """Run the subject on every image once: the first ones alone, the others in batches."""
    all_images = np.load(request.place.images("test"))
    images = np.ascontiguousarray(all_images[request.first :: request.step])
    memory_before = restart_peak_mb()
    start = time.perf_counter()
    subject = next(subject for subject in SUBJECTS if subject.name == request.subject)
    answer = load(subject.name, request.place.file(subject), request.place)
    answer(images[:1])
    cold_start_ms = round((time.perf_counter() - start) * 1e3, 1)
    warm_up(answer, images[:1], WARMUP_SECONDS, time.perf_counter)
    runs = []
    logits = []
    # the sizes ascend, since the peak of memory only grows
    for size, part in share_out(len(images), request.n_single, request.batch_sizes):
        batch_runs, batch_logits = time_batches(answer, images[part], size, memory_before)
        runs.append(batch_runs)
        logits += batch_logits.tolist()
    return Turn(cold_start_ms, tuple(runs), tuple(map(tuple, logits)))


def time_batches(
    answer: Answer, images: Images, size: int, memory_before: float | None
) -> tuple[BatchRuns, Logits]:
    """Timed runs over the images in batches, and their logits (N, K).

    The first batch, which allocates for its shape, answers untimed; where it is the only one it
    runs again.
    """
    batches = make_batches(images, size)
    answers: list[Logits] = []

    def run(batch: Images) -> None:
        answers.append(answer(batch))

    run(batches[0])
    timed = batches[1:] or batches
    samples = time_runs(run, timed, 0, len(timed), time.perf_counter)
    memory_mb = growth_mb(memory_before, peak_memory_mb())
    logits = np.concatenate(answers)[: len(images)]
    return BatchRuns(size, samples, memory_mb), logits


def share_out(n: int, n_single: int, sizes: Sequence[int]) -> list[tuple[int, slice]]:
    """Which of `n` images run at which batch size, sizes without any left out.

    One by one for `n_single` timed runs, at most half of them; then as many batches of each size,
    the remainder at the smallest.
    """
    n_alone = min(n_single + 1, max(1, n // 2))
    n_batched = n - n_alone
    counts = [n_batched // sum(sizes) * size for size in sizes]
    counts[0] = n_batched - sum(counts[1:])
    parts = []
    start = 0
    for size, count in zip((1, *sizes), (n_alone, *counts), strict=True):
        if count:
            parts.append((size, slice(start, start + count)))
        start += count
    return parts


if __name__ == "__main__":
    serve(TurnRequest, take_turn)
