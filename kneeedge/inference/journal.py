"""What was answered for one output: a hidden file beside it that outlives a stop, a kill, a power
cut.

Each line is a hash and a JSON record: first what the run is of, then a batch of rows with the
stamps of the files that they answer, or a note of what stands in the output. A line that was cut
off, edited or taken out is noticed, and its images are answered anew. Rows are kept by whole
batches: a batch of other images may round otherwise, and a run that goes on is to give the bytes
of an unbroken one.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from kneeedge.errors import BusyError, ConfigError
from kneeedge.model.reference import ImageFigures
from kneeedge.system.files import sync_folder
from kneeedge.system.locks import TAKEN, lock_file
from kneeedge.system.stamps import FileStamp
from kneeedge.system.strict_json import from_json, plain

SYNC_SECONDS = 5.0
"between two times that what was written is forced to the disk: what a power cut may cost"
DIGEST = 16
"hex digits of a line's hash"
EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(frozen=True, kw_only=True)
class RunKey:
    """What decides the rows, beside the images; a run goes on only where all of it is the same."""

    version: str
    "of kneeedge"
    model_sha256: str
    provider: str
    threads: int
    batch_size: int
    "images that are answered together"
    answer_all: bool
    dicom_window: int
    grey_bits: int
    max_pixels: int
    with_patient_id: bool
    heatmaps: str
    "the folder of the heat maps; empty where there are none"
    dicom_sr: str
    "the folder of the Structured Reports; empty where there are none"
    columns: tuple[str, ...]
    captures: str = ""
    "the folder of the Secondary Captures; empty where there are none"

    def difference(self, other: "RunKey") -> str | None:
        """In words, the first thing in which two runs differ; None where they do not."""
        for part in fields(self):
            if getattr(self, part.name) != getattr(other, part.name):
                return part.name.replace("_", " ")
        return None


@dataclass(frozen=True)
class Batch:
    """The rows of images that were answered together."""

    rows: tuple[tuple[str, ...], ...]
    stamps: tuple[FileStamp | None, ...]
    "of the files that they answer; none where a file could not be read"
    figures: tuple[ImageFigures | None, ...] = ()
    "what a watch for drift compares of them, where there is one; none of a file likewise"


@dataclass(frozen=True)
class KeptBatch:
    """A batch in the journal, without its rows."""

    paths: tuple[str, ...]
    "the first cell of each row"
    stamps: tuple[FileStamp | None, ...]
    offset: int
    "of its line in the journal, in bytes"
    length: int
    "of its line, in bytes"


@dataclass(frozen=True)
class Published:
    """What stands in the output: so many of its bytes are kneeedge's."""

    sha256: str = EMPTY_SHA256
    size: int = 0
    "bytes"


@dataclass
class Content:
    """What an earlier run left in a journal."""

    key: RunKey | None = None
    "None where there is nothing to go on with"
    batches: list[KeptBatch] = field(default_factory=list)
    stamps: dict[str, FileStamp] = field(default_factory=dict)
    "by path, where a file got other times and kept its bytes"
    published: Published = field(default_factory=Published)
    n_published: int = 0
    "batches that stand in the output"
    n_lines: int = 0
    "that were written, those that are damaged included"
    n_damaged: int = 0
    "lines that were edited or taken out"
    end: int = 0
    "of the last whole line, in bytes"

    def n_open(self) -> int:
        """Rows that stand in no output."""
        return sum(len(batch.paths) for batch in self.batches[self.n_published :])


def journal_of(out: Path) -> Path:
    """The hidden file beside an output that remembers what was answered."""
    return out.with_name(f".{out.name}.journal")


def has_rows(out: Path) -> bool:
    """Whether an unfinished run has left rows to go on with."""
    try:
        with journal_of(out).open("rb", buffering=0) as file:
            return read_content(file).n_open() > 0
    except FileNotFoundError:
        return False


class Journal:
    """The journal of one output, locked until its context is left.

    Raises BusyError where another run writes the same output, and ConfigError where `resume` finds
    rows of another model or of other options; nothing is lost by that.
    """

    def __init__(self, out: Path, key: RunKey, resume: bool) -> None:
        self.key = key
        self.path = journal_of(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        self._file = open_locked(self.path, out)
        try:
            self.found = self._read(resume)
            "what the earlier run left"
            self.n_dropped = 0 if resume else self.found.n_open()
            "rows of an interrupted run that this one replaces"
            if resume and self.found.key is not None:
                self._go_on(self.found.key, out)
            else:
                self._begin()
        except BaseException:
            self._file.close()
            raise

    def append(self, batch: Batch) -> KeptBatch:
        """Write a batch, whole or not at all; where it stands."""
        stamps = [astuple(stamp) if stamp else None for stamp in batch.stamps]
        record: dict[str, Any] = {"rows": batch.rows, "stamps": stamps}
        if batch.figures:
            record["figures"] = [image and image.cells() for image in batch.figures]
        offset, length = self._write(record)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()
        return KeptBatch(tuple(row[0] for row in batch.rows), batch.stamps, offset, length)

    def restamp(self, path: str, stamp: FileStamp) -> None:
        """Note that the file of a row got other times, and has the bytes that it had."""
        self._write({"path": path, "stamp": astuple(stamp)})

    def note_published(self, published: Published) -> None:
        """Note, on the disk, that every row so far stands in the output."""
        self._write({"published": plain(published)})
        self.sync()

    def rows(self, batch: KeptBatch) -> list[list[str]]:
        """The rows of a batch."""
        rows: list[list[str]] = self._record(batch)["rows"]
        return rows

    def figures(self, batch: KeptBatch) -> list[ImageFigures | None]:
        """What a watch for drift compares of a batch's images; empty where there was no watch."""
        cells = self._record(batch).get("figures", [])
        return [image and ImageFigures.of_cells(image) for image in cells]

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        disk_failed = kind is not None and issubclass(kind, OSError)
        if not disk_failed:  # one that failed once may fail again
            self.sync()
        self.close()

    def close(self) -> None:
        """Let another run have the output."""
        self._file.close()

    def _read(self, resume: bool) -> Content:
        """What is there; raises ConfigError where that is to be gone on with and cannot be read."""
        try:
            return read_content(self._file)
        except ValueError as error:
            if not resume:
                return Content()
            problem = f"{self.path} is damaged, or another version's ({error})"
            raise ConfigError(problem, "start anew, with another --out") from error

    def _begin(self) -> None:
        """Empty the journal, and write what the run is of."""
        self.found = Content(key=self.key)
        self._n_lines = 0
        self._file.seek(0)
        self._file.truncate()
        self._write({"key": plain(self.key)})
        self.sync()
        sync_folder(self.path.parent)

    def _go_on(self, earlier: RunKey, out: Path) -> None:
        """Take what is there for this run's; cut off the line that a kill left half written."""
        difference = earlier.difference(self.key)
        if difference is not None:
            problem = f"what {out} has so far is of another {difference}"
            remedy = "give the same model and options, or name another --out"
            raise ConfigError(problem, remedy)
        self._n_lines = self.found.n_lines
        self._file.seek(self.found.end)
        self._file.truncate()
        self.sync()

    def _record(self, batch: KeptBatch) -> dict[str, Any]:
        """What the line of a batch says."""
        end = self._file.tell()
        self._file.seek(batch.offset)
        record = checked_record(self._file.read(batch.length)) or {}
        self._file.seek(end)
        return record

    def _write(self, record: dict[str, Any]) -> tuple[int, int]:
        """Write one line, whole or not at all; its offset and length.

        The file has no buffer of its own, which would keep what the disk refused and try again.
        """
        offset = self._file.tell()
        line = line_of({"n": self._n_lines, **record})
        unwritten = memoryview(line)
        try:
            while unwritten:
                n_written = self._file.write(unwritten)
                unwritten = unwritten[n_written:]
        except OSError:
            self._file.truncate(offset)
            self._file.seek(offset)
            raise
        self._n_lines += 1
        return offset, len(line)


def line_of(record: dict[str, Any]) -> bytes:
    """A line of the journal: its hash, and the record as JSON in ASCII."""
    text = json.dumps(record, separators=(",", ":")).encode("ascii")
    return b"%s %s\n" % (_digest(text), text)


def checked_record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None where the line is not as it was written."""
    digest, _, text = line.removesuffix(b"\n").partition(b" ")
    if digest != _digest(text):
        return None
    record: dict[str, Any] = json.loads(text)
    return record


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:DIGEST].encode("ascii")


def read_content(file: io.FileIO) -> Content:
    """All that the lines of a journal say, the damaged ones left out.

    Raises ValueError where the first line, which says what the rows are of, is not whole.
    """
    content = Content()
    file.seek(0)
    for line in _lines(file):
        record = checked_record(line)
        if record is None:
            content.n_damaged += 1
            content.n_lines += 1
        else:
            content.n_damaged += max(0, record["n"] - content.n_lines)
            content.n_lines = record["n"] + 1
            _take(content, record, content.end, len(line))
        content.end += len(line)
    if content.end and content.key is None:
        raise ValueError("it does not begin with what its rows are of")
    return content


def _lines(file: io.FileIO) -> Iterator[bytes]:
    """The whole lines from where the file stands; not the last one, where a kill cut it off."""
    reader = io.BufferedReader(file)
    try:
        for line in reader:
            if line.endswith(b"\n"):
                yield line
    finally:
        reader.detach()  # else it would close the file, and let another run have it


def _take(content: Content, record: dict[str, Any], offset: int, length: int) -> None:
    """Add to the content what one line says."""
    if "rows" in record:
        paths = tuple(row[0] for row in record["rows"])
        stamps = tuple(FileStamp(*stamp) if stamp else None for stamp in record["stamps"])
        content.batches.append(KeptBatch(paths, stamps, offset, length))
        for path in paths:  # what was noted of an earlier content
            content.stamps.pop(path, None)
    elif "stamp" in record:
        content.stamps[record["path"]] = FileStamp(*record["stamp"])
    elif "published" in record:
        content.published = Published(**record["published"])
        content.n_published = len(content.batches)
    else:
        content.key = from_json(RunKey, json.dumps(record["key"]))


def open_locked(path: Path, out: Path) -> io.FileIO:
    """The file to read and write, made where it is not there, and locked until it is closed.

    Raises BusyError where another run holds it, and so writes `out`.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        try:
            lock_file(file)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except OSError as error:
            file.close()
            if error.errno not in TAKEN:
                raise
            raise BusyError(out) from error
        # Between opening and locking, the run that held the file put it in place: it is the output.
        file.close()
