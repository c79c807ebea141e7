"""Runs on a device: fixed batch shapes, buffers allocated once, the last partial batch padded."""

import ctypes
import mmap
import queue
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.spec import ModelSpec
from kneeedge.runtime import cuda

Images = NDArray[np.uint8]
Results = dict[str, NDArray[np.float32]]
Clock = Callable[[], float]
WARM_UPS = 2
"runs of a new shape before its first answer: cuDNN tries its algorithms, a CUDA graph is recorded"


@dataclass(frozen=True)
class Shapes:
    """Shapes of the network's input and outputs, without the batch dimension."""

    side: int
    "S of the input image (N, 1, S, S) uint8"
    outputs: dict[str, tuple[int, ...]]
    "of each output (N, …) float32 that is asked for"


def shapes_of(spec: ModelSpec, names: list[str]) -> Shapes:
    """The shapes that the spec gives to the input and to the outputs `names`."""
    n_classes = len(spec.classes)
    side = spec.pixel_path.size
    known = {
        "probabilities": (n_classes,),
        "logits": (n_classes,),
        "cam": (n_classes, side // 32, side // 32),
        "distance": (),
    }
    return Shapes(side, {name: known[name] for name in names})


class Lane:
    """Buffers for runs of one batch shape: pixels on host and device, answers on the device.

    The Python interface of ONNX Runtime has no page-locked values, so the host's buffer is ours:
    `host`, (N, 1, S, S) uint8.
    """

    def __init__(
        self, runtime: ModuleType, session: Any, shapes: Shapes, device: str, host: Images
    ) -> None:
        self._session = session
        self._host = host
        allocate = runtime.OrtValue.ortvalue_from_shape_and_type
        self._input = allocate(list(host.shape), np.uint8, device, 0)
        self._outputs = {
            name: allocate([len(host), *shape], np.float32, device, 0)
            for name, shape in shapes.outputs.items()
        }
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("image", self._input)
        for name, output in self._outputs.items():
            self._binding.bind_ortvalue_output(name, output)

    def run(self, images: Images) -> Results:
        """The outputs for at most as many images (n, 1, S, S) as the lane's batch."""
        self.put(images)
        self.execute()
        return self.get(len(images))

    def put(self, images: Images) -> None:
        """Copy the images to the device; the last one fills a partial batch."""
        self._host[: len(images)] = images
        self._host[len(images) :] = images[-1]
        self._input.update_inplace(self._host)

    def execute(self) -> None:
        """Run the network on what lies on the device, and wait for it."""
        self._session.run_with_iobinding(self._binding)

    def get(self, n: int) -> Results:
        """The first `n` answers, copied from the device; the padding's are left there."""
        return {name: np.array(output.numpy()[:n]) for name, output in self._outputs.items()}


class DeviceRunner:
    """Runs a session whose provider computes on a device.

    Threads may share it: their copies and runs overlap.
    """

    def __init__(
        self,
        runtime: ModuleType,
        session: Any,
        shapes: Shapes,
        record: Callable[[], Any] | None = None,
        device: str = "cuda",
        n_lanes: int = 2,
        max_batch: int = 256,
    ) -> None:
        """`record` opens a session that replays a CUDA graph, for single images."""
        self._runtime = runtime
        self._session = session
        self._shapes = shapes
        self._record = record
        self._device = device
        self._n_lanes = n_lanes
        self._max_batch = max_batch
        self._lanes: dict[int, queue.SimpleQueue[Lane]] = {}
        self._opening = threading.Lock()
        self.page_locked = True
        "whether all host buffers are; copies from others are slower"
        self._threads = ThreadPoolExecutor(n_lanes)

    def run(self, images: Images) -> Results:
        """The outputs for images (N, 1, S, S) uint8, N ≥ 1; those beyond `max_batch` in parts."""
        parts = np.split(images, range(self._max_batch, len(images), self._max_batch))
        if len(parts) == 1:
            return self._run_part(images)
        results = list(self._threads.map(self._run_part, parts))
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    def time_parts(
        self, images: Images, clock: Clock = time.perf_counter
    ) -> tuple[float, float, float]:
        """Seconds that a run of these images takes to copy in, to compute and to copy out.

        N ≤ `max_batch`.
        """
        lanes = self.lanes(self.batch_for(len(images)))
        lane = lanes.get()
        try:
            start = clock()
            lane.put(images)
            copied_in = clock()
            lane.execute()
            computed = clock()
            lane.get(len(images))
            copied_out = clock()
        finally:
            lanes.put(lane)
        return copied_in - start, computed - copied_in, copied_out - computed

    def batch_for(self, n: int) -> int:
        """The batch shape that `n` images run in: `n` where it is open, else the next larger open.

        Where none is open, `n`. A new shape costs cuDNN's search, far more than the padding. The
        single image is never padded.
        """
        if n == 1 or n in self._lanes:
            return n
        return min((batch for batch in self._lanes if batch > n), default=n)

    def lanes(self, batch: int) -> "queue.SimpleQueue[Lane]":
        """The idle lanes of one batch shape, opened and warmed up where it is new."""
        with self._opening:
            if batch not in self._lanes:
                self._lanes[batch] = self._open(batch)
            return self._lanes[batch]

    def _run_part(self, images: Images) -> Results:
        batch = self.batch_for(len(images))
        lanes = self.lanes(batch)
        failed = True
        lane = lanes.get()
        try:
            results = lane.run(images)
            failed = False
            return results
        finally:
            lanes.put(lane)  # whoever waits for it shall not wait for ever
            # As where memory ran out: smaller batches must not be padded to this one.
            if failed:
                self._lanes.pop(batch, None)

    def _open(self, batch: int) -> "queue.SimpleQueue[Lane]":
        record = self._record if batch == 1 else None
        session = record() if record else self._session
        lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        side = self._shapes.side
        cudart = cuda_runtime(self._runtime, self._device)
        for _ in range(1 if record else self._n_lanes):
            host, locked = host_buffer((batch, 1, side, side), cudart)
            self.page_locked &= locked
            lane = Lane(self._runtime, session, self._shapes, self._device, host)
            for _ in range(WARM_UPS):
                lane.run(np.zeros((1, 1, side, side), np.uint8))
            lanes.put(lane)
        return lanes


def cuda_runtime(runtime: ModuleType, device: str) -> Any | None:
    """The CUDA runtime library that ONNX Runtime has loaded; None for another device or system."""
    if device != "cuda":
        return None
    try:
        return cuda.load_library(f"libcudart.so.{cuda.cuda_major(runtime)}")
    except OSError:
        # Windows names it otherwise; `host_buffer` allows for memory that is not page-locked.
        return None


def host_buffer(shape: tuple[int, ...], cudart: Any | None) -> tuple[Images, bool]:
    """A uint8 array in whole pages, and whether `cudart`, the CUDA runtime, could lock them.

    Page-locked memory is copied to the device without a stop in a buffer of the driver's.
    """
    size = int(np.prod(shape))
    buffer = np.frombuffer(mmap.mmap(-1, size), np.uint8).reshape(shape)
    address = ctypes.c_void_p(buffer.ctypes.data)
    if cudart is None:
        return buffer, False
    if cudart.cudaHostRegister(address, ctypes.c_size_t(size), 0) != 0:
        # Forgets the failure, which the next kernel would otherwise report as its own.
        cudart.cudaGetLastError()
        return buffer, False
    weakref.finalize(buffer, cudart.cudaHostUnregister, address)
    return buffer, True
