"""Batches that adapt to memory: halved where ONNX Runtime cannot allocate, so that the run goes on."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import OutOfMemoryError
from kneeedge.session import Outputs

OUT_OF_MEMORY = ("failed to allocate memory", "bad allocation", "bad_alloc", "out of memory", "out_of_memory",
                 "alloc_failed")  # fmt: skip
"what ONNX Runtime's arenas, the C++ library, CUDA, cuDNN and cuBLAS say"


class Runs(Protocol):
    """What a batch is given to; a Session."""

    def run(self, images: NDArray[np.uint8]) -> Outputs: ...


class BatchRunner:
    """Runs batches of any size, in parts of at most `limit` images, which shrinks where memory does not suffice."""

    def __init__(self, session: Runs, say: Callable[[str], None]) -> None:
        self.limit: int | None = None
        "images that fit; None while nothing has failed"
        self._session, self._say = session, say

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Answers for `images` (N, 1, S, S) uint8. Raises OutOfMemoryError where not even one fits into memory."""
        parts: list[Outputs] = []
        done, failed = 0, 0
        while done < len(images):
            part = images[done : done + (self.limit or len(images))]
            try:
                parts.append(self._session.run(part))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise OutOfMemoryError from error
                failed, self.limit = failed or len(part), len(part) // 2
            else:
                done += len(part)
        if failed:
            self._say(f"memory does not suffice for {failed} images at once: going on with {self.limit}")
        return joined(parts)


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` is Python's or ONNX Runtime's word for memory that could not be had."""
    if isinstance(error, MemoryError):
        return not isinstance(error, OutOfMemoryError)
    from_runtime = type(error).__module__.startswith("onnxruntime")
    return from_runtime and any(words in str(error).lower() for words in OUT_OF_MEMORY)


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
