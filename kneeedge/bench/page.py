"""A benchmark on the terminal, as Markdown, JSON and CSV."""

from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from kneeedge.bench.advice import advice
from kneeedge.bench.sheets import Sheet, sheets_of
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.markdown import table
from kneeedge.runs.benchmark import BenchResult, Row, model_name, speedup
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.machine import Environment
from kneeedge.system.spreadsheet import csv_text
from kneeedge.system.strict_json import to_json

NAME_WIDTH = 24
"columns of a name; a longer one folds"
CSV_COLUMNS = (
    "model", "precision", "provider", "scenario", "batch_size", "threads",
    "latency_ms.p50", "latency_ms.p90", "latency_ms.p99",
    "latency_ms.mean", "latency_ms.min", "latency_ms.max",
    "n_runs", "n_warmup", "unstable", "drift",
    "images_per_second", "throughput_interval.low", "throughput_interval.high",
    "gops", "ceiling_share",
    "cold_start_ms", "cold_start.import_ms", "cold_start.load_ms", "cold_start.first_run_ms",
    "peak_memory_mb", "gpu_memory_mb", "joules_per_image", "size_mb",
    "stages.read", "stages.preprocess", "stages.copy_in",
    "stages.compute", "stages.copy_out", "stages.end_to_end",
    "accuracy.split", "accuracy.n", "accuracy.accuracy",
    "accuracy.interval.low", "accuracy.interval.high",
    "accuracy.sensitivity", "accuracy.specificity", "accuracy.auroc",
    "accuracy.n_seen", "accuracy.reference", "accuracy.flips", "accuracy.delta_accuracy",
    "accuracy.delta_interval.low", "accuracy.delta_interval.high", "accuracy.verdict",
    "gate", "inputs", "model_sha256",
)  # fmt: skip
"fields of a row by the names that they have in the JSON"


def bench_table(result: BenchResult) -> Group:
    """All sheets, then warnings and advice, for a terminal."""
    parts: list[RenderableType] = []
    for sheet in sheets_of(result):
        parts += [Text(sheet.title, style="bold"), FittingTable(sheet)]
        if sheet.note:
            parts.append(Text(sheet.note, style="dim"))
        parts.append("")
    return Group(*parts, *map(Text, closing_lines(result)))


def bench_markdown(result: BenchResult) -> str:
    """All sheets, then warnings and advice, as Markdown."""
    lines = []
    for sheet in sheets_of(result):
        heads = [*sheet.names, *sheet.figures]
        lines += [f"### {sheet.title}", "", *table(heads, sheet.rows), ""]
        if sheet.note:
            lines += [sheet.note, ""]
    lines += [f"- {line}" for line in closing_lines(result)]
    return "\n".join(lines) + "\n"


def closing_lines(result: BenchResult) -> list[str]:
    """Where and how it was measured, what to bear in mind, and what to use."""
    first = result.results[0]
    lines = [machine_line(result.environment)]
    when = f"{result.measured}; " if result.measured else ""
    lines.append(f"measured: {when}{result.processes}; {first.inputs}; {first.threads} threads")
    hashes: list[str] = []
    placements: list[str] = []
    for row in result.results:
        name = model_name(row.model)
        if row.model_sha256:
            hashes.append(f"{name} {row.model_sha256[:SHOWN_DIGITS]}")
        if row.placement:
            placements.append(f"{name}: {row.placement}")
    if hashes:
        lines.append(f"models: {', '.join(dict.fromkeys(hashes))}")
    lines += dict.fromkeys(placements)
    lines += [f"warning: {text}" for text in result.warnings]
    return [*lines, f"advice: {advice(result)}", DISCLAIMER]


def machine_line(environment: Environment) -> str:
    """The machine in a few words; the JSON has all that is known of it."""
    parts = [environment.cpu, f"{environment.n_cpus} cores"]
    if environment.cpu_quota is not None:
        parts.append(f"quota of {environment.cpu_quota:g} cores")
    if environment.governor is not None:
        parts.append(f"governor {environment.governor}")
    parts += [f"{gpu.name} (driver {gpu.driver})" for gpu in environment.gpus]
    if environment.load_average is not None:
        parts.append(f"load {environment.load_average:g} before the start")
    for name, version in environment.versions.items():
        if name.startswith(("onnxruntime", "torch")):
            parts.append(f"{name} {version}")
    return f"machine: {', '.join(parts)}"


def bench_json(result: BenchResult) -> str:
    """The whole result with its raw samples, and the advice that follows from it."""
    fields = {name: getattr(result, name) for name in BenchResult.__dataclass_fields__}
    return to_json(fields | {"advice": advice(result)})


def bench_csv(result: BenchResult) -> str:
    """One line a row, the same columns whatever was measured; raw samples are in the JSON only."""
    rows = [
        [*(_cell(row, name) for name in CSV_COLUMNS), speedup(row, result)]
        for row in result.results
    ]
    return csv_text([*CSV_COLUMNS, "speedup"], rows)


@dataclass(frozen=True)
class FittingTable:
    """A sheet for a terminal; where its figures do not fit side by side, they come in turn."""

    sheet: Sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from map(rich_table, parts_of(self.sheet, options.max_width))


def parts_of(sheet: Sheet, width: int) -> list[Sheet]:
    """The sheet, or sheets of the same names with some of its figures each, `width` columns wide.

    A sheet has one figure at least, however wide it is.
    """
    columns = list(zip((*sheet.names, *sheet.figures), *sheet.rows, strict=True))
    widths = [max(map(cell_len, column)) + 1 for column in columns]
    n = len(sheet.names)
    left = sum(min(w, NAME_WIDTH + 1) for w in widths[:n])
    groups: list[list[int]] = []
    used = width + 1
    for i in range(n, len(columns)):
        if used + widths[i] > width + 1 or not groups:
            groups.append([])
            used = left
        groups[-1].append(i)
        used += widths[i]
    return [
        replace(
            sheet,
            figures=tuple(columns[i][0] for i in group),
            rows=tuple((*row[:n], *(row[i] for i in group)) for row in sheet.rows),
        )
        for group in groups
    ]


def rich_table(sheet: Sheet) -> Table:
    """A sheet for a terminal; names fold, figures never."""
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in sheet.names:
        grid.add_column(name, overflow="fold", max_width=NAME_WIDTH)
    for name in sheet.figures:
        grid.add_column(name, justify="right", no_wrap=True)
    for cells in sheet.rows:
        grid.add_row(*map(Text, cells))
    return grid


def _cell(row: Row, column: str) -> object:
    """A field of a row, or of what it holds; None where that is absent."""
    value: object = row
    for name in column.split("."):
        value = getattr(value, name, None)
    return value
