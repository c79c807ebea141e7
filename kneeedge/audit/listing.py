"""A data folder, faults and all: every image with the split, class and patient that are known."""

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
    NotFoundError for a folder that is not there, DataError for one without images, or a table or
    pattern that does not fit it.
    """
    if not root.is_dir():
        remedy = "give a folder of images, best with one sub-folder a class"
        raise NotFoundError(f"{root}: no such data folder", remedy)
    listing = find_images([root])
    names = [image.name for image in listing.images]
    splits = [name for name in SPLITS if (root / name).is_dir()]
    places = [_place(name, splits) for name in names]
    labels = sorted({label for _, label in places if label})
    classes = tuple(labels) if len(labels) > 1 else ()
    owners = _patients(names, places, group_regex, patients)
    entries = [
        Entry(
            path=image.path,
            name=image.name,
            split=split,
            label=label if classes else "",
            patient=patient,
        )
        for image, (split, label), patient in zip(listing.images, places, owners, strict=True)
    ]
    entries.sort(key=lambda entry: entry.name)
    others = tuple(path.relative_to(root).as_posix() for path in listing.others)
    return Folder(root, classes, tuple(entries), others)


def _place(name: str, splits: Sequence[str]) -> tuple[str, str]:
    """Split and class folder of a relative path; "" for each that it does not lie in.

    A folder beside train/, val/ and test/ is no class: `valid/Healthy` is in no split, and not of a
    class `valid`.
    """
    folders = PurePosixPath(name).parts[:-1]
    if not splits:
        return "", folders[0] if folders else ""
    if not folders or folders[0] not in splits:
        return "", ""
    return folders[0], folders[1] if len(folders) > 1 else ""


def _patients(
    names: Sequence[str],
    places: Sequence[tuple[str, str]],
    group_regex: str | None,
    table: Path | None,
) -> list[str]:
    """The patient of each image, by the table or else by the pattern; "" where it is not known."""
    by_name = _patient_table(table, names) if table else {}
    patients = []
    for name, (split, _) in zip(names, places, strict=True):
        below = name.removeprefix(f"{split}/") if split else name
        patients.append(by_name.get(name) or patient_of(below, group_regex))
    return patients


def _patient_table(table: Path, names: Sequence[str]) -> dict[str, str]:
    """Patients by name of the image; raises DataError for a row of no image in the folder."""
    by_name = read_table(table, PATIENT_COLUMNS)
    unknown = sorted(set(by_name) - set(names))
    if unknown:
        n_more = len(unknown) - 1
        more = f" (and {n_more} more)" if n_more else ""
        problem = f"{unknown[0]} is no image of the data folder{more}"
        raise DataError(table, problem, "give paths relative to DATA")
    return by_name
