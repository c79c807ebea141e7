"""Accuracy against latency, both with their intervals: what is bought, and for what."""

from pathlib import Path

from kneeedge.bench.advice import names_of
from kneeedge.errors import ConfigError, MissingExtraError
from kneeedge.model.spec import DISCLAIMER
from kneeedge.runs.benchmark import BenchResult, Row, single_rows
from kneeedge.system.files import replacing

COLOURS = ("#1f5fa8", "#d9722b", "#2a8c5a", "#8a4fa3", "#b03a48", "#5b6770")
MARKERS = "osD^vPX*"
GREY = "#8a8a8a"
SUFFIXES = (".png", ".svg", ".pdf")


def check_figure(path: Path, has_accuracy: bool) -> None:
    """Raise, before anything is measured, where the figure could not be drawn."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(
            f"--figure {path}: no kind of picture",
            f"give a name that ends in {' or '.join(SUFFIXES)}",
        )
    if not has_accuracy:
        raise ConfigError(
            "--figure shows accuracy against latency", "give labelled images with --data"
        )
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "--figure", "matplotlib", "pip install 'kneeedge[train]'"
        ) from error


def draw_figure(result: BenchResult, path: Path) -> None:
    """The SingleStream rows; a legend names the points, since equal accuracies would lay labels
    over each other.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

    rows = [row for row in single_rows(result) if row.accuracy is not None]
    names = names_of(rows)
    figure = Figure(figsize=(7.5, 5.2), layout="constrained")
    axes = figure.subplots()
    for i, row in enumerate(rows):
        colour = COLOURS[i % len(COLOURS)]
        x, y, across, up = point(row)
        axes.errorbar(
            x,
            y,
            xerr=across,
            yerr=up,
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markersize=8,
            capsize=3,
            linewidth=1.4,
            label=f"{names[(row.model, row.precision, row.provider)]}: {x:.3g} ms, {y:.1%}",
        )
    axes.set_xscale("log")
    low = min(point(row)[0] for row in rows)
    high = max(point(row)[0] for row in rows)
    axes.set_xlim(low / 1.5, high * 1.5)
    ticks = [d * 10.0**e for e in range(-4, 6) for d in (1, 2, 5)]
    axes.set_xticks([t for t in ticks if low / 1.5 <= t <= high * 1.5])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    found = rows[0].accuracy
    split = f"{found.split}, {found.n} images" if found else ""
    axes.set(
        xlabel="latency of one image, ms (median, 95 % interval; log scale)",
        ylabel=f"accuracy on {split} (95 % interval)",
    )
    axes.set_title(
        f"{result.environment.cpu}, {rows[0].threads} threads, one image at a time",
        fontsize=10,
        pad=14,
    )
    axes.text(
        0.5,
        1.008,
        DISCLAIMER,
        ha="center",
        va="bottom",
        fontsize=6,
        color=GREY,
        transform=axes.transAxes,
    )
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    FigureCanvasAgg(figure)
    with replacing(path) as new:
        figure.savefig(new, dpi=150, format=path.suffix.removeprefix("."))


def point(
    row: Row,
) -> tuple[float, float, tuple[list[float], list[float]] | None, tuple[list[float], list[float]]]:
    """Median latency (the mean where there is none), accuracy, and how far the intervals reach to
    either side.
    """
    latency = row.latency_ms
    found = row.accuracy
    if found is None:
        raise ValueError("a row without accuracy is no point")
    x = latency.p50 or latency.mean
    y = found.accuracy
    interval = latency.intervals.get("p50")
    across = ([max(x - interval.low, 0.0)], [max(interval.high - x, 0.0)]) if interval else None
    return x, y, across, ([max(y - found.interval.low, 0.0)], [max(found.interval.high - y, 0.0)])
