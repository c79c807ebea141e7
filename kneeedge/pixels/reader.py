"""One image file → the network's input, by whoever decodes: a Reader."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import ConfigError, ImageError, MissingExtraError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.picture import MAX_PIXELS, read_bytes
from kneeedge.pixels.pixel_path import Input, input_of_bytes
from kneeedge.system.stamps import FileStamp


@dataclass(frozen=True)
class ReadOptions:
    """How files are read, and what one of them may cost."""

    pixel_path: PixelPath
    max_pixels: int = MAX_PIXELS
    "an image of more is refused before it is decoded"
    isolated: bool = False
    "decode in processes of their own, which may crash"
    timeout: float = 60.0
    "seconds for one file, where isolated"
    shown_side: int = 0
    "of the picture that is given beside the input, the longest side, pixels; 0: none is given"

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or not 0 < self.timeout < 1e6:
            raise ConfigError("a file needs at least one pixel and some time", "raise the limit")


@dataclass(frozen=True)
class ReadFile:
    """What became of a file that was to be read."""

    result: Input | ImageError
    "the network's input, or why there is none"
    stamp: FileStamp | None = None
    "of the very bytes that were decoded; absent where none could be read"
    seconds: float = 0.0
    "of processor time"

    def input(self) -> Input:
        """The network's input and what its file says; raises the ImageError where there is none."""
        if isinstance(self.result, ImageError):
            raise self.result
        return self.result

    def pixels(self) -> NDArray[np.uint8]:
        """The network's input (S, S) uint8; raises the ImageError where there is none."""
        return self.input().pixels


UNREAD = (ImageError, MissingExtraError, MemoryError)
"what is raised for one image, and ends no run of several"


def why_unread(name: Path | str, error: Exception) -> ImageError:
    """What one of UNREAD says of the image `name`."""
    if isinstance(error, ImageError):
        return error
    if isinstance(error, MissingExtraError):
        return ImageError(name, str(error), "install it, or take the file out")
    remedy = "free some memory or shrink the image"
    return ImageError(name, "there is not enough memory to decode it", remedy)


class Reader(Protocol):
    """Reads image files for several threads at once."""

    def read(self, path: Path) -> ReadFile:
        """What became of the file."""

    def close(self) -> None:
        """Let go of everything at once, what is being read included."""


class ThreadReader:
    """A Reader that decodes in the thread that asks."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options

    def read(self, path: Path) -> ReadFile:
        return read_input(path, self._options)

    def close(self) -> None:
        """Nothing is held."""


def read_input(path: Path, options: ReadOptions) -> ReadFile:
    """What becomes of an image file, which is opened once.

    DICOM without pydicom is an unreadable file as any other.
    """
    start = time.thread_time()
    stamp = None
    result: Input | ImageError
    try:
        content = read_bytes(path)
        stamp = content.stamp()
        result = input_of_bytes(
            content.data, path, options.pixel_path, options.max_pixels, options.shown_side
        )
    except UNREAD as error:
        result = why_unread(path, error)
    return ReadFile(result, stamp, time.thread_time() - start)
