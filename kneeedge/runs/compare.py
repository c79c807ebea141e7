"""Two runs on the same images: what the second changes, paired, or why they do not pair."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.groups import connected
from kneeedge.model.provenance import Score
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.folder import Run, open_run
from kneeedge.statistics.intervals import Interval, clusters_of
from kneeedge.statistics.paired import PairedChange, paired_auroc_change, paired_changes

VAL_CHOSE = "val chose weights and threshold of both: its figures are too good"
REMEDY = "train the run again"
ImageKey = tuple[str, int]
"an image's hash, and which of the images with these bytes it is"


@dataclass(frozen=True, kw_only=True)
class RunAnswers:
    """What a run's PyTorch model answered to the images of one split, in the order of `keys`."""

    keys: tuple[ImageKey, ...]
    names: tuple[str, ...]
    "paths below the data folder"
    labels: NDArray[np.intp]
    "(N,)"
    predictions: NDArray[np.intp]
    "(N,), at the run's own threshold"
    ranking: NDArray[np.float64]
    "(N,): by what the positive class is ranked"
    groups: tuple[str, ...]
    "of each image: its patient, the copies of one, or itself"


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """The second run's answers less the first's."""

    first: str
    "the run folder"
    second: str
    reason: str = ""
    "why the two cannot be paired; empty where they are, and all below is there only then"
    split: str | None = None
    n: int = 0
    "images, the same for both"
    scores: tuple[Score, ...] = ()
    "of the first and of the second on that split"
    changes: dict[str, PairedChange] = field(default_factory=dict)
    "accuracy, and the positive class's sensitivity and specificity; flips are other answers"
    auroc_change: float | None = None
    auroc_interval: Interval | None = None
    "95 %, paired"
    n_groups: int | None = None
    """of images that show one patient, or are copies, by either run: all intervals allow for them;
    absent where no two images are of one"""
    cautions: tuple[str, ...] = ()


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Pair the answers of two finished runs on test, or on val where neither has a test.

    Raises NotFoundError where one is not finished, CheckpointError where its answers do not fit.
    """
    runs = (open_run(first), open_run(second))
    specs = [run.read_spec() for run in runs]
    unpaired = RunComparison(first=str(first), second=str(second))
    if reason := classes_differ(*specs):
        return replace(unpaired, reason=reason)
    split = "test"
    answers = [answers_of(run, spec, split) for run, spec in zip(runs, specs, strict=True)]
    if not any(each.keys for each in answers):
        split = "val"
        answers = [answers_of(run, spec, split) for run, spec in zip(runs, specs, strict=True)]
    before, after = answers
    if reason := images_differ(before, after, split):
        return replace(unpaired, reason=reason)
    positive = specs[0].positive_index
    is_positive = before.labels == positive
    clusters = clusters_of(groups_of_either(before.groups, after.groups), len(before.keys))
    area = paired_auroc_change(is_positive, before.ranking, after.ranking, clusters)
    return replace(
        unpaired,
        split=split,
        n=len(before.keys),
        scores=tuple(spec.training.scores[split] for spec in specs),
        changes=paired_changes(
            before.labels, before.predictions, after.predictions, positive, clusters
        ),
        auroc_change=area[0] if area else None,
        auroc_interval=area[1] if area else None,
        n_groups=None if clusters is None else len(np.unique(clusters)),
        cautions=cautions_of(runs, specs, split),
    )


def groups_of_either(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Each image's group, where images belong together that do so in one run or in the other.

    One of the two may know no patients, or other copies; what a group is called means nothing in
    the other run.
    """
    names = [str(i) for i in range(len(first))]
    links = []
    for groups in (first, second):
        first_of: dict[str, str] = {}
        links += [
            (first_of.setdefault(group, name), name)
            for group, name in zip(groups, names, strict=True)
        ]
    joined = connected(names, links)
    return [joined[name] for name in names]


def answers_of(run: Run, spec: ModelSpec, split: str) -> RunAnswers:
    """The run's recorded answers to one split, sorted by the images' hashes."""
    recorded = run.read_answers(spec.classes, split, REMEDY)
    samples = run.read_dataset(Path(), spec.classes).split(split)
    hash_of = {sample.name: sample.sha256 for sample in samples}
    hashes = [hash_of.get(name, "") for name in recorded.names]
    order = sorted(range(len(hashes)), key=lambda i: (hashes[i], recorded.names[i]))
    counts: Counter[str] = Counter()
    keys = []
    for i in order:
        keys.append((hashes[i], counts[hashes[i]]))
        counts[hashes[i]] += 1
    ranking = recorded.probabilities[:, spec.positive_index]
    if len(spec.classes) == 2:  # a probability near 1 rounds to 1 and ties
        logits = recorded.logits.astype(np.float64)
        ranking = logits[:, spec.positive_index] - logits[:, 1 - spec.positive_index]
    return RunAnswers(
        keys=tuple(keys),
        names=tuple(recorded.names[i] for i in order),
        labels=recorded.labels[order],
        predictions=spec.decide(recorded.probabilities)[order],
        ranking=ranking[order],
        groups=tuple(recorded.groups[i] for i in order),
    )


def classes_differ(first: ModelSpec, second: ModelSpec) -> str:
    """Why answers of the two do not mean the same; empty where they do."""
    if first.classes != second.classes:
        return f"their classes are {', '.join(first.classes)} and {', '.join(second.classes)}"
    if first.positive != second.positive:
        return f"their positive classes are {first.positive} and {second.positive}"
    return ""


def images_differ(first: RunAnswers, second: RunAnswers, split: str) -> str:
    """Why the two are not of the same images with the same labels; empty where they are."""
    if first.keys != second.keys:
        n_common = len(set(first.keys) & set(second.keys))
        counts = f"{len(first.keys):,} and {len(second.keys):,}, {n_common:,} in common"
        return f"their {split} images are not the same: {counts}"
    n_other = int((first.labels != second.labels).sum())
    return f"{n_other:,} {split} images have another class in each" if n_other else ""


def cautions_of(runs: Sequence[Run], specs: Sequence[ModelSpec], split: str) -> tuple[str, ...]:
    """What to bear in mind with the paired figures."""
    cautions = [VAL_CHOSE] if split == "val" else []
    for run, spec in zip(runs, specs, strict=True):
        if spec.training.caveat:
            cautions.append(f"{run.folder}: {spec.training.caveat}")
    return tuple(cautions)
