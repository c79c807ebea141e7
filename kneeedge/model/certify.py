"""From labelled answers to certified limits: below one negative, above the other positive."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import ConfigError, PromiseError
from kneeedge.model.spec import Certified, ModelSpec
from kneeedge.statistics.certify import (
    Reached,
    Units,
    fewest,
    fewest_others,
    grid,
    limit_at_prevalence,
    limit_by_rank,
    units_of,
)
from kneeedge.statistics.intervals import clusters_of

CONFIDENCE = 0.95
PROMISES = "ppv=0.97,npv=0.97, and confidence=0.9 where that is not to be 0.95"
LESS = "give more labelled images, or promise less"
BY_RANK = "Clopper-Pearson by a fixed sequence of ranks, half the error a side"
AT_PREVALENCE = (
    "Clopper-Pearson of sensitivity and specificity by a fixed sequence of log odds begun 4 times, "
    "half the error a side"
)
BY_PATIENT = "a patient counts once, as wrong where any of the answers is"
CARD_LINE = "- Three answers: "
"begins the one line of a model card that tells of certified limits"


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What the answers are to keep; raises ConfigError where it is no promise."""

    ppv: float
    "above 0 and below 1; the share of positive answers that is to be right"
    npv: float
    confidence: float = CONFIDENCE
    "that both are kept"

    def __post_init__(self) -> None:
        for name in ("ppv", "npv", "confidence"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                remedy = "give a share above 0 and below 1, as 0.97"
                raise ConfigError(f"{name} {value:g} is no promise", remedy)

    @property
    def error(self) -> float:
        """The chance, 0 to 1, with which either of the two may be broken."""
        return (1.0 - self.confidence) / 2


@dataclass(frozen=True, kw_only=True)
class LabelledAnswers:
    """Answers to labelled images that the model does not abstain from."""

    probabilities: NDArray[np.floating]
    "(N, 2)"
    labels: NDArray[np.integer]
    "(N,)"
    groups: Sequence[str]
    "(N,) the patient of each"
    split: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two promises."""

    title: str
    "PPV or NPV"
    name: str
    "of the class that is answered"
    target: float
    units: Units
    floor: float
    "of the score: where the other class begins to be answered"
    cuts: NDArray[np.float64]
    "of the score: the limits to test at a given prevalence"


def parse_promise(text: str) -> Promise:
    """The promise that `--certify` names; raises ConfigError where it is none."""
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if name not in ("ppv", "npv", "confidence") or name in values or value != value:
            raise ConfigError(f"--certify {text} is no promise", f"give {PROMISES}")
        values[name] = value
    if not {"ppv", "npv"} <= values.keys():
        raise ConfigError(f"--certify {text} lacks one of the two", f"give {PROMISES}")
    return Promise(**values)


def check_two_classes(classes: Sequence[str]) -> None:
    """Raise ConfigError where there are more classes than limits can part."""
    if len(classes) > 2:
        problem = f"certified limits part two classes, and these are {len(classes)}"
        raise ConfigError(problem, "leave them out: the most probable class is the answer")


def check_enough(
    promise: Promise,
    n_positive: int,
    n_negative: int,
    split: str,
    prevalence: float | None = None,
) -> None:
    """Raise PromiseError where a split cannot carry the promise, whatever is answered to it.

    It has so many units, as patients, with a positive image, and so many with a negative one.
    """
    others = None if prevalence is None else 1.0 - prevalence
    _check_side(promise, "PPV", promise.ppv, (n_positive, n_negative), prevalence, split)
    _check_side(promise, "NPV", promise.npv, (n_negative, n_positive), others, split)


def _check_side(
    promise: Promise,
    title: str,
    target: float,
    n_units: tuple[int, int],
    prior: float | None,
    split: str,
) -> None:
    """Units of the class that is answered, and of the other, which tells at a given prevalence."""
    of_class, of_other = n_units
    if prior is None:
        needed = fewest(target, promise.error)
        there = of_class
        what = "of its class"
    else:
        needed = fewest_others(target, promise.error, prior)
        there = of_other
        what = "of the other class"
    if there < needed:
        wanted = f"{title} {target:g} at {promise.confidence:.4g} confidence"
        needs = f"needs {needed:,} images {what}, each of another patient"
        raise PromiseError(f"{wanted} {needs}, and {split} has {there:,}", LESS)


def certify(
    spec: ModelSpec, answers: LabelledAnswers, promise: Promise, prevalence: float | None = None
) -> ModelSpec:
    """The spec with the limits that keep the promise, at the images' prevalence or a given one.

    Raises ConfigError for more than two classes, and PromiseError where the images are too few, or
    not answered well enough.
    """
    check_two_classes(spec.classes)
    positive = spec.positive_index
    truths = np.asarray(answers.labels) == positive
    clusters = clusters_of(answers.groups, len(truths))
    index = np.arange(len(truths)) if clusters is None else clusters
    n_positive = len(np.unique(index[truths]))
    n_negative = len(np.unique(index[~truths]))
    check_enough(promise, n_positive, n_negative, answers.split, prevalence)
    scores = np.asarray(answers.probabilities, dtype=np.float64)[:, positive]
    above, below = sides(spec, scores, truths, clusters, promise)
    share = float(truths.mean())
    upper = reached(above, promise, prevalence)
    lower = reached(below, promise, None if prevalence is None else 1.0 - prevalence)
    # p < low is the same as -p >= limit
    low = min(float(np.nextafter(-lower.limit, np.inf)), spec.threshold)
    high = upper.limit
    method = BY_RANK if prevalence is None else AT_PREVALENCE
    certified = Certified(
        low=low,
        high=high,
        ppv=promise.ppv,
        npv=promise.npv,
        confidence=promise.confidence,
        split=answers.split,
        n=len(truths),
        n_units=len(np.unique(index)),
        n_answered=int(((scores < low) | (scores >= high)).sum()),
        ppv_bound=upper.bound,
        npv_bound=lower.bound,
        prevalence=share if prevalence is None else prevalence,
        method=method if clusters is None else f"{method}; {BY_PATIENT}",
    )
    return replace(spec, certified=certified)


def sides(
    spec: ModelSpec,
    scores: NDArray[np.float64],
    truths: NDArray[np.bool_],
    clusters: NDArray[np.intp] | None,
    promise: Promise,
) -> tuple[Side, Side]:
    """The promise of the positive answers and that of the negative ones.

    Neither goes beyond the threshold, so that who is answered gets the answer of the threshold.
    """
    threshold = spec.threshold
    above = Side(
        title="PPV",
        name=spec.positive,
        target=promise.ppv,
        units=units_of(scores, truths, clusters),
        floor=threshold,
        cuts=grid(threshold),
    )
    last = float(np.nextafter(-threshold, np.inf))  # the threshold itself is positive
    below = Side(
        title="NPV",
        name=spec.classes[1 - spec.positive_index],
        target=promise.npv,
        units=units_of(-scores, ~truths, clusters),
        floor=last,
        cuts=np.append(grid(1.0 - threshold)[:-1] - 1.0, last),
    )
    return above, below


def reached(side: Side, promise: Promise, prior: float | None) -> Reached:
    """The limit of one promise; raises PromiseError where these images do not show it."""
    if prior is None:
        found = limit_by_rank(side.units, side.target, promise.error, side.floor)
    else:
        found = limit_at_prevalence(side.units, side.target, promise.error, side.cuts, prior)
    if found is None:
        n, n_wrong = side.units.count(float(np.nextafter(side.floor, -np.inf)))
        wanted = f"{side.title} {side.target:g} at {promise.confidence:.4g} confidence"
        answered = f"of {n:,} answered {side.name} by the threshold {n_wrong:,} are wrong"
        raise PromiseError(f"{wanted} is not shown by these images: {answered}", LESS)
    return found


def certified_text(certified: Certified) -> str:
    """The limits, what they promise, and on which images that was shown."""
    limits = f"answers below {certified.low:.6g} and from {certified.high:.6g} on, else a person"
    promise = f"NPV {certified.npv:g} and PPV {certified.ppv:g}"
    at = f"at {certified.confidence:.4g} confidence and a prevalence of {certified.prevalence:.3g}"
    shown = f"{certified.n_answered:,} of {certified.n:,} {certified.split} images answered"
    return f"{limits}: {promise} {at}; {shown}"


def certified_line(certified: Certified) -> str:
    """What a model card says of the limits: how they were found, and for whom they hold."""
    units = f"{certified.n_units:,} patients or single images ({certified.method})"
    shown = f"NPV {certified.npv_bound:.4f} and PPV {certified.ppv_bound:.4f} at least"
    holds = "It holds for images drawn as these were, of such patients and at that prevalence."
    if certified.split == "val":
        holds += " The weights were chosen on val too, which the promise does not allow for."
    return f"{CARD_LINE}{certified_text(certified)}, {units}. Shown there: {shown}. {holds}"
