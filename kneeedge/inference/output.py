"""`predictions.csv` on the disk: put in place whole by a run, or grown by a watch; never half."""

import csv
import hashlib
import io
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from kneeedge.errors import OutputExistsError
from kneeedge.inference.journal import Journal, KeptBatch, Published
from kneeedge.system.files import replacing, write_bytes
from kneeedge.system.spreadsheet import csv_line

REST = 20
"times as long as an output took to write, until it is written again: at most 5 % of the time"


def rows_of(content: bytes) -> list[list[str]]:
    """The rows of a CSV file, its header among them."""
    text = content.decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline="")))


def publish(out: Path, rows: Iterable[Sequence[str]], journal: Journal) -> None:
    """Give the output these rows, below the header; a reader sees the old one or the whole new one.

    The journal then knows what stands there. Rows that name patients are their owner's alone.
    """
    journal.sync()
    digest = hashlib.sha256()
    size = 0
    with replacing(out, journal.key.with_patient_id) as new, new.open("wb") as file:
        for row in chain([journal.key.columns], rows):
            line = csv_line(row)
            digest.update(line)
            size += file.write(line)
    journal.note_published(Published(digest.hexdigest(), size))


class GrowingOutput:
    """An output to which rows come, each of which the journal has already.

    Where it was moved away it begins anew, with a header and the rows from then on. Raises
    OutputExistsError where it is not as kneeedge left it; the rows then wait in the journal.
    """

    def __init__(
        self,
        out: Path,
        journal: Journal,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.out = out
        self.journal = journal
        self._say = say
        self._clock = clock
        self._next_time = 0.0
        self._published = journal.found.published
        header = b"" if self._published.size else csv_line(journal.key.columns)
        self._waiting = header + b"".join(self._encoded(batch) for batch in _open(journal))
        "lines that the output lacks"
        self._skip_what_stands_there()
        self.publish()

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Take rows that are in the journal; they stand in the output soon, or at `publish`."""
        self._waiting += b"".join(map(csv_line, rows))
        if self._clock() >= self._next_time:
            self.publish()

    def publish(self) -> None:
        """Put the output in place with all its rows."""
        before = self._content()
        if not self._waiting and before:
            return
        start = self._clock()
        self.journal.sync()
        after = before + self._waiting
        write_bytes(self.out, after, self.journal.key.with_patient_id)
        self._published = _published(after)
        self.journal.note_published(self._published)
        self._waiting = b""
        now = self._clock()
        self._next_time = now + REST * (now - start)

    def _content(self) -> bytes:
        """What stands in the output, as kneeedge left it; nothing where it is gone."""
        if self.out.exists():
            content = self.out.read_bytes()
            if _published(content) != self._published:
                self._refuse()
            return content
        if self._published.size:
            self._say(f"{self.out} was taken away; it begins anew, with the rows from now on")
            self._waiting = csv_line(self.journal.key.columns) + self._waiting
            self._published = Published()
        return b""

    def _skip_what_stands_there(self) -> None:
        """A stop between the writing of the output and the note of it repeats no row."""
        if not self.out.exists():
            return
        content = self.out.read_bytes()
        size = self._published.size
        more = content[size:]
        if _published(content[:size]) != self._published or not self._waiting.startswith(more):
            self._refuse()
        self._waiting = self._waiting[len(more) :]
        self._published = _published(content)

    def _refuse(self) -> None:
        remedy = "it is not as kneeedge left it: move it away, or name another --out"
        raise OutputExistsError(self.out, remedy)

    def _encoded(self, batch: KeptBatch) -> bytes:
        return b"".join(map(csv_line, self.journal.rows(batch)))


def _open(journal: Journal) -> list[KeptBatch]:
    """The batches in the journal that no output has yet."""
    return journal.found.batches[journal.found.n_published :]


def _published(content: bytes) -> Published:
    return Published(hashlib.sha256(content).hexdigest(), len(content))
