"""Files and folders to a listing: what kneeedge takes for an image."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from operator import itemgetter
from pathlib import Path

from kneeedge.errors import DataError, NotFoundError
from kneeedge.pixels.dicom import PREAMBLE_BYTES, is_dicom
from kneeedge.system.own import FOLDER_MARK, RUN_CONFIG, is_own_file, is_run_folder
from kneeedge.system.plural import counted

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".dib", ".webp",
    ".dcm", ".dicom",
)  # fmt: skip
_OWN_SUFFIXES = (".png", ".dcm")
"of heat maps, figures and Structured Reports"
_MAYBE_DICOM = re.compile(r"[^.]*|.*\.(\d+|ima|dc3|dic)", re.DOTALL | re.IGNORECASE)
"DICOM files often have no suffix, or are named by their UID; as .dic a list of words is named too"
_DICOMDIR_CLASS = b"1.2.840.10008.1.3.10"
"media storage SOP class of an index of a medium (PS3.10, 8.6), which is no image"
HEAD_BYTES = 512
"of a file without a suffix that is known: the preamble, and the SOP class right behind it"
_CLUTTER = frozenset((
    "@eadir", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "#recycle", "#snapshot",
    "~snapshot", "__macosx", "__pycache__", "$recycle.bin", "recycler", "system volume information",
    "lost+found", "network trash folder", "temporary items", "found.000",
    "thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", ".ipynb_checkpoints",
))  # fmt: skip
"what systems and file servers leave in folders: names in lower case"
_APPLE_DOUBLE = "._"
"begins the name of a file with what macOS knows of another one"


class _Kind(Enum):
    """What is found under a name."""

    IMAGE = auto()
    OTHER = auto()
    OWN = auto()
    CLUTTER = auto()
    UNLISTED = auto()


@dataclass(frozen=True, slots=True)
class FoundImage:
    """A file to be read as an image.

    It is small, since a folder may hold 100,000: one string of its own.
    """

    folder: str
    "the folder given, or empty for a file given"
    below: str
    "POSIX path relative to the folder, or the file as given"
    prefix: str = ""
    "what the name has before it: the folder, where several paths are given"

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.folder, self.below)

    @property
    def name(self) -> str:
        """POSIX path relative to the folder given; with that folder where several paths are given.

        A file given is named as it was given.
        """
        return self.prefix + self.below


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What the paths given hold; other hidden files are in none of these."""

    images: tuple[FoundImage, ...]
    others: tuple[Path, ...] = ()
    "files of another kind, and whatever is not a regular file"
    own: tuple[Path, ...] = ()
    "run folders, heat maps and reports that kneeedge wrote"
    clutter: tuple[Path, ...] = ()
    "what systems leave in folders, as Thumbs.db and @eaDir; never looked into"
    unlisted: tuple[Path, ...] = ()
    "folders that cannot be listed, where `find_images` was to go on without them"

    def remarks(self) -> list[str]:
        """A line on each kind of thing that is left out, but for `others`."""
        kinds = (
            (self.own, "written by kneeedge"),
            (self.clutter, "of the system or the file server"),
            (self.unlisted, "that cannot be listed"),
        )
        return [
            f"left out: {counted(len(paths), 'item')} {kind}, {paths[0]} the first"
            for paths, kind in kinds
            if paths
        ]


def find_images(paths: Sequence[Path], least: int = 1, strict: bool = True) -> Listing:
    """The images of the files and folders given, in that order and by name inside a folder.

    A file given is an image whatever its suffix; a folder is read recursively, but for hidden
    files, linked folders, and what kneeedge or the system put there. Raises DataError for fewer
    images than `least`; where `strict`, also NotFoundError for a missing path and DataError for a
    folder that cannot be listed, which are else in `unlisted`. A folder that vanishes meanwhile
    holds nothing.
    """
    found: dict[_Kind, list[FoundImage]] = {kind: [] for kind in _Kind}
    for path in paths:
        if strict and not path.exists():
            raise NotFoundError(f"{path} is not there", "check the path")
        if path.is_dir():
            folder = os.fspath(path)
            prefix = f"{path.as_posix().rstrip('/')}/" if len(paths) > 1 else ""
            for below, kind in sorted(_walk(folder, strict), key=itemgetter(0)):
                found[kind].append(FoundImage(folder, below, prefix))
        else:
            kind = _Kind.OTHER if path.exists() else _Kind.UNLISTED
            kind = _Kind.IMAGE if path.is_file() else kind
            found[kind].append(FoundImage("", path.as_posix()))
    # one of several paths may be inside another
    if len(paths) > 1:
        found[_Kind.IMAGE] = list({image.name: image for image in found[_Kind.IMAGE]}.values())

    def left_out(kind: _Kind) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(file.path for file in found[kind]))

    listing = Listing(
        images=tuple(found[_Kind.IMAGE]),
        others=left_out(_Kind.OTHER),
        own=left_out(_Kind.OWN),
        clutter=left_out(_Kind.CLUTTER),
        unlisted=left_out(_Kind.UNLISTED),
    )
    if len(listing.images) < least:
        raise no_images(paths, listing)
    return listing


def is_clutter(name: str) -> bool:
    """Whether a file or folder is named as systems and file servers name what they leave behind."""
    return name.startswith(_APPLE_DOUBLE) or name.casefold() in _CLUTTER


def is_image_by_content(head: bytes, name: str) -> bool:
    """Whether a file without the suffix of an image is one: DICOM by its first HEAD_BYTES bytes.

    A data set without the preamble is looked for where the name allows for one.
    """
    has_preamble = head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM"
    if has_preamble and _DICOMDIR_CLASS in head:
        return False
    return has_preamble or (_may_be_bare(name) and is_dicom(head))


def no_images(paths: Sequence[Path | str], listing: Listing) -> DataError:
    """What to raise of paths that hold no image."""
    where = ", ".join(map(str, paths)) or "no path given"
    if listing.own:
        remedy = "give the folder of the radiographs"
        return DataError(where, "no images found but what kneeedge wrote", remedy)
    remedy = f"give files, or folders with {' '.join(IMAGE_SUFFIXES)}"
    return DataError(where, "no images found", remedy)


def _walk(root: str, strict: bool) -> Iterator[tuple[str, _Kind]]:
    """Relative POSIX path of what is under `root`, and its kind; in no order.

    A folder is there only where it is left out, under its own path.
    """
    pending = [("", root, False)]
    while pending:
        prefix, folder, is_marked = pending.pop()
        try:
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError as error:
            if prefix and isinstance(error, FileNotFoundError | NotADirectoryError):
                continue  # it has gone since its name was read
            if strict:
                problem = f"cannot be listed ({error.strerror})"
                raise DataError(folder, problem, "make the folder readable") from error
            yield prefix.rstrip("/"), _Kind.UNLISTED
            continue
        names = {entry.name for entry in entries}
        if RUN_CONFIG in names and is_run_folder(Path(folder)):
            yield prefix.rstrip("/"), _Kind.OWN
            continue
        is_marked = is_marked or FOLDER_MARK in names
        for entry in entries:
            below = prefix + entry.name
            if is_clutter(entry.name):
                yield below, _Kind.CLUTTER
            elif entry.name.startswith("."):
                continue
            elif entry.is_dir(follow_symlinks=False):
                pending.append((f"{below}/", entry.path, is_marked))
            else:
                yield below, _kind_of(entry, is_marked)


def _kind_of(entry: os.DirEntry[str], is_marked: bool) -> _Kind:
    """What a file is: an image by its suffix, DICOM by its content, or another.

    One of kneeedge's own is looked for in marked folders alone, since that takes an open of each;
    elsewhere whoever decodes the file says so.
    """
    name = entry.name.lower()
    is_named_so = name.endswith(IMAGE_SUFFIXES)
    try:
        # a pipe or a device is never opened
        if not entry.is_file():
            lost = is_named_so and entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110
            return _Kind.IMAGE if lost else _Kind.OTHER
    except OSError:  # a link in a circle
        return _Kind.IMAGE if is_named_so else _Kind.OTHER
    if is_marked and name.endswith(_OWN_SUFFIXES) and is_own_file(entry.path):
        return _Kind.OWN
    if is_named_so:
        return _Kind.IMAGE
    return _kind_by_content(entry.path, entry.name)


def _kind_by_content(path: str, name: str) -> _Kind:
    """DICOM or not; what may be such a file and cannot be opened is one, so that it is told of."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - 100,000 paths need no Path each
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        return _Kind.OTHER
    except OSError:
        return _Kind.IMAGE if _may_be_bare(name) else _Kind.OTHER
    return _Kind.IMAGE if is_image_by_content(head, name) else _Kind.OTHER


def _may_be_bare(name: str) -> bool:
    """Whether DICOM without the preamble may have this name."""
    return bool(_MAYBE_DICOM.fullmatch(name))
