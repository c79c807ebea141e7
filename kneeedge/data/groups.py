"""Pairs of copies, the groups that stand on one side of a split, and the CSV files of them."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import DataError, NotFoundError
from kneeedge.system.files import write_csv
from kneeedge.system.spreadsheet import original_text

BYTES, PIXELS, NEAR = "bytes", "pixels", "near"
COLUMNS = ("path", "group")
PATIENT_COLUMNS = ("path", "patient")


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
    "what made the second of the first, such as same bytes, or mirrored, rotated 3°, scale 0.92"


def groups(names: Sequence[str], pairs: Iterable[Pair]) -> dict[str, str]:
    """Map each name to its group: the first name, in order, of those joined to it by pairs."""
    return connected(names, ((pair.first, pair.second) for pair in pairs))


def connected(names: Iterable[str], links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map each name to the first, in order, of all that links join to it, directly or by others."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for left, right in links:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    return {name: root(name) for name in parent}


def merge(
    names: Sequence[str], pairs: Iterable[Pair], patients: Mapping[str, str]
) -> dict[str, str]:
    """Map each name to its group: the images that copies or patients join, directly or by others.

    A group is named for its first patient, else for its first image. `patients` may lack names.
    """
    links = [(pair.first, pair.second) for pair in pairs]
    first_of: dict[str, str] = {}
    for name in names:
        patient = patients.get(name)
        if patient:
            links.append((first_of.setdefault(patient, name), name))
    joined = connected(names, links)
    patient_in: dict[str, str] = {}
    for patient, name in sorted(first_of.items()):
        patient_in.setdefault(joined[name], patient)
    return {name: patient_in.get(group, group) for name, group in joined.items()}


def write_groups(group_of: Mapping[str, str], path: Path) -> None:
    """Write `groups.csv`: path (POSIX, relative to the data folder), group; one row an image.

    A group may be a patient's id: the file is its owner's alone.
    """
    write_csv(path, COLUMNS, group_of.items(), private=True)


def read_groups(path: Path) -> dict[str, str]:
    """The group of each path in a `groups.csv`; raises what `read_table` raises."""
    return read_table(path, COLUMNS)


def read_table(path: Path, columns: tuple[str, str]) -> dict[str, str]:
    """The two named columns of a CSV file, first → second.

    Raises NotFoundError where there is no such file, and DataError where it is no CSV file, lacks
    a column or a cell, or names a path twice with two values.
    """
    names = ",".join(columns)
    if not path.is_file():
        raise NotFoundError(f"{path}: no such table", f"give a CSV file with the columns {names}")
    table: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            missing = set(columns) - set(reader.fieldnames or ())
            if missing:
                problem = f"it has no column {min(missing)!r}"
                raise DataError(path, problem, f"name the columns {names}")
            for row in reader:
                key, value = (original_text(row[column] or "") for column in columns)
                if not key or not value:
                    problem = f"line {reader.line_num} lacks a cell"
                    raise DataError(path, problem, "fill it, or take the line out")
                if table.setdefault(key, value) != value:
                    problem = f"{key} stands there twice, with two values"
                    raise DataError(path, problem, "keep one of the two lines")
    except csv.Error as error:
        raise DataError(path, f"it is no CSV file ({error})", "save it as CSV in UTF-8") from error
    return table
