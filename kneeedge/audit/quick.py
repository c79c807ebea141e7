"""The cheap part of the audit, which `kneeedge train` runs first: copies, leaks and groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kneeedge.audit.fingerprint import Fingerprint, fingerprint
from kneeedge.data.groups import NEAR, Pair, merge
from kneeedge.model.provenance import DataReport
from kneeedge.pixels.picture import read_file
from kneeedge.system.progress import Progress
from kneeedge.system.threads import in_threads

if TYPE_CHECKING:
    from kneeedge.data.dataset import Dataset, Sample


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Files that show one radiograph, and which of them contradict labels or splits."""

    pairs: tuple[Pair, ...]
    conflicts: tuple[Pair, ...]
    "pairs whose two files carry different labels"
    leaks: tuple[Pair, ...]
    "pairs whose two files stand in different splits"
    groups: dict[str, str]
    "group of every image: copies, and images of one patient, are in one group"
    data_report: DataReport


def quick_audit(dataset: "Dataset", progress: Progress, grey_bits: int = 0) -> Copies:
    """The copies among the samples of a data set whose images are known to be readable."""
    # brings in SciPy, which a device does not install
    from kneeedge.audit.duplicates import find_pairs

    samples = dataset.samples
    fingerprints = in_threads(
        partial(_fingerprint, grey_bits=grey_bits), samples, "audit", progress
    )
    pairs = find_pairs(fingerprints, progress)
    labels = {sample.name: dataset.classes[sample.label] for sample in samples}
    splits = {sample.name: sample.split for sample in samples}
    patients = {sample.name: sample.group for sample in samples}
    return check_copies(pairs, labels, splits, patients)


def check_copies(
    pairs: Sequence[Pair],
    labels: Mapping[str, str],
    splits: Mapping[str, str],
    patients: Mapping[str, str],
) -> Copies:
    """Find the copies that contradict labels or splits, and join copies and patients to groups.

    Labels, splits and patients are by name of the image, "" where they are not known.
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


def _fingerprint(sample: "Sample", grey_bits: int) -> Fingerprint:
    return fingerprint(sample.name, sample.sha256, read_file(sample.path, grey_bits).grey)


def _differ(pair: Pair, values: Mapping[str, str]) -> bool:
    first = values[pair.first]
    second = values[pair.second]
    return bool(first and second and first != second)
