"""The joint test: do pictures without their joint still tell the classes apart?

The same probe is fitted to the whole pictures, to pictures with the joint masked, to their border
alone and to the joint alone. Grades of osteoarthritis are known to be told apart by pictures
without the joint (arXiv 2311.06118): what a network may then learn is where, how or of whom the
picture was made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.audit.probe import METHOD as PROBE
from kneeedge.audit.probe import Labelled, out_of_fold
from kneeedge.audit.shortcut import DRAWS, TOO_FEW, group_bootstrap
from kneeedge.model.spec import default_positive
from kneeedge.pixels.joint import VIEWS, is_beside
from kneeedge.statistics.auroc import auroc
from kneeedge.statistics.intervals import Interval
from kneeedge.system.progress import Progress

BESIDE, FAIR = "beside the joint", "fair"
METHOD = f"{PROBE}; interval: bootstrap over groups ({DRAWS:,} resamples)"


@dataclass(frozen=True, kw_only=True)
class ViewSeparation:
    """How well one part of the pictures tells one class from the rest."""

    view: str
    "whole picture, joint masked, border alone or joint alone"
    positive: str
    auroc: float
    "0 to 1, out of fold"
    interval: Interval

    @property
    def is_beside_the_joint(self) -> bool:
        """Whether what shows no joint surely tells the class, and well enough to matter."""
        return is_beside(self.view, self.auroc, self.interval.low)


@dataclass(frozen=True, kw_only=True)
class JointTest:
    """The result of the joint test."""

    verdict: str
    "beside the joint, fair or too few"
    n: int
    "images"
    n_groups: int
    n_off_centre: int
    "images whose joint space does not seem to lie well within the joint's band; a guess"
    separations: tuple[ViewSeparation, ...]
    "of each view: one for two classes, else one a class; none where there are too few images"
    features: str
    "what the probe looks at"
    method: str = METHOD


def joint_test(
    features: Mapping[str, NDArray[np.floating]],
    images: Labelled,
    n_off_centre: int,
    source: str,
    progress: Progress,
) -> JointTest:
    """Cross-validate the classes against the features (N, F) of each view of the images.

    `source` says what the features are.
    """
    n = len(images.label)
    separations: list[ViewSeparation] = []
    if not images.are_too_few:
        with progress.stage("joint test", len(VIEWS)) as stage:
            for view in VIEWS:
                separations += _separations(view, features[view], images)
                stage.advance()
    return JointTest(
        verdict=_verdict(separations),
        n=n,
        n_groups=images.n_groups,
        n_off_centre=n_off_centre,
        separations=tuple(separations),
        features=source,
    )


def _separations(
    view: str, features: NDArray[np.floating], images: Labelled
) -> list[ViewSeparation]:
    """Each class against the rest, or the positive one of two."""
    probabilities = out_of_fold(features, images.label, images.group)
    classes = images.classes
    positives = [default_positive(classes)] if len(classes) == 2 else list(classes)
    found = []
    for name in positives:
        k = classes.index(name)
        positive = images.label == k
        scores = probabilities[:, k]
        area = auroc(positive, scores)
        interval = group_bootstrap(positive, scores, images.group)
        found.append(
            ViewSeparation(
                view=view,
                positive=name,
                auroc=0.5 if area is None else area,
                interval=interval,
            )
        )
    return found


def _verdict(separations: Sequence[ViewSeparation]) -> str:
    if not separations:
        return TOO_FEW
    is_found = any(separation.is_beside_the_joint for separation in separations)
    return BESIDE if is_found else FAIR
