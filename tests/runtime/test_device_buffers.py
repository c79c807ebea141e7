"""A GPU's path on ONNX Runtime's CPU provider: buffers, batch shapes, padding, threads."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from kneeedge.pixels.phantom import phantoms
from kneeedge.runtime.device_buffers import DeviceRunner, cuda_runtime, host_buffer, shapes_of
from kneeedge.runtime.session import Session
from tests.tiny_onnx import write_tiny_model

N = 13


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    return Session(write_tiny_model(path), "cpu", threads=1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return phantoms(N, 64)


def cpu_session(session: Session) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(session.path), providers=["CPUExecutionProvider"])


def runner(session: Session, **changes) -> DeviceRunner:
    shapes = shapes_of(session.spec, ["probabilities", "logits", "cam"])
    return DeviceRunner(onnxruntime, cpu_session(session), shapes, device="cpu", **changes)


def assert_same(results: dict[str, np.ndarray], session: Session, images: np.ndarray) -> None:
    expected = session.run(images)
    for name in ("probabilities", "logits", "cam"):
        np.testing.assert_allclose(results[name], getattr(expected, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5, N])
def test_answers_are_those_of_the_plain_session(session, images, n):
    assert_same(runner(session).run(images[:n]), session, images[:n])


def test_a_partial_batch_is_padded_and_answers_as_if_it_were_not(session, images):
    device = runner(session)
    device.run(images[:8])
    assert_same(device.run(images[8:]), session, images[8:])
    assert device.batch_for(N - 8) == 8


def test_a_smaller_batch_takes_the_next_shape_that_is_known(session, images):
    device = runner(session)
    for n in (4, 8):
        device.run(images[:n])
    assert [device.batch_for(n) for n in (1, 3, 4, 6, 9)] == [1, 4, 4, 8, 9]


def test_more_images_than_a_run_may_hold_are_run_in_parts_and_in_order(session, images):
    device = runner(session, max_batch=4)
    assert_same(device.run(images), session, images)
    assert [device.batch_for(n) for n in (2, 3, 4)] == [4, 4, 4]


def test_buffers_are_allocated_once_for_each_shape(session, images):
    device = runner(session, n_lanes=1)
    device.run(images[:8])
    before = device.lanes(8).get()
    device.lanes(8).put(before)
    device.run(images[:8])
    assert device.lanes(8).get() is before


def test_threads_share_a_runner_and_get_their_own_answers(session, images):
    device = runner(session)
    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(lambda i: device.run(images[i : i + 2]), list(range(N - 1)) * 3))
    for i, result in enumerate(results):
        start = i % (N - 1)
        assert_same(result, session, images[start : start + 2])


def test_an_answer_is_not_overwritten_by_the_next_run(session, images):
    device = runner(session, n_lanes=1)
    first = device.run(images[:2])
    kept = first["logits"].copy()
    device.run(images[2:4])
    np.testing.assert_array_equal(first["logits"], kept)


def test_the_single_image_alone_runs_in_the_recorded_session(session, images):
    opened = []

    def record():
        opened.append(cpu_session(session))
        return opened[-1]

    device = runner(session, record=record)
    device.run(images[:4])
    assert not opened
    assert_same(device.run(images[:1]), session, images[:1])
    assert_same(device.run(images[1:2]), session, images[1:2])
    assert len(opened) == 1
    assert device.lanes(1).qsize() == 1


def test_no_batch_is_padded_to_a_shape_that_failed(session, images):
    device = runner(session, n_lanes=1)
    device.run(images[:4])
    lanes = device.lanes(4)
    with pytest.raises(ValueError, match="broadcast"):
        device.run(np.zeros((4, 1, 32, 32), np.uint8))
    assert lanes.qsize() == 1
    assert device.batch_for(3) == 3
    assert_same(device.run(images[:3]), session, images[:3])


class FakeCudart:
    def __init__(self, status: int) -> None:
        self.status = status
        self.locked = []
        self.released = []
        self.forgotten = False

    def cudaHostRegister(self, address, size, flags):  # noqa: N802
        self.locked.append((address.value, size.value, flags))
        return self.status

    def cudaGetLastError(self):  # noqa: N802
        self.forgotten = True
        return self.status

    def cudaHostUnregister(self, address):  # noqa: N802
        self.released.append(address.value)


def test_the_host_buffer_is_page_locked_while_it_lives():
    cudart = FakeCudart(0)
    buffer, locked = host_buffer((2, 1, 32, 32), cudart)
    assert locked
    address = buffer.ctypes.data
    assert cudart.locked == [(address, 2048, 0)]
    assert address % 4096 == 0
    assert not cudart.released
    del buffer
    assert cudart.released == [address]


def test_a_host_buffer_that_cannot_be_page_locked_works_all_the_same():
    cudart = FakeCudart(2)
    buffer, locked = host_buffer((1, 1, 32, 32), cudart)
    assert not locked
    assert cudart.forgotten
    buffer[:] = 7
    assert buffer.sum() == 7 * 1024
    del buffer
    assert not cudart.released


def test_outputs_have_the_shapes_that_the_spec_says(session):
    shapes = shapes_of(session.spec, ["probabilities", "logits", "cam", "distance"])
    assert shapes.outputs == {
        "probabilities": (2,),
        "logits": (2,),
        "cam": (2, 2, 2),
        "distance": (),
    }
    declared = {node.name: tuple(node.shape[1:]) for node in cpu_session(session).get_outputs()}
    assert {name: shapes.outputs[name] for name in declared} == declared


def test_no_cuda_runtime_is_looked_for_on_another_device():
    assert cuda_runtime(SimpleNamespace(cuda_version="13.0"), "cpu") is None


def test_the_parts_of_a_run_are_timed_in_their_order(session, images):
    ticks = iter((0.0, 1.0, 3.0, 6.0))
    device = runner(session)
    assert device.time_parts(images[:3], lambda: next(ticks)) == (1.0, 2.0, 3.0)
    assert device.lanes(3).qsize() == 2  # the lane is idle again
