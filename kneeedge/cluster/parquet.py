"""The rows as Parquet: typed columns and the place of each image in the input."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kneeedge.inference.journal import Journal, Published
from kneeedge.inference.predictions import TRUE
from kneeedge.system.files import file_sha256, replacing
from kneeedge.system.outputs import PARQUET_FORMAT
from kneeedge.system.spreadsheet import original_text
from kneeedge.version import __version__

SUFFIX = ".parquet"
INDEX = "index"
ROWS_A_GROUP = 65_536
"rows of one row group: some MB"
NUMBERS = ("probability", "distance")
"columns of numbers, beside those of the classes"
INVERTED = "inverted"
"the column of what is true or false"


def is_parquet(out: Path) -> bool:
    """Whether the output is named as a Parquet file."""
    return out.suffix.lower() == SUFFIX


def publish_parquet(out: Path, rows: Iterable[Sequence[str]], journal: Journal) -> None:
    r"""Give the output these rows, as `output.publish` does with CSV.

    Its columns are those of the CSV behind `index`, 0 for the first image. Numbers are float64
    with the digits of the CSV, and `inverted` is a bool; both are null where the CSV has an empty
    cell. Texts are as they were before they were kept from spreadsheets, bytes of a name that are
    no UTF-8 written as \xff.
    """
    import pyarrow.parquet as pq

    journal.sync()
    schema = schema_of(journal)
    remaining = iter(rows)
    n_before = 0
    with replacing(out, journal.key.with_patient_id) as new:
        with pq.ParquetWriter(new, schema, compression="zstd") as writer:
            while group := list(islice(remaining, ROWS_A_GROUP)):
                writer.write_table(table_of(group, n_before, schema))
                n_before += len(group)
        published = Published(file_sha256(new), new.stat().st_size)
    journal.note_published(published)


def schema_of(journal: Journal) -> Any:
    """The columns and their types; the metadata says of which model the rows are."""
    import pyarrow as pa

    columns = journal.key.columns
    types = [_type_of(name, columns) for name in columns]
    metadata = {
        "format": PARQUET_FORMAT,
        "kneeedge": __version__,
        "model_sha256": journal.key.model_sha256,
    }
    return pa.schema([(INDEX, pa.int64()), *zip(columns, types, strict=True)], metadata=metadata)


def _type_of(name: str, columns: Sequence[str]) -> Any:
    """The type of a column: those from `probability` to `distance` hold numbers."""
    import pyarrow as pa

    first, last = map(columns.index, NUMBERS)
    if first <= columns.index(name) <= last:
        return pa.float64()
    return pa.bool_() if name == INVERTED else pa.string()


def table_of(rows: Sequence[Sequence[str]], n_before: int, schema: Any) -> Any:
    """A table of rows, the first of which is row `n_before` of the run."""
    import pyarrow as pa

    values = {pa.float64(): _numbers, pa.bool_(): _bools, pa.string(): _texts}
    index = pa.array(range(n_before, n_before + len(rows)), pa.int64())
    cells = zip(*rows, strict=True)
    columns = [
        pa.array(values[field.type](column), field.type)
        for field, column in zip(list(schema)[1:], cells, strict=True)
    ]
    return pa.Table.from_arrays([index, *columns], schema=schema)


def _numbers(cells: Iterable[str]) -> list[float | None]:
    return [float(cell) if cell else None for cell in cells]


def _bools(cells: Iterable[str]) -> list[bool | None]:
    return [cell == TRUE if cell else None for cell in cells]


def _texts(cells: Iterable[str]) -> Iterator[str]:
    for cell in cells:
        name = original_text(cell).encode("utf-8", "surrogateescape")
        yield name.decode("utf-8", "backslashreplace")
