"""The rows as tables of text, before anything decides how they are printed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kneeedge.bench.advice import labels_of
from kneeedge.bench.windows import HEADLINE
from kneeedge.runs.benchmark import (
    Accuracy,
    BenchResult,
    ModelKey,
    Row,
    baseline,
    model_key,
    scenario_name,
    single_rows,
    speedup,
)
from kneeedge.statistics.intervals import Interval

NAMES = ("model", "precision", "provider")
NONE = "—"
MARKS = {True: "~", False: "", None: "?"}
"by whether a row is unstable; None where its windows are too few to tell"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table: names to the left, figures to the right."""

    title: str
    names: tuple[str, ...]
    figures: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def sheets_of(result: BenchResult) -> list[Sheet]:
    """Speed, where the time of an image goes, what a model costs, and how accurate it is."""
    labels = labels_of([row.model for row in result.results])
    sheets = [speed_sheet(result, labels), stage_sheet(result, labels), cost_sheet(result, labels)]
    if any(row.accuracy for row in result.results):
        sheets.append(accuracy_sheet(result, labels))
    return sheets


def make_sheet(
    title: str,
    names: tuple[str, ...],
    figures: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    note: str = "",
) -> Sheet:
    """A sheet without the figures that no row has, as what this machine cannot measure."""
    n = len(names)
    kept = [i for i in range(n, n + len(figures)) if any(row[i] != NONE for row in rows)]
    heads = tuple(figures[i - n] for i in kept)
    body = []
    for row in rows:
        shown = [row[i] for i in kept]
        body.append((*row[:n], *shown))
    return Sheet(title=title, names=names, figures=heads, rows=tuple(body), note=note)


def speed_sheet(result: BenchResult, labels: dict[str, str]) -> Sheet:
    """A line for each row; `~` marks an unstable row, `?` one of too few windows to tell."""
    rows = []
    for row in result.results:
        ratio = speedup(row, result)
        cells = (
            *name_cells(row, labels),
            scenario_name(row),
            short(row.latency_ms.p50),
            headline(row),
            str(row.n_runs),
            short(row.images_per_second) + MARKS[row.unstable],
            NONE if ratio is None else f"{ratio:.2f}",
            percent(row.ceiling_share),
            *accuracy_cells(row.accuracy),
        )
        rows.append(cells)
    heads = (
        "p50 ms", "reported [95 %]", "runs", "img/s", "×", "ceiling",
        "accuracy", "flips", "verdict",
    )  # fmt: skip
    return make_sheet("Speed", (*NAMES, "scenario"), heads, rows, speed_note(result))


def name_cells(row: Row, labels: dict[str, str]) -> tuple[str, str, str]:
    """The cells under NAMES."""
    return labels[row.model], row.precision, row.provider


def accuracy_cells(accuracy: Accuracy | None) -> tuple[str, str, str]:
    """Accuracy, flips and verdict, without intervals."""
    if accuracy is None:
        return NONE, NONE, NONE
    return f"{accuracy.accuracy:.3f}", flips_cell(accuracy), accuracy.verdict or NONE


def flips_cell(accuracy: Accuracy) -> str:
    """How many of the images are answered otherwise than the reference does."""
    return NONE if accuracy.flips is None else f"{accuracy.flips}/{accuracy.n}"


def headline(row: Row) -> str:
    """What MLPerf reports of the scenario, with its interval; or how many runs that needs."""
    p = HEADLINE.get(row.scenario)
    if p is None:
        return f"{short(row.images_per_second)}{span(row.throughput_interval, short)} img/s"
    value = row.latency_ms.percentile(p)
    if value is None:
        return f"p{p} needs {row.latency_ms.runs_needed[f'p{p}']} runs"
    return f"p{p} {short(value)}{span(row.latency_ms.intervals[f'p{p}'], short)} ms"


def speed_note(result: BenchResult) -> str:
    """What the columns and marks mean, and what `×` and `ceiling` are held against."""
    note = f"×: times as fast as {baseline(result.results).precision}"
    marks = {row.unstable for row in result.results}
    if True in marks:
        note += "; ~: unstable"
    if None in marks:
        note += "; ?: too few rounds to tell whether it was steady"
    products = [f"{c.arithmetic} {c.gops:,.0f} GOP/s ({c.product})" for c in result.ceilings]
    if products:
        note += f"; ceiling: the fastest product measured on this machine, {'; '.join(products)}"
    return f"{note}; reported: what MLPerf reports of the scenario"


def stage_sheet(result: BenchResult, labels: dict[str, str]) -> Sheet:
    """Where the time of one image goes, in milliseconds."""
    rows = []
    for row in single_rows(result):
        stages = row.stages
        if stages is None:
            continue
        cells = (
            *name_cells(row, labels),
            short(stages.read),
            short(stages.preprocess),
            short(stages.copy_in),
            short(stages.compute),
            short(stages.copy_out),
            short(stages.end_to_end),
            str(stages.n_runs),
        )
        rows.append(cells)
    heads = ("read", "preprocess", "copy in", "compute", "copy out", "end to end", "runs")
    title = "One image, from its file to its answer: medians in ms"
    return make_sheet(title, NAMES, heads, rows)


def cost_sheet(result: BenchResult, labels: dict[str, str]) -> Sheet:
    """What each model costs."""
    body = []
    for rows in _by_model(result):
        first = rows[0]
        largest_batch = rows[-1]
        cells = (
            *name_cells(first, labels),
            short(first.cold_start_ms / 1e3),
            short(_most(row.peak_memory_mb for row in rows)),
            short(_most(row.gpu_memory_mb for row in rows)),
            short(largest_batch.joules_per_image),
            short(first.size_mb),
        )
        body.append(cells)
    title = "Cost: median of the cold starts, most memory, energy at the largest batch"
    heads = ("cold start s", "RAM MB", "GPU MB", "J an image", "file MB")
    return make_sheet(title, NAMES, heads, body)


def accuracy_sheet(result: BenchResult, labels: dict[str, str]) -> Sheet:
    """How accurate each model is; a line for the batch sizes that agree in all these figures."""
    sizes_of: dict[tuple[str, ...], list[str]] = {}
    for row in result.results:
        cells = (*name_cells(row, labels), *accuracy_cells_with_intervals(row.accuracy))
        sizes = sizes_of.setdefault(cells, [])
        if str(row.batch_size) not in sizes:
            sizes.append(str(row.batch_size))
    n = len(NAMES)
    body = [(*cells[:n], ", ".join(sizes), *cells[n:]) for cells, sizes in sizes_of.items()]
    heads = ("batch", "accuracy [95 %]", "AUROC", "flips", "Δ accuracy [95 %]", "verdict")
    return make_sheet("Answers", NAMES, heads, body)


def accuracy_cells_with_intervals(accuracy: Accuracy | None) -> tuple[str, ...]:
    """Accuracy, AUROC, flips, change of accuracy and verdict."""
    if accuracy is None:
        return (NONE,) * 5
    value = f"{accuracy.accuracy:.3f}{span(accuracy.interval, '{:.3f}'.format)}"
    auroc = NONE if accuracy.auroc is None else f"{accuracy.auroc:.3f}"
    change = NONE
    if accuracy.delta_accuracy is not None:
        interval = span(accuracy.delta_interval, "{:+.3f}".format)
        change = f"{accuracy.delta_accuracy:+.3f}{interval}"
    return value, auroc, flips_cell(accuracy), change, accuracy.verdict or NONE


def span(interval: Interval | None, write: Callable[[float], str]) -> str:
    """` [low, high]`; nothing without an interval."""
    return "" if interval is None else f" [{write(interval.low)}, {write(interval.high)}]"


def short(value: float | None) -> str:
    """Three significant digits or so; a dash for nothing."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percent(value: float | None) -> str:
    """A share as a whole percentage."""
    return NONE if value is None else f"{value:.0%}"


def _by_model(result: BenchResult) -> list[list[Row]]:
    """The rows of each model on each provider, in order."""
    rows_of: dict[ModelKey, list[Row]] = {}
    for row in result.results:
        rows_of.setdefault(model_key(row), []).append(row)
    return list(rows_of.values())


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
