"""From logits to an answer: the temperature and the decision's threshold, fitted on val."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import ConfigError
from kneeedge.model.spec import ModelSpec, TemperatureFit, softmax
from kneeedge.statistics.reliability import probability_errors
from kneeedge.system.plural import counted

COLDEST, HOTTEST = 0.05, 20.0
"temperatures that a fit may give"
ROUNDING = 1e-12
"by which a share may fall short of another and count as equal"
DEFAULT_THRESHOLD = "0.5"
YOUDEN, SENSITIVITY, SPECIFICITY, FIXED = "youden", "sensitivity", "specificity", "fixed"
RULES = "youden, sensitivity=0.95, specificity=0.95, or a number such as 0.5"


@dataclass(frozen=True)
class Rule:
    """How a threshold is to be chosen."""

    kind: str
    "youden, sensitivity, specificity or fixed"
    value: float = 0.0
    "the share to reach, or the fixed threshold itself; not used by youden"
    text: str = YOUDEN
    "as it was given"

    @property
    def fixed(self) -> bool:
        return self.kind == FIXED


@dataclass(frozen=True)
class Threshold:
    """A threshold, ready for the spec."""

    value: float
    "above 0 and below 1; positive where the probability is at least this"
    rule: str
    "with the images it was chosen on"


def fit_decision(
    spec: ModelSpec,
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    rule: str,
    split: str,
) -> ModelSpec:
    """The spec with its temperature, then its threshold, from logits (N, K) and class indices (N,).

    Both are of the images of `split`, and the threshold is for the probabilities at that
    temperature. More than two classes need none. Raises ConfigError where `rule` cannot be met.
    """
    temperature = fit_temperature(logits, labels)
    positive = spec.positive_index
    probabilities = softmax(logits, temperature)
    before = probability_errors(labels, softmax(logits), positive)
    after = probability_errors(labels, probabilities, positive)
    fit = TemperatureFit(
        split=split,
        n=len(labels),
        ece_before=before.ece,
        ece_after=after.ece,
        brier_before=before.brier,
        brier_after=after.brier,
        log_loss_before=before.log_loss,
        log_loss_after=after.log_loss,
    )
    fitted = replace(spec, temperature=temperature, temperature_fit=fit)
    if len(spec.classes) > 2:
        return fitted
    threshold = choose_threshold(rule, labels == positive, probabilities[:, positive], split)
    return replace(fitted, threshold=threshold.value, threshold_rule=threshold.rule)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature, 0.05 to 20, at which softmax(logits (N, K) / T) best fits labels (N,).

    It minimises the mean negative log likelihood, as in Guo et al. 2017, section 4.2, against
    Platt's targets (Platt 1999): of a class with n images the true class counts (n + 1) / (n + K)
    and each other one 1 / (n + K), as if every class had been seen once with each label. Without
    them a model that is right on all images would be fitted a temperature of 0, and answer 1.0 from
    then on. The bounds are reached where the logits say the opposite of the labels, or next to
    nothing. It is 1 where nothing can be fitted: with images of one class, or logits that do not
    differ. Raises ValueError for logits that are not finite, and for none.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if len(logits) == 0 or len(logits) != len(labels) or not np.isfinite(logits).all():
        problem = "a temperature is fitted to finite logits, one row a label"
        raise ValueError(f"{problem}, not to {logits.shape}")
    if len(np.unique(labels)) < 2 or not np.ptp(logits, axis=1).any():
        return 1.0
    wanted = (platt_targets(labels, logits.shape[1]) * logits).sum(axis=1).mean()
    # Bisection over log(1 / T): the loss is convex there, so that its slope rises through 0 once.
    low = np.log(1 / HOTTEST)
    high = np.log(1 / COLDEST)
    for _ in range(60):  # 6 / 2^60 is below a float's spacing
        middle = (low + high) / 2
        expected = (softmax(logits * np.exp(middle)) * logits).sum(axis=1).mean()
        if expected > wanted:
            high = middle
        else:
            low = middle
    return float(np.exp(-(low + high) / 2))


def platt_targets(labels: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    """What probabilities (N, K) are fitted to instead of 0 and 1; the rows sum to 1."""
    n_of_class = np.bincount(labels, minlength=n_classes)[labels, None]
    targets = (np.eye(n_classes)[labels] * n_of_class + 1.0) / (n_of_class + n_classes)
    return np.asarray(targets, dtype=np.float64)


def parse_rule(text: str) -> Rule:
    """The rule that `--threshold` names; raises ConfigError where it is none."""
    if text == YOUDEN:
        return Rule(YOUDEN)
    kind, _, number = text.partition("=")
    if kind not in (SENSITIVITY, SPECIFICITY):
        kind = FIXED
        number = text
    try:
        value = float(number)
    except ValueError as error:
        raise ConfigError(f"--threshold {text} is no rule", f"give {RULES}") from error
    allowed = 0 < value < 1 or (kind != FIXED and value == 1)
    if not allowed:
        problem = f"--threshold {text} is out of range"
        raise ConfigError(problem, "give a number above 0 and below 1")
    return Rule(kind, value, text)


def check_rule(text: str, n_classes: int, positive: NDArray[np.bool_]) -> None:
    """Raise ConfigError where val's images, `positive` (N,) or not, give the rule no threshold."""
    rule = parse_rule(text)
    if n_classes > 2 and text != DEFAULT_THRESHOLD:
        problem = f"--threshold {text} is for two classes, and these are {n_classes}"
        raise ConfigError(problem, "leave it out: the most probable class is the answer")
    n = len(positive)
    n_positive = int(np.sum(positive))
    if not rule.fixed and n_classes == 2 and n_positive in (0, n):
        lack = f"val has {n_positive} positive images of {n}"
        remedy = "give val images of both classes, or a fixed --threshold"
        raise ConfigError(f"--threshold {text} cannot be met: {lack}", remedy)


def choose_threshold(
    rule: str, positive: NDArray[np.bool_], scores: NDArray[np.floating], split: str
) -> Threshold:
    """The threshold that the rule gives for images `positive` (N,) or not, of these scores (N,).

    The scores are probabilities of the positive class. sensitivity=X: the largest with a
    sensitivity of at least X; specificity=X: the smallest with that specificity; youden: the
    largest sensitivity + specificity - 1 (Youden 1950), the middle one where several give it. It
    lies half way between two neighbouring scores, so that rounding moves no image of these across
    it. Raises ConfigError where the rule cannot be met.
    """
    parsed = parse_rule(rule)
    if parsed.fixed:
        return Threshold(parsed.value, rule)
    check_rule(rule, 2, positive)
    cuts, sensitivity, specificity = operating_points(positive, scores)
    if parsed.kind == YOUDEN:
        gain = sensitivity + specificity
        largest = np.flatnonzero(gain >= gain.max() - ROUNDING)
        reaching = largest[(len(largest) - 1) // 2 :]
    elif parsed.kind == SENSITIVITY:
        reaching = np.flatnonzero(sensitivity >= parsed.value - ROUNDING)[::-1]
    else:
        reaching = np.flatnonzero(specificity >= parsed.value - ROUNDING)
    if len(reaching) == 0:
        lack = "no threshold between 0 and 1 reaches it"
        remedy = "ask for less, or give a fixed --threshold"
        raise ConfigError(f"--threshold {rule} cannot be met on {split}: {lack}", remedy)
    return Threshold(
        float(cuts[reaching[0]]), f"{rule} on {split} ({counted(len(scores), 'image')})"
    )


def chosen_on(rule: str, split: str) -> bool:
    """Whether the rule of a spec says that its threshold was chosen on the images of `split`."""
    return f" on {split} (" in rule


def operating_points(
    positive: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Every threshold that parts the images otherwise, rising, and what it gives.

    Thresholds, sensitivities and specificities, (M,) each. A threshold lies half way between two
    neighbouring scores, or a score and 0 or 1. Both classes must have an image.
    """
    positive = np.asarray(positive, dtype=bool)
    scores = np.asarray(scores, dtype=np.float64)
    edges = np.unique(np.concatenate([[0.0], scores, [1.0]]))
    middles = (edges[:-1] + edges[1:]) / 2
    between = (middles > edges[:-1]) & (middles < 1.0)  # two neighbouring floats have no middle
    cuts = middles[between]
    of_positives = np.sort(scores[positive])
    of_negatives = np.sort(scores[~positive])
    sensitivity = 1 - np.searchsorted(of_positives, cuts) / len(of_positives)
    specificity = np.searchsorted(of_negatives, cuts) / len(of_negatives)
    return cuts, sensitivity, specificity
