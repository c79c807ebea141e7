"""Image files → batches of the network's input, decoded ahead by threads while the caller runs the
network.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from kneeedge.errors import ImageError
from kneeedge.pixels.pixel_path import Input
from kneeedge.pixels.reader import Reader

LOOK_AHEAD = 2
"batches read beyond the one that is handed over"
READING, RUNNING, DECODING = "reading", "running", "decoding"


class HasPath(Protocol):
    """Anything that stands for an image file."""

    @property
    def path(self) -> Path: ...


Image = TypeVar("Image", bound=HasPath)
Item = TypeVar("Item")
Result = TypeVar("Result")


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


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    n_threads: int,
    n_ahead: int,
    stop: Callable[[], None] | None = None,
) -> Generator[Result]:
    """`work` of each item, done by threads and given in the order of the items.

    At most `n_ahead` items are in work, or done, beyond those that were taken. What `work` raises
    is raised here. `stop` is called at the end, before the threads are waited for, so that work in
    hand can be broken off.
    """
    remaining = iter(items)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(n_threads)
    try:
        while True:
            for item in islice(remaining, n_ahead - len(waiting)):
                waiting.append(pool.submit(work, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        if stop is not None:
            stop()
        pool.shutdown(cancel_futures=True)


def read_batches(
    images: Iterable[Image], reader: Reader, batch_size: int, n_readers: int, clock: StageClock
) -> Generator[list[tuple[Image, Input | ImageError]]]:
    """Each image with its pixels (S, S) and facts, or why it has none; in order, `batch_size` at a
    time.

    Pillow and ONNX Runtime both release the interpreter lock, so threads suffice. No more than
    LOOK_AHEAD batches, and one image a reader, are read beyond the batch handed over. `clock` gets
    the time waited for readers (READING) and the processor time that they took (DECODING). The
    reader is closed at the end.
    """

    def read(image: Image) -> tuple[Image, Input | ImageError, float]:
        return image, *reader.read(image.path)

    results = in_order(read, images, n_readers, LOOK_AHEAD * batch_size + n_readers, reader.close)
    with closing(results):
        while True:
            with clock.measure(READING):
                part = list(islice(results, batch_size))
            if not part:
                return
            clock.seconds[DECODING] += sum(seconds for *_, seconds in part)
            yield [(image, found) for image, found, _ in part]
