"""What a benchmark found, as a rich table, JSON or CSV: no percentile of too few runs, no row left out."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from kneeedge.errors import DataError
from kneeedge.evaluation import Accuracy
from kneeedge.intervals import Interval
from kneeedge.machine import Environment
from kneeedge.records import dump, from_json
from kneeedge.spec import DISCLAIMER

ORIGINAL = "pytorch-fp32"
SINGLE, OFFLINE = "single", "offline"
LEAST_RUNS = {50: 10, 90: 100, 99: 1000}
"runs that a percentile needs: some ten lie beyond it; of fewer it is the maximum under another name"
N_WINDOWS, LEAST_IN_WINDOW = 4, 3
STEADY = 0.10
"largest spread of the windows' medians that counts as steady"
CLEARLY = 1.05
"a smaller ratio of two speeds is no difference"
NONE, MARKS = "—", {True: "~", False: "", None: "?"}
CSV_COLUMNS = (
    "model", "precision", "provider", "scenario", "batch_size", "threads", "latency_ms.p50", "latency_ms.p90",
    "latency_ms.p99", "latency_ms.mean", "latency_ms.min", "latency_ms.max", "n_runs", "n_warmup", "unstable",
    "images_per_second", "cold_start_ms", "cold_start.import_ms", "cold_start.load_ms", "cold_start.first_run_ms",
    "peak_memory_mb", "size_mb", "accuracy.split", "accuracy.n", "accuracy.accuracy", "accuracy.interval.low",
    "accuracy.interval.high", "accuracy.sensitivity", "accuracy.specificity", "accuracy.auroc", "accuracy.n_seen",
    "accuracy.reference", "accuracy.flips", "accuracy.delta_accuracy", "accuracy.delta_interval.low",
    "accuracy.delta_interval.high", "inputs",
)  # fmt: skip
"fields of a row by the names that they have in the JSON"


@dataclass(frozen=True)
class Latency:
    """Milliseconds a run over all samples; a percentile is absent where the runs are too few to tell it."""

    p50: float | None
    "from 10 runs on"
    p90: float | None
    "from 100 runs on"
    p99: float | None
    "from 1,000 runs on"
    mean: float
    min: float
    max: float


@dataclass(frozen=True)
class ColdStart:
    """From before the runtime's import to the first answer, in a fresh process, in milliseconds."""

    import_ms: float
    load_ms: float
    first_run_ms: float


@dataclass(frozen=True)
class Row:
    """One model in one scenario at one batch size."""

    model: str
    "path as given; for the original, its run folder"
    precision: str
    "fp32, fp16, int8, or pytorch-fp32 for the original"
    provider: str
    batch_size: int
    threads: int
    scenario: str
    "single: one image at a time; offline: full batches back to back"
    latency_ms: Latency
    n_runs: int
    n_warmup: int
    "runs before them, after the first"
    images_per_second: float
    cold_start_ms: float
    "sum of `cold_start`"
    cold_start: ColdStart
    peak_memory_mb: float | None
    "above the process's memory before the runtime's import, until the end of this scenario"
    size_mb: float
    "of the file"
    accuracy: Accuracy | None
    unstable: bool | None
    "whether `window_spread` is over 10 %"
    window_spread: float | None
    "of the medians of four consecutive windows, over the median of all; absent with fewer than 12 runs"
    inputs: str
    "the images it was timed on"
    samples: tuple[float, ...]
    "milliseconds of each run, in order, none left out"


@dataclass(frozen=True)
class BenchResult:
    """All rows, the original's first, and what to bear in mind with them."""

    environment: Environment
    results: tuple[Row, ...]
    warnings: tuple[str, ...]


def summarise(samples: Sequence[float]) -> Latency:
    """The statistics of all samples; outliers count as they are."""
    values = np.array(samples, dtype=np.float64)
    shares = {
        p: round(float(np.percentile(values, p)), 4) if len(values) >= least else None
        for p, least in LEAST_RUNS.items()
    }
    mean, low, high = (round(float(value), 4) for value in (values.mean(), values.min(), values.max()))
    return Latency(shares[50], shares[90], shares[99], mean, low, high)


def window_spread(samples: Sequence[float]) -> float | None:
    """How far the medians of four consecutive windows lie apart, over the median of all; None with too few runs."""
    if len(samples) < N_WINDOWS * LEAST_IN_WINDOW:
        return None
    medians = [float(np.median(window)) for window in np.array_split(np.array(samples), N_WINDOWS)]
    return round((max(medians) - min(medians)) / max(float(np.median(samples)), 1e-9), 4)


def bench_json(result: BenchResult) -> str:
    """The whole result with its raw samples: environment, results, advice, warnings."""
    measured = {"environment": result.environment, "results": result.results}
    return dump(measured | {"advice": advice(result), "warnings": result.warnings})


def read_bench(path: Path) -> BenchResult:
    """What `bench_json` wrote; raises DataError where it does not fit."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found.pop("advice", None)  # it is said anew from the rows
        return from_json(BenchResult, json.dumps(found))
    except (ValueError, AttributeError) as error:
        raise DataError(path, f"no result of `kneeedge bench` ({error})", "remove it, or measure again") from error


def bench_csv(result: BenchResult) -> str:
    """One line a row, the same columns whatever was measured; the raw samples are in the JSON only."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*CSV_COLUMNS, "speedup"])
    writer.writerows([*(_part(row, name) for name in CSV_COLUMNS), speedup(row, result)] for row in result.results)
    return text.getvalue()


def bench_table(result: BenchResult) -> Table:
    """Speed, then what a model costs and is worth, then warnings and advice; within 120 columns."""
    page = Table.grid()
    for part in (speed_table(result), "", model_table(result), ""):
        page.add_row(part)
    for line in (*(f"warning: {text}" for text in result.warnings), f"advice: {advice(result)}", DISCLAIMER):
        page.add_row(Text(line))
    return page


def speed_table(result: BenchResult) -> Table:
    """A line for each row; `×` as `speedup` has it, `~` an unstable row, `?` one of too few runs to tell."""
    heads = ("scenario", "batch", "p50 ms", "p90 ms", "p99 ms", "runs", "img/s", "×")
    table, labels = _table(("model", "precision", "provider"), heads), _labels(result.results)
    for row in result.results:
        latency = row.latency_ms
        times = [_short(value) for value in (latency.p50, latency.p90, latency.p99)]
        ratio = speedup(row, result)
        speed = _short(row.images_per_second) + MARKS[row.unstable]
        cells = [
            row.scenario,
            str(row.batch_size),
            *times,
            str(row.n_runs),
            speed,
            NONE if ratio is None else f"{ratio:.2f}",
        ]
        table.add_row(*map(Text, [labels[row.model], row.precision, row.provider, *cells]))
    return table


def model_table(result: BenchResult) -> Table:
    """A line for each model: what it costs and what its answers are worth."""
    heads = ("cold s", "RAM MB", "MB", "accuracy [95 %]", "AUROC", "flips", "Δ accuracy [95 %]")
    table = _table(("model", "precision"), heads)
    for model, name in _labels(result.results).items():
        rows = [row for row in result.results if row.model == model]
        memory = [row.peak_memory_mb for row in rows if row.peak_memory_mb is not None]
        costs = [f"{rows[0].cold_start_ms / 1e3:.2f}", _short(max(memory, default=None)), _short(rows[0].size_mb)]
        table.add_row(*map(Text, [name, rows[0].precision, *costs, *_worth(rows[0].accuracy)]))
    return table


def speedup(row: Row, result: BenchResult) -> float | None:
    """How many times as fast as the first model in the same scenario; None where that was not measured."""
    first = result.results[0].model
    for base in result.results:
        if (base.model, base.scenario, base.batch_size) == (first, row.scenario, row.batch_size):
            return round(times_as_fast(row, base), 3)
    return None


def times_as_fast(row: Row, base: Row) -> float:
    """Offline: by throughput. Single: by the median latency, or by the mean where one of the two has no median."""
    ours, theirs = row.latency_ms, base.latency_ms
    if row.scenario == SINGLE and ours.p50 is not None and theirs.p50 is not None:
        return theirs.p50 / max(ours.p50, 1e-9)
    return row.images_per_second / max(base.images_per_second, 1e-9)


def advice(result: BenchResult) -> str:
    """One sentence on which model to use here, by the single-image rows alone."""
    rows = [row for row in result.results if row.scenario == SINGLE]
    names = _short_names(rows)
    base = next((row for row in rows if row.precision == "fp32"), rows[0] if rows else None)
    others = [row for row in rows if row is not base and row.precision != ORIGINAL]
    if base is None or not others:
        return "there is no second model to compare; bench two variants of one model"
    ratios = {row.model: times_as_fast(row, base) for row in others}
    faster = [row for row in others if ratios[row.model] > CLEARLY]
    usable = [row for row in faster if not (row.accuracy and row.accuracy.surely_lost)]
    said = [_drawback(row, base, ratios[row.model], names, result.environment) for row in others if row not in usable]
    best = max(usable, key=lambda row: ratios[row.model], default=base)
    use = f"use {names[best.model]}"
    if best is not base:
        use += f" ({ratios[best.model]:.1f}× {names[base.model]}; {_cost(best)})"
    shaky = "; unstable, measure again" if any(row.unstable for row in (base, *others)) else ""
    return f"{' and '.join(said)}: {use}{shaky}" if said else f"{use}{shaky}"


def label(path: str) -> str:
    """The file's or folder's own name; `runs/latest` is named for the run it leads to."""
    return Path(path).resolve().name


def _drawback(row: Row, base: Row, ratio: float, names: dict[str, str], environment: Environment) -> str:
    """Why a model is not the one to use."""
    name, other = names[row.model], names[base.model]
    if ratio > CLEARLY:
        return f"{name} is {ratio:.1f}× {other} but loses accuracy ({_cost(row)})"
    here = "on this CPU" if row.provider == "cpu" else f"on {row.provider}"
    why = _why_slow(row, environment)
    word = "slower than" if ratio < 1 / CLEARLY else "no faster than"
    return f"{name} is {word} {other} {here} ({ratio:.1f}×{why})"


def _why_slow(row: Row, environment: Environment) -> str:
    if row.precision == "int8" and row.provider == "cuda":
        return "; it runs in float there"
    lacks_vnni = "avx2" in environment.isa and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(environment.isa)
    return "; no VNNI" if row.precision == "int8" and row.provider == "cpu" and lacks_vnni else ""


def _cost(row: Row) -> str:
    return row.accuracy.cost() if row.accuracy else "accuracy was not measured, give --data"


def _short_names(rows: Sequence[Row]) -> dict[str, str]:
    """What to call each model in a sentence: its precision where no other has the same, else its file."""
    counts, labels = Counter(row.precision for row in rows), _labels(rows)
    return {row.model: row.precision if counts[row.precision] == 1 else labels[row.model] for row in rows}


def _labels(rows: Sequence[Row]) -> dict[str, str]:
    """What to call each model in a table: the file's name, or its path where another file has the same name."""
    models = dict.fromkeys(row.model for row in rows)
    counts = Counter(map(label, models))
    return {model: label(model) if counts[label(model)] == 1 else model for model in models}


def _worth(found: Accuracy | None) -> list[str]:
    if found is None:
        return [NONE] * 4
    flips = NONE if found.flips is None else f"{found.flips}/{found.n}"
    delta = found.delta_accuracy
    change = NONE if delta is None else f"{delta:+.3f}{_span(found.delta_interval, '+.3f')}"
    area = NONE if found.auroc is None else f"{found.auroc:.3f}"
    return [f"{found.accuracy:.3f}{_span(found.interval, '.3f')}", area, flips, change]


def _span(interval: Interval | None, digits: str) -> str:
    return "" if interval is None else f" [{interval.low:{digits}}, {interval.high:{digits}}]"


def _table(names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold", max_width=24)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _short(value: float | None) -> str:
    """Three significant digits or so; a dash for nothing."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _part(row: Row, name: str) -> object:
    """A field of a row, or of what it holds; None where that is absent."""
    found: object = row
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
