"""A benchmark on the terminal, as Markdown, JSON and CSV."""

import csv
import io

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kneeedge.bench.advice import advice
from kneeedge.bench.sheets import Sheet, sheets
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.markdown import table
from kneeedge.runs.benchmark import BenchResult, Row, model_name, speedup
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.machine import Environment
from kneeedge.system.strict_json import to_json

CSV_COLUMNS = (
    "model", "precision", "provider", "scenario", "batch_size", "threads", "latency_ms.p50", "latency_ms.p90",
    "latency_ms.p99", "latency_ms.mean", "latency_ms.min", "latency_ms.max", "n_runs", "n_warmup", "unstable", "drift",
    "images_per_second", "throughput_interval.low", "throughput_interval.high", "gops", "ceiling_share",
    "cold_start_ms", "cold_start.import_ms", "cold_start.load_ms", "cold_start.first_run_ms", "peak_memory_mb",
    "gpu_memory_mb", "joules_per_image", "size_mb", "stages.read", "stages.preprocess", "stages.copy_in",
    "stages.compute", "stages.copy_out", "stages.end_to_end", "accuracy.split", "accuracy.n", "accuracy.accuracy",
    "accuracy.interval.low", "accuracy.interval.high", "accuracy.sensitivity", "accuracy.specificity", "accuracy.auroc",
    "accuracy.n_seen", "accuracy.reference", "accuracy.flips", "accuracy.delta_accuracy", "accuracy.delta_interval.low",
    "accuracy.delta_interval.high", "accuracy.verdict", "inputs", "model_sha256",
)  # fmt: skip
"fields of a row by the names that they have in the JSON"


def bench_table(result: BenchResult) -> Group:
    """All sheets, then warnings and advice, for a terminal."""
    parts: list[RenderableType] = []
    for sheet in sheets(result):
        parts += [Text(sheet.title, style="bold"), rich_table(sheet)]
        parts += [Text(sheet.note, style="dim")] if sheet.note else []
        parts.append("")
    return Group(*parts, *map(Text, closing_lines(result)))


def bench_markdown(result: BenchResult) -> str:
    """The same as Markdown."""
    lines = []
    for sheet in sheets(result):
        lines += [f"### {sheet.title}", "", *table([*sheet.names, *sheet.figures], sheet.rows), ""]
        lines += [sheet.note, ""] if sheet.note else []
    return "\n".join([*lines, *(f"- {line}" for line in closing_lines(result))]) + "\n"


def closing_lines(result: BenchResult) -> list[str]:
    """Where and how it was measured, what to bear in mind, and what to use."""
    about = f"measured: {result.processes}; {result.results[0].inputs}; {result.results[0].threads} threads"
    places = {
        f"{model_name(row.model)}: {row.placement}": None for row in result.results if row.placement
    }
    hashes = {
        f"{model_name(row.model)} {row.model_sha256[:SHOWN_DIGITS]}": None
        for row in result.results
        if row.model_sha256
    }
    models = [f"models: {', '.join(hashes)}"] if hashes else []
    cautions = [f"warning: {text}" for text in result.warnings]
    said = f"advice: {advice(result)}"
    return [machine_line(result.environment), about, *models, *places, *cautions, said, DISCLAIMER]


def machine_line(here: Environment) -> str:
    """The machine in a few words; the JSON has all that is known of it."""
    parts = [here.cpu, f"{here.n_cpus} cores"]
    parts += [] if here.cpu_quota is None else [f"quota of {here.cpu_quota:g} cores"]
    parts += [] if here.governor is None else [f"governor {here.governor}"]
    parts += [f"{gpu.name} (driver {gpu.driver})" for gpu in here.gpus]
    parts += [] if here.load_average is None else [f"load {here.load_average:g} before the start"]
    shown = (
        f"{name} {version}"
        for name, version in here.versions.items()
        if name.startswith(("onnxruntime", "torch"))
    )
    return f"machine: {', '.join([*parts, *shown])}"


def bench_json(result: BenchResult) -> str:
    """The whole result with its raw samples, and the advice that follows from it."""
    parts = {name: getattr(result, name) for name in BenchResult.__dataclass_fields__}
    return to_json(parts | {"advice": advice(result)})


def bench_csv(result: BenchResult) -> str:
    """One line a row, the same columns whatever was measured; the raw samples are in the JSON only."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*CSV_COLUMNS, "speedup"])
    writer.writerows(
        [*(_part(row, name) for name in CSV_COLUMNS), speedup(row, result)]
        for row in result.results
    )
    return text.getvalue()


def rich_table(sheet: Sheet) -> Table:
    """A sheet for a terminal; names fold, figures never."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in sheet.names:
        table.add_column(name, overflow="fold", max_width=24)
    for name in sheet.figures:
        table.add_column(name, justify="right", no_wrap=True)
    for cells in sheet.rows:
        table.add_row(*map(Text, cells))
    return table


def _part(row: Row, name: str) -> object:
    """A field of a row, or of what it holds; None where that is absent."""
    found: object = row
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
