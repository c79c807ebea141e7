"""Files and folders to a listing: what kneeedge takes for an image."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import DataError, NotFoundError
from kneeedge.pixels.dicom import PREAMBLE_BYTES, is_dicom

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".dib", ".webp",
    ".dcm", ".dicom",
)  # fmt: skip
_NO_SUFFIX = re.compile(r"[^.]*|.*\.\d+", re.DOTALL)
"DICOM files often have no suffix, or are named by their UID"
_DICOMDIR = "DICOMDIR"
"an index of a medium, and no image"


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


@dataclass(frozen=True)
class Listing:
    """What the paths given hold; hidden files are in neither."""

    images: tuple[FoundImage, ...]
    others: tuple[Path, ...]
    "files of another suffix, and whatever is not a regular file; never opened"


def find_images(paths: Sequence[Path], least: int = 1) -> Listing:
    """The images of the files and folders given, in that order and by name inside a folder.

    A file given is an image whatever its suffix; a folder is read recursively, but for hidden files
    and linked folders. Raises NotFoundError for a missing path; DataError for fewer images than
    `least`, or a folder that cannot be listed.
    """
    images: list[FoundImage] = []
    others: list[FoundImage] = []
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"{path} is not there", "check the path")
        if path.is_dir():
            folder = os.fspath(path)
            prefix = f"{path.as_posix().rstrip('/')}/" if len(paths) > 1 else ""
            for below, is_image in sorted(_walk(folder)):
                (images if is_image else others).append(FoundImage(folder, below, prefix))
        else:
            (images if path.is_file() else others).append(FoundImage("", path.as_posix()))
    if len(images) < least:
        where = ", ".join(map(str, paths)) or "no path given"
        remedy = f"give files, or folders with {' '.join(IMAGE_SUFFIXES)}"
        raise DataError(where, "no images found", remedy)
    # one of several paths may be inside another
    if len(paths) > 1:
        images = list({image.name: image for image in images}.values())
    return Listing(tuple(images), tuple(dict.fromkeys(other.path for other in others)))


def _walk(root: str) -> Iterator[tuple[str, bool]]:
    """Relative POSIX path of each file under `root`, and whether it is an image; in no order."""
    pending = [("", root)]
    while pending:
        prefix, folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            problem = f"cannot be listed ({error.strerror})"
            raise DataError(folder, problem, "make the folder readable") from error
        for entry in visible:
            if entry.is_dir(follow_symlinks=False):
                pending.append((f"{prefix}{entry.name}/", entry.path))
            else:
                yield prefix + entry.name, _is_image(entry)


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether this is a regular file that is an image by its suffix, or DICOM by its content."""
    try:
        # a pipe or a device is never opened
        if not entry.is_file():
            return False
        if entry.name.lower().endswith(IMAGE_SUFFIXES):
            return True
        if entry.name == _DICOMDIR or not _NO_SUFFIX.fullmatch(entry.name):
            return False
        with open(entry.path, "rb") as file:  # noqa: PTH123 - 100,000 paths need no Path each
            return is_dicom(file.read(PREAMBLE_BYTES + 4))
    except OSError:  # a link in a circle, through a folder or to a file that may not be read
        return False
