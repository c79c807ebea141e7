"""Image files → batches of the network's input, decoded ahead while the caller runs the network."""

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from kneeedge.pixels.reader import Reader, ReadFile, ReadOptions, ThreadReader
from kneeedge.system.threads import in_order

READING, RUNNING, DECODING = "reading", "running", "decoding"
"stages: waiting for images, waiting for the network, and the readers' own processor time"
LOOK_AHEAD = 2
"batches read beyond the one that is handed over"


class HasPath(Protocol):
    """Anything that stands for an image file."""

    @property
    def path(self) -> Path: ...


Image = TypeVar("Image", bound=HasPath)


class StageClock:
    """Adds up the seconds that each stage of a pipeline takes."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._clock = clock

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time of the block to `stage`."""
        start = self._clock()
        yield
        self.seconds[stage] += self._clock() - start


def read_batches(
    images: Iterable[Image], reader: Reader, batch_size: int, n_readers: int, clock: StageClock
) -> Generator[list[tuple[Image, ReadFile]]]:
    """Batches of images, each with what became of its file; in order.

    Pillow and ONNX Runtime both release the interpreter lock, so threads suffice. No more than
    LOOK_AHEAD batches, and one image a reader, are read beyond the batch handed over. `clock` gets
    the time waited for readers (READING) and the processor time that they took (DECODING). The
    reader is closed at the end.
    """

    def read(image: Image) -> tuple[Image, ReadFile]:
        return image, reader.read(image.path)

    n_ahead = LOOK_AHEAD * batch_size + n_readers
    results = in_order(read, images, n_readers, n_ahead, reader.close)
    with closing(results):
        while True:
            with clock.measure(READING):
                batch = list(islice(results, batch_size))
            if not batch:
                return
            clock.seconds[DECODING] += sum(file.seconds for _, file in batch)
            yield batch


def open_reader(options: ReadOptions) -> Reader:
    """What reads files, one at a time for each thread that asks."""
    if not options.isolated:
        return ThreadReader(options)
    from kneeedge.pixels.isolation import ProcessReader  # a single image starts without it

    return ProcessReader(options)
