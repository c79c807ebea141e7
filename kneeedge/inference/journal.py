"""`predictions.csv` while it is written: rows outlive a stop, and the whole appears at once.

Rows go to a hidden file beside the output, in input order, and to the disk every few seconds; what
the run is of stands in another. A second run on one output is refused. A run that goes on keeps the
rows of whole batches only: a batch of other images may round otherwise, and the result is to be
that of an unbroken run, byte for byte.
"""

import csv
import errno
import hashlib
import io
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
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
        """In words, the first thing in which two runs differ; None where they do not."""
        for field in fields(self):
            if getattr(self, field.name) != getattr(other, field.name):
                return field.name.replace("_", " ")
        return None


def names_sha256(names: Iterable[str]) -> str:
    """A hash over names in order, bytes that are no text included."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def part_of(out: Path) -> Path:
    """The hidden file with the rows of an unfinished run, which is locked while one writes it."""
    return out.with_name(f".{out.name}.part")


def has_rows(out: Path) -> bool:
    """Whether an unfinished run has left rows to go on with."""
    part = part_of(out)
    return part.is_file() and count_rows(part.read_bytes()) > 0


def encode(row: Sequence[str]) -> bytes:
    """One line of CSV, as bytes; names that are no UTF-8 are the bytes that they were."""
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue().encode("utf-8", "surrogateescape")


class Journal:
    """The rows of one output: a context that keeps them, unless `publish` puts the output in place.

    Raises BusyError where another run writes the same output, and ConfigError where `resume` finds
    a run of other images, of another model or with other options.
    """

    def __init__(self, out: Path, key: RunKey, resume: bool) -> None:
        self.out = out
        self.key = key
        self.part = part_of(out)
        self.state = out.with_name(f".{out.name}.run")
        self._file = open_locked(self.part, out)
        try:
            content = self._file.read()
            self.kept = self._take_over(content) if resume else []
            "rows of the earlier run that stand"
            self.n_dropped = 0 if resume else count_rows(content)
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
            self._file.seek(end)
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
        if self._file.closed:
            return
        disk_failed = kind is not None and issubclass(kind, OSError)
        if not disk_failed:  # one that failed once may fail again
            self._sync()
        self._file.close()

    def _take_over(self, content: bytes) -> list[list[str]]:
        """The rows of whole batches; none where there is nothing to go on with."""
        if not self.state.is_file():
            return []
        try:
            earlier = from_json(RunKey, self.state.read_text(encoding="utf-8"))
        except ValueError as error:
            problem = f"{self.state} is damaged ({error})"
            raise ConfigError(problem, "start anew, without --resume") from error
        difference = earlier.difference(self.key)
        if difference is not None:
            problem = f"the interrupted run was of another {difference}"
            remedy = "give the same model, images and options, or start anew without --resume"
            raise ConfigError(problem, remedy)
        rows = whole_rows(content)[1:]
        n_kept = len(rows)
        if n_kept < self.key.n:
            n_kept -= n_kept % self.key.batch_size
        return rows[:n_kept]

    def _begin(self) -> None:
        """Write what this run is of, then the header; cut the file behind the rows that stand."""
        write_bytes(self.state, to_json(self.key).encode())
        header = encode(self.key.columns)
        size = len(header) + sum(len(encode(row)) for row in self.kept)
        if not self.kept:
            self._file.seek(0)
            self._file.truncate()
            self._write(header)
        self._file.seek(size)
        self._file.truncate()
        self._sync()

    def _write(self, data: bytes) -> None:
        """Write all of it.

        The file has no buffer of its own, which would keep what the disk refused and try again.
        """
        unwritten = memoryview(data)
        while unwritten:
            n_written = self._file.write(unwritten)
            unwritten = unwritten[n_written:]

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def whole_rows(content: bytes) -> list[list[str]]:
    """The rows of a CSV file that was cut off anywhere, without what is not whole."""
    text = content.decode("utf-8", "surrogateescape")
    rows = []
    end = 0
    for row in csv.reader(io.StringIO(text, newline="")):
        line = encode(row)
        if content[end : end + len(line)] != line:
            break
        rows.append(row)
        end += len(line)
    return rows


def count_rows(content: bytes) -> int:
    """How many whole rows a CSV file has behind its header."""
    return max(0, len(whole_rows(content)) - 1)


def open_locked(path: Path, out: Path) -> io.FileIO:
    """The file to read and write, made where it is not there, and locked until it is closed.

    Raises BusyError where another run holds it, and so writes `out`.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    while True:
        file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        try:
            _lock(file)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except OSError as error:
            file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise
            raise BusyError(out) from error
        # Between opening and locking, the run that held the file put it in place: it is the output.
        file.close()


def _lock(file: io.FileIO) -> None:
    """Lock the file until it is closed or the process ends.

    Raises OSError (EACCES, EAGAIN or EDEADLK) where another process holds it.
    """
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
