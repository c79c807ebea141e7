"""One image file → the network's input, by whoever decodes: a Reader."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kneeedge.errors import ConfigError, ImageError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.picture import MAX_PIXELS
from kneeedge.pixels.pixel_path import Input, load_with_facts


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

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or not 0 < self.timeout < 1e6:
            raise ConfigError("a file needs at least one pixel and some time", "raise the limit")


class Reader(Protocol):
    """Reads image files for several threads at once."""

    def read(self, path: Path) -> tuple[Input | ImageError, float]:
        """The network's input or why there is none, and the seconds of processor time it took."""

    def close(self) -> None:
        """Let go of everything at once, what is being read included."""


class ThreadReader:
    """A Reader that decodes in the thread that asks."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options

    def read(self, path: Path) -> tuple[Input | ImageError, float]:
        start = time.thread_time()
        return read_input(path, self._options), time.thread_time() - start

    def close(self) -> None:
        """Nothing is held."""


def read_input(path: Path, options: ReadOptions) -> Input | ImageError:
    """The network's input (S, S) for an image file, or why there is none."""
    try:
        return load_with_facts(path, options.pixel_path, options.max_pixels)
    except ImageError as error:
        return error
    except MemoryError:
        remedy = "free some memory or shrink the image"
        return ImageError(path, "there is not enough memory to decode it", remedy)
