"""Paths and addresses of object stores → the images that they hold, as workers find them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kneeedge.errors import ConfigError, DataError, MissingExtraError, NotFoundError
from kneeedge.pixels.listing import (
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    FoundImage,
    Listing,
    find_images,
    is_clutter,
    is_image_by_content,
    no_images,
)
from kneeedge.system.progress import Progress
from kneeedge.system.threads import in_threads

SCHEMES = ("s3", "gs", "gcs", "file", "hdfs", "viewfs", "abfs", "abfss")
"of addresses that pyarrow's file systems take"
INSTALL = "pip install 'kneeedge[ray,cpu]'"


@dataclass(frozen=True, slots=True)
class ClusterImage(FoundImage):
    """An image of a folder that every node sees under one path, or of an object store.

    `folder` is then an address, and `below` the rest of the object's name.
    """

    size: int = 0
    "bytes, by the object store's list; 0 for a file"
    mtime_ns: int = 0
    "of the object's last change, by that list; 0 for a file"

    @property
    def in_store(self) -> bool:
        """Whether it is an object, and no file."""
        return is_address(self.folder)

    @property
    def path(self) -> Path:
        """Where the file is; of an object, its name."""
        return Path(self.name) if self.in_store else Path(self.folder, self.below)


def is_address(text: str) -> bool:
    """Whether the text names a place in a file system of pyarrow's, as s3://bucket/folder does."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme in SCHEMES


def find_sources(sources: Sequence[str], progress: Progress) -> Listing:
    """The images of paths and addresses, in that order and by name inside each.

    They are those that `find_images` takes, and have the names that it gives; of an address, the
    name is what stands below it. Raises what `find_images` raises, also of addresses, and
    ConfigError for one that cannot be used.
    """
    several = len(sources) > 1
    images: list[ClusterImage] = []
    others: list[Path] = []
    own: list[Path] = []
    clutter: list[Path] = []
    for source in sources:
        if is_address(source):
            listing = find_objects(source, several, progress)
        else:
            listing = _local(find_images([Path(source)], least=0), several, source)
        images += [image for image in listing.images if isinstance(image, ClusterImage)]
        others += listing.others
        own += listing.own
        clutter += listing.clutter
    unique = {image.name: image for image in images}  # one of several may be inside another
    found = Listing(
        images=tuple(unique.values()),
        others=tuple(dict.fromkeys(others)),
        own=tuple(dict.fromkeys(own)),
        clutter=tuple(dict.fromkeys(clutter)),
    )
    if not found.images:
        raise no_images(sources, found)
    return found


def _local(listing: Listing, several: bool, source: str) -> Listing:
    """The listing with absolute folders: a worker stands in another one."""
    prefix = f"{Path(source).as_posix().rstrip('/')}/" if several else ""
    images = tuple(
        ClusterImage(
            os.fspath(Path(image.folder).absolute()), image.below, prefix if image.folder else ""
        )
        for image in listing.images
    )
    return Listing(images=images, others=listing.others, own=listing.own, clutter=listing.clutter)


def find_objects(address: str, several: bool, progress: Progress) -> Listing:
    """The images at an address: an object, or all below it."""
    shown = shown_address(address)
    store, root = open_store(address)
    infos = _infos(store, root, shown)
    if [info.path for info in infos] == [root]:
        folder, name = shown.rsplit("/", 1)
        image = ClusterImage(parent(address), name, f"{folder}/", *_facts(infos[0]))
        return Listing(images=(image,))
    prefix = f"{shown.rstrip('/')}/" if several else ""
    named = [(info.path[len(root) :].lstrip("/"), info) for info in infos]
    named.sort(key=itemgetter(0))
    clutter = tuple(Path(prefix, below) for below, _ in named if _is_any(is_clutter, below))
    seen = [(below, info) for below, info in named if not _is_any(_is_left_out, below)]
    kinds = in_threads(partial(_is_image, store), seen, "list", progress)
    images = []
    others = []
    for (below, info), is_image in zip(seen, kinds, strict=True):
        if is_image:
            images.append(ClusterImage(address, below, prefix, *_facts(info)))
        else:
            others.append(Path(prefix, below))
    return Listing(images=tuple(images), others=tuple(others), clutter=clutter)


def _infos(store: Any, root: str, shown: str) -> list[Any]:
    """What the store says of each object below `root`, or of the one that is called so."""
    from pyarrow import fs

    try:
        found = store.get_file_info(root)
        if found.type == fs.FileType.File:
            return [found]
        if found.type == fs.FileType.Directory:
            below = store.get_file_info(fs.FileSelector(root, recursive=True))
            return [info for info in below if info.type == fs.FileType.File]
    except OSError as error:
        raise _unlisted(shown, error) from error
    raise NotFoundError(f"{shown} is not there", "check the address and who may read it")


def _is_any(is_such: Callable[[str], bool], below: str) -> bool:
    return any(map(is_such, below.split("/")))


def _is_left_out(part: str) -> bool:
    return part.startswith(".") or is_clutter(part)


def _is_image(store: Any, named: tuple[str, Any]) -> bool:
    """Whether an object is an image: by its suffix, or DICOM by its first bytes."""
    below, info = named
    name = below.rsplit("/", 1)[-1]
    if name.lower().endswith(IMAGE_SUFFIXES):
        return True
    try:
        with store.open_input_file(info.path) as file:
            return is_image_by_content(file.read(HEAD_BYTES), name)
    except OSError as error:
        raise _unlisted(below, error) from error


def _facts(info: Any) -> tuple[int, int]:
    return int(info.size or 0), int(info.mtime_ns or 0)


def _unlisted(place: str, error: OSError) -> DataError:
    reason = " ".join(str(error).split())
    return DataError(place, f"cannot be listed ({reason})", "make it readable for this account")


def open_store(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises ConfigError for an address that holds a secret, which would stand in rows and logs, or
    that pyarrow does not take, and MissingExtraError without pyarrow.
    """
    try:
        from pyarrow import ArrowInvalid, ArrowNotImplementedError, fs
    except ImportError as error:
        raise MissingExtraError("an object store", "pyarrow", INSTALL) from error
    if ":" in urlsplit(address).netloc.rpartition("@")[0]:
        problem = "an address with a key in it would show that key in rows and logs"
        raise ConfigError(problem, "give the key by the variables of the store's own tools")
    try:
        store, root = fs.FileSystem.from_uri(address)
    except (ArrowInvalid, ArrowNotImplementedError, OSError) as error:
        problem = f"{shown_address(address)}: {' '.join(str(error).split())}"
        raise ConfigError(problem, "give it as in s3://bucket/folder") from error
    return store, str(root).rstrip("/")


def shown_address(address: str) -> str:
    """The address without its options (`?region=…`)."""
    return urlunsplit(urlsplit(address)._replace(query="", fragment=""))


def parent(address: str) -> str:
    """The address of the folder of an object, with its options."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/").rpartition("/")[0]))
