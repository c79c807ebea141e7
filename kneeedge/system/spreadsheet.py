"""CSV that a spreadsheet opens: what others wrote (paths, classes, patients) is never a formula."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"with which a cell begins that a spreadsheet may run (CWE-1236); wide ones count in East Asia"
HARMLESS = "./"


def no_formula(text: str) -> str:
    """Text that no spreadsheet takes for a formula; `original_text` gives it back.

    Of a path it is still the path: `./=A1.png` is the file `=A1.png`.
    """
    return f"{HARMLESS}{text}" if text.startswith(FORMULA) else text


def original_text(cell: str) -> str:
    """The text of which `no_formula` made the cell."""
    text = cell.removeprefix(HARMLESS)
    return text if text.startswith(FORMULA) else cell


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV, its columns named in the first line; numbers may begin with a minus."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in (columns, *rows):
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def csv_line(row: Sequence[str]) -> bytes:
    """One line of CSV, its cells as they are; a name that is no UTF-8 is the bytes that it was."""
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _cell(value: object) -> object:
    return no_formula(value) if isinstance(value, str) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
