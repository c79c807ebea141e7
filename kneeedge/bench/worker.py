"""One model in one process: it loads, then sleeps until it is given a turn.

`python -m kneeedge.bench.worker` reads a WorkRequest and then Commands from stdin, a line of JSON
each, and answers each with a Reply on stdout; it ends with its input.
"""

import itertools
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kneeedge.bench.messages import (
    Command,
    FileRun,
    FileTurn,
    Reply,
    Started,
    Turn,
    Window,
    WorkRequest,
)
from kneeedge.bench.meters import Meter, above, peak_memory_mb, restart_peak_mb
from kneeedge.bench.models import Clock, Images, make_batches, start_cold, time_runs, warm_up
from kneeedge.data.dataset import Sample
from kneeedge.errors import KneeEdgeError
from kneeedge.inference.evaluation import input_batches
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runtime.providers import CPU_PROVIDERS
from kneeedge.system.processes import Failure
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import from_json, to_json

WARMUP_SECONDS = 0.5
"""after the first run of a batch shape, which allocates, runs are left out until clocks have had
time to rise
"""


class Worker:
    """The model of a request, and what it is asked to do."""

    def __init__(self, request: WorkRequest, clock: Clock = time.perf_counter) -> None:
        self.request = request
        self.clock = clock
        self.images = np.stack(
            [load_input(Path(path), request.pixel_path) for path in request.inputs]
        )[:, None]
        self.memory_before = restart_peak_mb()
        self.loaded, cold_start = start_cold(request, self.images[:1], clock)
        self.started = Started(self.loaded.provider, self.loaded.notice, cold_start)
        self.meter = Meter(gpu=self.loaded.provider not in CPU_PROVIDERS)
        self.last_run: dict[int, float] = {}
        "milliseconds of the last run of each batch size"
        self.slept = (time.perf_counter(), time.process_time())

    def obey(self, command: Command) -> Reply:
        """The reply to a command."""
        if command.turn:
            reply = Reply(window=self.take_turn(command.turn))
        elif command.file_turn:
            reply = Reply(file_runs=self.time_files(command.file_turn))
        elif command.answer:
            reply = Reply(logits=self.answer(command.answer.batch_size))
        elif command.placement:
            reply = Reply(placement=self.loaded.placement() if self.loaded.placement else None)
        else:
            raise ValueError("a command asks for one thing")
        self.slept = (time.perf_counter(), time.process_time())
        return reply

    def take_turn(self, turn: Turn) -> Window:
        """Warm up, then time the runs of one turn."""
        idle = self.idle_cpu()
        batches = make_batches(self.images, turn.batch_size)
        n_warmup = self.warm_up(turn, batches[0])
        before = self.meter.read()
        samples = time_runs(self.loaded.logits, batches, turn.seconds, turn.n_least, self.clock)
        joules = self.meter.spent(before, self.meter.read())
        self.last_run[turn.batch_size] = samples[-1]
        return Window(
            samples=samples,
            n_warmup=n_warmup,
            peak_memory_mb=above(self.memory_before, peak_memory_mb()),
            joules=joules,
            idle_cpu=idle,
        )

    def warm_up(self, turn: Turn, batch: Images) -> int:
        """The first turn of a shape warms up for half a second; a later one runs once, to win back
        the caches.

        None where a run is as long as the turn itself: it spends milliseconds of seconds on cold
        caches.
        """
        last = self.last_run.get(turn.batch_size)
        if last is None:
            return warm_up(self.loaded.logits, batch, min(WARMUP_SECONDS, turn.seconds), self.clock)
        return (
            warm_up(self.loaded.logits, batch, 0.0, self.clock) if last < turn.seconds * 1e3 else 0
        )

    def time_files(self, turn: FileTurn) -> tuple[FileRun, ...]:
        """Single images from their files to their answers."""
        runs: list[FileRun] = []
        paths = itertools.cycle(map(Path, self.request.inputs))
        start = self.clock()
        while len(runs) < turn.n_least or self.clock() - start < turn.seconds:
            runs.append(self.time_file(next(paths)))
        return tuple(runs)

    def time_file(self, path: Path) -> FileRun:
        """One image; the bytes are read once alone, to part reading from decoding in the one pixel
        path.
        """
        clock = self.clock
        marks = [self.clock()]
        path.read_bytes()
        marks.append(clock())
        image = load_input(path, self.request.pixel_path)[None, None]
        marks.append(clock())
        parts = self.loaded.parts(image) if self.loaded.parts else None
        if parts is None:
            self.loaded.logits(image)
        marks.append(clock())
        read, load, run = ((b - a) * 1e3 for a, b in itertools.pairwise(marks))
        copy_in, compute, copy_out = (
            (None, run, None) if parts is None else (part * 1e3 for part in parts)
        )
        return FileRun(
            read=read,
            preprocess=load - read,
            copy_in=copy_in,
            compute=compute,
            copy_out=copy_out,
            end_to_end=load + run,
        )

    def answer(self, batch_size: int) -> tuple[tuple[float, ...], ...]:
        """Logits (N, K) of the labelled images, through the pixel path."""
        samples = [
            Sample(path=Path(path), name=path, sha256="", split="", label=0, group="")
            for path in self.request.labelled
        ]
        batches = input_batches(samples, self.request.pixel_path, batch_size, Progress(quiet=True))
        logits = np.concatenate([self.loaded.logits(batch) for batch in batches])
        return tuple(tuple(map(float, row)) for row in logits)

    def idle_cpu(self) -> float:
        """The share of its threads' time that this process was busy since its last reply; spinning
        would show.

        Over a second at least: ONNX Runtime's threads spin for some 15 ms after a run, and sleep
        then.
        """
        waited = max(time.perf_counter() - self.slept[0], 1.0)
        return round((time.process_time() - self.slept[1]) / (waited * self.request.threads), 4)


def replies(lines: Iterable[str]) -> Iterable[Reply]:
    """The reply to each line; what kneeedge refuses becomes a Failure, which is the last."""
    lines = iter(lines)
    try:
        worker = Worker(from_json(WorkRequest, next(lines)))
        yield Reply(started=worker.started)
        for line in lines:
            yield worker.obey(from_json(Command, line))
    except KneeEdgeError as error:
        yield Reply(failure=Failure(type(error).__name__, str(error)))


def main() -> None:
    """Answer stdin's lines on stdout, which is kept clear of what libraries print."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        for reply in replies(line.decode("utf-8", "surrogateescape") for line in sys.stdin.buffer):
            out.write(to_json(reply, indent=None).encode("utf-8", "surrogateescape") + b"\n")
            out.flush()


if __name__ == "__main__":
    main()
