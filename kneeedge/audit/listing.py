"""A data folder, faults and all: every image with the split, class and patient that are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kneeedge.data.groups import PATIENT_COLUMNS, read_table
from kneeedge.data.layout import read_layout
from kneeedge.data.patients import patient_of
from kneeedge.data.table import Table, read_labels
from kneeedge.errors import DataError
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


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What a data folder holds."""

    root: Path
    classes: tuple[str, ...]
    "none where the images are not sorted into two class folders or more"
    entries: tuple[Entry, ...]
    "in the order of their names"
    others: tuple[str, ...]
    "files that are no images"
    own: tuple[str, ...] = ()
    "what kneeedge wrote there: run folders, heat maps, reports"
    clutter: tuple[str, ...] = ()
    "what the system left there"


class Place(NamedTuple):
    """Where an image stands in a data folder."""

    split: str
    label: str
    below: str
    "its path below the class folder"


def list_folder(root: Path, group_regex: str | None = None, patients: Path | None = None) -> Folder:
    """Every image below `root`: {train,val,test}/<Class>/…, <Class>/…, or without classes.

    `root` may be a CSV file of labels too. `patients` is a CSV file with the columns path,patient;
    it goes before `group_regex`. Raises NotFoundError for a folder that is not there, DataError for
    one without images, for folders that may or may not be splits, or a table or pattern that does
    not fit it.
    """
    if root.is_file():
        return _list_table(read_labels(root, group_regex), patients)
    layout = read_layout(root)
    split_of = {folder.name: split for split, folder in layout.splits.items()}
    listing = find_images([root])
    names = [image.name for image in listing.images]
    places = [_place(name, split_of) for name in names]
    labels = sorted({place.label for place in places if place.label})
    classes = tuple(labels) if len(labels) > 1 else ()
    owners = _patients(names, places, group_regex, patients)
    entries = [
        Entry(
            path=image.path,
            name=image.name,
            split=place.split,
            label=place.label if classes else "",
            patient=patient,
        )
        for image, place, patient in zip(listing.images, places, owners, strict=True)
    ]
    entries.sort(key=lambda entry: entry.name)

    def relative(paths: Sequence[Path]) -> tuple[str, ...]:
        return tuple(path.relative_to(root).as_posix() for path in paths)

    return Folder(
        root=root,
        classes=classes,
        entries=tuple(entries),
        others=relative(listing.others),
        own=relative(listing.own),
        clutter=relative(listing.clutter),
    )


def _list_table(table: Table, patients: Path | None) -> Folder:
    by_name = _patient_table(patients, [row.name for row in table.rows]) if patients else {}
    entries = [
        Entry(
            path=row.path,
            name=row.name,
            split=row.split,
            label=row.label,
            patient=by_name.get(row.name) or row.patient,
        )
        for row in sorted(table.rows, key=lambda row: row.name)
    ]
    return Folder(root=table.root, classes=table.classes, entries=tuple(entries), others=())


def _place(name: str, split_of: Mapping[str, str]) -> Place:
    """Split and class folder of a relative path; "" for each that it does not lie in.

    A folder beside those of the splits is no class: `sorted_out/Healthy` is in no split, and not of
    a class `sorted_out`.
    """
    *folders, file = PurePosixPath(name).parts
    split = ""
    if split_of:
        split = split_of.get(folders[0], "") if folders else ""
        if not split:
            return Place("", "", name)
        folders = folders[1:]
    label = folders[0] if folders else ""
    return Place(split, label, "/".join([*folders[1:], file]))


def _patients(
    names: Sequence[str], places: Sequence[Place], group_regex: str | None, table: Path | None
) -> list[str]:
    """The patient of each image, by the table or else by the pattern; "" where it is not known."""
    by_name = _patient_table(table, names) if table else {}
    return [
        by_name.get(name) or patient_of(place.below, group_regex, name)
        for name, place in zip(names, places, strict=True)
    ]


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
