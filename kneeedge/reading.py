"""Image files → batches of the network's input, decoded ahead by threads while the caller runs the network."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import ImageError
from kneeedge.preprocess import load_input
from kneeedge.spec import PixelPath

Pixels = NDArray[np.uint8]

LOOK_AHEAD = 3
"batches that are read while the caller has another: measured to keep the network fed, and a few MB"
READING, RUNNING, DECODING = "reading", "running", "decoding"


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
    images: Iterable[Image], pixel_path: PixelPath, batch_size: int, n_readers: int, clock: StageClock
) -> Iterator[list[tuple[Image, Pixels | ImageError]]]:
    """Each image with its pixels (S, S), or why it has none; in order, `batch_size` at a time.

    Pillow and ONNX Runtime both release the interpreter lock, so threads suffice. No more than LOOK_AHEAD batches are
    read beyond the one that is handed over. `clock` gets the time waited for readers (READING) and the processor time
    that they took (DECODING).
    """
    remaining = iter(images)
    waiting: deque[tuple[Image, Future[tuple[Pixels | ImageError, float]]]] = deque()
    pool = ThreadPoolExecutor(n_readers)
    try:
        while True:
            for image in islice(remaining, (1 + LOOK_AHEAD) * batch_size - len(waiting)):
                waiting.append((image, pool.submit(_read, image.path, pixel_path)))
            if not waiting:
                return
            batch = []
            with clock.measure(READING):
                for _ in range(min(batch_size, len(waiting))):
                    image, future = waiting.popleft()
                    pixels, seconds = future.result()
                    batch.append((image, pixels))
                    clock.seconds[DECODING] += seconds
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: Path, pixel_path: PixelPath) -> tuple[Pixels | ImageError, float]:
    """The pixels, or why there are none, and the processor seconds that they took."""
    start = time.thread_time()
    try:
        result: Pixels | ImageError = load_input(path, pixel_path)
    except ImageError as error:
        result = error
    except MemoryError:
        result = ImageError(path, "there is not enough memory to decode it", "free some memory or shrink the image")
    return result, time.thread_time() - start
