"""Labels in a CSV file, path,label[,split,patient], in place of folders of classes."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from kneeedge.data.layout import split_named
from kneeedge.data.patients import patient_of
from kneeedge.errors import ConfigError, DataError

NEEDED = ("path", "label")
COLUMNS = (*NEEDED, "split", "patient")
_NAME_THEM = "name the columns path,label and, if you like, split and patient"
_SAVE_SO = "save it as CSV in UTF-8, with commas"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"byte order marks"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One labelled image."""

    line: int
    "of the table, from 1"
    path: Path
    name: str
    "POSIX path relative to the table's folder"
    label: str
    split: str
    'train, val or test; "" where the table has no splits'
    patient: str
    '"" where it is not known'


@dataclass(frozen=True)
class Table:
    """The rows of a table of labels."""

    path: Path
    rows: tuple[Row, ...]
    "in the order of the table, each of another file"

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return self.path.parent

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({row.label for row in self.rows}))

    def by_split(self) -> dict[str, list[Row]]:
        """The rows of each split; of "" where the table has no splits."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.split, []).append(row)
        return found

    def check_classes(self, rows: Sequence[Row], classes: Sequence[str], where: str) -> None:
        """Raise DataError unless the rows, of the split `where`, are of just these classes."""
        listed = ", ".join(classes)
        for row in rows:
            if row.label not in classes:
                problem = f"line {row.line}: {row.label!r} is none of the classes {listed}"
                raise DataError(self.path, problem, "correct the label, or take the line out")
        missing = [name for name in classes if name not in {row.label for row in rows}]
        if missing:
            in_split = f"{where} has" if where else "it has"
            raise DataError(self.path, f"{in_split} no image of {missing[0]!r}", "add some")


def read_labels(path: Path, group_regex: str | None = None) -> Table:
    """The table in the CSV file `path`, each row of a file that is there.

    Split words are those of folders; a patient is what the column says, or what `group_regex` finds
    in the path, below a folder that has the label's name. Raises DataError, with the line, for
    whatever does not fit, and ConfigError for a pattern beside a column of patients.
    """
    rows: dict[str, Row] = {}
    for line, cells in _lines(path):
        if group_regex and "patient" in cells:
            problem = f"--group-regex and the column patient of {path} both say whose an image is"
            raise ConfigError(problem, "leave one of them out")
        row = _row(path, line, cells, group_regex)
        if row.name in rows:
            _fail(path, line, f"{row.name} stands on line {rows[row.name].line} too", "keep one")
        rows[row.name] = row
    table = Table(path, tuple(rows.values()))
    _check_labels(table)
    for name in ("split", "patient"):
        _check_all_or_none(table, name)
    return table


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and cells by column of each row."""
    with path.open("rb") as file:
        if file.read(2) in _UTF_16:
            raise DataError(path, "it is in UTF-16", _SAVE_SO)
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file, strict=True)
            columns = next(reader, [])
            _check_columns(path, columns)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(columns):
                    problem = f"it has {len(cells)} cells, not {len(columns)}"
                    _fail(path, reader.line_num, problem, "write one for each column")
                yield reader.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise DataError(path, f"it is no CSV file ({error})", _SAVE_SO) from error


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        for separator in (";", "\t"):
            if any(separator in name for name in columns):
                problem = f"its columns are separated by {separator!r}"
                raise DataError(path, problem, _SAVE_SO)
        raise DataError(path, f"it has no column {missing[0]!r}", _NAME_THEM)
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise DataError(path, f"it has an unknown column {unknown[0]!r}", _NAME_THEM)
    if len(set(columns)) < len(columns):
        raise DataError(path, "it has two columns of one name", _NAME_THEM)


def _row(table: Path, line: int, cells: dict[str, str], group_regex: str | None) -> Row:
    stripped = {name: cell.strip() for name, cell in cells.items()}
    label = stripped["label"]
    if not label:
        _fail(table, line, "it has no label", "write one, or take the line out")
    for name in ("label", "split", "patient"):
        if not stripped.get(name, "").isprintable():
            _fail(table, line, f"its {name} is no text in UTF-8", _SAVE_SO)
    name = _name(table, line, cells["path"])
    word = stripped.get("split", "")
    split = split_named(word)
    if word and not split:
        _fail(table, line, f"{word!r} is no split", "write train, val or test")
    found = patient_of(below_class(name, label), group_regex, name)
    return Row(
        line=line,
        path=table.parent / name,
        name=name,
        label=label,
        split=split,
        patient=found or stripped.get("patient", ""),
    )


def _name(table: Path, line: int, cell: str) -> str:
    """The path relative to the table's folder; raises DataError where no file is there."""
    if not cell:
        _fail(table, line, "it has no path", "write one, or take the line out")
    folder = Path(os.path.abspath(table.parent))  # noqa: PTH100 - takes out `..`, follows no link
    path = PurePosixPath(cell)
    if path.is_absolute() and path.is_relative_to(folder.as_posix()):
        path = path.relative_to(folder.as_posix())
    if path.is_absolute() or ".." in path.parts:
        _fail(table, line, f"{cell} is outside {folder}", "put the table above all its images")
    if not (folder / path).is_file():
        remedy = "write / in place of \\" if "\\" in cell else f"give the path below {folder}"
        _fail(table, line, f"{cell} is no file there", remedy)
    return path.as_posix()


def below_class(name: str, label: str) -> str:
    """The path below a folder that has the label's name; the whole path where there is none."""
    parts = name.split("/")
    folders = parts[:-1]
    if label not in folders:
        return name
    return "/".join(parts[len(folders) - folders[::-1].index(label) :])


def _check_labels(table: Table) -> None:
    """Raise DataError unless there are two labels or more, which differ in more than their case."""
    classes = table.classes
    if len(classes) < 2:
        problem = f"it has {len(classes)} labels{f', {classes[0]!r}' if classes else ''}"
        raise DataError(table.path, problem, "give two classes or more")
    spelling = {name.casefold(): name for name in classes}
    for row in table.rows:
        other = spelling[row.label.casefold()]
        if other != row.label:
            problem = f"the labels {row.label!r} and {other!r} differ in their case alone"
            _fail(table.path, row.line, problem, "write both alike, or name them apart")


def _check_all_or_none(table: Table, column: str) -> None:
    """Raise DataError where some rows have a cell in the column, and others have none."""
    empty = [row for row in table.rows if not getattr(row, column)]
    if empty and len(empty) < len(table.rows):
        _fail(table.path, empty[0].line, f"it has no {column}", "fill it in each line, or in none")


def _fail(path: Path, line: int, problem: str, remedy: str) -> NoReturn:
    raise DataError(path, f"line {line}: {problem}", remedy)
