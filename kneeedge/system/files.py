"""Files: written so that a reader, a kill or a full disk finds the old or the new one; hashed."""

import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kneeedge.errors import OutputExistsError

SHOWN_DIGITS = 12
"of a SHA-256, where people are shown one"
_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/null", "/dev/full", "/dev/tty")
_DESCRIPTOR = re.compile(r"/dev/fd/\d+|/proc/(self|\d+)/fd/\d+")


@contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its name when the block ends, all on the disk.

    Where the block raises, `path` stays as it was and nothing is left beside it. The permissions
    are the umask's, whatever the writing library thinks of them; a `private` file, which holds
    pictures or ids of patients, is its owner's alone. A pipe or a descriptor, as /dev/stdout, has
    no name to take: it is written to as it is. Raises OutputExistsError for any other device, which
    would be gone.
    """
    if is_stream(path):
        yield path
        return
    _refuse_device(path)
    new = path.with_name(f".{path.name.removeprefix('.')}.new")
    try:
        new.unlink(missing_ok=True)  # of a writer that was killed; a link would be written through
        new.open("xb").close()
        if private:
            new.chmod(stat.S_IRUSR | stat.S_IWUSR)
        mode = stat.S_IMODE(new.stat().st_mode)
        yield new
        new.chmod(mode)
        put_in_place(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def put_in_place(new: Path, path: Path) -> None:
    """Give a whole file beside `path` its name, and force both to the disk.

    Raises OutputExistsError where a device or a pipe has that name.
    """
    _refuse_device(path)
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Write a file that a reader sees old or new, never half of one; `private`: its owner alone."""
    with replacing(path, private) as new:
        new.write_bytes(content)


def write_text(path: Path, text: str, errors: str = "strict", private: bool = False) -> None:
    """Write UTF-8 text as `write_bytes` does; `errors` as in `str.encode`."""
    write_bytes(path, text.encode("utf-8", errors), private)


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], private: bool = False
) -> None:
    """Write a table as `write_bytes` does, its columns named in the first line.

    Bytes of a file name that are no UTF-8 are written as they are. A text that a spreadsheet would
    run is marked; `kneeedge.system.spreadsheet.original_text` gives it back.
    """
    from kneeedge.system.spreadsheet import csv_text

    write_text(path, csv_text(columns, rows), errors="surrogateescape", private=private)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content as `write_bytes` writes it."""
    with replacing(target) as new:
        shutil.copyfile(source, new)


def is_stream(path: Path) -> bool:
    """Whether `path` is a pipe, a descriptor, a terminal or /dev/null, which one writes into."""
    place = os.path.abspath(path)  # noqa: PTH100 - takes out `..`
    if place in _STREAMS or _DESCRIPTOR.fullmatch(place):
        return True
    return not path.is_symlink() and path.is_fifo()


def _refuse_device(path: Path) -> None:
    """Raise OutputExistsError for what a rename would put an end to, as /dev/sda for root."""
    try:
        mode = path.lstat().st_mode
    except OSError:  # is not there, or says so itself when it is written to
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise OutputExistsError(path, "it is a device, a pipe or a socket; name a file")


def sync_folder(folder: Path) -> None:
    """Force a rename in the folder to the disk, where the system can (not on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    import hashlib  # `kneeedge --help` comes past this module and hashes nothing

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
