"""Labels that are probably wrong: images whose label a probe that never saw them doubts.

Confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70:1373). A class's threshold is the mean
probability that its own images get for it, out of fold. An image's margin is its label's
probability less that threshold, minus the largest such difference among the other classes; an image
of negative margin, whose likelier class also passes its threshold, is confidently of that class
(sections 3.1 and 3.2: the confident joint off its diagonal, ranked by normalised margin). Copies of
one radiograph with two labels come first: one of the two is wrong, whatever a probe says.

Nothing is relabelled. The first tenth of the ranking is a list for a person to look at.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.audit.probe import METHOD as PROBE
from kneeedge.audit.probe import Floats, Labelled, out_of_fold
from kneeedge.audit.shortcut import TOO_FEW
from kneeedge.data.groups import Pair
from kneeedge.data.labels import COLUMNS
from kneeedge.system.files import write_csv
from kneeedge.system.progress import Progress

REVIEWED = 0.1
"share of the images that are listed"
DONE = "done"
METHOD = (
    f"{PROBE}; ranked by confident learning's margin (Northcutt et al. 2021), "
    "copies with two labels first"
)


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """One image whose label is to be looked at."""

    name: str
    label: str
    probability: float
    "0 to 1, out of fold; of its label"
    likelier: str
    "the class that the probe holds it for, its label set aside"
    rank: int
    "from 1, the most doubtful first"
    margin: float
    "−2 to 2; below 0 the probe holds it for another class"
    is_confident: bool
    "whether it is confidently of the likelier class"
    conflicts: tuple[str, ...]
    "copies of it that carry another label"

    @property
    def why(self) -> str:
        """The reason that it is listed, in words."""
        if self.conflicts:
            more = f" and {len(self.conflicts) - 1} more" if len(self.conflicts) > 1 else ""
            return f"its copy {self.conflicts[0]}{more} has another label"
        if self.is_confident:
            return f"looks as much like {self.likelier} as that class's own images do"
        if self.margin < 0:
            return f"looks rather like {self.likelier}"
        return f"lies between {self.label} and {self.likelier}"


@dataclass(frozen=True, kw_only=True)
class LabelSearch:
    """The search for wrong labels."""

    verdict: str
    "done, or too few"
    n: int
    "images"
    n_groups: int
    n_confident: int
    "images, listed or not, that are confidently of another class than their label"
    thresholds: dict[str, float]
    "of each class: the mean probability that its own images get for it"
    agreed: float | None
    "0 to 1; share of the labels that the probe agrees with; absent where there are too few images"
    suspects: tuple[Suspect, ...]
    "the first tenth of the ranking, and all copies with two labels"
    features: str
    "what the probe looks at"
    method: str = METHOD


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The images in the order in which their labels are doubtful."""

    order: NDArray[np.intp]
    "(N,) indices, the most doubtful first"
    margin: Floats
    "(N,) of each image"
    likelier: NDArray[np.intp]
    "(N,) the class other than the label that fits each image best"
    is_confident: NDArray[np.bool_]
    "(N,)"
    thresholds: Floats
    "(K,)"


def search_labels(
    features: NDArray[np.floating],
    names: Sequence[str],
    images: Labelled,
    conflicts: Sequence[Pair],
    source: str,
    progress: Progress,
) -> LabelSearch:
    """Rank the images by how doubtful their labels are, from features (N, F) that `source` names.

    With too few groups of a class only copies with two labels are listed.
    """
    copies = _copies(conflicts)
    if images.are_too_few:
        n_classes = len(images.classes)
        # no image is held for any class
        probabilities = np.full((len(names), n_classes), 1 / n_classes)
        n_listed = 0
        agreed = None
    else:
        with progress.stage("labels out of fold", 1) as stage:
            probabilities = out_of_fold(features, images.label, images.group)
            stage.advance()
        n_listed = math.ceil(REVIEWED * len(names))
        agreed = float((probabilities.argmax(axis=1) == images.label).mean())
    found = rank(probabilities, images.label, [name in copies for name in names])
    n_listed = max(n_listed, sum(name in copies for name in names))
    suspects = [
        Suspect(
            name=names[i],
            label=images.classes[images.label[i]],
            probability=float(probabilities[i, images.label[i]]),
            likelier=images.classes[found.likelier[i]],
            rank=place,
            margin=float(found.margin[i]),
            is_confident=bool(found.is_confident[i]),
            conflicts=copies.get(names[i], ()),
        )
        for place, i in enumerate(found.order[:n_listed], start=1)
    ]
    return LabelSearch(
        verdict=TOO_FEW if images.are_too_few else DONE,
        n=len(names),
        n_groups=images.n_groups,
        n_confident=int(found.is_confident.sum()),
        thresholds=dict(zip(images.classes, found.thresholds.tolist(), strict=True)),
        agreed=agreed,
        suspects=tuple(suspects),
        features=source,
    )


def rank(
    probabilities: Floats, label: NDArray[np.integer], has_conflict: Collection[bool]
) -> Ranking:
    """The ranking of images with probabilities (N, K) out of fold and labels (N,).

    Those that have a copy with another label come first; each part is ordered by margin.
    """
    n, n_classes = probabilities.shape
    rows = np.arange(n)
    own = probabilities[rows, label]
    thresholds = np.array([own[label == k].mean() for k in range(n_classes)])
    above = probabilities - thresholds
    others = above.copy()
    others[rows, label] = -np.inf
    likelier = others.argmax(axis=1)
    margin = above[rows, label] - others[rows, likelier]
    is_confident = (others[rows, likelier] >= 0) & (margin < 0)
    # of equal margins the first image
    order = np.lexsort((rows, margin, ~np.array(has_conflict, dtype=bool)))
    return Ranking(
        order=order,
        margin=margin,
        likelier=likelier,
        is_confident=is_confident,
        thresholds=thresholds,
    )


def write_suspects(search: LabelSearch, path: Path) -> None:
    """Write the list: path, label, probability of the label, rank, why. It is its owner's alone."""
    rows = [(s.name, s.label, f"{s.probability:.4f}", s.rank, s.why) for s in search.suspects]
    write_csv(path, COLUMNS, rows, private=True)


def _copies(conflicts: Sequence[Pair]) -> Mapping[str, tuple[str, ...]]:
    """The copies of each image that carry another label than it."""
    found: dict[str, list[str]] = {}
    for pair in conflicts:
        found.setdefault(pair.first, []).append(pair.second)
        found.setdefault(pair.second, []).append(pair.first)
    return {name: tuple(sorted(others)) for name, others in found.items()}
