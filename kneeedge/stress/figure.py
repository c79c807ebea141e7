"""Accuracy by severity, a panel a kind, a line a model; the share refused in grey behind it."""

from pathlib import Path
from typing import TYPE_CHECKING

from kneeedge.errors import ConfigError, MissingExtraError
from kneeedge.model.spec import DISCLAIMER
from kneeedge.stress.record import CellScore, StressedModel, StressReport
from kneeedge.system.files import replacing
from kneeedge.system.own import figure_metadata

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#1f5fa8", "#d9722b", "#2a8c5a", "#8a4fa3", "#b03a48", "#5b6770")
MARKERS = "osD^vP"
GREY = "#8a8a8a"
COLUMNS = 6


def check_figure(path: Path) -> None:
    """Raise, before anything is asked, where the figure could not be drawn."""
    if path.suffix not in SUFFIXES:
        problem = f"--out {path}: no kind of picture"
        raise ConfigError(problem, f"give a name that ends in {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        install = "pip install 'kneeedge[train]', or leave --out out"
        raise MissingExtraError("--out", "matplotlib", install) from error


def draw_stress(report: StressReport, path: Path) -> None:
    """Draw every kind into `path`: accuracy of each model with its interval, and refusals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = report.models[0].kinds
    columns = min(COLUMNS, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(2.1 * columns + 0.8, 1.9 * rows + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for kind, axes in zip(kinds, panels, strict=False):
        for i, model in enumerate(report.models):
            _draw_line(axes, model, kind, i)
        _finish(axes, kind, report)
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    title = f"{report.split}, {report.n} images, by severity; 0 is clean"
    figure.suptitle(f"{title}\n{DISCLAIMER}", fontsize=9)
    figure.supylabel("accuracy (95 % interval); share refused", fontsize=9)
    with replacing(path) as new:
        kind = path.suffix.removeprefix(".")
        figure.savefig(new, dpi=150, format=kind, metadata=figure_metadata(path.suffix))


def _draw_line(axes: "Axes", model: StressedModel, kind: str, i: int) -> None:
    rows: list[CellScore] = [model.clean, *model.of_kind(kind)]
    severities = [row.severity for row in rows]
    accuracies = [row.accuracy.value for row in rows]
    low = [row.accuracy.interval.low for row in rows]
    high = [row.accuracy.interval.high for row in rows]
    colour = COLOURS[i % len(COLOURS)]
    marker = MARKERS[i % len(MARKERS)]
    name = f"{Path(model.model).name}: accuracy"
    axes.plot(severities, accuracies, color=colour, marker=marker, ms=3, lw=1.2, label=name)
    axes.fill_between(severities, low, high, color=colour, alpha=0.15, lw=0)
    if i == 0:
        refused = [row.refused.value for row in rows]
        label = f"{Path(model.model).name}: share refused"
        axes.plot(severities, refused, color=GREY, ls="--", lw=1, label=label)


def _finish(axes: "Axes", kind: str, report: StressReport) -> None:
    last = report.models[0].of_kind(kind)[-1].severity
    axes.set_title(kind, fontsize=9)
    axes.set_xlim(-0.2, max(last, 1) + 0.2)
    axes.set_xticks(sorted({0, *(row.severity for row in report.models[0].of_kind(kind))}))
    axes.set_ylim(-0.02, 1.02)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
