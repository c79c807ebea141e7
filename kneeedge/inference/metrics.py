"""How good a model is on labelled images: every figure beside its 95 % interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.provenance import Score
from kneeedge.model.spec import ModelSpec
from kneeedge.statistics.auroc import auroc_estimate, mean_auroc_estimate
from kneeedge.statistics.intervals import Estimate, clusters_of, effective_n, share_estimate
from kneeedge.statistics.prevalence import Measured, PredictiveValues, predictive_values
from kneeedge.statistics.reliability import ProbabilityErrors, probability_errors

FIGURES = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "auroc")
"the figures of an evaluation that have an interval"
SCORED = ("accuracy", "auroc", "sensitivity", "specificity")
"those of a score"


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


@dataclass(frozen=True, kw_only=True)
class OneVersusRest:
    """One class against all others: figures with intervals, None where no image could tell them."""

    sensitivity: Estimate | None
    "0 to 1; share of the images of the class that are called so"
    specificity: Estimate | None
    "0 to 1; share of the other images that are not"
    ppv: Estimate | None
    "0 to 1; share of the images called so that are"
    npv: Estimate | None
    "0 to 1; share of the other answers that are right to rule the class out"
    auroc: Estimate | None
    "0 to 1; by the class's probability"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model's probabilities are worth on labelled images, at the spec's threshold."""

    n: int
    "images"
    classes: tuple[str, ...]
    positive: str
    threshold: float
    "used with two classes only; with more the most probable class is the answer"
    threshold_rule: str
    "how the threshold was chosen"
    prevalence: float
    "0 to 1; share of the images that are of the positive class"
    accuracy: Estimate
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
    auroc: Estimate | None
    """0 to 1; with two classes of the positive, with more the mean of `auroc_per_class`; absent
    where no class has one
    """
    auroc_per_class: dict[str, float]
    "0 to 1; each class against the rest, without the classes that have no image or all of them"
    sensitivity: Estimate | None
    "0 to 1; recall of the positive class; absent where it has no image"
    specificity: Estimate | None
    "0 to 1; share of the other images not called positive; absent where there are none"
    ppv: Estimate | None
    "0 to 1; share of the images called positive that are; absent where none is called so"
    npv: Estimate | None
    "0 to 1; share of the images not called positive that are not; absent where all are called so"
    ece: float
    "0 to 1; expected calibration error, see `ProbabilityErrors`"
    brier: float
    "0 to 1; mean squared error of the probabilities"
    log_loss: float
    "nats"
    one_versus_rest: dict[str, OneVersusRest]
    "with more than two classes, for each of them"
    at_prevalence: PredictiveValues | None = None
    "PPV and NPV at a prevalence that was asked for"
    uncalibrated: ProbabilityErrors | None = None
    "the errors at temperature 1, where the temperature was fitted and they were measured"

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The figures that have an interval, by their names in FIGURES, where they exist."""
        figures = {name: getattr(self, name) for name in FIGURES}
        return {name: figure for name, figure in figures.items() if figure is not None}

    def score(self) -> Score:
        """What a spec carries; its AUROC is the positive class's, with three classes too."""
        estimates = {name: self.estimates.get(name) for name in SCORED}
        if self.one_versus_rest:
            estimates["auroc"] = self.one_versus_rest[self.positive].auroc
        return Score(
            n=self.n,
            accuracy=self.accuracy.value,
            auroc=self.auroc_per_class.get(self.positive),
            sensitivity=value_of(self.sensitivity),
            specificity=value_of(self.specificity),
            intervals={name: figure.interval for name, figure in estimates.items() if figure},
        )

    @staticmethod
    def flatten(record: dict[str, Any]) -> dict[str, Any]:
        """The JSON form: values by their names, and `intervals` and `interval_methods` of them."""
        estimates = {name: record[name] for name in FIGURES if record[name] is not None}
        flat: dict[str, Any] = {}
        for name, value in record.items():
            flat[name] = value["value"] if name in estimates else value
            if name == "log_loss":
                flat["intervals"] = {key: figure["interval"] for key, figure in estimates.items()}
                flat["interval_methods"] = {
                    key: figure["method"] for key, figure in estimates.items()
                }
        return flat

    @staticmethod
    def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
        """What `flatten` took apart; raises KeyError or TypeError where a part is missing."""
        record = dict(flat)
        intervals = record.pop("intervals")
        methods = record.pop("interval_methods")
        for name in FIGURES:
            if record[name] is not None:
                record[name] = {
                    "value": record[name],
                    "interval": intervals[name],
                    "method": methods[name],
                }
        return record


def value_of(estimate: Estimate | None) -> float | None:
    """The figure without its interval; None where no image could tell it."""
    return None if estimate is None else estimate.value


def evaluate(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    spec: ModelSpec,
    groups: Sequence[str] | None = None,
    prevalence: float | None = None,
) -> Evaluation:
    """The evaluation of probabilities (N, K) against class indices (N,).

    The answers are `spec.decide`'s on the array as given, so that they are those of inference.
    Images of one of `groups` (N,), a patient for example, are not independent; where any group has
    two, all intervals allow for it. With a `prevalence` PPV and NPV are given at that too. Raises
    ValueError where there are no images, a label is out of range, or a row is not finite, 0 or more
    and of sum 1.
    """
    n_classes = len(spec.classes)
    labels, probabilities = _checked(labels, probabilities, n_classes)
    predictions = spec.decide(probabilities)
    in_double = probabilities.astype(np.float64)
    clusters = clusters_of(groups, len(labels))
    matrix = confusion(labels, predictions, n_classes)
    scores = _class_scores(matrix)
    against_rest = [
        _one_versus_rest(k, labels, predictions, in_double, clusters) for k in range(n_classes)
    ]
    of_positive = against_rest[spec.positive_index]
    estimates = _estimates(of_positive, labels, predictions, in_double, clusters)
    errors = probability_errors(labels, in_double, spec.positive_index)
    one_versus_rest = dict(zip(spec.classes, against_rest, strict=True))
    return Evaluation(
        n=len(labels),
        classes=spec.classes,
        positive=spec.positive,
        threshold=spec.threshold,
        threshold_rule=spec.threshold_rule,
        prevalence=float(np.mean(labels == spec.positive_index)),
        accuracy=estimates["accuracy"],
        balanced_accuracy=float(np.mean([score.recall for score in scores if score.support])),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        per_class=dict(zip(spec.classes, scores, strict=True)),
        macro=_average(scores, None),
        weighted=_average(scores, [score.support for score in scores]),
        auroc=estimates.get("auroc"),
        auroc_per_class=_areas(one_versus_rest, spec),
        sensitivity=estimates.get("sensitivity"),
        specificity=estimates.get("specificity"),
        ppv=estimates.get("ppv"),
        npv=estimates.get("npv"),
        ece=errors.ece,
        brier=errors.brier,
        log_loss=errors.log_loss,
        one_versus_rest=one_versus_rest if n_classes > 2 else {},
        at_prevalence=_at_prevalence(
            prevalence, labels, predictions, spec.positive_index, clusters
        ),
    )


def confusion(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """Counts (K, K) int64 of class indices (N,): rows are the truth, columns the predictions."""
    truth = _indices(labels, n_classes, "label")
    predicted = _indices(predictions, n_classes, "prediction")
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} labels do not pair with {len(predicted)} predictions")
    counts = np.bincount(truth * n_classes + predicted, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).astype(np.int64)


def classification_report(evaluation: Evaluation, digits: int = 2) -> str:
    """The evaluation as text, in scikit-learn's layout."""
    width = max(digits, *map(len, evaluation.classes), len("weighted avg"))
    head = " ".join(f"{title:>9}" for title in ("precision", "recall", "f1-score", "support"))
    share = f"{evaluation.accuracy.value:>9.{digits}f}"
    accuracy = f"{'accuracy':>{width}}  {'':>9} {'':>9} {share} {evaluation.n:>9}"
    scores = [(name, evaluation.per_class[name]) for name in evaluation.classes]
    rows = [_report_row(name, score, width, digits) for name, score in scores]
    macro = _report_row("macro avg", evaluation.macro, width, digits)
    weighted = _report_row("weighted avg", evaluation.weighted, width, digits)
    return "\n".join([f"{'':>{width}}  {head}", "", *rows, "", accuracy, macro, weighted, ""])


def _report_row(name: str, score: ClassScore, width: int, digits: int) -> str:
    values = (score.precision, score.recall, score.f1)
    shares = " ".join(f"{value:>9.{digits}f}" for value in values)
    return f"{name:>{width}}  {shares} {score.support:>9}"


def _checked(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], n_classes: int
) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    indices = _indices(labels, n_classes, "label")
    array = np.asarray(probabilities)
    if len(indices) == 0:
        raise ValueError("there are no images to evaluate; give a split that has some")
    if array.shape != (len(indices), n_classes):
        raise ValueError(f"probabilities must be ({len(indices)}, {n_classes}), not {array.shape}")
    is_finite = np.isfinite(array).all(axis=1)
    if not is_finite.all():
        first = int(np.argmin(is_finite))
        raise ValueError(f"the probabilities of image {first} are not finite; the model is damaged")
    sums = array.sum(axis=1, dtype=np.float64)
    # 0.01: half precision rounds each of a few probabilities by up to 0.0005
    if (array < 0).any() or (abs(sums - 1) > 0.01).any():
        remedy = "give the softmax, not the logits"
        raise ValueError(f"probabilities must be 0 or more and sum to 1; {remedy}")
    return indices, array


def _indices(values: NDArray[np.integer], n_classes: int, what: str) -> NDArray[np.intp]:
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.intp)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{what}s must be (N,) integers, not {array.shape} {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= n_classes):
        span = f"{array.min()} to {array.max()}"
        raise ValueError(f"a {what} is outside 0 to {n_classes - 1}: {span}")
    return array.astype(np.intp)


def _class_scores(matrix: NDArray[np.int64]) -> list[ClassScore]:
    hits = matrix.diagonal()
    n_called = matrix.sum(axis=0)
    support = matrix.sum(axis=1)
    columns = zip(hits.tolist(), n_called.tolist(), support.tolist(), strict=True)
    return [ClassScore(_share(h, c), _share(h, s), _share(2 * h, c + s), s) for h, c, s in columns]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _average(scores: list[ClassScore], weights: list[int] | None) -> ClassScore:
    rows = np.array([(score.precision, score.recall, score.f1) for score in scores])
    precision, recall, f1 = np.average(rows, axis=0, weights=weights).tolist()
    return ClassScore(precision, recall, f1, sum(score.support for score in scores))


def _one_versus_rest(
    k: int,
    labels: NDArray[np.intp],
    predictions: NDArray[np.intp],
    probabilities: NDArray[np.float64],
    clusters: NDArray[np.intp] | None,
) -> OneVersusRest:
    truth = labels == k
    called = predictions == k
    return OneVersusRest(
        sensitivity=share_estimate(called, truth, clusters),
        specificity=share_estimate(~called, ~truth, clusters),
        ppv=share_estimate(truth, called, clusters),
        npv=share_estimate(~truth, ~called, clusters),
        auroc=auroc_estimate(truth, probabilities[:, k], clusters),
    )


def _estimates(
    positive: OneVersusRest,
    labels: NDArray[np.intp],
    predictions: NDArray[np.intp],
    probabilities: NDArray[np.float64],
    clusters: NDArray[np.intp] | None,
) -> dict[str, Estimate]:
    """The figures with an interval: the positive class's; beyond two classes the mean AUROC."""
    auroc = positive.auroc
    if probabilities.shape[1] > 2:
        auroc = mean_auroc_estimate(labels, probabilities, clusters)
    all_images = np.ones(len(labels), dtype=bool)
    estimates = {
        "accuracy": share_estimate(labels == predictions, all_images, clusters),
        "sensitivity": positive.sensitivity,
        "specificity": positive.specificity,
        "ppv": positive.ppv,
        "npv": positive.npv,
        "auroc": auroc,
    }
    return {name: estimate for name, estimate in estimates.items() if estimate is not None}


def _areas(one_versus_rest: dict[str, OneVersusRest], spec: ModelSpec) -> dict[str, float]:
    """Each class's AUROC, where it has one.

    Two classes share the positive's: by the other's probability it differs by rounding at most.
    """
    areas = {}
    for name in spec.classes:
        of_class = spec.positive if len(spec.classes) == 2 else name
        auroc = one_versus_rest[of_class].auroc
        if auroc is not None:
            areas[name] = auroc.value
    return areas


def _at_prevalence(
    prevalence: float | None,
    labels: NDArray[np.intp],
    predictions: NDArray[np.intp],
    positive: int,
    clusters: NDArray[np.intp] | None,
) -> PredictiveValues | None:
    if prevalence is None:
        return None
    truth = labels == positive
    called = predictions == positive
    sensitivity = _measured(called, truth, clusters)
    specificity = _measured(~called, ~truth, clusters)
    return predictive_values(sensitivity, specificity, prevalence)


def _measured(
    hits: NDArray[np.bool_], among: NDArray[np.bool_], clusters: NDArray[np.intp] | None
) -> Measured | None:
    if not among.any():
        return None
    return Measured(float(hits[among].mean()), effective_n(hits, among, clusters))
