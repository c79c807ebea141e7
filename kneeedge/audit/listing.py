"""A data folder as it is, faults and all: every image with the split, the class and the patient
that are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kneeedge.data.dataset import SPLITS, patient_of
from kneeedge.data.groups import PATIENT_COLUMNS, read_table
from kneeedge.errors import DataError, NotFoundError
from kneeedge.pixels.listing import find_images


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image file, not yet opened."""

    path: Path
    name: str
    "POSIX path relative to the data folder"
    split: str
    'train, val or test; "" where the folder has no splits'
    label: str
    'class; "" where the file is in no class folder'
    patient: str
    '"" where it is not known'


@dataclass(frozen=True)
class Folder:
    """What a data folder holds."""

    root: Path
    classes: tuple[str, ...]
    "none where the images are not sorted into two class folders or more"
    entries: tuple[Entry, ...]
    "in the order of their names"
    others: tuple[str, ...]
    "files that are no images"


def list_folder(root: Path, group_regex: str | None = None, patients: Path | None = None) -> Folder:
    """Every image below `root`: {train,val,test}/<Class>/…, <Class>/…, or without classes.

    `patients` is a CSV file with the columns path,patient; it goes before `group_regex`. Raises
    NotFoundError or DataError for a folder without images, or a table or pattern that does not fit
    it.
    """
    if not root.is_dir():
        raise NotFoundError(
            f"{root}: no such data folder",
            "give a folder of images, best with one sub-folder a class",
        )
    listing = find_images([root])
    names = [image.name for image in listing.images]
    splits = [name for name in SPLITS if (root / name).is_dir()]
    places = [_place(name, splits) for name in names]
    classes = sorted({label for _, label in places if label})
    known = tuple(classes) if len(classes) > 1 else ()
    who = _patients(names, places, group_regex, patients)
    entries = (
        Entry(
            path=image.path,
            name=image.name,
            split=split,
            label=label if known else "",
            patient=patient,
        )
        for image, (split, label), patient in zip(listing.images, places, who, strict=True)
    )
    others = tuple(path.relative_to(root).as_posix() for path in listing.others)
    return Folder(root, known, tuple(sorted(entries, key=lambda entry: entry.name)), others)


def _place(name: str, splits: Sequence[str]) -> tuple[str, str]:
    """Split and class folder of a relative path; "" for each that it does not lie in.

    A folder beside train/, val/ and test/ is no class: `valid/Healthy` is in no split, and not of a
    class `valid`.
    """
    folders = PurePosixPath(name).parts[:-1]
    split = folders[0] if folders and folders[0] in splits else ""
    below = folders[1:] if splits else folders
    return split, below[0] if below and (split or not splits) else ""


def _patients(
    names: Sequence[str],
    places: Sequence[tuple[str, str]],
    group_regex: str | None,
    table: Path | None,
) -> list[str]:
    given = read_table(table, PATIENT_COLUMNS) if table else {}
    if table and (unknown := sorted(set(given) - set(names))):
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise DataError(
            table,
            f"{unknown[0]} is no image of the data folder{more}",
            "give paths relative to DATA",
        )
    found = []
    for name, (split, _) in zip(names, places, strict=True):
        below = name.removeprefix(f"{split}/") if split else name
        found.append(given.get(name) or patient_of(below, group_regex))
    return found
