"""`predictions.csv` while it is written: rows outlive a stop, a second run is kept out, the whole
appears at once.

Rows go to a hidden file beside the output, in input order, and to the disk every few seconds; what
the run is of stands in another. A run that goes on keeps the rows of whole batches only: a batch of
other images may round otherwise, and the result is to be that of an unbroken run, byte for byte.
"""

import csv
import errno
import hashlib
import io
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from kneeedge.errors import BusyError, ConfigError
from kneeedge.system.files import sync_folder, write_bytes
from kneeedge.system.strict_json import from_json, to_json

SYNC_SECONDS = 5.0
"between two times that what was written is forced to the disk: what a power cut may cost"


@dataclass(frozen=True, kw_only=True)
class RunKey:
    """What decides the rows; a run goes on only where all of it is the same."""

    version: str
    "of kneeedge"
    model_sha256: str
    provider: str
    threads: int
    batch_size: int
    "images that are answered together"
    answer_all: bool
    dicom_window: int
    with_patient_id: bool
    max_pixels: int
    columns: tuple[str, ...]
    n: int
    "images"
    names_sha256: str
    "over their names, in order"

    def difference(self, other: "RunKey") -> str | None:
        """In words, the first thing in which two runs differ."""
        names = self.__dataclass_fields__
        return next(
            (n.replace("_", " ") for n in names if getattr(self, n) != getattr(other, n)), None
        )


def names_sha256(names: Iterable[str]) -> str:
    """A hash over names in order, bytes that are no text included."""
    found = hashlib.sha256()
    for name in names:
        found.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return found.hexdigest()


def encode(row: Sequence[str]) -> bytes:
    """One line of CSV."""
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue().encode("utf-8", "surrogateescape")


class Journal:
    """The rows of one output, as a context: `publish` puts the output in place, leaving without it
    keeps the rows.

    Raises BusyError where another run writes the same output, and ConfigError where `resume` finds
    a run of other images, of another model or with other options.
    """

    def __init__(self, out: Path, key: RunKey, resume: bool) -> None:
        self.out = out
        self.key = key
        self.part = out.with_name(f".{out.name}.part")
        self.state = out.with_name(f".{out.name}.run")
        self._file = open_alone(self.part, out)
        try:
            self.kept = self._take_over() if resume else []
            "rows of the earlier run that stand"
            self.n_dropped = 0 if resume else _n_rows(self._file)
            "rows of an interrupted run that this one replaces"
            self._begin()
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def append(self, row: Sequence[str]) -> None:
        """Write one row, whole or not at all."""
        end = self._file.tell()
        try:
            self._write(encode(row))
        except OSError:
            self._file.truncate(end)
            raise
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync()

    def publish(self) -> None:
        """Give the output its name; a reader sees the old one or the whole new one."""
        self._sync()
        if os.name == "nt":  # which renames no open file
            self._file.close()
        self.part.replace(self.out)
        self.state.unlink(missing_ok=True)
        sync_folder(self.out.parent)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            if kind is None or not issubclass(
                kind, OSError
            ):  # a disk that failed once may fail again
                self._sync()
            self._file.close()

    def _take_over(self) -> list[list[str]]:
        """The rows of whole batches, the file cut behind them; none where there is nothing to go on
        with.
        """
        if not self.state.is_file():
            return []
        try:
            old = from_json(RunKey, self.state.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(
                f"{self.state} is damaged ({error})", "start anew, without --resume"
            ) from error
        if (what := old.difference(self.key)) is not None:
            problem = f"the interrupted run was of another {what}"
            raise ConfigError(
                problem, "give the same model, images and options, or start anew without --resume"
            )
        rows = whole_rows(self._file.read())
        n = len(rows) - 1  # the header is no image
        if n < self.key.n:
            n -= n % self.key.batch_size
        return rows[1 : n + 1] if n > 0 else []

    def _begin(self) -> None:
        """Write what this run is of, then the header and the rows that stand."""
        write_bytes(self.state, to_json(self.key).encode())
        size = sum(len(encode(row)) for row in ([*self.key.columns], *self.kept))
        if not self.kept:
            self._file.seek(0)
            self._file.truncate()
            self._write(encode(self.key.columns))
        self._file.seek(size)
        self._file.truncate()
        self._sync()

    def _write(self, data: bytes) -> None:
        """All of it: the file has no buffer of its own, which would keep what the disk refused and
        try again.
        """
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def whole_rows(content: bytes) -> list[list[str]]:
    """The rows of a CSV file that was cut off anywhere, without what is not whole."""
    rows = []
    end = 0
    for row in _parsed(content):
        line = encode(row)
        if content[end : end + len(line)] != line:
            break
        rows.append(row)
        end += len(line)
    return rows


def _parsed(content: bytes) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))


def _n_rows(file: io.FileIO) -> int:
    file.seek(0)
    return max(0, len(whole_rows(file.read())) - 1)


def open_alone(path: Path, out: Path) -> io.FileIO:
    """The file, opened to read and write, made where it is not there, and locked until it is
    closed.
    """
    while True:
        file = os.fdopen(
            os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666),
            "r+b",
            buffering=0,
        )
        try:
            _lock(file)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except OSError as error:
            file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise
            raise BusyError(out) from error
        file.close()  # between opening and locking, the run that held it put it in place: that is no part any more


def _lock(file: io.FileIO) -> None:
    """Raises OSError (EACCES or EAGAIN) where another process holds it; it falls with the file, or
    with the process.
    """
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
