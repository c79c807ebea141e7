"""The figures of a run: curves, confusion matrix, ROC, calibration, and a sample sheet of the classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kneeedge.dataset import Dataset
from kneeedge.metrics import Evaluation
from kneeedge.preprocess import load_input
from kneeedge.spec import DISCLAIMER, PixelPath
from kneeedge.training.loop import Epoch

BLUE, ORANGE, GREY = "#1f5fa8", "#d9722b", "#8a8a8a"
COLOURS = (BLUE, ORANGE, "#2a8c5a", "#8a4fa3", "#b03a48", "#5b6770")
N_BINS = 10


def draw_curves(history: Sequence[Epoch], best_epoch: int, path: Path) -> None:
    """Loss and accuracy of training and validation against the epoch; the kept epoch is marked."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    mark = "o" if len(history) < 40 else None
    for axes, name, rows in (
        (loss, "loss", ([r.loss for r in history], [r.val_loss for r in history])),
        (accuracy, "accuracy", ([r.accuracy for r in history], [r.val_accuracy for r in history])),
    ):
        axes.plot(epochs, rows[0], color=BLUE, marker=mark, markersize=3, label="training (augmented views)")
        axes.plot(epochs, rows[1], color=ORANGE, marker=mark, markersize=3, label="validation")
        axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle="--", label=f"kept: epoch {best_epoch}")
        axes.set(xlabel="epoch", ylabel=name, title=name.capitalize())
        axes.grid(alpha=0.3)
    loss.set_ylim(bottom=0)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    _save(figure, path)


def draw_confusion(evaluation: Evaluation, split: str, path: Path) -> None:
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
    _save(figure, path)


def draw_roc(labels: NDArray[np.int64], probabilities: NDArray[np.float64], evaluation: Evaluation, path: Path) -> None:
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
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC", aspect="equal", xlim=(-0.01, 1.01))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def roc_points(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """False and true positive rates at every threshold between two different scores, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = np.cumsum(positive[order])[last_of_ties] / max(int(positive.sum()), 1)
    false = np.cumsum(~positive[order])[last_of_ties] / max(int((~positive).sum()), 1)
    return np.append(0.0, false), np.append(0.0, true)


def draw_calibration(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], evaluation: Evaluation, path: Path
) -> None:
    """Observed share of the positive class against the mean of its probability, in ten equal bins."""
    positive = evaluation.classes.index(evaluation.positive)
    scores, truth = probabilities[:, positive], labels == positive
    bins = np.minimum((scores * N_BINS).astype(int), N_BINS - 1)
    filled = [k for k in range(N_BINS) if (bins == k).any()]
    figure = Figure(figsize=(5, 6), layout="constrained")
    axes, counts = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfect")
    observed = [truth[bins == k].mean() for k in filled]
    axes.plot([scores[bins == k].mean() for k in filled], observed, color=BLUE, marker="o", label="observed")
    axes.set(ylabel=f"share that is {evaluation.positive}", title="Calibration", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    counts.bar((np.arange(N_BINS) + 0.5) / N_BINS, np.bincount(bins, minlength=N_BINS), width=0.09, color=BLUE)
    counts.set(xlabel=f"probability of {evaluation.positive}", ylabel="images", xlim=(0, 1))
    _save(figure, path)


def draw_samples(dataset: Dataset, pixel_path: PixelPath, seed: int, path: Path, n: int = 5) -> None:
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


def _save(figure: Figure, path: Path) -> None:
    figure.get_layout_engine().set(rect=(0.0, 0.03, 1.0, 0.97))  # type: ignore[union-attr, call-arg]
    figure.text(0.995, 0.004, DISCLAIMER, ha="right", va="bottom", fontsize=6, color=GREY)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)
