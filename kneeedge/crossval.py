"""The folds of one recipe → mean, spread and pooled figures. Edge only: no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from kneeedge.answers import ANSWERS, read_answers
from kneeedge.errors import NotFoundError
from kneeedge.metrics import Evaluation, evaluate
from kneeedge.reliability import probability_errors
from kneeedge.scorecard import TITLES, figure_title, score_figures
from kneeedge.spec import DISCLAIMER, ModelSpec, Score

FOLDS = "folds.json"
FIGURES = ("accuracy", "sensitivity", "specificity", "auroc")


@dataclass(frozen=True)
class Spread:
    """One figure over the folds."""

    mean: float
    sd: float
    "standard deviation, n − 1"
    lowest: float
    highest: float


@dataclass(frozen=True)
class FoldAnswers:
    """What one fold's model said of the images that it was not trained on."""

    spec: ModelSpec
    names: tuple[str, ...]
    labels: NDArray[np.intp]
    "(N,)"
    probabilities: NDArray[np.float64]
    "(N, K)"
    groups: tuple[str, ...]

    @property
    def score(self) -> Score:
        return self.spec.training.scores["test"]


@dataclass(frozen=True)
class FoldsReport:
    """A cross-validation: every image tested once, by a model that saw none of its group."""

    run: str
    n_images: int
    n_groups: int
    "patients where known, joined with copies"
    folds: dict[str, Score]
    "on each fold's test images"
    spread: dict[str, Spread]
    "of accuracy, sensitivity, specificity and auroc, where every fold has them"
    pooled: Evaluation
    "all out-of-fold answers as one set, each at its own model's threshold"


def is_cross_validation(folder: Path) -> bool:
    """Whether `folder` holds the folds of a cross-validation rather than a run."""
    return (folder / fold_name(0) / "config.json").is_file()


def fold_name(k: int) -> str:
    """The folder of fold `k`, counted from 0."""
    return f"fold-{k + 1}"


def read_fold(folder: Path) -> FoldAnswers:
    """The test answers of the finished fold in `folder`; raises CheckpointError where they are damaged."""
    try:
        spec = ModelSpec.read(folder / "spec.json")
        found = read_answers(folder / ANSWERS, spec.classes, "test", "train the folds again")
    except FileNotFoundError as error:
        remedy = f"finish it with `kneeedge train --resume {folder.parent}`"
        raise NotFoundError(f"{error.filename}: the fold is not finished", remedy) from error
    return FoldAnswers(spec, found.names, found.labels, found.probabilities, found.groups)


def summarise(run: str, folds: Sequence[FoldAnswers]) -> FoldsReport:
    """What the folds say together."""
    scores = {fold_name(k): fold.score for k, fold in enumerate(folds)}
    values = {name: [getattr(score, name) for score in scores.values()] for name in FIGURES}
    spread = {
        name: Spread(mean(found), stdev(found), min(found), max(found))
        for name, found in values.items()
        if None not in found
    }
    groups = [group for fold in folds for group in fold.groups]
    return FoldsReport(run, len(groups), len(set(groups)), scores, spread, pool_answers(folds))


def pool_answers(folds: Sequence[FoldAnswers]) -> Evaluation:
    """The evaluation of all out-of-fold answers as one set.

    With two classes the log odds of each fold are moved so that its own threshold becomes 0.5: each image keeps the
    answer that its model gave. Calibration error, Brier score and log loss are those of the probabilities as given. An
    AUROC over several models ranks scores that are not on one scale (Forman and Scholz 2010, SIGKDD Explorations
    12:49); the mean over the folds stands beside it.
    """
    spec = folds[0].spec
    labels = np.concatenate([fold.labels for fold in folds])
    given = np.concatenate([fold.probabilities for fold in folds])
    groups = [group for fold in folds for group in fold.groups]
    if len(spec.classes) > 2:
        return evaluate(labels, given, spec, groups)
    at_half = replace(spec, threshold=0.5, threshold_rule="each fold's own, moved to 0.5")
    moved = evaluate(labels, np.concatenate([_at_half(fold) for fold in folds]), at_half, groups)
    errors = probability_errors(labels, given, spec.positive_index)
    return replace(moved, ece=errors.ece, brier=errors.brier, log_loss=errors.log_loss)


def folds_text(report: FoldsReport, folder: Path) -> str:
    """The end of `kneeedge train --folds K`."""
    n_folds, pooled = len(report.folds), report.pooled
    lines = [f"{n_folds} folds by group: {report.n_images:,} images, {report.n_groups:,} groups, each tested once", ""]
    for name, score in report.folds.items():
        lines.append(f"{name}: {score.n:,} images, {score_figures(score, FIGURES)}")
    lines.append("")
    for key, found in report.spread.items():
        span = f"{found.lowest:.4f} to {found.highest:.4f}"
        lines.append(f"{TITLES.get(key, key)}: mean {found.mean:.4f}, standard deviation {found.sd:.4f}, {span}")
    lines += ["", f"all {pooled.n:,} out-of-fold answers as one set, 95 % intervals:"]
    for key in FIGURES:
        value, interval = getattr(pooled, key), pooled.intervals.get(key)
        if value is not None:
            span = f" [{interval.low:.3f}, {interval.high:.3f}] ({pooled.interval_methods[key]})" if interval else ""
            lines.append(f"  {figure_title(key, pooled)} {value:.4f}{span}")
    lines += [
        "",
        "folds share training images: the spread understates what other data would change (Bengio and Grandvalet 2004)",
        f"folds: {folder}   a model to export is trained without --folds, on all the data; runs/latest is unchanged",
        DISCLAIMER,
    ]
    return "\n".join(lines)


def _at_half(fold: FoldAnswers) -> NDArray[np.float64]:
    positive, threshold = fold.spec.positive_index, fold.spec.threshold
    if threshold == 0.5:
        return fold.probabilities
    share = fold.probabilities[:, positive] * (1 - threshold)
    moved = share / (share + (1 - fold.probabilities[:, positive]) * threshold)
    both = np.empty_like(fold.probabilities)
    both[:, positive], both[:, 1 - positive] = moved, 1 - moved
    return both
