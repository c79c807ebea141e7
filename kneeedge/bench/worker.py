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
    AnswerImages,
    Command,
    FileRun,
    FileTurn,
    Reply,
    Started,
    Turn,
    Window,
    WorkRequest,
)
from kneeedge.bench.meters import Meter, growth_mb, peak_memory_mb, restart_peak_mb
from kneeedge.bench.models import Clock, Images, make_batches, start_cold, time_runs, warm_up
from kneeedge.data.dataset import Sample
from kneeedge.errors import KneeEdgeError
from kneeedge.inference.evaluation import input_batches
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runtime.providers import CPU_PROVIDERS
from kneeedge.system.processes import Failure, end_with_parent
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import from_json, to_json

WARMUP_SECONDS = 0.5
"before the first turn of a batch shape: its first run allocates, and clocks take time to rise"


class Worker:
    """The model of a request, and what it is asked to do."""

    def __init__(self, request: WorkRequest, clock: Clock = time.perf_counter) -> None:
        self.request = request
        self.clock = clock
        images = [load_input(Path(path), request.pixel_path) for path in request.inputs]
        self.images = np.stack(images)[:, None]
        self.memory_before = restart_peak_mb()
        self.loaded, cold_start = start_cold(request, self.images[:1], clock)
        self.started = Started(self.loaded.provider, self.loaded.notice, cold_start)
        self.meter = Meter(gpu=self.loaded.provider not in CPU_PROVIDERS)
        self.last_run: dict[int, float] = {}
        "milliseconds of the last run of each batch size"
        self.slept_at = (time.perf_counter(), time.process_time())
        "wall clock and processor time, in seconds, when it last had nothing to do"

    def obey(self, command: Command) -> Reply:
        """The reply to a command; raises ValueError where it asks for nothing."""
        if command.turn:
            reply = Reply(window=self.take_turn(command.turn))
        elif command.file_turn:
            reply = Reply(file_runs=self.time_files(command.file_turn))
        elif command.answer:
            reply = Reply(logits=self.answer(command.answer))
        elif command.placement:
            reply = Reply(placement=self.loaded.placement() if self.loaded.placement else None)
        else:
            raise ValueError("a command asks for one thing")
        self.slept_at = (time.perf_counter(), time.process_time())
        return reply

    def take_turn(self, turn: Turn) -> Window:
        """Warm up, then time the runs of one turn."""
        idle_cpu = self.idle_cpu()
        batches = make_batches(self.images, turn.batch_size)
        n_warmup = self.warm_up(turn, batches[0])
        joules_before = self.meter.read()
        samples = time_runs(self.loaded.logits, batches, turn.seconds, turn.n_least, self.clock)
        joules = self.meter.spent(joules_before, self.meter.read())
        self.last_run[turn.batch_size] = samples[-1]
        return Window(
            samples=samples,
            n_warmup=n_warmup,
            peak_memory_mb=growth_mb(self.memory_before, peak_memory_mb()),
            joules=joules,
            idle_cpu=idle_cpu,
        )

    def warm_up(self, turn: Turn, batch: Images) -> int:
        """How many runs warmed up for a turn.

        Those of half a second before the first turn of a batch shape; one before a later turn, to
        win back the caches; none where a run is as long as the turn itself, since cold caches cost
        it milliseconds of seconds.
        """
        last = self.last_run.get(turn.batch_size)
        if last is None:
            seconds = min(WARMUP_SECONDS, turn.seconds)
        elif last < turn.seconds * 1e3:
            seconds = 0.0
        else:
            return 0
        return warm_up(self.loaded.logits, batch, seconds, self.clock)

    def time_files(self, turn: FileTurn) -> tuple[FileRun, ...]:
        """Single images from their files to their answers."""
        runs: list[FileRun] = []
        paths = itertools.cycle(map(Path, self.request.inputs))
        start = self.clock()
        while len(runs) < turn.n_least or self.clock() - start < turn.seconds:
            runs.append(self.time_file(next(paths)))
        return tuple(runs)

    def time_file(self, path: Path) -> FileRun:
        """One image from its file to its answer.

        The bytes are read once alone before, which parts reading from decoding in the pixel path.
        """
        clock = self.clock
        marks = [clock()]
        path.read_bytes()
        marks.append(clock())
        image = load_input(path, self.request.pixel_path)[None, None]
        marks.append(clock())
        parts = None
        if self.loaded.parts:
            parts = self.loaded.parts(image)
        else:
            self.loaded.logits(image)
        marks.append(clock())
        read, load, run = ((end - start) * 1e3 for start, end in itertools.pairwise(marks))
        copy_in: float | None = None
        copy_out: float | None = None
        compute = run
        if parts is not None:
            copy_in, compute, copy_out = (part * 1e3 for part in parts)
        return FileRun(
            read=read,
            preprocess=load - read,
            copy_in=copy_in,
            compute=compute,
            copy_out=copy_out,
            end_to_end=load + run,
        )

    def answer(self, asked: AnswerImages) -> tuple[tuple[float, ...], ...]:
        """Logits (N, K) of the labelled images asked for, through the pixel path."""
        part = slice(asked.first, asked.end)
        paths = self.request.labelled[part]
        hashes = self.request.labelled_sha256[part]
        samples = [
            Sample(path=Path(path), name=path, sha256=sha256, split="", label=0, group="")
            for path, sha256 in zip(paths, hashes, strict=True)
        ]
        quiet = Progress(quiet=True)
        batches = input_batches(samples, self.request.pixel_path, asked.batch_size, quiet)
        logits = np.concatenate([self.loaded.logits(batch) for batch in batches])
        return tuple(tuple(map(float, row)) for row in logits)

    def idle_cpu(self) -> float:
        """Share of its threads' time that the process was busy since its last reply, spinning too.

        Over a second at least: ONNX Runtime's threads spin for some 15 ms after a run, and sleep
        then.
        """
        wall, processor = self.slept_at
        waited = max(time.perf_counter() - wall, 1.0)
        busy = time.process_time() - processor
        return round(busy / (waited * self.request.threads), 4)


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
    end_with_parent()
    lines = (line.decode("utf-8", "surrogateescape") for line in sys.stdin.buffer)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        for reply in replies(lines):
            line = to_json(reply, indent=None)
            out.write(line.encode("utf-8", "surrogateescape") + b"\n")
            out.flush()


if __name__ == "__main__":
    main()
