"""The folds of one recipe → mean, spread and pooled figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import NotFoundError
from kneeedge.inference.metrics import Evaluation, evaluate
from kneeedge.model.provenance import Score
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.folder import Run
from kneeedge.statistics.reliability import probability_errors

FIGURES = ("accuracy", "sensitivity", "specificity", "auroc")


@dataclass(frozen=True)
class Spread:
    """One figure over the folds."""

    mean: float
    sd: float
    "standard deviation, n − 1"
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class FoldAnswers:
    """The answers of one fold's model to the images that it was not trained on."""

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


@dataclass(frozen=True, kw_only=True)
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


def read_fold(run: Run) -> FoldAnswers:
    """The test answers of a finished fold.

    Raises NotFoundError where it is not finished, CheckpointError where its answers are damaged.
    """
    try:
        spec = run.read_spec()
        recorded = run.read_answers(spec.classes, "test", "train the folds again")
    except FileNotFoundError as error:
        remedy = f"finish it with `kneeedge train --resume {run.folder.parent}`"
        raise NotFoundError(f"{error.filename}: the fold is not finished", remedy) from error
    return FoldAnswers(
        spec=spec,
        names=recorded.names,
        labels=recorded.labels,
        probabilities=recorded.probabilities,
        groups=recorded.groups,
    )


def folds_report(run: str, folds: Sequence[FoldAnswers]) -> FoldsReport:
    """Each fold's scores, their spread, and all answers pooled; `run` is the folds' name."""
    scores = {f"fold-{k + 1}": fold.score for k, fold in enumerate(folds)}
    spread = {}
    for name in FIGURES:
        values = [getattr(score, name) for score in scores.values()]
        if None not in values:
            spread[name] = Spread(mean(values), stdev(values), min(values), max(values))
    groups = [group for fold in folds for group in fold.groups]
    return FoldsReport(
        run=run,
        n_images=len(groups),
        n_groups=len(set(groups)),
        folds=scores,
        spread=spread,
        pooled=pool_answers(folds),
    )


def pool_answers(folds: Sequence[FoldAnswers]) -> Evaluation:
    """The evaluation of all out-of-fold answers as one set.

    With two classes the log odds of each fold are moved so that its own threshold becomes 0.5: each
    image keeps the answer that its model gave. Calibration error, Brier score and log loss are
    those of the probabilities as given. An AUROC over several models ranks scores that are not on
    one scale (Forman and Scholz 2010, SIGKDD Explorations 12:49); the mean over the folds stands
    beside it.
    """
    spec = folds[0].spec
    labels = np.concatenate([fold.labels for fold in folds])
    probabilities = np.concatenate([fold.probabilities for fold in folds])
    groups = [group for fold in folds for group in fold.groups]
    if len(spec.classes) > 2:
        return evaluate(labels, probabilities, spec, groups)
    moved = np.concatenate([_moved_to_half(fold) for fold in folds])
    rule = "each fold's own, moved to 0.5"
    at_half = replace(spec, threshold=0.5, threshold_rule=rule, certified=None)
    evaluation = evaluate(labels, moved, at_half, groups)
    errors = probability_errors(labels, probabilities, spec.positive_index)
    return replace(evaluation, ece=errors.ece, brier=errors.brier, log_loss=errors.log_loss)


def _moved_to_half(fold: FoldAnswers) -> NDArray[np.float64]:
    """The fold's probabilities (N, 2), the log odds moved so that its threshold becomes 0.5."""
    threshold = fold.spec.threshold
    if threshold == 0.5:
        return fold.probabilities
    positive = fold.spec.positive_index
    for_positive = fold.probabilities[:, positive] * (1 - threshold)
    for_negative = (1 - fold.probabilities[:, positive]) * threshold
    moved = np.empty_like(fold.probabilities)
    moved[:, positive] = for_positive / (for_positive + for_negative)
    moved[:, 1 - positive] = 1 - moved[:, positive]
    return moved
