"""The figures of a run: curves, confusion matrix, ROC, reliability, and a sheet of samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from kneeedge.data.dataset import Dataset, some_of_each_class
from kneeedge.inference.metrics import Evaluation
from kneeedge.model.spec import DISCLAIMER, PixelPath
from kneeedge.pixels.pixel_path import load_input
from kneeedge.report.scorecard import cell_interval, span_text
from kneeedge.statistics.auroc import roc_points
from kneeedge.statistics.curves import loss_top
from kneeedge.statistics.intervals import Estimate
from kneeedge.statistics.reliability import FIGURE_BINS, reliability_bins
from kneeedge.system.files import replacing
from kneeedge.system.own import figure_metadata
from kneeedge.training.loop import Epoch

BLUE, ORANGE, GREY, RED = "#1f5fa8", "#d9722b", "#8a8a8a", "#b03a48"
COLOURS = (BLUE, ORANGE, "#2a8c5a", "#8a4fa3", "#b03a48", "#5b6770")
N_CUT_NAMED = 4
"of the losses that are cut off"


def draw_curves(
    history: Sequence[Epoch],
    best_epoch: int,
    path: Path,
    caveat: str = "",
    chosen_by_auroc: bool = True,
) -> None:
    """Loss, accuracy and validation AUROC against the epoch; the kept epoch is marked.

    First losses far above all later ones are cut off, and written out. Without `chosen_by_auroc`
    the AUROC decided nothing, and its panel is left out.
    """
    n_panels = 3 if chosen_by_auroc else 2
    figure = Figure(figsize=(5 * n_panels, 4), layout="constrained")
    loss, accuracy, *rest = figure.subplots(1, n_panels)
    _plot_curves(loss, "loss", history, best_epoch)
    _limit_loss(loss, history)
    _plot_curves(accuracy, "accuracy", history, best_epoch)
    for auroc in rest:
        _plot_auroc(auroc, history, best_epoch)
    handles = loss.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, path, caveat)


def _plot_curves(axes: Axes, name: str, history: Sequence[Epoch], best_epoch: int) -> None:
    epochs = [row.epoch for row in history]
    training = [getattr(row, name) for row in history]
    validation = [getattr(row, f"val_{name}") for row in history]
    marker = "o" if len(history) < 40 else None
    label = "training (augmented views)"
    axes.plot(epochs, training, color=BLUE, marker=marker, markersize=3, label=label)
    axes.plot(epochs, validation, color=ORANGE, marker=marker, markersize=3, label="validation")
    label = f"kept: epoch {best_epoch}"
    axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle="--", label=label)
    axes.set(xlabel="epoch", ylabel=name, title=name.capitalize())
    _plain_epochs(axes)


def _plot_auroc(axes: Axes, history: Sequence[Epoch], best_epoch: int) -> None:
    """Validation AUROC, by which the kept epoch was chosen."""
    epochs = [row.epoch for row in history]
    values = [row.val_auroc for row in history]
    marker = "o" if len(history) < 40 else None
    axes.plot(epochs, values, color=ORANGE, marker=marker, markersize=3)
    axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle="--")
    best = [row.val_auroc for row in history if row.epoch == best_epoch]
    shown = f", {best[0]:.4f}" if best else ""
    title = f"Validation AUROC: chose epoch {best_epoch}{shown}"
    axes.set(xlabel="epoch", ylabel="AUROC", title=title)
    _plain_epochs(axes)


def _plain_epochs(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _limit_loss(axes: Axes, history: Sequence[Epoch]) -> None:
    """Let the loss axis show the later epochs, and say what is above it."""
    losses = [(row.loss, row.val_loss) for row in history]
    top = loss_top(losses)
    axes.set_ylim(bottom=0, top=top)
    above = [
        f"epoch {row.epoch}: {name} {value:.3g}"
        for row, values in zip(history, losses, strict=True)
        for name, value in zip(("training", "validation"), values, strict=True)
        if top is not None and value > top
    ]
    if above:
        shown = above[:N_CUT_NAMED]
        if len(above) > N_CUT_NAMED:
            shown.append(f"and {len(above) - N_CUT_NAMED} more")
        words = "\n".join(["cut off ↑", *shown])
        note = axes.text(0.98, 0.97, words, transform=axes.transAxes, ha="right", va="top")
        note.set(fontsize=8, color=RED)


def draw_confusion(evaluation: Evaluation, split: str, path: Path, caveat: str = "") -> None:
    """The confusion matrix: counts, the share of each row, and its interval where there is one."""
    matrix = np.array(evaluation.confusion)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    n = len(matrix)
    figure = Figure(figsize=(2.9 + 1.4 * n, 2.4 + 1.1 * n), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(n, n):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{matrix[row, column]}\n{shares[row, column]:.1%}"
        interval = cell_interval(evaluation, row, column)
        if interval:
            text += f"\n{span_text(interval)}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(n), evaluation.classes, rotation=0 if n < 4 else 30)
    axes.set_yticks(range(n), evaluation.classes)
    accuracy = evaluation.accuracy
    title = f"{split}: accuracy {accuracy.value:.1%} {span_text(accuracy.interval)}"
    axes.set(xlabel="predicted", ylabel="true", title=f"{title} of {evaluation.n}")
    save_figure(figure, path, caveat)


def draw_roc(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    evaluation: Evaluation,
    path: Path,
    caveat: str = "",
) -> None:
    """ROC of the positive class with its operating point; of more, of each against the rest.

    Bars at the operating point and brackets behind an AUROC are 95 % intervals.
    """
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    n_classes = len(evaluation.classes)
    positive = evaluation.classes.index(evaluation.positive)
    columns = [positive] if n_classes == 2 else range(n_classes)
    for colour, k in zip(COLOURS * n_classes, columns, strict=False):
        false_positive, true_positive = roc_points(labels == k, probabilities[:, k])
        axes.plot(false_positive, true_positive, color=colour, label=_roc_label(evaluation, k))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    if n_classes == 2 and evaluation.sensitivity and evaluation.specificity:
        _plot_operating_point(axes, evaluation, evaluation.sensitivity, evaluation.specificity)
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC")
    axes.set(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    save_figure(figure, path, caveat)


def _roc_label(evaluation: Evaluation, k: int) -> str:
    name = evaluation.classes[k]
    of_class = evaluation.one_versus_rest.get(name)
    estimate = of_class.auroc if of_class else evaluation.auroc
    if estimate is None:
        return f"{name}: one class alone, no AUROC"
    low, high = estimate.interval.low, estimate.interval.high
    return f"{name}: AUROC {estimate.value:.3f} [{low:.3f}, {high:.3f}]"


def _plot_operating_point(
    axes: Axes, evaluation: Evaluation, sensitivity: Estimate, specificity: Estimate
) -> None:
    false_positive = 1 - specificity.value
    across = _reach(false_positive, 1 - specificity.interval.high, 1 - specificity.interval.low)
    up = _reach(sensitivity.value, sensitivity.interval.low, sensitivity.interval.high)
    label = (
        f"threshold {evaluation.threshold:.3g}: sensitivity {sensitivity.value:.1%} "
        f"{span_text(sensitivity.interval)},\nspecificity {specificity.value:.1%} "
        f"{span_text(specificity.interval)}"
    )
    axes.errorbar(
        [false_positive],
        [sensitivity.value],
        xerr=across,
        yerr=up,
        color=ORANGE,
        marker="o",
        markersize=5,
        capsize=3,
        label=label,
        zorder=3,
    )


def _reach(value: float, low: float, high: float) -> list[list[float]]:
    """How far an interval reaches below its value and above it, as error bars take it."""
    return [[max(value - low, 0.0)], [max(high - value, 0.0)]]


@dataclass(frozen=True)
class Reliability:
    """What a reliability figure is drawn from."""

    split: str
    labels: NDArray[np.int64]
    "(N,)"
    before: NDArray[np.float64]
    "probabilities (N, K) at temperature 1"
    after: NDArray[np.float64]
    "probabilities (N, K) at the fitted temperature"


def draw_reliability(
    reliability: Reliability, evaluation: Evaluation, path: Path, caveat: str = ""
) -> None:
    """Observed share of the positive class against its mean probability, in ten equal bins.

    Drawn for the fitted temperature and, where one was fitted, for temperature 1. Bars are Wilson's
    95 % intervals, and the histogram counts the images of each bin.
    """
    figure = Figure(figsize=(5.6, 6.6), layout="constrained")
    axes, counts = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    _plot_shares(axes, reliability, evaluation)
    _plot_counts(counts, reliability, evaluation)
    if len(evaluation.classes) == 2:
        label = f"threshold {evaluation.threshold:.3g}"
        for panel in (axes, counts):
            panel.axvline(evaluation.threshold, color=ORANGE, linewidth=1, label=label)
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    save_figure(figure, path, caveat)


def _plot_shares(axes: Axes, reliability: Reliability, evaluation: Evaluation) -> None:
    positive = evaluation.classes.index(evaluation.positive)
    truth = reliability.labels == positive
    before = evaluation.uncalibrated
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    if before:
        label = f"temperature 1: ECE {before.ece:.4f}"
        _plot_bins(axes, truth, reliability.before[:, positive], GREY, label)
    kind = "fitted temperature" if before else "observed"
    label = f"{kind}: ECE {evaluation.ece:.4f}"
    _plot_bins(axes, truth, reliability.after[:, positive], BLUE, label)
    axes.set(ylabel=f"share that is {evaluation.positive}", ylim=(-0.02, 1.02))
    axes.set_title(f"Reliability on {reliability.split}, {evaluation.n} images, 95 % bars")
    axes.grid(alpha=0.3)


def _plot_counts(axes: Axes, reliability: Reliability, evaluation: Evaluation) -> None:
    positive = evaluation.classes.index(evaluation.positive)
    edges = np.linspace(0, 1, FIGURE_BINS + 1).tolist()
    if evaluation.uncalibrated:
        axes.hist(reliability.before[:, positive], edges, histtype="step", color=GREY)
    axes.hist(reliability.after[:, positive], edges, color=BLUE, alpha=0.8, rwidth=0.9)
    axes.set(xlabel=f"probability of {evaluation.positive}", ylabel="images", xlim=(-0.02, 1.02))


def _plot_bins(
    axes: Axes, truth: NDArray[np.bool_], scores: NDArray[np.float64], colour: str, label: str
) -> None:
    bins = reliability_bins(truth, scores)
    means = [b.mean for b in bins]
    observed = np.array([b.observed for b in bins])
    below = observed - [b.interval.low for b in bins]
    above = [b.interval.high for b in bins] - observed
    bars = np.maximum([below, above], 0)
    axes.errorbar(
        means, observed, bars, color=colour, marker="o", markersize=4, capsize=2, label=label
    )


def draw_samples(
    dataset: Dataset, pixel_path: PixelPath, seed: int, path: Path, n: int = 5
) -> None:
    """A few training images of each class as the network sees them, before augmentation."""
    figure = Figure(figsize=(2 * n, 2.3 * len(dataset.classes)), layout="constrained")
    grid = figure.subplots(len(dataset.classes), n, squeeze=False)
    chosen = some_of_each_class(dataset, seed, n)
    for name, samples, row in zip(dataset.classes, chosen, grid, strict=True):
        for axes in row:
            axes.axis("off")
        for axes, sample in zip(row, samples, strict=False):
            axes.imshow(load_input(sample.path, pixel_path), cmap="gray", vmin=0, vmax=255)
        row[0].set_title(name, loc="left")
    save_figure(figure, path, private=True)


def save_figure(figure: Figure, path: Path, caveat: str = "", private: bool = False) -> None:
    """Write the figure; what it says of classes is text and no formula, whatever $ it has."""
    # Why the figures are too good stands on the picture itself, since pictures are passed on alone.
    if caveat:
        text = "\n".join(wrap(caveat, int(9 * figure.get_figwidth())))
        figure.suptitle(text, color=RED, fontsize=9, weight="bold")
    figure.get_layout_engine().set(rect=(0.0, 0.03, 1.0, 0.97))  # type: ignore[union-attr, call-arg]
    figure.text(0.995, 0.004, DISCLAIMER, ha="right", va="bottom", fontsize=6, color=GREY)
    for words in figure.findobj(Text):
        words.set_parse_math(False)
    FigureCanvasAgg(figure)
    with replacing(path, private) as new:
        kind = path.suffix.removeprefix(".")
        figure.savefig(new, dpi=120, format=kind, metadata=figure_metadata(path.suffix))
