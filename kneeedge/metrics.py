"""How good a model is on labelled images: every figure beside its 95 % interval."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from kneeedge.spec import ModelSpec, Score

LEVEL = 0.95
Z_TWO_SIDED = NormalDist().inv_cdf((1 + LEVEL) / 2)  # 1.9600
Z_ONE_SIDED = NormalDist().inv_cdf(LEVEL)  # 1.6449
CALIBRATION_BINS = 15  # Guo et al. 2017
WILSON, DELONG = "Wilson 1927", "DeLong 1988, logit scale"
DISJOINT_PAIRS = "exact or Wilson on disjoint pairs (DeLong's variance is zero or cannot be estimated)"


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class ClassScore:
    """One class against the rest, or an average over the classes; a share of nothing is 0."""

    precision: float
    "0 to 1; share of the images called this class that are of it"
    recall: float
    "0 to 1; share of the images of this class that are called so"
    f1: float
    "0 to 1; harmonic mean of the two"
    support: int
    "images of this class; in an average, all images"


@dataclass(frozen=True)
class Evaluation:
    """What a model's probabilities are worth on labelled images, at the spec's threshold."""

    n: int
    "images"
    classes: tuple[str, ...]
    positive: str
    threshold: float
    "used with two classes only; with more the most probable class is the answer"
    accuracy: float
    "0 to 1"
    balanced_accuracy: float
    "0 to 1; mean recall of the classes that have images"
    confusion: tuple[tuple[int, ...], ...]
    "rows: true class; columns: predicted class; both in the order of `classes`"
    per_class: dict[str, ClassScore]
    macro: ClassScore
    "plain mean over all classes"
    weighted: ClassScore
    "mean over the classes weighted by support"
    auroc: float | None
    "0 to 1; two classes: of the positive; more: mean of `auroc_per_class`; absent where no class has one"
    auroc_per_class: dict[str, float]
    "0 to 1; each class against the rest, without the classes that have no image or all of them"
    sensitivity: float | None
    "0 to 1; recall of the positive class; absent where it has no image"
    specificity: float | None
    "0 to 1; share of the other images not called positive; absent where there are none"
    ppv: float | None
    "0 to 1; share of the images called positive that are; absent where none is called so"
    npv: float | None
    "0 to 1; share of the images not called positive that are not; absent where all are called so"
    brier: float
    "mean squared error of the probabilities; two classes: of the positive's, 0 to 1; more: summed, 0 to 2"
    log_loss: float
    "nats; mean of -log of the true class's probability, which counts as 2e-16 at least"
    ece: float
    "0 to 1; expected calibration error of the predicted class's probability in 15 bins of equal width"
    intervals: dict[str, Interval]
    "of accuracy, sensitivity, specificity, ppv and npv where they exist; of auroc with two classes"
    interval_methods: dict[str, str]
    "how each of `intervals` was computed"

    def score(self) -> Score:
        """The five figures a spec carries; its AUROC is the positive class's, with three classes too."""
        area = self.auroc_per_class.get(self.positive)
        return Score(self.n, self.accuracy, area, self.sensitivity, self.specificity)


def evaluate(labels: NDArray[np.integer], probabilities: NDArray[np.floating], spec: ModelSpec) -> Evaluation:
    """The evaluation of probabilities (N, K) against class indices (N,).

    The answers are `spec.decide`'s on the array as given, so that they are those of inference. Raises
    ValueError where there are no images, a label is out of range, or a row is not finite, 0 or more and of
    sum 1.
    """
    labels, given = _checked(labels, probabilities, len(spec.classes))
    predictions, precise = spec.decide(given), given.astype(np.float64)
    matrix = confusion(labels, predictions, len(spec.classes))
    scores = _class_scores(matrix)
    rates = _rates(matrix, spec.positive_index)
    shares = {name: hits / n if n else None for name, (hits, n) in rates.items()}
    areas = _areas(labels, precise, spec)
    intervals, methods = _intervals(rates, labels, precise, spec)
    return Evaluation(
        n=len(labels),
        classes=spec.classes,
        positive=spec.positive,
        threshold=spec.threshold,
        accuracy=float(np.trace(matrix) / len(labels)),
        balanced_accuracy=float(np.mean([score.recall for score in scores if score.support])),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        per_class=dict(zip(spec.classes, scores, strict=True)),
        macro=_average(scores, None),
        weighted=_average(scores, [score.support for score in scores]),
        auroc=float(np.mean(list(areas.values()))) if areas else None,
        auroc_per_class=areas,
        sensitivity=shares["sensitivity"],
        specificity=shares["specificity"],
        ppv=shares["ppv"],
        npv=shares["npv"],
        brier=_brier(labels, precise, spec.positive_index),
        log_loss=_log_loss(labels, precise),
        ece=_calibration_error(labels, precise, predictions),
        intervals=intervals,
        interval_methods=methods,
    )


def confusion(labels: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int) -> NDArray[np.int64]:
    """Counts (K, K) int64 of class indices (N,) and (N,): rows are the truth, columns the predictions."""
    truth, predicted = _indices(labels, n_classes, "label"), _indices(predictions, n_classes, "prediction")
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} labels do not pair with {len(predicted)} predictions")
    counts = np.bincount(truth * n_classes + predicted, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).astype(np.int64)


def wilson(successes: float, n: float) -> Interval:
    """The score interval of a share (Wilson 1927, JASA 22:209). Raises ValueError where n is 0."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"a share needs 0 ≤ successes ≤ n and n > 0, not {successes} of {n}")
    z2 = Z_TWO_SIDED**2
    centre = (successes + z2 / 2) / (n + z2)
    half = Z_TWO_SIDED * math.sqrt(successes * (n - successes) / n + z2 / 4) / (n + z2)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return Interval(low, 1.0 if successes == n else min(1.0, centre + half))


def auroc(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    """The chance that a positive scores above a negative, a tie counting half; None with one class only.

    The Mann–Whitney statistic of `positive` (N,) bool and `scores` (N,) over the number of pairs, by ranks.
    Raises ValueError for a score that is not finite.
    """
    placed = placements(positive, scores)
    return None if placed is None else float(placed[0].mean())


def delong_interval(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> Interval | None:
    """The interval of `auroc`; None with one class only.

    DeLong, DeLong & Clarke-Pearson 1988, on the logit scale, which at a true 0.97 of 40 + 50 images holds
    it in 94 % of draws and the plain scale in 88 %. DeLong's variance is zero where the classes are parted
    without error or all scores are tied, and cannot be estimated from a class with one image. There the
    interval is that of k = min(positives, negatives) disjoint pairs, which are independent: as all k were
    won, an AUROC below 0.025^(1/k) is excluded (Clopper–Pearson); otherwise Wilson's, for the variance is
    at most A(1 - A) / k (Birnbaum & Klose 1957). Within a few pairs of an error-free parting DeLong's own
    interval is still too narrow.
    """
    placed = placements(positive, scores)
    return None if placed is None else _area_interval(*placed)[0]


def placements(
    positive: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """For each positive (m,) the share of negatives below it, for each negative (n,) of positives above it.

    A tie counts half. Both means are the AUROC; their variances are DeLong's, here from midranks (Sun & Xu
    2014, IEEE Signal Processing Letters 21:1389). None with one class only.
    """
    positive, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if positive.ndim != 1 or positive.shape != values.shape:
        raise ValueError(f"labels {positive.shape} and scores {values.shape} must be two equal (N,)")
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite; the AUROC would count it in silence")
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return None
    ranks = _midranks(values)
    of_positives = (ranks[positive] - _midranks(values[positive])) / n
    of_negatives = 1.0 - (ranks[~positive] - _midranks(values[~positive])) / m
    return of_positives, of_negatives


def variance_of_mean(of_positives: NDArray[np.float64], of_negatives: NDArray[np.float64]) -> float | None:
    """DeLong's variance of the mean of placements (m,) and (n,); None where m or n is 1."""
    if min(len(of_positives), len(of_negatives)) < 2:
        return None
    return float(of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives))


def classification_report(evaluation: Evaluation, digits: int = 2) -> str:
    """The evaluation as text, in scikit-learn's layout."""
    width = max(digits, *(len(name) for name in (*evaluation.classes, "weighted avg")))
    head = " ".join(f"{title:>9}" for title in ("precision", "recall", "f1-score", "support"))
    accuracy = f"{'accuracy':>{width}}  {'':>9} {'':>9} {evaluation.accuracy:>9.{digits}f} {evaluation.n:>9}"
    rows = [_report_row(name, evaluation.per_class[name], width, digits) for name in evaluation.classes]
    macro = _report_row("macro avg", evaluation.macro, width, digits)
    weighted = _report_row("weighted avg", evaluation.weighted, width, digits)
    return "\n".join([f"{'':>{width}}  {head}", "", *rows, "", accuracy, macro, weighted, ""])


def _report_row(name: str, score: ClassScore, width: int, digits: int) -> str:
    shares = " ".join(f"{share:>9.{digits}f}" for share in (score.precision, score.recall, score.f1))
    return f"{name:>{width}}  {shares} {score.support:>9}"


def _checked(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], n_classes: int
) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    indices, given = _indices(labels, n_classes, "label"), np.asarray(probabilities)
    if len(indices) == 0:
        raise ValueError("there are no images to evaluate; give a split that has some")
    if given.shape != (len(indices), n_classes):
        raise ValueError(f"probabilities must be ({len(indices)}, {n_classes}), not {given.shape}")
    if not np.isfinite(given).all():
        first = int(np.flatnonzero(~np.isfinite(given).all(axis=1))[0])
        raise ValueError(f"the probabilities of image {first} are not finite; the model is damaged")
    # 0.01: half precision rounds each of a few probabilities by up to 0.0005
    if (given < 0).any() or (abs(given.sum(axis=1, dtype=np.float64) - 1) > 0.01).any():
        raise ValueError("probabilities must be 0 or more and sum to 1; give the softmax, not the logits")
    return indices, given


def _indices(values: NDArray[np.integer], n_classes: int, what: str) -> NDArray[np.intp]:
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.intp)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{what}s must be (N,) integers, not {array.shape} {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= n_classes):
        raise ValueError(f"a {what} is outside 0 to {n_classes - 1}: {array.min()} to {array.max()}")
    return array.astype(np.intp)


def _class_scores(matrix: NDArray[np.int64]) -> list[ClassScore]:
    hits, called, support = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    columns = zip(hits.tolist(), called.tolist(), support.tolist(), strict=True)
    return [ClassScore(_share(h, c), _share(h, s), _share(2 * h, c + s), s) for h, c, s in columns]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _average(scores: list[ClassScore], weights: list[int] | None) -> ClassScore:
    rows = np.array([(score.precision, score.recall, score.f1) for score in scores])
    precision, recall, f1 = np.average(rows, axis=0, weights=weights).tolist()
    return ClassScore(precision, recall, f1, sum(score.support for score in scores))


def _rates(matrix: NDArray[np.int64], positive: int) -> dict[str, tuple[int, int]]:
    """(hits, of how many) of the shares that Wilson's interval is given for."""
    n, right = int(matrix.sum()), int(np.trace(matrix))
    hits = int(matrix[positive, positive])
    support, called = int(matrix[positive].sum()), int(matrix[:, positive].sum())
    rejected = n - support - called + hits
    return {
        "accuracy": (right, n),
        "sensitivity": (hits, support),
        "specificity": (rejected, n - support),
        "ppv": (hits, called),
        "npv": (rejected, n - called),
    }


def _intervals(
    rates: dict[str, tuple[int, int]], labels: NDArray[np.intp], precise: NDArray[np.float64], spec: ModelSpec
) -> tuple[dict[str, Interval], dict[str, str]]:
    intervals = {name: wilson(hits, n) for name, (hits, n) in rates.items() if n}
    methods = dict.fromkeys(intervals, WILSON)
    positive = spec.positive_index
    placed = placements(labels == positive, precise[:, positive]) if len(spec.classes) == 2 else None
    if placed is not None:
        intervals["auroc"], methods["auroc"] = _area_interval(*placed)
    return intervals, methods


def _areas(labels: NDArray[np.intp], precise: NDArray[np.float64], spec: ModelSpec) -> dict[str, float]:
    if len(spec.classes) == 2:  # one area: by the positive's probability the two differ by rounding at most
        area = auroc(labels == spec.positive_index, precise[:, spec.positive_index])
        return {} if area is None else dict.fromkeys(spec.classes, area)
    areas = {name: auroc(labels == k, precise[:, k]) for k, name in enumerate(spec.classes)}
    return {name: area for name, area in areas.items() if area is not None}


def _area_interval(of_positives: NDArray[np.float64], of_negatives: NDArray[np.float64]) -> tuple[Interval, str]:
    area, variance = float(of_positives.mean()), variance_of_mean(of_positives, of_negatives)
    if not variance:
        return _area_of_disjoint_pairs(area, min(len(of_positives), len(of_negatives))), DISJOINT_PAIRS
    half = Z_TWO_SIDED * math.sqrt(variance) / (area * (1 - area))
    odds = math.log(area / (1 - area))
    return Interval(1 / (1 + math.exp(half - odds)), 1 / (1 + math.exp(-half - odds))), DELONG


def _area_of_disjoint_pairs(area: float, n_pairs: int) -> Interval:
    bound = ((1 - LEVEL) / 2) ** (1 / n_pairs)
    if area == 1:
        return Interval(bound, 1.0)
    return Interval(0.0, 1 - bound) if area == 0 else wilson(area * n_pairs, n_pairs)


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks (N,) from 1, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse], dtype=np.float64)


def _brier(labels: NDArray[np.intp], precise: NDArray[np.float64], positive: int) -> float:
    truth = np.eye(precise.shape[1])[labels]
    if precise.shape[1] == 2:
        return float(np.mean((precise[:, positive] - truth[:, positive]) ** 2))
    return float(np.mean(((precise - truth) ** 2).sum(axis=1)))


def _log_loss(labels: NDArray[np.intp], precise: NDArray[np.float64]) -> float:
    true = precise[np.arange(len(labels)), labels]
    return float(np.mean(-np.log(np.clip(true, np.finfo(np.float64).eps, 1.0))))


def _calibration_error(labels: NDArray[np.intp], precise: NDArray[np.float64], predictions: NDArray[np.intp]) -> float:
    """Expected calibration error (Guo et al. 2017, eq. 3), bins (0, 1/15], (1/15, 2/15], …, (14/15, 1]."""
    confidence = precise[np.arange(len(labels)), predictions]
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=(predictions == labels) - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))
