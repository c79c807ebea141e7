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
from numpy.typing import NDArray

from kneeedge.data.dataset import Dataset
from kneeedge.inference.metrics import Evaluation
from kneeedge.model.spec import DISCLAIMER, PixelPath
from kneeedge.pixels.pixel_path import load_input
from kneeedge.statistics.reliability import FIGURE_BINS, reliability_bins
from kneeedge.system.files import replacing
from kneeedge.system.own import figure_metadata
from kneeedge.training.loop import Epoch

BLUE, ORANGE, GREY, RED = "#1f5fa8", "#d9722b", "#8a8a8a", "#b03a48"
COLOURS = (BLUE, ORANGE, "#2a8c5a", "#8a4fa3", "#b03a48", "#5b6770")


def draw_curves(history: Sequence[Epoch], best_epoch: int, path: Path, caveat: str = "") -> None:
    """Loss and accuracy of training and validation against the epoch; the kept epoch is marked."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _plot_curves(loss, "loss", history, best_epoch)
    _plot_curves(accuracy, "accuracy", history, best_epoch)
    loss.set_ylim(bottom=0)
    handles = loss.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    _save(figure, path, caveat)


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
    axes.grid(alpha=0.3)


def draw_confusion(evaluation: Evaluation, split: str, path: Path, caveat: str = "") -> None:
    """The confusion matrix with counts and the share of each row."""
    matrix = np.array(evaluation.confusion)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    n = len(matrix)
    figure = Figure(figsize=(2.6 + 1.2 * n, 2.2 + 1.1 * n), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(n, n):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{matrix[row, column]}\n{shares[row, column]:.1%}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(n), evaluation.classes, rotation=0 if n < 4 else 30)
    axes.set_yticks(range(n), evaluation.classes)
    title = f"{split}: accuracy {evaluation.accuracy.value:.1%} of {evaluation.n}"
    axes.set(xlabel="predicted", ylabel="true", title=title)
    _save(figure, path, caveat)


def draw_roc(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    evaluation: Evaluation,
    path: Path,
    caveat: str = "",
) -> None:
    """ROC of the positive class; of more than two classes, of each against the others."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    n_classes = len(evaluation.classes)
    positive = evaluation.classes.index(evaluation.positive)
    columns = [positive] if n_classes == 2 else range(n_classes)
    for colour, k in zip(COLOURS * n_classes, columns, strict=False):
        false_positive, true_positive = roc_points(labels == k, probabilities[:, k])
        area = float(np.trapezoid(true_positive, false_positive))
        label = f"{evaluation.classes[k]}: AUROC {area:.3f}"
        axes.plot(false_positive, true_positive, color=colour, label=label)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC")
    axes.set(aspect="equal", xlim=(-0.01, 1.01))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path, caveat)


def roc_points(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every threshold between two different scores.

    They run from (0, 0) to (1, 1).
    """
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    true_positive = np.cumsum(positive[order])[last_of_ties] / max(n_positive, 1)
    false_positive = np.cumsum(~positive[order])[last_of_ties] / max(n_negative, 1)
    return np.append(0.0, false_positive), np.append(0.0, true_positive)


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
    _save(figure, path, caveat)


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
    rng = np.random.default_rng(seed)
    for label, row in enumerate(grid):
        samples = [sample for sample in dataset.split("train") if sample.label == label]
        chosen = rng.permutation(len(samples))[:n]
        for axes in row:
            axes.axis("off")
        for axes, i in zip(row, chosen, strict=False):
            axes.imshow(load_input(samples[i].path, pixel_path), cmap="gray", vmin=0, vmax=255)
        row[0].set_title(dataset.classes[label], loc="left")
    _save(figure, path, private=True)


def _save(figure: Figure, path: Path, caveat: str = "", private: bool = False) -> None:
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
