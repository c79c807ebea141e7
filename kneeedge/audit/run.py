"""The whole audit: every file opened once, then copies, patients and the shortcut test."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kneeedge.audit.duplicates import find_pairs
from kneeedge.audit.facts import Facts, facts_of
from kneeedge.audit.fingerprint import Fingerprint, fingerprint
from kneeedge.audit.joint import JointTest
from kneeedge.audit.labels import LabelSearch
from kneeedge.audit.listing import Entry, Folder, list_folder
from kneeedge.audit.quick import Copies, check_copies
from kneeedge.audit.shortcut import Shortcut, shortcut_test
from kneeedge.data.layout import SPLITS
from kneeedge.errors import ImageError
from kneeedge.pixels.picture import read_file
from kneeedge.system.progress import Progress
from kneeedge.system.threads import in_threads

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
    depth_suspect: int = 0
    "bits that 16-bit pixels fit, 8 to 14, where so few and nobody said so; else 0"


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
    """All that is known of a data folder; `kneeedge.audit.findings` says what it means."""

    data: str
    "the folder, or the table of labels"
    classes: tuple[str, ...]
    "none where the images are in fewer than two class folders"
    counts: dict[str, dict[str, int]]
    'readable images by split and class; the split is "" where there are none'
    images: tuple[AuditedImage, ...]
    unreadable: tuple[Unreadable, ...]
    others: tuple[str, ...]
    "files that are no images"
    own: tuple[str, ...]
    "run folders, heat maps and reports that kneeedge wrote; left out"
    clutter: tuple[str, ...]
    "what the system or the file server left there; left out"
    copies: Copies
    shared_patients: tuple[SharedPatient, ...]
    shortcut: Shortcut | None
    "absent where there are no classes"
    grey_bits: int = 0
    "that pixels of 16 bits were read with; 0: all 16"
    joint: JointTest | None = None
    "absent where it was not asked for"
    labels: LabelSearch | None = None
    "absent where it was not asked for"

    @property
    def root(self) -> Path:
        """The folder that names are relative to."""
        data = Path(self.data)
        return data.parent if data.is_file() else data


def audit(
    root: Path,
    group_regex: str | None,
    patients: Path | None,
    progress: Progress,
    grey_bits: int = 0,
) -> Audit:
    """Look through a data folder, or the images of a table of labels.

    What cannot be read is a finding, and no error.
    """
    folder = list_folder(root, group_regex, patients)
    read = partial(_read, grey_bits=grey_bits)
    files = in_threads(read, folder.entries, "reading", progress)
    unreadable = tuple(file for file in files if isinstance(file, Unreadable))
    readable = [file for file in files if not isinstance(file, Unreadable)]
    images = tuple(image for image, _ in readable)
    copies = check_copies(
        find_pairs([fingerprint for _, fingerprint in readable], progress),
        {image.name: image.label for image in images},
        {image.name: image.split for image in images},
        {image.name: image.patient for image in images},
    )
    return Audit(
        data=str(root),
        classes=folder.classes,
        counts=_counts(folder, images),
        images=images,
        unreadable=unreadable,
        others=folder.others,
        own=folder.own,
        clutter=folder.clutter,
        copies=copies,
        shared_patients=_shared_patients(images),
        shortcut=_shortcut(folder.classes, images, copies, progress) if folder.classes else None,
        grey_bits=grey_bits,
    )


def _read(entry: Entry, grey_bits: int) -> tuple[AuditedImage, Fingerprint] | Unreadable:
    try:
        file = read_file(entry.path, grey_bits)
    except ImageError as error:
        return Unreadable(entry.name, error.reason)
    image = AuditedImage(
        name=entry.name,
        split=entry.split,
        label=entry.label,
        patient=entry.patient,
        facts=facts_of(file),
        depth_suspect=file.depth_suspect,
    )
    return image, fingerprint(entry.name, file.sha256, file.grey)


def _counts(folder: Folder, images: tuple[AuditedImage, ...]) -> dict[str, dict[str, int]]:
    """Readable images by split and class; a class without any is there with 0."""
    splits = sorted({entry.split for entry in folder.entries}, key=_SPLIT_ORDER.index)
    counts = {split: dict.fromkeys(folder.classes, 0) for split in splits}
    for image in images:
        counts[image.split][image.label] = counts[image.split].get(image.label, 0) + 1
    return counts


def _shared_patients(images: tuple[AuditedImage, ...]) -> tuple[SharedPatient, ...]:
    by_patient: dict[str, list[AuditedImage]] = {}
    for image in images:
        if image.patient and image.split:
            by_patient.setdefault(image.patient, []).append(image)
    shared = []
    for patient, own_images in sorted(by_patient.items()):
        splits = sorted({image.split for image in own_images}, key=_SPLIT_ORDER.index)
        if len(splits) > 1:
            names = tuple(image.name for image in own_images)
            shared.append(SharedPatient(patient, tuple(splits), names))
    return tuple(shared)


def _shortcut(
    classes: tuple[str, ...], images: tuple[AuditedImage, ...], copies: Copies, progress: Progress
) -> Shortcut:
    """The test on every labelled image, of all splits together."""
    labelled = [image for image in images if image.label]
    facts = [image.facts for image in labelled]
    labels = [image.label for image in labelled]
    groups = [copies.groups[image.name] for image in labelled]
    return shortcut_test(facts, labels, groups, classes, progress)
