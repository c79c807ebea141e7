"""Folders that a command writes as a whole: known by a record in them, replaced in one step."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import ConfigError, OutputExistsError


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """A file of such a folder, as its record has it."""

    sha256: str
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class FolderKind:
    """A kind of folder."""

    name: str
    "in words, as in: it is no …"
    record: str
    "name of the JSON file in it that names every other file"
    mark: bytes
    "with which the record begins"
    caches: tuple[str, ...] = ()
    "names of folders that who uses it makes inside; they may be there and go with it"


def check_folder(out: Path, kind: FolderKind) -> None:
    """Raise OutputExistsError where `out` is anything but new, empty or a folder of this kind.

    Raises ConfigError for the folder that one stands in: another takes its place as a whole.
    """
    if out.is_symlink():
        raise OutputExistsError(out, "it is a link; name the folder itself")
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputExistsError(out, "it is no folder; name one")
    if Path.cwd().is_relative_to(out.resolve()):
        raise ConfigError(f"{out}: you stand in it", "name the folder from outside of it")
    if any(out.iterdir()) and not _is_ours(out, kind):
        problem = f"it is no {kind.name} that kneeedge wrote, or holds more"
        raise OutputExistsError(out, f"{problem}; name another, or remove it")


@contextmanager
def replacing_folder(out: Path, kind: FolderKind) -> Iterator[Path]:
    """A folder beside `out` to write to, which takes its place when the block ends.

    Where the block raises, `out` stays as it was and nothing is left beside it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(f".{out.name}.{os.getpid()}.new")
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    new.mkdir()
    try:
        yield new
        check_folder(out, kind)
        if out.exists():
            out.rename(old)
        new.rename(out)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    if old.exists():
        shutil.rmtree(old)


def files_below(folder: Path) -> dict[str, ListedFile]:
    """Every file below the folder, by its path in it."""
    files = {}
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        name = path.relative_to(folder).as_posix()
        files[name] = ListedFile(sha256=digest, n_bytes=len(content))
    return files


def _is_ours(folder: Path, kind: FolderKind) -> bool:
    """Whether all of a folder is of this kind, written by kneeedge."""
    record = folder / kind.record
    if record.is_symlink() or not record.is_file():
        return False
    content = record.read_bytes()
    if not content.startswith(kind.mark):
        return False
    paths = (path.relative_to(folder) for path in folder.rglob("*") if _is_leaf(path))
    return all(
        path.as_posix() == kind.record
        or f'"{path.as_posix()}": {{'.encode() in content
        or not set(kind.caches).isdisjoint(path.parts)
        for path in paths
    )


def _is_leaf(path: Path) -> bool:
    return path.is_symlink() or not path.is_dir()
