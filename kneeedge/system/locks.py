"""Files that one process holds at a time; a process that ends, however it ends, lets go of them."""

import errno
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kneeedge.system.progress import Progress

POLL_SECONDS = 0.2
TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
"what `lock_file` raises an OSError with where another process holds the file"


def lock_file(file: io.FileIO) -> None:
    """Lock the file until it is closed or the process ends.

    Raises OSError, with one of TAKEN, where another process holds it.
    """
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_hold(path: Path) -> io.FileIO | None:
    """The file, made where it is not there, held until it is closed; None where another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab", buffering=0)
    try:
        lock_file(file)
    except OSError as error:
        file.close()
        if error.errno not in TAKEN:
            raise
        return None
    return file


def is_held(path: Path) -> bool:
    """Whether a process, this one included, holds the file."""
    file = try_hold(path)
    if file is not None:
        file.close()
    return file is None


@contextmanager
def holding(path: Path, progress: Progress, why: str = "") -> Iterator[None]:
    """Within, the file is held; waits for it, and says `why` where it has to."""
    file = try_hold(path)
    if file is None and why:
        progress(why)
    while file is None:
        time.sleep(POLL_SECONDS)
        file = try_hold(path)
    with file:
        yield
