"""From logits to an answer: the temperature of the probabilities and the threshold of the decision,
chosen on val.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import ConfigError
from kneeedge.model.spec import ModelSpec, TemperatureFit, softmax
from kneeedge.statistics.reliability import probability_errors

COLDEST, HOTTEST = 0.05, 20.0
"temperatures that a fit may give"
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
    """The spec with its temperature fitted to logits (N, K) of `split`, then its threshold chosen
    on the same images.

    The threshold is for the probabilities at that temperature. More than two classes need none.
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
    """The temperature of softmax(logits (N, K) / T) that fits class indices (N,) best, from 0.05 to
    20.

    It minimises the mean negative log likelihood, as in Guo et al. 2017, section 4.2, against
    Platt's targets (Platt 1999): of a class with n images the true class counts (n + 1) / (n + K)
    and each other one 1 / (n + K), as if every class had been seen once with each label. Without
    them a model that is right on all images would be fitted a temperature of 0, and answer 1.0 from
    then on. The bounds are reached where the logits say the opposite of the labels, or next to
    nothing. It is 1 where nothing can be fitted: with images of one class, or logits that do not
    differ. Raises ValueError for logits that are not finite, and for none.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if len(logits) == 0 or logits.shape[0] != len(labels) or not np.isfinite(logits).all():
        raise ValueError(
            f"a temperature is fitted to finite logits, one row a label, not to {logits.shape}"
        )
    if len(np.unique(labels)) < 2 or not np.ptp(logits, axis=1).any():
        return 1.0
    wanted = (platt_targets(labels, logits.shape[1]) * logits).sum(axis=1).mean()
    low = np.log(1 / HOTTEST)
    high = np.log(1 / COLDEST)
    for _ in range(
        60
    ):  # bisection: the slope of a convex function rises; 6 / 2^60 is below a float's spacing
        middle = (low + high) / 2
        expected = (softmax(logits * np.exp(middle)) * logits).sum(axis=1).mean()
        low, high = (low, middle) if expected > wanted else (middle, high)
    return float(np.exp(-(low + high) / 2))


def platt_targets(labels: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    """What probabilities (N, K) are fitted to instead of 0 and 1; the rows sum to 1."""
    counts = np.bincount(labels, minlength=n_classes)[labels, None] + n_classes
    return np.asarray(
        (np.eye(n_classes)[labels] * (counts - n_classes) + 1.0) / counts, dtype=np.float64
    )


def parse_rule(text: str) -> Rule:
    """The rule that `--threshold` names; raises ConfigError where it is none."""
    kind, _, number = text.partition("=")
    if text == YOUDEN:
        return Rule(YOUDEN)
    if kind not in (SENSITIVITY, SPECIFICITY):
        kind = FIXED
        number = text
    try:
        value = float(number)
    except ValueError as error:
        raise ConfigError(f"--threshold {text} is no rule", f"give {RULES}") from error
    if not 0 < value < 1 and not (kind != FIXED and value == 1):
        raise ConfigError(
            f"--threshold {text} is out of range", "give a number above 0 and below 1"
        )
    return Rule(kind, value, text)


def check_rule(text: str, n_classes: int, positive: NDArray[np.bool_]) -> None:
    """Raise ConfigError where a threshold cannot be chosen by the rule on images that are
    `positive` (N,) or not.
    """
    rule = parse_rule(text)
    if n_classes > 2 and text != DEFAULT_THRESHOLD:
        raise ConfigError(
            f"--threshold {text} is for two classes, and these are {n_classes}",
            "leave it out: the most probable class is the answer",
        )
    n_positive = int(np.sum(positive))
    if not rule.fixed and n_classes == 2 and n_positive in (0, len(positive)):
        raise ConfigError(
            f"--threshold {text} cannot be met: val has {n_positive} positive images of {len(positive)}",
            "give val images of both classes, or a fixed --threshold",
        )


def choose_threshold(
    rule: str, positive: NDArray[np.bool_], scores: NDArray[np.floating], split: str
) -> Threshold:
    """The threshold that the rule gives for the probabilities `scores` (N,) of images that are
    `positive` (N,) or not.

    sensitivity=X: the largest with a sensitivity of at least X; specificity=X: the smallest with
    that specificity; youden: the largest sensitivity + specificity - 1 (Youden 1950), the middle
    one where several give it. It lies half way between two neighbouring scores, so that rounding
    moves no image of these across it. Raises ConfigError where the rule cannot be met.
    """
    parsed = parse_rule(rule)
    if parsed.fixed:
        return Threshold(parsed.value, rule)
    check_rule(rule, 2, positive)
    cuts, sensitivity, specificity = operating_points(positive, scores)
    if parsed.kind == YOUDEN:
        gain = sensitivity + specificity
        met = np.flatnonzero(gain >= gain.max() - 1e-12)
        chosen = met[(len(met) - 1) // 2 :]
    elif parsed.kind == SENSITIVITY:
        chosen = np.flatnonzero(sensitivity >= parsed.value - 1e-12)[::-1]
    else:
        chosen = np.flatnonzero(specificity >= parsed.value - 1e-12)
    if len(chosen) == 0:
        raise ConfigError(
            f"--threshold {rule} cannot be met on {split}: no threshold between 0 and 1 reaches it",
            "ask for less, or give a fixed --threshold",
        )
    return Threshold(float(cuts[chosen[0]]), f"{rule} on {split} ({len(scores)} images)")


def chosen_on(rule: str, split: str) -> bool:
    """Whether the rule of a spec says that its threshold was chosen on the images of `split`."""
    return f" on {split} (" in rule


def operating_points(
    positive: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Every threshold half way between two neighbouring scores, or a score and 0 or 1, rising; and
    what it gives.

    Thresholds, sensitivities and specificities, (M,) each. Both classes must have an image.
    """
    positive = np.asarray(positive, dtype=bool)
    scores = np.asarray(scores, dtype=np.float64)
    edges = np.unique(np.concatenate([[0.0], scores, [1.0]]))
    cuts = (edges[:-1] + edges[1:]) / 2
    cuts = cuts[
        (cuts > edges[:-1]) & (cuts < 1.0)
    ]  # two neighbouring floats have nothing between them
    of_positives = np.sort(scores[positive])
    of_negatives = np.sort(scores[~positive])
    sensitivity = 1 - np.searchsorted(of_positives, cuts) / len(of_positives)
    return cuts, sensitivity, np.searchsorted(of_negatives, cuts) / len(of_negatives)
