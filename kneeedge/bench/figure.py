"""Accuracy against latency, both with their intervals: what is bought, and for what."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kneeedge.bench.advice import names_of
from kneeedge.errors import ConfigError, MissingExtraError
from kneeedge.model.spec import DISCLAIMER
from kneeedge.runs.benchmark import Accuracy, BenchResult, Row, model_key, single_rows
from kneeedge.statistics.intervals import Interval
from kneeedge.system.files import replacing
from kneeedge.system.own import figure_metadata

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f5fa8", "#d9722b", "#2a8c5a", "#8a4fa3", "#b03a48", "#5b6770")
MARKERS = "osD^vPX*"
GREY = "#8a8a8a"
SUFFIXES = (".png", ".svg", ".pdf")
Reach = tuple[list[float], list[float]]
"how far an interval reaches below its value and above it, as Matplotlib's error bars take it"


def check_figure(path: Path, has_accuracy: bool) -> None:
    """Raise, before anything is measured, where the figure could not be drawn."""
    if path.suffix not in SUFFIXES:
        problem = f"--figure {path}: no kind of picture"
        raise ConfigError(problem, f"give a name that ends in {' or '.join(SUFFIXES)}")
    if not has_accuracy:
        problem = "--figure shows accuracy against latency"
        raise ConfigError(problem, "give labelled images with --data")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        install = "pip install 'kneeedge[train]'"
        raise MissingExtraError("--figure", "matplotlib", install) from error


def draw_figure(result: BenchResult, path: Path) -> None:
    """Draw the SingleStream rows that have an accuracy, a point each, into `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in single_rows(result) if row.accuracy is not None]
    figure = Figure(figsize=(7.5, 5.2), layout="constrained")
    axes = figure.subplots()
    _draw_points(axes, rows)
    _scale_latency(axes, [point(row)[0] for row in rows])
    _scale_accuracy(axes, rows[0].accuracy)
    title = f"{result.environment.cpu}, {rows[0].threads} threads, one image at a time"
    axes.set_title(title, fontsize=10, pad=14)
    disclaimer = axes.text(0.5, 1.008, DISCLAIMER, transform=axes.transAxes)
    disclaimer.set(ha="center", va="bottom", fontsize=6, color=GREY)
    axes.grid(alpha=0.3, which="both")
    # a legend names the points, since equal accuracies would lay labels over each other
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    FigureCanvasAgg(figure)
    with replacing(path) as new:
        kind = path.suffix.removeprefix(".")
        figure.savefig(new, dpi=150, format=kind, metadata=figure_metadata(path.suffix))


def point(row: Row) -> tuple[float, float, Reach | None, Reach]:
    """Median latency (the mean where there is none), accuracy, and the reach of both intervals.

    Raises ValueError where the row has no accuracy.
    """
    latency = row.latency_ms
    accuracy = row.accuracy
    if accuracy is None:
        raise ValueError("a row without accuracy is no point")
    x = latency.p50 or latency.mean
    y = accuracy.accuracy
    interval = latency.intervals.get("p50")
    across = None if interval is None else _reach(x, interval)
    return x, y, across, _reach(y, accuracy.interval)


def _reach(value: float, interval: Interval) -> Reach:
    return [max(value - interval.low, 0.0)], [max(interval.high - value, 0.0)]


def _draw_points(axes: "Axes", rows: Sequence[Row]) -> None:
    names = names_of(rows)
    for i, row in enumerate(rows):
        x, y, across, up = point(row)
        axes.errorbar(
            x,
            y,
            xerr=across,
            yerr=up,
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=8,
            capsize=3,
            linewidth=1.4,
            label=f"{names[model_key(row)]}: {x:.3g} ms, {y:.1%}",
        )


def _scale_latency(axes: "Axes", latencies: Sequence[float]) -> None:
    """A logarithmic axis in milliseconds with ticks at 1, 2, 5, 10, …"""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    low = min(latencies) / 1.5
    high = max(latencies) * 1.5
    ticks = [digit * 10.0**exponent for exponent in range(-4, 6) for digit in (1, 2, 5)]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("latency of one image, ms (median, 95 % interval; log scale)")


def _scale_accuracy(axes: "Axes", accuracy: Accuracy | None) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    images = f"{accuracy.split}, {accuracy.n} images" if accuracy else ""
    axes.set_ylabel(f"accuracy on {images} (95 % interval)")
