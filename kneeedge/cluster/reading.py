"""Images of folders and of object stores, read by the reader of `infer`."""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from kneeedge.cluster.sources import ClusterImage, open_store
from kneeedge.errors import ImageError
from kneeedge.pixels.picture import MAX_BYTES
from kneeedge.pixels.prefetch import LOOK_AHEAD, open_reader
from kneeedge.pixels.reader import ReadFile, ReadOptions
from kneeedge.system.stamps import FileStamp
from kneeedge.system.threads import in_pool

NO_OBJECT = "check the object store and the network, then run again with --resume"


class ImageReader:
    """Reads images ahead, by threads that live as long as it does.

    A decoder process ends with the thread that started it, so that threads of one chunk alone
    would cost new decoders for each.
    """

    def __init__(self, options: ReadOptions, n_readers: int) -> None:
        self._reader = open_reader(options)
        self._n_readers = n_readers
        self._pool = ThreadPoolExecutor(n_readers)

    def read_all(
        self, images: Iterable[ClusterImage], batch_size: int
    ) -> Iterator[tuple[ClusterImage, ReadFile]]:
        """Each image with what became of it, in order."""
        n_ahead = LOOK_AHEAD * batch_size + self._n_readers
        return in_pool(self._pool, self._read, images, n_ahead)

    def close(self) -> None:
        """End the decoders and the threads."""
        self._reader.close()
        self._pool.shutdown()

    def _read(self, image: ClusterImage) -> tuple[ClusterImage, ReadFile]:
        return image, self._fetched(image) if image.in_store else self._reader.read(image.path)

    def _fetched(self, image: ClusterImage) -> ReadFile:
        """What became of an object, by the reader of files."""
        if image.size > MAX_BYTES:
            return ReadFile(ImageError(image.name, f"is larger than {MAX_BYTES} bytes"))
        try:
            with as_file(object_bytes(image)) as path:
                read = self._reader.read(path)
        except FileNotFoundError:
            return ReadFile(ImageError(image.name, "is not there", "check the path"))
        except OSError as error:
            reason = " ".join(str(error).split())
            return ReadFile(ImageError(image.name, f"cannot be read ({reason})", NO_OBJECT))
        return replace(read, stamp=read.stamp and object_stamp(image, read.stamp.sha256))


@contextmanager
def as_file(content: bytes) -> Iterator[Path]:
    """A path at which a decoder finds the bytes while the block lasts.

    On Linux it leads into this process's memory, so that no radiograph is left on the disk of a
    node that is killed.
    """
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("kneeedge"), "wb") as file:
            file.write(content)
            file.flush()
            yield Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        return
    with tempfile.TemporaryDirectory(prefix="kneeedge-") as folder:
        path = Path(folder, "object")
        path.write_bytes(content)
        yield path


def object_bytes(image: ClusterImage) -> bytes:
    """All of an object; raises what pyarrow raises, OSErrors all."""
    store, root = _store(image.folder)
    with store.open_input_stream(f"{root}/{image.below}") as stream:
        content: bytes = stream.read()
    return content


@lru_cache(maxsize=64)
def _store(address: str) -> tuple[Any, str]:
    return open_store(address)


def object_stamp(image: ClusterImage, sha256: str = "") -> FileStamp:
    """The stamp of an object by its store's list, which has one time for FileStamp's two."""
    return FileStamp(image.size, image.mtime_ns, image.mtime_ns, time.time_ns(), sha256)


def object_still_is(image: ClusterImage, stamp: FileStamp) -> bool:
    """Whether the list of the store says the size and the time that it said when it was read."""
    return bool(stamp.sha256) and stamp.has_times_of(object_stamp(image))
