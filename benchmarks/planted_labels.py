"""How many wrong labels `audit --labels` finds among the images that it says to look at first.

    python -m benchmarks.planted_labels --data DATA [--conflicts DATA] --weights FILE
        [--group-regex R] [--split train] [--share 0.05] [--seeds 3] [--first-seed 3]
        [--json FILE]

Labels of DATA's split are flipped, so that the right ones are known:

- uniform: a share of all images, by chance;
- boundary: as many, by chance among the fifth of the images that the probe, on the true labels and
  out of fold, is least sure of (an expert errs on the doubtful ones).

The frozen features are computed once; the probe, the folds and the ranking are those of the audit,
with the planted labels. False alarms are images of the first tenth whose label nobody planted; some
of those may be wrong in the data as it came.

With `--conflicts` a second set is searched as it is: where its images stand that have a copy with
another label, by the rule that puts them first, and by the margin alone.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.audit.closer import view_features
from kneeedge.audit.labels import REVIEWED, Ranking, rank
from kneeedge.audit.probe import METHOD, Extractor, Labelled, labelled, out_of_fold
from kneeedge.audit.run import Audit, AuditedImage, audit
from kneeedge.pixels.joint import WHOLE
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json
from kneeedge.training.frozen import FrozenFeatures

UNIFORM, BOUNDARY = "uniform", "boundary"
UNSURE = 0.2
"share of the images, those the probe is least sure of, among which labels at the boundary lie"
REVIEWS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
"shares of the images that are looked at"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One planting and what the search found of it."""

    kind: str
    "uniform or boundary"
    seed: int
    n: int
    "images"
    n_planted: int
    found: tuple[int, ...]
    "planted labels among the images of each of REVIEWS"
    n_reviewed: int
    "images in the first tenth"
    false_alarms: int
    "of these, whose label was not planted"
    n_confident: int
    "images that are confidently of another class"
    confident_planted: int


@dataclass(frozen=True, kw_only=True)
class Conflicts:
    """Where images with a copy of another label stand in the ranking of a set as it is."""

    data: str
    n: int
    n_pairs: int
    n_identical_pairs: int
    n_images: int
    "that are in these pairs"
    n_reviewed: int
    n_first: int
    "of these images, in the first tenth"
    n_identical_first: int
    "pairs of identical files of which both are there"
    n_first_by_margin: int
    "images in the first tenth if the rule did not put them first"
    n_pairs_by_margin: int
    "pairs of which at least one would be there"


@dataclass(frozen=True)
class Features:
    """A data set as the search sees it."""

    audited: Audit
    images: list[AuditedImage]
    known: Labelled
    values: NDArray[np.float32]
    "(N, F)"


def read(
    data: Path, split: str | None, group_regex: str | None, extract: Extractor, progress: Progress
) -> Features:
    """Copies, groups and features of the images of one split, or of all."""
    audited = audit(data, group_regex, None, progress)
    images = [i for i in audited.images if i.label and split in (None, i.split)]
    groups = [audited.copies.groups[image.name] for image in images]
    known = labelled([image.label for image in images], groups, audited.classes)
    found = view_features(audited, images, (WHOLE,), extract, progress)
    return Features(audited, images, known, found.by_view[WHOLE])


def plant(
    kind: str, known: Labelled, unsure: NDArray[np.intp], share: float, seed: int
) -> NDArray[np.intp]:
    """The images whose labels are flipped."""
    rng = np.random.default_rng([seed, 17])
    n = len(known.label)
    among = np.arange(n) if kind == UNIFORM else unsure[: math.ceil(UNSURE * n)]
    return rng.choice(among, round(share * n), replace=False)


def try_one(
    features: Features, kind: str, unsure: NDArray[np.intp], share: float, seed: int
) -> Trial:
    """Flip labels, search, and count what stands where."""
    known = features.known
    n = len(known.label)
    planted = np.zeros(n, dtype=bool)
    planted[plant(kind, known, unsure, share, seed)] = True
    label = np.where(planted, (known.label + 1) % len(known.classes), known.label)
    found = rank(out_of_fold(features.values, label, known.group), label, [False] * n)
    in_order = planted[found.order]
    n_reviewed = math.ceil(REVIEWED * n)
    return Trial(
        kind=kind,
        seed=seed,
        n=n,
        n_planted=int(planted.sum()),
        found=tuple(int(in_order[: math.ceil(review * n)].sum()) for review in REVIEWS),
        n_reviewed=n_reviewed,
        false_alarms=n_reviewed - int(in_order[:n_reviewed].sum()),
        n_confident=int(found.is_confident.sum()),
        confident_planted=int((found.is_confident & planted).sum()),
    )


def conflicts(features: Features) -> Conflicts:
    """Where the images with a copy of another label stand."""
    known = features.known
    names = [image.name for image in features.images]
    pairs = features.audited.copies.conflicts
    in_pairs = {name for pair in pairs for name in (pair.first, pair.second)}
    has_conflict = [name in in_pairs for name in names]
    probabilities = out_of_fold(features.values, known.label, known.group)
    n_reviewed = math.ceil(REVIEWED * len(names))

    def first(found: Ranking) -> set[str]:
        return {names[i] for i in found.order[:n_reviewed]}

    by_rule = first(rank(probabilities, known.label, has_conflict))
    by_margin = first(rank(probabilities, known.label, [False] * len(names)))
    identical = [pair for pair in pairs if pair.similarity == 1]
    return Conflicts(
        data=features.audited.root.name,
        n=len(names),
        n_pairs=len(pairs),
        n_identical_pairs=len(identical),
        n_images=len(in_pairs),
        n_reviewed=n_reviewed,
        n_first=len(in_pairs & by_rule),
        n_identical_first=sum({pair.first, pair.second} <= by_rule for pair in identical),
        n_first_by_margin=len(in_pairs & by_margin),
        n_pairs_by_margin=sum(bool({pair.first, pair.second} & by_margin) for pair in pairs),
    )


def accuracy(features: Features) -> tuple[float, NDArray[np.intp]]:
    """The share of labels, as they came, that the probe agrees with; the images, unsure first."""
    known = features.known
    probabilities = out_of_fold(features.values, known.label, known.group)
    highest = np.sort(probabilities, axis=1)
    unsure = np.argsort(highest[:, -1] - highest[:, -2], kind="stable")
    return float((probabilities.argmax(axis=1) == known.label).mean()), unsure


def table(trials: Sequence[Trial]) -> str:
    """Share of the planted labels found, by images looked at, means over the seeds."""
    heads = [f"{review:.0%}" for review in REVIEWS]
    lines = [f"| planted | {' | '.join(heads)} | false alarms |", "|---" * (len(heads) + 2) + "|"]
    for kind in (UNIFORM, BOUNDARY):
        rows = [trial for trial in trials if trial.kind == kind]
        shares = np.mean([np.divide(row.found, row.n_planted) for row in rows], axis=0)
        alarms = f"{np.mean([row.false_alarms for row in rows]):.0f} of {rows[0].n_reviewed}"
        lines.append(f"| {kind} | {' | '.join(f'{share:.0%}' for share in shares)} | {alarms} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Callable[..., object] = parser.add_argument
    add("--data", type=Path, required=True)
    add("--conflicts", type=Path)
    add("--weights", default="imagenet")
    add("--group-regex")
    add("--split", default="train")
    add("--share", type=float, default=0.05)
    add("--first-seed", type=int, default=3, help="seeds 0 to 2 have chosen the features")
    add("--seeds", type=int, default=3)
    add("--json", type=Path)
    given = parser.parse_args()
    progress = Progress()
    facts = asdict(environment())
    extract = FrozenFeatures(given.weights, progress)
    features = read(given.data, given.split, given.group_regex, extract, progress)
    agreed, unsure = accuracy(features)
    trials = [
        try_one(features, kind, unsure, given.share, seed)
        for kind in (UNIFORM, BOUNDARY)
        for seed in range(given.first_seed, given.first_seed + given.seeds)
    ]
    print(table(trials))
    second = None
    if given.conflicts:
        second = conflicts(read(given.conflicts, None, None, extract, progress))
        print(second)
    if given.json:
        record = {
            "environment": facts,
            "data": given.data.name,
            "split": given.split,
            "features": extract.method,
            "probe": METHOD,
            "agreed": agreed,
            "reviews": REVIEWS,
            "trials": trials,
            "conflicts": second,
        }
        given.json.write_text(to_json(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
