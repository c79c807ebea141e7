"""The figures of a run: curves, confusion matrix, ROC, calibration, and a sample sheet of the
classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kneeedge.data.dataset import Dataset
from kneeedge.inference.metrics import Evaluation
from kneeedge.model.spec import DISCLAIMER, PixelPath
from kneeedge.pixels.pixel_path import load_input
from kneeedge.statistics.reliability import FIGURE_BINS, reliability_bins
from kneeedge.system.files import replacing
from kneeedge.training.loop import Epoch

BLUE, ORANGE, GREY, RED = "#1f5fa8", "#d9722b", "#8a8a8a", "#b03a48"
COLOURS = (BLUE, ORANGE, "#2a8c5a", "#8a4fa3", "#b03a48", "#5b6770")


def draw_curves(history: Sequence[Epoch], best_epoch: int, path: Path, caveat: str = "") -> None:
    """Loss and accuracy of training and validation against the epoch; the kept epoch is marked."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    mark = "o" if len(history) < 40 else None
    for axes, name, rows in (
        (loss, "loss", ([r.loss for r in history], [r.val_loss for r in history])),
        (accuracy, "accuracy", ([r.accuracy for r in history], [r.val_accuracy for r in history])),
    ):
        axes.plot(
            epochs,
            rows[0],
            color=BLUE,
            marker=mark,
            markersize=3,
            label="training (augmented views)",
        )
        axes.plot(epochs, rows[1], color=ORANGE, marker=mark, markersize=3, label="validation")
        axes.axvline(
            best_epoch, color=GREY, linewidth=1, linestyle="--", label=f"kept: epoch {best_epoch}"
        )
        axes.set(xlabel="epoch", ylabel=name, title=name.capitalize())
        axes.grid(alpha=0.3)
    loss.set_ylim(bottom=0)
    figure.legend(
        *loss.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    _save(figure, path, caveat)


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
    axes.set(
        xlabel="predicted",
        ylabel="true",
        title=f"{split}: accuracy {evaluation.accuracy:.1%} of {evaluation.n}",
    )
    _save(figure, path, caveat)


def draw_roc(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    evaluation: Evaluation,
    path: Path,
    caveat: str = "",
) -> None:
    """ROC of the positive class, or of each class against the rest where there are more than two."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    positive = evaluation.classes.index(evaluation.positive)
    chosen = [positive] if len(evaluation.classes) == 2 else range(len(evaluation.classes))
    for colour, k in zip(COLOURS * len(evaluation.classes), chosen, strict=False):
        false_positive, true_positive = roc_points(labels == k, probabilities[:, k])
        name = evaluation.classes[k]
        area = float(np.trapezoid(true_positive, false_positive))
        axes.plot(false_positive, true_positive, color=colour, label=f"{name}: AUROC {area:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    axes.set(
        xlabel="1 − specificity",
        ylabel="sensitivity",
        title="ROC",
        aspect="equal",
        xlim=(-0.01, 1.01),
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path, caveat)


def roc_points(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """False and true positive rates at every threshold between two different scores, from (0, 0) to
    (1, 1).
    """
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = np.cumsum(positive[order])[last_of_ties] / max(int(positive.sum()), 1)
    false = np.cumsum(~positive[order])[last_of_ties] / max(int((~positive).sum()), 1)
    return np.append(0.0, false), np.append(0.0, true)


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


def draw_calibration(
    shown: Reliability, evaluation: Evaluation, path: Path, caveat: str = ""
) -> None:
    """Observed share of the positive class against the mean of its probability, in ten equal bins,
    before and after.

    Bars are Wilson's 95 % intervals, and the histogram counts the images of each bin.
    """
    positive = evaluation.classes.index(evaluation.positive)
    truth = shown.labels == positive
    scores = shown.after[:, positive]
    figure = Figure(figsize=(5.6, 6.6), layout="constrained")
    axes, counts = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    before = evaluation.uncalibrated
    if before:
        _plot_bins(
            axes, truth, shown.before[:, positive], GREY, f"temperature 1: ECE {before.ece:.4f}"
        )
    word = "fitted temperature" if before else "observed"
    _plot_bins(axes, truth, scores, BLUE, f"{word}: ECE {evaluation.ece:.4f}")
    axes.set(ylabel=f"share that is {evaluation.positive}", ylim=(-0.02, 1.02))
    axes.set_title(f"Reliability on {shown.split}, {evaluation.n} images, 95 % bars")
    axes.grid(alpha=0.3)
    edges = np.linspace(0, 1, FIGURE_BINS + 1)
    if before:
        counts.hist(shown.before[:, positive], edges, histtype="step", color=GREY)
    counts.hist(scores, edges, color=BLUE, alpha=0.8, rwidth=0.9)
    counts.set(xlabel=f"probability of {evaluation.positive}", ylabel="images", xlim=(-0.02, 1.02))
    if len(evaluation.classes) == 2:
        for part in (axes, counts):
            part.axvline(
                evaluation.threshold,
                color=ORANGE,
                linewidth=1,
                label=f"threshold {evaluation.threshold:.3g}",
            )
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    _save(figure, path, caveat)


def _plot_bins(
    axes: Axes, truth: NDArray[np.bool_], scores: NDArray[np.float64], colour: str, label: str
) -> None:
    bins = reliability_bins(truth, scores)
    observed = np.array([each.observed for each in bins])
    bars = [
        observed - [each.interval.low for each in bins],
        [each.interval.high for each in bins] - observed,
    ]
    means = [each.mean for each in bins]
    axes.errorbar(
        means,
        observed,
        np.maximum(bars, 0),
        color=colour,
        marker="o",
        markersize=4,
        capsize=2,
        label=label,
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
    _save(figure, path)


def _save(figure: Figure, path: Path, caveat: str = "") -> None:
    if (
        caveat
    ):  # why the figures are too good: on the picture itself, since pictures are passed on alone
        figure.suptitle(
            "\n".join(wrap(caveat, int(9 * figure.get_figwidth()))),
            color=RED,
            fontsize=9,
            weight="bold",
        )
    figure.get_layout_engine().set(rect=(0.0, 0.03, 1.0, 0.97))  # type: ignore[union-attr, call-arg]
    figure.text(0.995, 0.004, DISCLAIMER, ha="right", va="bottom", fontsize=6, color=GREY)
    FigureCanvasAgg(figure)
    with replacing(path) as new:
        figure.savefig(new, dpi=120, format=path.suffix.removeprefix("."))
