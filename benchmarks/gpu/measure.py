"""The pure part of `benchmarks.gpu`: a time budget, timing in turns, statistics, operations."""

import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from kneeedge.bench.ceiling import macs
from kneeedge.errors import KneeEdgeError
from kneeedge.model.spec import ModelSpec
from kneeedge.runtime.session import Outputs
from kneeedge.system.nvidia import query

Clock = Callable[[], float]
SLICE = 0.2
"seconds of one candidate before the next has its turn"
LEAST_RUNS_OF_P99 = 500
NVIDIA_SMI = (
    "name", "driver_version", "memory.total", "memory.used",
    "clocks.sm", "clocks.max.sm", "clocks.mem",
    "power.draw", "power.limit", "temperature.gpu", "pstate",
)  # fmt: skip


@dataclass(frozen=True)
class Deadline:
    """When a section must be done."""

    end: float
    clock: Clock = time.perf_counter

    @property
    def left(self) -> float:
        return max(0.0, self.end - self.clock())


@dataclass
class Cells:
    """The rows of one section, and what it had no time or no means for."""

    rows: list[Any] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """One part of the measurement."""

    name: str
    seconds: float
    "its share of the budget; it may use what earlier ones left, up to twice this"
    run: Callable[[Deadline], Cells]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a section."""

    name: str
    state: str
    "done, failed or skipped"
    why: str
    seconds: float
    "that it took"
    rows: list[Any]
    left_out: list[str]


def run_sections(
    sections: Sequence[Section],
    budget: float,
    failures: tuple[type[Exception], ...],
    save: Callable[[list[Outcome]], None],
    clock: Clock = time.perf_counter,
) -> list[Outcome]:
    """The outcome of each section in turn; one that fails is reported and the next goes on.

    `save` sees the outcomes after each section. A section is skipped where less than a quarter of
    its share is left.
    """
    outcomes: list[Outcome] = []
    start = clock()
    for section in sections:
        began = clock()
        left = budget - (began - start)
        if left < section.seconds / 4:
            outcome = Outcome(
                name=section.name,
                state="skipped",
                why=f"{left:.0f} s of the budget left",
                seconds=0.0,
                rows=[],
                left_out=[],
            )
        else:
            deadline = Deadline(began + min(2 * section.seconds, left), clock)
            outcome = run_section(section, deadline, failures)
        outcomes.append(outcome)
        save(outcomes)
    return outcomes


def run_section(
    section: Section, deadline: Deadline, failures: tuple[type[Exception], ...]
) -> Outcome:
    """The outcome of one section."""
    began = deadline.clock()
    cells = Cells()
    state = "done"
    why = ""
    try:
        cells = section.run(deadline)
    except (KneeEdgeError, OSError, RuntimeError, ImportError, *failures) as error:
        state = "failed"
        why = " ".join(f"{type(error).__name__}: {error}".split())
    # sessions hold themselves, and GPU memory with them
    gc.collect()
    return Outcome(
        name=section.name,
        state=state,
        why=why,
        seconds=round(deadline.clock() - began, 1),
        rows=cells.rows,
        left_out=cells.left_out,
    )


@dataclass(frozen=True)
class Candidate:
    """One way to run a network."""

    name: str
    n_images: int
    "that one run answers"
    run: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Every run of one candidate."""

    name: str
    batch: int
    n_runs: int
    images_per_second: float
    "by the median run"
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    "absent below 500 runs, of which it would be the worst few"
    ceiling_share: float | None
    "of the matrix-product ceiling of the same precision; absent where none was measured"


def interleave(
    candidates: Sequence[Candidate], seconds: float, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Milliseconds of each run of each candidate, by its name.

    They take turns of SLICE seconds until each has had `seconds`.
    """
    samples: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    # an untimed turn: clocks rise, buffers are made, kernels compiled
    for candidate in candidates:
        turn(candidate.run, clock)
    for _ in range(max(1, round(seconds / SLICE))):
        for candidate in candidates:
            samples[candidate.name] += turn(candidate.run, clock)
    return samples


def turn(run: Callable[[], object], clock: Clock) -> list[float]:
    """Milliseconds of each run within SLICE seconds, one at least."""
    samples: list[float] = []
    start = clock()
    end = start
    while not samples or end - start < SLICE:
        begin = clock()
        run()
        end = clock()
        samples.append((end - begin) * 1e3)
    return samples


def speeds(
    candidates: Sequence[Candidate],
    batch: int,
    seconds: float,
    flops: float,
    ceiling: float | None,
    clock: Clock = time.perf_counter,
) -> list[Speed]:
    """The speed of each candidate; `flops` an image, `ceiling` in operations a second."""
    samples = interleave(candidates, seconds, clock)
    return [
        speed_of(candidate, batch, samples[candidate.name], flops, ceiling)
        for candidate in candidates
    ]


def speed_of(
    candidate: Candidate, batch: int, samples: Sequence[float], flops: float, ceiling: float | None
) -> Speed:
    """The statistics of one candidate's runs, in ms; none is left out."""
    rate = candidate.n_images / median(samples) * 1e3
    p50, p90, p99 = (round(float(value), 4) for value in np.percentile(samples, (50, 90, 99)))
    return Speed(
        name=candidate.name,
        batch=batch,
        n_runs=len(samples),
        images_per_second=round(rate, 1),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99 if len(samples) >= LEAST_RUNS_OF_P99 else None,
        ceiling_share=None if ceiling is None else round(rate * flops / ceiling, 4),
    )


def overlapped(
    run: Callable[[Any], object], batches: Sequence[Any], pool: ThreadPoolExecutor
) -> Callable[[], object]:
    """A run of all the batches from the threads of the pool at once."""
    return lambda: list(pool.map(run, batches))


def flops_of(spec: ModelSpec) -> float:
    """Floating-point operations of one image."""
    return 2.0 * macs(spec.architecture, spec.pixel_path.size, len(spec.classes))


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How one session's answers differ from those of the CPU in fp32."""

    name: str
    n: int
    max_logit_change: float
    mean_logit_change: float
    flips: int
    "answers that changed"


def agreement(name: str, outputs: Outputs, reference: Outputs, spec: ModelSpec) -> Agreement:
    """How the outputs differ from the reference's for the same images."""
    change = np.abs(outputs.logits - reference.logits)
    answers = spec.decide(outputs.probabilities)
    reference_answers = spec.decide(reference.probabilities)
    return Agreement(
        name=name,
        n=len(change),
        max_logit_change=float(change.max()),
        mean_logit_change=float(change.mean()),
        flips=int((answers != reference_answers).sum()),
    )


def nvidia_smi() -> list[dict[str, str]]:
    """What `nvidia-smi` says of each GPU now; empty without it."""
    return by_field(query(f"--query-gpu={','.join(NVIDIA_SMI)}"))


def by_field(rows: list[list[str]]) -> list[dict[str, str]]:
    """One mapping a GPU; fields that the driver does not give, as [N/A], are left out."""
    gpus = []
    for row in rows:
        cells = zip(NVIDIA_SMI, row, strict=True)
        gpus.append({name: cell for name, cell in cells if not cell.startswith("[")})
    return gpus


def fastest(rows: Sequence[Speed]) -> Speed:
    """The fastest row of the largest batch."""
    largest = max(row.batch for row in rows)
    return max((row for row in rows if row.batch == largest), key=lambda row: row.images_per_second)
