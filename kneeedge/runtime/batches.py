"""Batches that adapt to memory: halved where ONNX Runtime cannot allocate, and the run goes on."""

import sys
from collections.abc import Callable, Sequence
from threading import Lock, Semaphore
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import ModelFileError, OutOfMemoryError, ProviderError
from kneeedge.runtime.session import Outputs

OUT_OF_MEMORY = (
    "failed to allocate", "can't alloc", "bad allocation", "bad_alloc", "out of memory",
    "out_of_memory", "alloc_failed",
)  # fmt: skip
"what ONNX Runtime's arenas, OpenVINO, the C++ library, CUDA, cuDNN and cuBLAS say"


class Runs(Protocol):
    """What a batch is given to; a Session."""

    def run(self, images: NDArray[np.uint8]) -> Outputs: ...


class BatchRunner:
    """Runs batches, from up to `n_lanes` threads at once, in parts of at most `limit` images.

    `limit` halves where memory does not suffice; where a single image still does not fit, the
    threads take turns.
    """

    def __init__(self, session: Runs, say: Callable[[str], None], n_lanes: int = 1) -> None:
        self.limit = sys.maxsize
        self._session = session
        self._say = say
        self._n_lanes = n_lanes
        self._take_turns = False
        self._entering = Lock()
        self._places = Semaphore(n_lanes)

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Answers for `images` (N, 1, S, S) uint8; OutOfMemoryError where not even one fits."""
        parts: list[Outputs] = []
        done = 0
        while done < len(images):
            part = images[done : done + self.limit]
            alone = self._take_turns
            try:
                parts.append(self._run(part, alone))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1 and (alone or self._n_lanes == 1):
                    raise OutOfMemoryError from error
                self._shrink(len(part))
            else:
                done += len(part)
        return joined(parts)

    def _run(self, part: NDArray[np.uint8], alone: bool) -> Outputs:
        n_places = self._n_lanes if alone else 1
        # One thread at a time, so that two who want all places cannot hold half of them each.
        with self._entering:
            for _ in range(n_places):
                self._places.acquire()
        try:
            return self._session.run(part)
        finally:
            self._places.release(n_places)

    def _shrink(self, n_failed: int) -> None:
        """Go on with half of `n_failed` images, or one thread at a time; say so once a step."""
        short = "memory does not suffice for"
        with self._entering:
            if n_failed // 2 in range(1, self.limit):
                self.limit = n_failed // 2
                self._say(f"{short} {n_failed} images at once: going on with {self.limit}")
            elif n_failed == 1 and not self._take_turns:
                self._take_turns = True
                self._say(f"{short} one image a core: going on with one at a time")


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python or ONNX Runtime says by `error` that memory, a GPU's too, could not be had."""
    if isinstance(error, ProviderError | ModelFileError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    from_runtime = type(error).__module__.startswith("onnxruntime")
    return from_runtime and any(words in text for words in OUT_OF_MEMORY)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The answers to all images of the parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    cams = [part.cam for part in parts if part.cam is not None]
    distances = [part.distance for part in parts if part.distance is not None]
    return Outputs(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.logits for part in parts]),
        np.concatenate(cams) if cams else None,
        np.concatenate(distances) if distances else None,
    )
