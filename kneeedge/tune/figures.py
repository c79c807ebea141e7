"""The figures of a study: trial by trial, what mattered, and each field against the loss."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from kneeedge.runs.tuning import COMPLETE, Study, Trial, TuneReport
from kneeedge.training.figures import BLUE, GREY, ORANGE, RED, save_figure

COLUMNS = 4
LOSS = "mean log loss of the folds"
LOGARITHMIC = "logarithmic"


def draw(study: Study, report: TuneReport) -> None:
    """Draw all figures; without importances there is none of them."""
    complete = [trial for trial in report.trials if trial.state == COMPLETE]
    given_up = [trial for trial in report.trials if trial.state != COMPLETE and trial.reports]
    draw_history(study, complete, given_up)
    draw_slices(study, report, complete, given_up)
    if report.importance:
        draw_importance(study, report.importance)


def last_loss(trial: Trial) -> float:
    """Of a trial that was given up, on the images that it had come to."""
    return trial.reports[max(trial.reports, key=int)]


def draw_history(study: Study, complete: Sequence[Trial], given_up: Sequence[Trial]) -> None:
    """Each trial's loss by its number, the best so far, and where others were given up."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    numbers = [trial.number for trial in complete]
    values = [trial.loss for trial in complete]
    axes.plot(numbers, values, "o", color=BLUE, markersize=4, label="complete")
    axes.step(
        numbers, np.minimum.accumulate(values), color=ORANGE, where="post", label="best so far"
    )
    if given_up:
        last = [last_loss(trial) for trial in given_up]
        places = [trial.number for trial in given_up]
        label = "given up: its last log loss"
        axes.plot(places, last, "x", color=GREY, markersize=5, label=label)
    axes.axhline(values[0], color=RED, linewidth=1, linestyle="--", label="the default")
    axes.set(xlabel="trial", ylabel=LOSS, title="Search")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save_figure(figure, study.folder / "history.png")


def draw_importance(study: Study, importance: dict[str, float]) -> None:
    """How much each field has to do with being among the best tenth (PED-ANOVA)."""
    names = list(importance)[::-1]
    figure = Figure(figsize=(7, 1.5 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [importance[name] for name in names], color=BLUE)
    axes.set(xlabel="share", title="What mattered (PED-ANOVA)", xlim=(0, 1))
    axes.grid(alpha=0.3, axis="x")
    save_figure(figure, study.folder / "importance.png")


def draw_slices(
    study: Study, report: TuneReport, complete: Sequence[Trial], given_up: Sequence[Trial]
) -> None:
    """Each searched field against the loss; later trials are darker, the default is a ring.

    What was given up is a cross at its last loss.
    """
    names = list(report.space)
    n_rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.8 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, COLUMNS, squeeze=False, sharey=True).flatten()
    for axes, name in zip(panels, names, strict=False):
        draw_slice(axes, name, report.space[name], complete, given_up)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for row in range(n_rows):
        panels[row * COLUMNS].set_ylabel("log loss")
    save_figure(figure, study.folder / "slices.png")


def draw_slice(
    axes: Axes,
    name: str,
    drawn_from: str,
    complete: Sequence[Trial],
    given_up: Sequence[Trial],
) -> None:
    values = [trial.fields.values[name] for trial in (*complete, *given_up)]
    losses = [trial.loss for trial in complete]
    numbers = [trial.number for trial in complete]
    n = len(complete)
    places: list[Any] = values
    if drawn_from.startswith("one of "):
        choices = sorted(set(values))
        places = [choices.index(value) for value in values]
        labels = [str(choice)[:12] or "none" for choice in choices]
        axes.set_xticks(range(len(choices)), labels)
    elif drawn_from.endswith(LOGARITHMIC):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    last = [last_loss(trial) for trial in given_up]
    axes.plot(places[n:], last, "x", color=GREY, markersize=4)
    axes.scatter(places[:n], losses, c=numbers, cmap="Blues", vmin=-max(numbers) / 2 - 1, s=18)
    axes.scatter(places[:1], losses[:1], facecolors="none", edgecolors=RED, s=60)
    axes.set_title(name, fontsize=9)
    axes.grid(alpha=0.3)
