"""`--gate-data FOLDER` → images that the gate's verdict rests on beside val's.

What the run has seen is no evidence: an image of training answers too well, one of val would count
twice, and one of test would be chosen by. Such images, their copies and their patients are left
out and counted.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kneeedge.audit.quick import quick_audit
from kneeedge.data.dataset import (
    Dataset,
    Sample,
    check_unchanged,
    labelled_samples,
    left_out_remarks,
    make_samples,
    others_line,
    say_depths,
    table_samples,
)
from kneeedge.data.layout import list_classes, read_layout, split_named
from kneeedge.data.patients import patient_of
from kneeedge.data.table import below_class, read_labels
from kneeedge.errors import DataError, NotFoundError
from kneeedge.model.file_record import GateData
from kneeedge.pixels.listing import find_images
from kneeedge.runs.config import TrainConfig
from kneeedge.statistics.partly_labelled import NO_LABEL
from kneeedge.system.progress import Progress

GATE = "gate"
"in place of the split of an image that is in none"
SEEN = {
    "train": "copies of training images",
    "val": "copies of val images",
    "test": "copies of test images",
}
TWICE = "second copies within it"
PATIENTS = {"train": "images of patients in training", "test": "images of patients in test"}
"a patient of val may have more images: they count together"


@dataclass(frozen=True)
class GateImages:
    """Images that no split of the run has, and what a report says of them."""

    samples: tuple[Sample, ...]
    "of the split GATE; their names begin with the folder's, their label is NO_LABEL without one"
    record: GateData


def read_gate_data(
    folder: Path, run: Dataset, config: TrainConfig, progress: Progress
) -> GateImages:
    """The images of `folder` that are evidence for a network trained on `run` by `config`.

    It holds class folders of the run's classes, in split folders or not, or is a CSV file of
    labels, or holds images without labels. Raises NotFoundError where it is not there. Raises
    DataError where its layout is no such one, an image cannot be read, two copies have two classes,
    or nothing is left.
    """
    found = read_samples(folder, run.classes, config.grey_bits, progress)
    say_depths(found, progress)
    found = with_patients(found, run, config.group_regex, progress)
    before = folder_name(folder)
    found = [replace(sample, name=f"{before}/{sample.name}") for sample in found]
    check_one_class(folder, found, run.classes)
    reasons = seen_before(found, run, config.group_regex)
    if config.audit:
        found, reasons = with_altered_copies(found, reasons, run, config, progress)
    kept = tuple(sample for sample in found if sample.name not in reasons)
    left_out = dict(Counter(reasons.values()))
    for reason, count in left_out.items():
        first = next(name for name, why in reasons.items() if why == reason)
        progress(f"gate data: {count:,} left out, {reason} ({first} the first)")
    if not kept:
        why = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        remedy = "give images that this run has not seen"
        raise DataError(folder, f"none of its images is evidence: {why}", remedy)
    is_labelled = kept[0].label != NO_LABEL
    if not is_labelled:
        progress(
            f"gate data: {len(kept):,} images without labels say how often answers agree; "
            "accuracy is val's"
        )
    hashes = sorted(sample.sha256 for sample in kept)
    record = GateData(
        folder=folder_name(folder),
        n=len(kept),
        is_labelled=is_labelled,
        sha256=hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
        left_out=left_out,
    )
    return GateImages(kept, record)


def folder_name(folder: Path) -> str:
    """The last part of the path, of a table without its suffix."""
    return folder.resolve().stem if folder.is_file() else folder.resolve().name


def read_samples(
    folder: Path, classes: Sequence[str], grey_bits: int, progress: Progress
) -> list[Sample]:
    """Every image, hashed and decoded once, with its class where the folder tells it."""
    if not folder.exists():
        remedy = "give a folder of images, with or without class folders, or a CSV file path,label"
        raise NotFoundError(f"{folder}: no such gate data", remedy)
    if folder.is_file():
        table = read_labels(folder)
        table.check_classes(table.rows, classes, "")
        return table_samples(table.rows, classes, GATE, grey_bits)
    if holds_classes(folder, classes):
        return read_class_folders(folder, classes, grey_bits, progress)
    listed = ", ".join(classes)
    progress(f"{folder}: no folder is named as a class ({listed}), so it is without labels")
    return read_unlabelled(folder, grey_bits, progress)


def holds_classes(folder: Path, classes: Sequence[str]) -> bool:
    """Whether a folder in it, or in a split folder of it, has the name of a class in any case."""
    names = {name.casefold() for name in classes}
    folders = [entry for entry in folder.iterdir() if entry.is_dir()]
    for entry in list(folders):
        if split_named(entry.name):
            folders += [below for below in entry.iterdir() if below.is_dir()]
    return any(entry.name.casefold() in names for entry in folders)


def read_class_folders(
    folder: Path, classes: Sequence[str], grey_bits: int, progress: Progress
) -> list[Sample]:
    """The images of the class folders, of all splits where the folder has some."""
    layout = read_layout(folder)
    samples: list[Sample] = []
    for part in layout.splits.values() or [folder]:
        folders = list_classes(part, classes)
        for remark in filter(None, [others_line(folders.others), *left_out_remarks(folders)]):
            progress(remark)
        samples += labelled_samples(folder, folders, GATE, None, grey_bits)
    return samples


def read_unlabelled(folder: Path, grey_bits: int, progress: Progress) -> list[Sample]:
    """All images below the folder, as `infer` finds them."""
    listing = find_images([folder])
    for remark in listing.remarks():
        progress(remark)
    if listing.others:
        first = listing.others[0]
        progress(f"left out: {len(listing.others):,} files that are no images, {first} the first")
    rows = [(image.path, image.name, NO_LABEL, "") for image in listing.images]
    return make_samples(rows, GATE, grey_bits)


def with_patients(
    samples: Sequence[Sample], run: Dataset, pattern: str | None, progress: Progress
) -> list[Sample]:
    """The samples with the patients whom the run's pattern finds, where no table names them.

    Says so where images count one by one though those of the run do not.
    """
    if any(sample.group != sample.sha256 for sample in samples):
        return list(samples)
    if pattern is None:
        if len({sample.group for sample in run.samples}) < len(run.samples):
            progress(
                "gate data: nothing says whose the images are, so each counts as a patient of its "
                "own; a CSV file path,label,patient would say so"
            )
        return list(samples)
    patients = [patient_in(sample, run.classes, pattern) for sample in samples]
    n_unknown = patients.count("")
    if n_unknown:
        progress(
            f"gate data: --group-regex {pattern!r} of the run finds no patient of {n_unknown:,} "
            f"of {len(samples):,} images: each of these counts as a patient of its own"
        )
    return [
        replace(sample, group=patient or sample.sha256)
        for sample, patient in zip(samples, patients, strict=True)
    ]


def patient_in(sample: Sample, classes: Sequence[str], pattern: str) -> str:
    """The patient whom the pattern finds in the path below the class folder; "" for none."""
    label = "" if sample.label == NO_LABEL else classes[sample.label]
    try:
        return patient_of(below_class(sample.name, label), pattern)
    except DataError:  # other folders may name their files in other ways
        return ""


def check_one_class(folder: Path, samples: Sequence[Sample], classes: Sequence[str]) -> None:
    """Raise DataError where the bytes of one image stand under two classes."""
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.sha256, sample)
        if other.label != sample.label:
            both = f"{classes[other.label]} and {classes[sample.label]}"
            problem = f"{other.name} and {sample.name} are one image, of {both}"
            raise DataError(folder, problem, "keep one of the two")


def seen_before(samples: Iterable[Sample], run: Dataset, pattern: str | None) -> dict[str, str]:
    """Why images are no evidence, by name: their bytes or their patient stand in the run."""
    copies: dict[str, str] = {}
    patients: dict[str, str] = {}
    for split in ("test", "val", "train"):  # the worst last, which stays
        for sample in run.split(split):
            copies[sample.sha256] = SEEN[split]
            if split in PATIENTS:
                owners = {sample.group}
                if pattern is not None:
                    owners.add(patient_in(sample, run.classes, pattern))
                patients.update(dict.fromkeys(owners - {"", sample.sha256}, PATIENTS[split]))
    reasons: dict[str, str] = {}
    for sample in samples:
        reason = copies.get(sample.sha256) or patients.get(sample.group)
        if reason is not None:
            reasons[sample.name] = reason
        copies.setdefault(sample.sha256, TWICE)
    return reasons


def with_altered_copies(
    samples: Sequence[Sample],
    reasons: dict[str, str],
    run: Dataset,
    config: TrainConfig,
    progress: Progress,
) -> tuple[list[Sample], dict[str, str]]:
    """The samples with altered copies among them in one group, and why some are no evidence.

    As the run looked for copies when it was trained.
    """
    check_unchanged(run.samples)
    named = {f"{GATE}\0{sample.name}": sample for sample in samples}  # no file is called so
    others = [replace(sample, name=name) for name, sample in named.items()]
    both = Dataset(run.root, run.classes, (*run.samples, *others))
    copies = quick_audit(both, progress, config.grey_bits)
    split_of = {sample.name: sample.split for sample in run.samples}
    found = dict(reasons)
    for pair in copies.pairs:
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            if one in named and other in split_of:
                found.setdefault(named[one].name, SEEN[split_of[other]])
    joined = [replace(sample, group=copies.groups[name]) for name, sample in named.items()]
    return joined, found
