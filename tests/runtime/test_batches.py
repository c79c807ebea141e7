"""Batches shrink where a session cannot have the memory, and only then."""

from threading import Barrier, Lock, Thread

import numpy as np
import onnxruntime
import pytest

from kneeedge.errors import ModelFileError, OutOfMemoryError, ProviderError
from kneeedge.runtime.batches import BatchRunner, is_out_of_memory, joined
from kneeedge.runtime.session import Outputs

Fail = onnxruntime.capi.onnxruntime_pybind11_state.Fail
ARENA = (
    "bfc_arena.cc:360 AllocateRawInternal Failed to allocate memory "
    "for requested buffer of size 822083584"
)


class SmallSession:
    """Answers with each image's first pixel; fails beyond `room` images at the same time."""

    def __init__(self, room: int, error: Exception | None = None) -> None:
        self.room = room
        self.error = error or Fail(ARENA)
        self.inside = 0
        self.sizes = []
        self.lock = Lock()

    def run(self, images) -> Outputs:
        with self.lock:
            self.sizes.append(len(images))
            self.inside += len(images)
            full = self.inside > self.room
        try:
            if full:
                raise self.error
            first = images[:, 0, 0, :1].astype(np.float32)
            return Outputs(first, first, None, first[:, 0])
        finally:
            with self.lock:
                self.inside -= len(images)


def numbered(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)


def test_a_batch_that_fits_is_run_whole():
    session = SmallSession(8)
    messages = []
    outputs = BatchRunner(session, messages.append).run(numbered(8))
    assert outputs.logits.ravel().tolist() == list(range(8))
    assert session.sizes == [8]
    assert messages == []


def test_a_batch_that_does_not_fit_is_halved_and_no_image_is_lost():
    session = SmallSession(3)
    messages = []
    outputs = BatchRunner(session, messages.append).run(numbered(9))
    assert outputs.logits.ravel().tolist() == outputs.distance.tolist() == list(range(9))
    assert session.sizes == [9, 4, 2, 2, 2, 2, 1]
    assert messages == [
        "memory does not suffice for 9 images at once: going on with 4",
        "memory does not suffice for 4 images at once: going on with 2",
    ]


def test_later_batches_keep_the_size_that_fits_and_nothing_more_is_said():
    session = SmallSession(2)
    messages = []
    runner = BatchRunner(session, messages.append)
    runner.run(numbered(4))
    session.sizes.clear()
    runner.run(numbered(4))
    assert session.sizes == [2, 2]
    assert len(messages) == 1


def test_one_image_that_does_not_fit_is_an_error_with_a_remedy():
    with pytest.raises(OutOfMemoryError, match="use a narrower or an int8 model"):
        BatchRunner(SmallSession(0), lambda _: None).run(numbered(4))


def test_lanes_that_do_not_fit_beside_each_other_take_turns():
    """Room for one image, two lanes: the first runs of both overlap, and both fail."""
    barrier = Barrier(2)
    results = {}
    messages = []

    class Overlapping(SmallSession):
        def run(self, images):
            if len(self.sizes) < 2:
                with self.lock:
                    self.sizes.append(len(images))
                barrier.wait(10)
                raise self.error
            return super().run(images)

    runner = BatchRunner(Overlapping(1), messages.append, n_lanes=2)

    def run(i: int) -> None:
        results[i] = runner.run(numbered(1)).logits

    threads = [Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert set(results) == {0, 1}
    assert messages == ["memory does not suffice for one image a core: going on with one at a time"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        Fail(ARENA),
        Fail("CUDA failure 2: out of memory ; GPU=0"),
        Fail("CUDNN_STATUS_ALLOC_FAILED"),
        Fail("[OpenVINO-EP] cpu_memory.cpp:257: Failed to allocate 308281344 bytes of memory"),
        Fail("[OpenVINO-EP] [CPU] MaxPool node with name 'node_max_pool2d' can't alloc"),
        onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException("std::bad_alloc"),
    ],
)
def test_words_for_missing_memory_are_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [ModelFileError("out of memory.onnx", "NaN"), Fail("Invalid rank"), ValueError("x")]
)
def test_other_errors_are_raised_as_they_are(error):
    session = SmallSession(0, error)
    with pytest.raises(type(error)):
        BatchRunner(session, lambda _: None).run(numbered(4))
    assert session.sizes == [4]


def test_a_gpu_without_memory_is_known_by_what_its_error_came_from():
    error = ProviderError("cuda", "CUDA failure 2: out of memory", "lower --batch-size")
    error.__cause__ = MemoryError()
    assert is_out_of_memory(error)
    error.__cause__ = RuntimeError("no kernel image")
    assert not is_out_of_memory(error)


def test_joined_parts_keep_what_is_absent_absent():
    part = Outputs(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), None)
    whole = joined([part, part])
    assert whole.probabilities.shape == (4, 3)
    assert whole.cam is whole.distance is None
