"""What a benchmark found: one row for each model, provider, scenario and batch size, raw samples included."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kneeedge.answers import ORIGINAL
from kneeedge.bench.accuracy import Accuracy
from kneeedge.bench.ceiling import Ceiling
from kneeedge.bench.messages import ColdStart
from kneeedge.bench.percentiles import percentile_interval, runs_needed
from kneeedge.bench.scenarios import OFFLINE, SINGLE_STREAM
from kneeedge.errors import DataError
from kneeedge.intervals import Interval
from kneeedge.machine import Conditions, Environment
from kneeedge.records import from_json

FORMAT = 2
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Latency:
    """Milliseconds a run over all samples; a percentile is absent where the runs are too few for its interval."""

    p50: float | None
    p90: float | None
    p99: float | None
    mean: float
    min: float
    max: float
    intervals: dict[str, Interval] = field(default_factory=dict)
    "95 %, of the percentiles that are there"
    runs_needed: dict[str, int] = field(default_factory=dict)
    "for each percentile that is absent"

    def percentile(self, p: int) -> float | None:
        found: float | None = getattr(self, f"p{p}")
        return found


@dataclass(frozen=True)
class Stages:
    """Where the time of a single image goes, from its file to its answer; medians in milliseconds."""

    read: float
    "the file's bytes, from the system's cache"
    preprocess: float
    "decode and resize"
    copy_in: float | None
    "absent where nothing is copied, or the runtime does not tell"
    compute: float
    copy_out: float | None
    end_to_end: float
    n_runs: int


@dataclass(frozen=True)
class Row:
    """One model on one provider in one scenario at one batch size."""

    model: str
    "path as given; for the original, its run folder"
    precision: str
    "fp32, fp16, int8, or pytorch-fp32 for the original"
    provider: str
    batch_size: int
    threads: int
    scenario: str
    "SingleStream, MultiStream or Offline"
    latency_ms: Latency
    n_runs: int
    n_warmup: int
    "runs before them, after the first"
    images_per_second: float
    throughput_interval: Interval | None
    "95 %, of the median window; absent with fewer than 6 windows"
    cold_start_ms: float
    "the median of `cold_starts_ms`"
    cold_start: ColdStart
    "the parts of that start"
    cold_starts_ms: tuple[float, ...]
    "each in a fresh process"
    peak_memory_mb: float | None
    "above the process's memory before the runtime's import, until the end of this scenario's first turn"
    gpu_memory_mb: float | None
    size_mb: float
    "of the file"
    joules_per_image: float | None
    "of the CPU packages, and of the GPU where it computes, the machine's rest power included; absent without a meter"
    accuracy: Accuracy | None
    unstable: bool | None
    "whether `window_spread` is over 10 %"
    window_spread: float | None
    "of the windows' medians, over the median of all; absent with fewer than 3 windows"
    drift: float | None
    "the last window's median over the first's; absent likewise"
    stages: Stages | None
    "only in SingleStream"
    placement: str | None
    "where a profile shows its nodes to run; absent on the CPU and for the original"
    gops: float
    "10⁹ multiplications and additions a second, of the network as its layers define it"
    ceiling_share: float | None
    "of the fastest measured product of this arithmetic; absent where none was measured"
    inputs: str
    "the images it was timed on"
    windows: tuple[int, ...]
    "runs of each turn; between two turns the other models had theirs"
    samples: tuple[float, ...]
    "milliseconds of each run, in order, none left out"
    model_sha256: str = ""
    "of the file, for the original of its weights; empty in results older than this field"


@dataclass(frozen=True)
class BenchResult:
    """All rows, the original's first, and what to bear in mind with them."""

    format: int
    environment: Environment
    before: Conditions
    after: Conditions
    processes: str
    "how the models shared the machine"
    ceilings: tuple[Ceiling, ...]
    results: tuple[Row, ...]
    warnings: tuple[str, ...]


def summarise(samples: Sequence[float]) -> Latency:
    """The statistics of all samples; outliers count as they are."""
    values, shares, intervals, missing = np.array(samples, dtype=np.float64), {}, {}, {}
    for p in PERCENTILES:
        interval = percentile_interval(samples, p / 100)
        if interval is None:
            missing[f"p{p}"] = runs_needed(p / 100)
        else:
            intervals[f"p{p}"] = interval
        shares[p] = None if interval is None else round(float(np.percentile(values, p)), 4)
    mean, low, high = (round(float(value), 4) for value in (values.mean(), values.min(), values.max()))
    return Latency(shares[50], shares[90], shares[99], mean, low, high, intervals, missing)


def read_bench(path: Path) -> BenchResult:
    """What `page.bench_json` wrote; raises DataError where it does not fit."""
    remedy = "remove it, or measure again with `kneeedge bench --json FILE`"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and "results" in found and found.get("format") != FORMAT:
            said = found.get("format", 1)
            raise DataError(path, f"a result of format {said}, and this kneeedge reads {FORMAT}", remedy)
        found.pop("advice", None)  # it is said anew from the rows
        return from_json(BenchResult, json.dumps(found))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(path, "it is not there", remedy) from error
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(path, f"no result of `kneeedge bench` ({error})", remedy) from error


def baseline(rows: Sequence[Row]) -> Row:
    """What the others are held against: the original, else the first fp32 file, else the first row."""
    found = {row.precision: row for row in reversed(rows)}
    return found.get(ORIGINAL) or found.get("fp32") or rows[0]


def speedup(row: Row, result: BenchResult) -> float | None:
    """How many times as fast as the baseline in the same scenario; None where that was not measured."""
    first = baseline(result.results)
    for base in result.results:
        if is_same(base, first) and (base.scenario, base.batch_size) == (row.scenario, row.batch_size):
            return round(times_as_fast(row, base), 3)
    return None


def is_same(row: Row, other: Row) -> bool:
    """Whether two rows are of the same model on the same provider."""
    return (row.model, row.precision, row.provider) == (other.model, other.precision, other.provider)


def times_as_fast(row: Row, base: Row) -> float:
    """Offline: by throughput. Else by the median latency, or by the mean where one of the two has no median."""
    ours, theirs = row.latency_ms, base.latency_ms
    if row.scenario != OFFLINE and ours.p50 is not None and theirs.p50 is not None:
        return theirs.p50 / max(ours.p50, 1e-9)
    return row.images_per_second / max(base.images_per_second, 1e-9)


def single_rows(result: BenchResult) -> list[Row]:
    """The SingleStream row of each model on each provider."""
    return [row for row in result.results if row.scenario == SINGLE_STREAM]


def kind(row: Row) -> str:
    """The scenario; Offline with its batch size, which the others' names imply."""
    return f"{OFFLINE} {row.batch_size}" if row.scenario == OFFLINE else row.scenario


def label(path: str) -> str:
    """The file's or folder's own name; `runs/latest` is named for the run it leads to."""
    return Path(path).resolve().name
