"""A benchmark's result: a row a model, provider, scenario and batch size, with its raw samples."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kneeedge.errors import DataError
from kneeedge.runs.answers import ORIGINAL
from kneeedge.statistics.intervals import Interval
from kneeedge.system.machine import Conditions, Environment
from kneeedge.system.strict_json import from_json

FORMAT = 2
FORMAT_NAME = "kneeedge-bench"
"before the number, in what `kneeedge bench --json` writes"
"of the JSON; what an older kneeedge wrote is refused"
SINGLE_STREAM, MULTI_STREAM, OFFLINE = "SingleStream", "MultiStream", "Offline"
ModelKey = tuple[str, str, str]
"path, precision and provider"


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How a model did, and what changed against the reference."""

    split: str
    n: int
    "images"
    accuracy: float
    interval: Interval
    "of accuracy, 95 %"
    sensitivity: float | None
    specificity: float | None
    auroc: float | None
    n_seen: int | None
    "images that the model was trained or chosen on; absent where its training images are not known"
    reference: str | None = None
    "precision of the reference: the original's, else fp32; absent, with all below, in its own row"
    flips: int | None = None
    "images answered otherwise than the reference did"
    delta_accuracy: float | None = None
    "accuracy less the reference's"
    delta_interval: Interval | None = None
    "95 %, paired"
    verdict: str | None = None
    "of the export gate; absent where the file was neither made nor slimmed from the reference"
    reason: str | None = None
    images_to_settle: int | None = None
    "how many images would settle an inconclusive verdict, if the same share keeps flipping"

    @property
    def surely_lost(self) -> bool:
        """Whether the paired interval leaves no doubt that the reference is more accurate."""
        return self.delta_interval is not None and self.delta_interval.high < 0

    def cost(self) -> str:
        """What choosing this model costs, in a few words."""
        if self.flips is None or self.delta_accuracy is None:
            return f"accuracy {self.accuracy:.3f} on {self.n} images"
        change = f", accuracy {self.delta_accuracy:+.3f}" if self.delta_accuracy else ""
        return f"{self.flips} of {self.n} answers flipped{change}"


@dataclass(frozen=True)
class Ceiling:
    """One arithmetic's fastest product."""

    arithmetic: str
    "fp32, or int8: 8-bit factors, 32-bit sums"
    gops: float
    "10⁹ multiplications and additions a second"
    product: str
    "what was multiplied, and by what"
    n_runs: int


@dataclass(frozen=True)
class ColdStart:
    """From before the runtime's import to the first answer, in a fresh process, in milliseconds."""

    import_ms: float
    load_ms: float
    first_run_ms: float

    @property
    def total_ms(self) -> float:
        return round(self.import_ms + self.load_ms + self.first_run_ms, 3)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds a run over all samples; a percentile without an interval is absent."""

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
        """The `p`-th, of 50, 90 and 99."""
        return {50: self.p50, 90: self.p90, 99: self.p99}[p]


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Where the time of one image goes, from its file to its answer; medians in milliseconds."""

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


@dataclass(frozen=True, kw_only=True)
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
    "until the end of this scenario's first turn, above the memory before the runtime's import"
    gpu_memory_mb: float | None
    size_mb: float
    "of the file"
    joules_per_image: float | None
    "of CPU packages, and of the GPU where it computes, rest power included; absent without a meter"
    accuracy: Accuracy | None
    unstable: bool | None
    "whether `window_spread` is over 10 %"
    window_spread: float | None
    "of the windows' medians, over the median of all; absent with fewer than 3 windows"
    drift: float | None
    "the last window's median over the first's; absent with fewer than 3 windows"
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
    gate: str | None = None
    "verdict of the export gate that the file carries; absent for the original, and without one"


@dataclass(frozen=True, kw_only=True)
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
    measured: str = ""
    "when it began, UTC, as 2026-11-26T10:17:00Z; empty in results older than this field"


def read_benchmark(path: Path) -> BenchResult:
    """What `page.bench_json` wrote; raises DataError where it does not fit."""
    remedy = "remove it, or measure again with `kneeedge bench --json FILE`"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise TypeError("it holds no object")
        version = document.get("format", 1)
        if isinstance(version, str):
            version = int(version.removeprefix(f"{FORMAT_NAME}/"))
            document["format"] = version
        if "results" in document and version != FORMAT:
            problem = f"a result of format {version}, and this kneeedge reads {FORMAT}"
            raise DataError(path, problem, remedy)
        # the advice is given anew from the rows
        document.pop("advice", None)
        return from_json(BenchResult, json.dumps(document))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(path, "it is not there", remedy) from error
    except (ValueError, TypeError) as error:
        raise DataError(path, f"no result of `kneeedge bench` ({error})", remedy) from error


def lacking(new: BenchResult, old: BenchResult, present: Collection[str]) -> list[str]:
    """What a run's record would lose were `new` to replace `old`, in words; empty where nothing.

    `present` are the hashes of the files that the run has now: rows of other bytes are no loss.
    Models, then scenarios, then accuracy are looked for; figures of two results are never mixed,
    since they were not measured in turns.
    """
    kept = rows_of(old, present)
    models = {_same_model(row): f"{model_name(row.model)} on {row.provider}" for row in kept}
    measured = {_same_model(row) for row in new.results}
    missing = [name for model, name in models.items() if model not in measured]
    if missing:
        return missing
    scenarios = {scenario_name(row) for row in new.results}
    missing = [name for name in dict.fromkeys(map(scenario_name, kept)) if name not in scenarios]
    if missing:
        return missing
    had_accuracy = any(row.accuracy for row in kept)
    return ["accuracy"] if had_accuracy and not any(row.accuracy for row in new.results) else []


def rows_of(result: BenchResult, present: Collection[str]) -> tuple[Row, ...]:
    """The original's rows, and those of the files whose hashes are `present`.

    Results older than the hashes are taken as they are.
    """
    return tuple(
        row
        for row in result.results
        if row.precision == ORIGINAL or not row.model_sha256 or row.model_sha256 in present
    )


def _same_model(row: Row) -> tuple[str, str]:
    return row.model_sha256 or model_name(row.model), row.provider


def baseline(rows: Sequence[Row]) -> Row:
    """What the others are held against: the original, else the first fp32 file, else the first."""
    for precision in (ORIGINAL, "fp32"):
        for row in rows:
            if row.precision == precision:
                return row
    return rows[0]


def speedup(row: Row, result: BenchResult) -> float | None:
    """How many times as fast as the baseline in this scenario; None where that was not measured."""
    first = baseline(result.results)
    for base in result.results:
        is_baseline = model_key(base) == model_key(first)
        if is_baseline and (base.scenario, base.batch_size) == (row.scenario, row.batch_size):
            return round(times_as_fast(row, base), 3)
    return None


def times_as_fast(row: Row, base: Row) -> float:
    """The speed of a row over that of another.

    In Offline by throughput; else by the median latency, or by the mean where one of the two has no
    median.
    """
    row_p50 = row.latency_ms.p50
    base_p50 = base.latency_ms.p50
    if row.scenario != OFFLINE and row_p50 is not None and base_p50 is not None:
        return base_p50 / max(row_p50, 1e-9)
    return row.images_per_second / max(base.images_per_second, 1e-9)


def single_rows(result: BenchResult) -> list[Row]:
    """The SingleStream row of each model on each provider."""
    return [row for row in result.results if row.scenario == SINGLE_STREAM]


def model_key(row: Row) -> ModelKey:
    """What the rows of one model on one provider have in common, and no others."""
    return (row.model, row.precision, row.provider)


def scenario_name(row: Row) -> str:
    """The scenario; Offline with its batch size, which the others' names imply."""
    return f"{OFFLINE} {row.batch_size}" if row.scenario == OFFLINE else row.scenario


def model_name(path: str) -> str:
    """The file's or folder's own name; `runs/latest` is named for the run it leads to."""
    return Path(path).resolve().name
