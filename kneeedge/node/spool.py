"""The folder of a node: what came and waits for its answer, what was made, what waits to be sent.

    predictions.csv   the rows, with their journal beside them
    inbox/            objects that were acknowledged and have no row yet
    made/             reports whose row is not known to be kept yet
    outbox/           reports to be sent
    reports/          reports, where nobody is to get them
    refused/          reports that their destination will not have
    failed/           objects that could not be answered; their rows say why

A file moves only by being renamed, and each step is on the disk before the next: a stop at any
moment leaves an object where the next start finds it.
"""

import hashlib
import re
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kneeedge.system.files import sync_folder, write_bytes
from kneeedge.system.own import mark_folder

DIGEST = 16
"hex digits of the content's hash in the name of an object"
_OBJECT = re.compile(rf"([0-9.]{{1,64}}~[0-9a-f]{{{DIGEST}}})\.dcm")
"the name of an object; those of its reports begin with it"
_HALF_WRITTEN = ".*~*.new"
"what a kill left of a file that was being written, and nobody was told of"


class QueueFullError(Exception):
    """More objects wait than may."""


@dataclass(frozen=True)
class Incoming:
    """An object as it was sent."""

    sop_instance_uid: str
    transfer_syntax: str
    dataset: bytes
    "as encoded by the sender, without the file meta information"
    meta: bytes
    "the preamble and the file meta information of a file"

    @cached_property
    def name(self) -> str:
        """Its file's name: other content under the same UID has another one."""
        content = hashlib.sha256(self.transfer_syntax.encode())
        content.update(self.dataset)
        return f"{self.sop_instance_uid}~{content.hexdigest()[:DIGEST]}.dcm"


class Spool:
    """The folders of a node, made where they are missing."""

    def __init__(self, folder: Path, sends: bool, max_queue: int) -> None:
        self.rows = folder / "predictions.csv"
        self.inbox = folder / "inbox"
        self.made = folder / "made"
        self.done = folder / ("outbox" if sends else "reports")
        "of reports that are whole, and whose row is kept"
        self.refused = folder / "refused"
        self.failed = folder / "failed"
        self.max_queue = max_queue
        self._coming = 0
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for place in (self.inbox, self.made, self.done, self.refused, self.failed):
            place.mkdir(mode=0o700, exist_ok=True)
            for half_written in place.glob(_HALF_WRITTEN):
                half_written.unlink()
        for place in (self.made, self.done, self.refused):
            mark_folder(place)
        sync_folder(folder)

    def take_in(self, incoming: Incoming) -> None:
        """Keep an object; it is on the disk when this returns. Raises QueueFullError and OSError.

        The same content once more is the same file.
        """
        with self._lock:
            if self.n_waiting() + self._coming >= self.max_queue:
                raise QueueFullError
            self._coming += 1
        try:
            content = incoming.meta + incoming.dataset
            write_bytes(self.inbox / incoming.name, content, private=True)
        finally:
            with self._lock:
                self._coming -= 1

    def n_waiting(self) -> int:
        """Objects without an answer."""
        return len(_objects(self.inbox))

    def waiting(self) -> list[str]:
        """The names of objects without an answer, in the order in which they came."""
        ages = []
        for name in _objects(self.inbox):
            status = (self.inbox / name).stat()
            ages.append((status.st_mtime_ns, name))
        return [name for _, name in sorted(ages)]

    def answered(self, name: str, failed: bool) -> None:
        """Release what was made of an object whose row is kept, then let go of the object.

        One that could not be answered is put aside, so that it can be looked at.
        """
        for path in self._reports(name):
            path.replace(self.done / path.name)
        sync_folder(self.done)
        came = self.inbox / name
        if failed and came.exists():
            came.replace(self.failed / name)
            sync_folder(self.failed)
        came.unlink(missing_ok=True)

    def made_names(self) -> set[str]:
        """The names of objects of which something was made that is not released yet."""
        found = (_OBJECT.match(path.name) for path in self.made.iterdir())
        return {match[0] for match in found if match}

    def outgoing(self) -> list[Path]:
        """The reports to be sent, oldest first."""
        paths = [path for path in self.done.iterdir() if _OBJECT.match(path.name)]
        return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def sent(self, path: Path) -> None:
        """Let go of a report that its destination has."""
        path.unlink()

    def will_not_be_had(self, path: Path) -> None:
        """Put a report aside that its destination refuses for good."""
        path.replace(self.refused / path.name)
        sync_folder(self.refused)

    def _reports(self, name: str) -> list[Path]:
        return [path for path in self.made.iterdir() if path.name.startswith(name)]


def _objects(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if _OBJECT.fullmatch(path.name)]
