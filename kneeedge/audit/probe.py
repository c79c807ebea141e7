"""A logistic probe on frozen features: class probabilities of images that it was not fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kneeedge.audit.shortcut import MIN_GROUPS

Floats = NDArray[np.float64]

FOLDS = 5
REPEATS = 3
PENALTY = 1e-3
"C of scikit-learn's LogisticRegression, on features of deviation 1"
MAX_STEPS = 2000
"of its solver; a few dozen do"
METHOD = (
    f"logistic regression, {FOLDS}-fold cross-validation by group (patients and copies), "
    f"{REPEATS} times, probabilities averaged"
)


class Extractor(Protocol):
    """What turns pictures into features; it was not trained on them."""

    @property
    def method(self) -> str:
        """What the features are, in words."""

    @property
    def size(self) -> int:
        """Side of the pictures that it takes, pixels."""

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (N, F) of pictures (N, S, S) uint8."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The classes and groups of images, in their order."""

    classes: tuple[str, ...]
    label: NDArray[np.int64]
    "(N,) indices into the classes"
    group: NDArray[np.int64]
    "(N,): patients and copies"

    @property
    def n_groups(self) -> int:
        return len(np.unique(self.group))

    @property
    def are_too_few(self) -> bool:
        """Whether a class has fewer groups than a test of it needs."""
        kinds = range(len(self.classes))
        return min(len(np.unique(self.group[self.label == k])) for k in kinds) < MIN_GROUPS


def labelled(labels: Sequence[str], groups: Sequence[str], classes: Sequence[str]) -> Labelled:
    """The classes and groups as indices."""
    place = {name: k for k, name in enumerate(classes)}
    return Labelled(
        classes=tuple(classes),
        label=np.array([place[name] for name in labels], dtype=np.int64),
        group=np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)[1],
    )


def out_of_fold(
    features: NDArray[np.floating],
    label: NDArray[np.integer],
    group: NDArray[np.integer],
) -> Floats:
    """Probabilities (N, K) of images that, and whose group, the probe was not fitted to.

    `features` are (N, F), `label` (N,) indices 0…K−1, all of which occur, and `group` (N,).
    """
    from sklearn.model_selection import StratifiedGroupKFold

    n_classes = int(label.max()) + 1
    probabilities = np.zeros((len(label), n_classes))
    for repeat in range(REPEATS):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=repeat)
        for known, held_out in folds.split(features, label, group):
            found = _fitted(features[known], label[known], features[held_out], n_classes)
            probabilities[held_out] += found / REPEATS
    return probabilities


def _fitted(
    known: NDArray[np.floating],
    label: NDArray[np.integer],
    held_out: NDArray[np.floating],
    n_classes: int,
) -> Floats:
    """Probabilities (M, K) of held-out rows (M, F) by a probe fitted to the known ones (N, F)."""
    from sklearn.linear_model import LogisticRegression

    mean = known.mean(axis=0)
    deviation = known.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    model = LogisticRegression(C=PENALTY, max_iter=MAX_STEPS)
    model.fit(((known - mean) / scale).astype(np.float64), label)
    found = np.zeros((len(held_out), n_classes))
    scaled = ((held_out - mean) / scale).astype(np.float64)
    found[:, model.classes_] = model.predict_proba(scaled)
    return found
