"""The cheap part of the audit, which `kneeedge train` runs first: copies, conflicts, leaks and
groups.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kneeedge.audit.fingerprint import Fingerprint, fingerprint
from kneeedge.data.groups import NEAR, Pair, merge
from kneeedge.model.provenance import DataReport
from kneeedge.pixels.picture import read_file
from kneeedge.system.machine import available_cpus
from kneeedge.system.progress import Progress

if TYPE_CHECKING:
    from kneeedge.data.dataset import Dataset, Sample


T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Files that show one radiograph, and which of them contradict each other or stand on both
    sides of a split.
    """

    pairs: tuple[Pair, ...]
    conflicts: tuple[Pair, ...]
    "pairs whose two files carry different labels"
    leaks: tuple[Pair, ...]
    "pairs whose two files stand in different splits"
    groups: dict[str, str]
    "group of every image: copies, and images of one patient, are in one group"
    data_report: DataReport


def quick_audit(dataset: "Dataset", progress: Progress) -> Copies:
    """The copies among the samples of a data set whose images are known to be readable."""
    from kneeedge.audit.duplicates import (
        find_pairs,
    )  # brings in SciPy, which a device does not install

    samples = dataset.samples
    fingerprints = in_threads(_fingerprint, samples, "audit", progress)
    pairs = find_pairs(fingerprints, progress)
    labels = {sample.name: dataset.classes[sample.label] for sample in samples}
    splits = {sample.name: sample.split for sample in samples}
    return judge(pairs, labels, splits, {sample.name: sample.group for sample in samples})


def judge(
    pairs: Sequence[Pair],
    labels: Mapping[str, str],
    splits: Mapping[str, str],
    patients: Mapping[str, str],
) -> Copies:
    """Set copies beside labels, splits and patients, each by image name; "" stands for a label that
    is not known.
    """
    conflicts = [pair for pair in pairs if _differ(pair, labels)]
    leaks = [pair for pair in pairs if _differ(pair, splits)]
    n_near = sum(pair.kind == NEAR for pair in pairs)
    report = DataReport(
        n_images=len(labels),
        conflicts=len(conflicts),
        leaks=len(leaks),
        exact_pairs=len(pairs) - n_near,
        near_pairs=n_near,
    )
    return Copies(
        pairs=tuple(pairs),
        conflicts=tuple(conflicts),
        leaks=tuple(leaks),
        groups=merge(tuple(labels), pairs, patients),
        data_report=report,
    )


def in_threads(
    work: Callable[[T], R], items: Sequence[T], name: str, progress: Progress
) -> list[R]:
    """`work` on each item, in order, on the cores this process may use; decoding and hashing
    release the lock.
    """
    results = []
    with ThreadPoolExecutor(available_cpus()) as pool, progress.stage(name, len(items)) as stage:
        for result in pool.map(work, items):
            results.append(result)
            stage.advance()
    return results


def _fingerprint(sample: "Sample") -> Fingerprint:
    return fingerprint(sample.name, sample.sha256, read_file(sample.path).grey)


def _differ(pair: Pair, known: Mapping[str, str]) -> bool:
    first = known[pair.first]
    second = known[pair.second]
    return bool(first and second and first != second)
