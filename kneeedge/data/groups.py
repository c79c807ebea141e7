"""Pairs of copies, the groups that must stand on one side of a split, and the CSV files that name
them.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import DataError, NotFoundError
from kneeedge.system.files import write_csv

BYTES, PIXELS, NEAR = "bytes", "pixels", "near"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two files that show one radiograph."""

    first: str
    "name of the one that sorts first"
    second: str
    kind: str
    "bytes, pixels or near"
    similarity: float
    "correlation of the fine detail, 1 for exact copies"
    how: str
    """what was done to the first to make the second, such as same bytes, or mirrored, rotated 3°,
    scale 0.92
    """


def groups(names: Sequence[str], pairs: Iterable[Pair]) -> dict[str, str]:
    """Map each name to its group: the first name, in order, of those joined to it by pairs."""
    return connected(names, ((pair.first, pair.second) for pair in pairs))


def connected(names: Iterable[str], links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map each name to the first, in order, of all that links join to it, however many steps apart."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {name: root(name) for name in parent}


COLUMNS = ("path", "group")
PATIENT_COLUMNS = ("path", "patient")


def merge(
    names: Sequence[str], pairs: Iterable[Pair], patients: Mapping[str, str]
) -> dict[str, str]:
    """Map each name to its group: the images that copies or patients join, however many steps
    apart.

    A group is named for its first patient, else for its first image. `patients` may lack names.
    """
    first: dict[str, str] = {}
    links = [(pair.first, pair.second) for pair in pairs]
    links += [
        (first.setdefault(patients[name], name), name) for name in names if patients.get(name)
    ]
    joined = connected(names, links)
    title: dict[str, str] = {}
    for patient, name in sorted(first.items()):
        title.setdefault(joined[name], patient)
    return {name: title.get(group, group) for name, group in joined.items()}


def write_groups(found: Mapping[str, str], path: Path) -> None:
    """Write `groups.csv`: path (POSIX, relative to the data folder), group; one row an image."""
    write_csv(path, COLUMNS, found.items())


def read_groups(path: Path) -> dict[str, str]:
    """Group of each path, from what `write_groups` wrote; raises DataError where the file is not
    such a one.
    """
    return read_table(path, COLUMNS)


def read_table(path: Path, columns: tuple[str, str]) -> dict[str, str]:
    """The two named columns of a CSV file, first → second; raises DataError for a path twice or an
    empty cell.
    """
    if not path.is_file():
        raise NotFoundError(
            f"{path}: no such table", f"give a CSV file with the columns {','.join(columns)}"
        )
    found: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            if missing := set(columns) - set(reader.fieldnames or ()):
                raise DataError(
                    path,
                    f"it has no column {min(missing)!r}",
                    f"name the columns {','.join(columns)}",
                )
            for row in reader:
                name = row[columns[0]]
                value = row[columns[1]]
                if not name or not value:
                    raise DataError(
                        path,
                        f"line {reader.line_num} lacks a cell",
                        "fill it, or take the line out",
                    )
                if found.setdefault(name, value) != value:
                    raise DataError(
                        path,
                        f"{name} stands there twice, with two values",
                        "keep one of the two lines",
                    )
    except csv.Error as error:
        raise DataError(path, f"it is no CSV file ({error})", "save it as CSV in UTF-8") from error
    return found
