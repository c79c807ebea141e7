"""The rows as tables of text, before anything decides how they are printed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kneeedge.bench.advice import labels_of
from kneeedge.bench.windows import HEADLINE
from kneeedge.runs.benchmark import (
    Accuracy,
    BenchResult,
    Row,
    baseline,
    scenario_name,
    single_rows,
    speedup,
)
from kneeedge.statistics.intervals import Interval

NAMES = ("model", "precision", "provider")
NONE, MARKS = "—", {True: "~", False: "", None: "?"}


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table: names to the left, figures to the right."""

    title: str
    names: tuple[str, ...]
    figures: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


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
    body = tuple((*row[:n], *(row[i] for i in kept)) for row in rows)
    return Sheet(
        title=title, names=names, figures=tuple(figures[i - n] for i in kept), rows=body, note=note
    )


def sheets(result: BenchResult) -> list[Sheet]:
    """Speed, where the time of an image goes, what a model costs, what its answers are worth."""
    labels = labels_of([row.model for row in result.results])
    found = [speed_sheet(result, labels), stage_sheet(result, labels), cost_sheet(result, labels)]
    if any(row.accuracy for row in result.results):
        found.append(worth_sheet(result, labels))
    return found


def speed_sheet(result: BenchResult, labels: dict[str, str]) -> Sheet:
    """A line for each row; `~` marks an unstable row, `?` one of too few windows to tell."""
    rows = []
    for row in result.results:
        ratio = speedup(row, result)
        rows.append(
            (
                labels[row.model],
                row.precision,
                row.provider,
                scenario_name(row),
                short(row.latency_ms.p50),
                headline(row),
                str(row.n_runs),
                short(row.images_per_second) + MARKS[row.unstable],
                NONE if ratio is None else f"{ratio:.2f}",
                percent(row.ceiling_share),
                *answers(row.accuracy),
            )
        )
    heads = (
        "p50 ms",
        "reported [95 %]",
        "runs",
        "img/s",
        "×",
        "ceiling",
        "accuracy",
        "flips",
        "verdict",
    )
    return make_sheet("Speed", (*NAMES, "scenario"), heads, rows, speed_note(result))


def answers(found: Accuracy | None) -> tuple[str, str, str]:
    """Accuracy, flips and verdict at the row's batch size, without intervals."""
    if found is None:
        return (NONE,) * 3
    return (
        f"{found.accuracy:.3f}",
        NONE if found.flips is None else f"{found.flips}/{found.n}",
        found.verdict or NONE,
    )


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
    """What the columns `×` and `ceiling` are held against."""
    parts = [f"{c.arithmetic} {c.gops:,.0f} GOP/s ({c.product})" for c in result.ceilings]
    ceiling = (
        f"; ceiling: the fastest product measured on this machine, {'; '.join(parts)}"
        if parts
        else ""
    )
    return f"×: times as fast as {baseline(result.results).precision}{ceiling}"


def stage_sheet(result: BenchResult, labels: dict[str, str]) -> Sheet:
    """Where the time of one image goes, in milliseconds."""
    rows = []
    for row in single_rows(result):
        if found := row.stages:
            parts = (
                found.read,
                found.preprocess,
                found.copy_in,
                found.compute,
                found.copy_out,
                found.end_to_end,
            )
            rows.append(
                (
                    labels[row.model],
                    row.precision,
                    row.provider,
                    *map(short, parts),
                    str(found.n_runs),
                )
            )
    heads = ("read", "preprocess", "copy in", "compute", "copy out", "end to end", "runs")
    title = "One image, from its file to its answer: medians in ms"
    return make_sheet(title, NAMES, heads, rows)


def cost_sheet(result: BenchResult, labels: dict[str, str]) -> Sheet:
    """What each model costs."""
    body = []
    for rows in _groups(result):
        memory, gpu = (
            _most(getattr(row, name) for row in rows)
            for name in ("peak_memory_mb", "gpu_memory_mb")
        )
        figures = (
            rows[0].cold_start_ms / 1e3,
            memory,
            gpu,
            rows[-1].joules_per_image,
            rows[0].size_mb,
        )
        body.append(
            (labels[rows[0].model], rows[0].precision, rows[0].provider, *map(short, figures))
        )
    heads = ("cold start s", "RAM MB", "GPU MB", "J an image", "file MB")
    return make_sheet(
        "Cost: median of the cold starts, most memory, energy at the largest batch",
        NAMES,
        heads,
        body,
    )


def worth_sheet(result: BenchResult, labels: dict[str, str]) -> Sheet:
    """What the answers are worth, once for each batch size whose answers differ in these figures."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for row in result.results:
        key = (labels[row.model], row.precision, row.provider, *worth(row.accuracy))
        sizes = rows.setdefault(key, [])
        if str(row.batch_size) not in sizes:
            sizes.append(str(row.batch_size))
    body = tuple((*key[:3], ", ".join(sizes), *key[3:]) for key, sizes in rows.items())
    heads = ("batch", "accuracy [95 %]", "AUROC", "flips", "Δ accuracy [95 %]", "verdict")
    return make_sheet("Answers", NAMES, heads, body)


def worth(found: Accuracy | None) -> tuple[str, ...]:
    """Accuracy, AUROC, flips, change and verdict."""
    if found is None:
        return (NONE,) * 5
    flips = NONE if found.flips is None else f"{found.flips}/{found.n}"
    delta = found.delta_accuracy
    change = (
        NONE if delta is None else f"{delta:+.3f}{span(found.delta_interval, '{:+.3f}'.format)}"
    )
    area = NONE if found.auroc is None else f"{found.auroc:.3f}"
    accuracy = f"{found.accuracy:.3f}{span(found.interval, '{:.3f}'.format)}"
    return (accuracy, area, flips, change, found.verdict or NONE)


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


def _groups(result: BenchResult) -> list[list[Row]]:
    """The rows of each model on each provider, in order."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in result.results:
        found.setdefault((row.model, row.precision, row.provider), []).append(row)
    return list(found.values())


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
