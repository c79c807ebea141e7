"""Image files → batches of the network's input, decoded ahead while the caller runs the network."""

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice, repeat
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
Item = TypeVar("Item")


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
    """Batches of image files as `load_batches` gives them; the reader is closed at the end."""

    def read(image: Image) -> ReadFile:
        return reader.read(image.path)

    return load_batches(read, images, batch_size, n_readers, clock, reader.close)


def load_batches(
    load: Callable[[Item], ReadFile],
    items: Iterable[Item],
    batch_size: int,
    n_readers: int,
    clock: StageClock,
    stop: Callable[[], None] | None = None,
) -> Generator[list[tuple[Item, ReadFile]]]:
    """Batches of items, each with what became of it by `load`; in order.

    Pillow and ONNX Runtime both release the interpreter lock, so threads suffice. No more than
    LOOK_AHEAD batches, and one image a reader, are read beyond the batch handed over. `clock` gets
    the time waited for readers (READING) and the processor time that they took (DECODING). `stop`
    is called at the end.
    """

    def read(item: Item) -> tuple[Item, ReadFile]:
        return item, load(item)

    n_ahead = LOOK_AHEAD * batch_size + n_readers
    results = in_order(read, items, n_readers, n_ahead, stop)
    with closing(results):
        yield from timed_batches(results, repeat(batch_size), clock)


def timed_batches(
    results: Iterator[tuple[Item, ReadFile]], sizes: Iterable[int], clock: StageClock
) -> Generator[list[tuple[Item, ReadFile]]]:
    """Batches of these sizes, up to the end of the results; `clock` as in `load_batches`."""
    for size in sizes:
        with clock.measure(READING):
            batch = list(islice(results, size))
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
