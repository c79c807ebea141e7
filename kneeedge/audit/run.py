"""The whole audit: every file opened once, then copies, patients and the shortcut test."""

from dataclasses import dataclass
from pathlib import Path

from kneeedge.audit.duplicates import find_pairs
from kneeedge.audit.facts import Facts, facts_of
from kneeedge.audit.fingerprint import Fingerprint, fingerprint
from kneeedge.audit.listing import Entry, Folder, list_folder
from kneeedge.audit.quick import Copies, in_threads, judge
from kneeedge.audit.shortcut import Shortcut, shortcut_test
from kneeedge.data.dataset import SPLITS
from kneeedge.errors import ImageError
from kneeedge.pixels.picture import read_file
from kneeedge.system.progress import Progress

_SPLIT_ORDER = (*SPLITS, "")


@dataclass(frozen=True, kw_only=True)
class AuditedImage:
    """One readable image."""

    name: str
    "POSIX path relative to the data folder"
    split: str
    '"" where the folder has no splits'
    label: str
    '"" where it is not known'
    patient: str
    '"" where it is not known'
    facts: Facts


@dataclass(frozen=True)
class Unreadable:
    """A file that gives no pixels."""

    name: str
    reason: str


@dataclass(frozen=True)
class SharedPatient:
    """A patient with images in more than one split."""

    patient: str
    splits: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """All that was found in a data folder; `kneeedge.audit.findings` says what it means."""

    data: str
    "the folder"
    classes: tuple[str, ...]
    "none where the images are in fewer than two class folders"
    counts: dict[str, dict[str, int]]
    'readable images by split and class; the split is "" where there are none'
    images: tuple[AuditedImage, ...]
    unreadable: tuple[Unreadable, ...]
    others: tuple[str, ...]
    "files that are no images; never opened"
    copies: Copies
    shared_patients: tuple[SharedPatient, ...]
    shortcut: Shortcut | None
    "absent where there are no classes"


def audit(root: Path, group_regex: str | None, patients: Path | None, progress: Progress) -> Audit:
    """Look through a data folder; what cannot be read is reported with the rest."""
    folder = list_folder(root, group_regex, patients)
    read = in_threads(_read, folder.entries, "reading", progress)
    images = tuple(one[0] for one in read if isinstance(one, tuple))
    fingerprints = [one[1] for one in read if isinstance(one, tuple)]
    copies = judge(
        find_pairs(fingerprints, progress),
        {image.name: image.label for image in images},
        {image.name: image.split for image in images},
        {image.name: image.patient for image in images},
    )
    return Audit(
        data=str(root),
        classes=folder.classes,
        counts=_counts(folder, images),
        images=images,
        unreadable=tuple(one for one in read if isinstance(one, Unreadable)),
        others=folder.others,
        copies=copies,
        shared_patients=_shared_patients(images),
        shortcut=_shortcut(folder.classes, images, copies, progress) if folder.classes else None,
    )


def _read(entry: Entry) -> tuple[AuditedImage, Fingerprint] | Unreadable:
    try:
        file = read_file(entry.path)
    except ImageError as error:
        return Unreadable(entry.name, error.reason)
    image = AuditedImage(
        name=entry.name,
        split=entry.split,
        label=entry.label,
        patient=entry.patient,
        facts=facts_of(file),
    )
    return image, fingerprint(entry.name, file.sha256, file.grey)


def _counts(folder: Folder, images: tuple[AuditedImage, ...]) -> dict[str, dict[str, int]]:
    splits = dict.fromkeys(entry.split for entry in folder.entries)
    counts = {
        split: dict.fromkeys(folder.classes, 0) for split in sorted(splits, key=_SPLIT_ORDER.index)
    }
    for image in images:
        counts[image.split][image.label] = counts[image.split].get(image.label, 0) + 1
    return counts


def _shared_patients(images: tuple[AuditedImage, ...]) -> tuple[SharedPatient, ...]:
    members: dict[str, list[AuditedImage]] = {}
    for image in images:
        if image.patient and image.split:
            members.setdefault(image.patient, []).append(image)
    shared = []
    for patient, theirs in sorted(members.items()):
        splits = sorted({image.split for image in theirs}, key=_SPLIT_ORDER.index)
        if len(splits) > 1:
            shared.append(
                SharedPatient(patient, tuple(splits), tuple(image.name for image in theirs))
            )
    return tuple(shared)


def _shortcut(
    classes: tuple[str, ...], images: tuple[AuditedImage, ...], copies: Copies, progress: Progress
) -> Shortcut:
    """The test on every labelled image, of all splits together."""
    known = [image for image in images if image.label]
    groups = [copies.groups[image.name] for image in known]
    return shortcut_test(
        [i.facts for i in known], [i.label for i in known], groups, classes, progress
    )
