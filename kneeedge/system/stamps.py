"""What a file was when it was read, and whether it still is that."""

import hashlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from kneeedge.system.files import file_sha256

COARSEST_NS = 2_000_000_000
"between two times that some file system cannot tell apart: two seconds, on FAT"


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A file's size, times and content at the moment when it was read."""

    size: int
    "bytes"
    mtime_ns: int
    "of the last change of its content, by the file system's clock"
    ctime_ns: int
    "of the last change of anything in it, which no program sets; on Windows, of its creation"
    read_ns: int
    "by this machine's clock"
    sha256: str = ""
    "of the bytes read, hex; empty where they were not read"

    @property
    def changed_long_before(self) -> bool:
        """Whether it was read so long after its last change that the times can be trusted.

        A file that is changed again within COARSEST_NS can keep its size and both times.
        """
        return self.read_ns - max(self.mtime_ns, self.ctime_ns) > COARSEST_NS

    def has_times_of(self, other: "FileStamp") -> bool:
        """Whether size and times are the same."""
        mine = (self.size, self.mtime_ns, self.ctime_ns)
        return mine == (other.size, other.mtime_ns, other.ctime_ns)


def stamp_of(status: os.stat_result, content: bytes | None = None) -> FileStamp:
    """The stamp of a file of which `content` was read now, with `status` taken before that."""
    return FileStamp(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        read_ns=time.time_ns(),
        sha256="" if content is None else hashlib.sha256(content).hexdigest(),
    )


def current_stamp(path: Path) -> FileStamp | None:
    """The stamp, without a hash, of the file as it is now; None where it is gone."""
    try:
        return stamp_of(path.stat())
    except OSError:
        return None


def hashed_stamp(path: Path) -> FileStamp | None:
    """The stamp, with its hash, of the file as it is now; None where it cannot be read."""
    now = current_stamp(path)
    try:
        return now and replace(now, sha256=file_sha256(path))
    except OSError:
        return None


def still_is(stamp: FileStamp, path: Path) -> bool:
    """Whether the file has the bytes that it had; it is read only where its times do not tell."""
    now = current_stamp(path)
    if now is None or not stamp.sha256 or now.size != stamp.size:
        return False
    if stamp.changed_long_before and stamp.has_times_of(now):
        return True
    hashed = hashed_stamp(path)
    return hashed is not None and hashed.sha256 == stamp.sha256
