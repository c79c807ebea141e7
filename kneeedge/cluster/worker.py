"""One network of the cluster: chunks of images to rows. It runs in an actor of Ray's."""

import hashlib
import os
import platform
import time
from pathlib import Path
from typing import Any

from kneeedge.cluster.messages import ANSWERS, CHUNK, Chunk, ChunkAnswers, WorkerSetup
from kneeedge.cluster.reading import ImageReader
from kneeedge.errors import ConfigError, KneeEdgeError, ModelFileError, NotFoundError
from kneeedge.inference.journal import Batch
from kneeedge.inference.predictions import csv_row
from kneeedge.inference.request import open_predictor
from kneeedge.inference.side_files import with_patient
from kneeedge.model.file import model_of_bytes
from kneeedge.pixels.prefetch import RUNNING, StageClock, timed_batches
from kneeedge.runtime.batches import BatchRunner
from kneeedge.system.processes import Failure
from kneeedge.system.strict_json import from_json, to_json
from kneeedge.version import __version__


class Worker:
    """Answers chunks with a network of its own; what ends the run is told in its answers.

    An exception in an actor ends a job of Ray Data's without a clear line, and one in its
    constructor starts it again and again.
    """

    def __init__(self, model: Any, setup: WorkerSetup) -> None:
        """`model` is Ray's reference to the bytes of the model file."""
        import ray

        self._node = str(ray.get_runtime_context().get_node_id())
        self._failure: Failure | None = None
        try:
            check_node(setup, platform.node())
            self._answerer = Answerer(ray.get(model), setup)
        except KneeEdgeError as error:
            self._failure = Failure(type(error).__name__, str(error))

    def __call__(self, table: dict[str, Any]) -> dict[str, list[str]]:
        return {ANSWERS: [self._answers(str(text)) for text in table[CHUNK]]}

    def _answers(self, text: str) -> str:
        chunk = from_json(Chunk, text)
        clock = StageClock()
        batches: tuple[Batch, ...] = ()
        remarks: tuple[str, ...] = ()
        failure = self._failure
        if failure is None:
            try:
                batches = self._answerer.answer(chunk, clock)
                remarks = self._answerer.take_remarks()
            except KneeEdgeError as error:
                failure = Failure(type(error).__name__, str(error))
        answers = ChunkAnswers(
            numbers=chunk.numbers,
            batches=batches,
            node=self._node,
            pid=os.getpid(),
            seconds=dict(clock.seconds),
            remarks=remarks,
            failure=failure,
        )
        return to_json(answers, indent=None)


class Answerer:
    """A model, a reader and a runner that stay open from chunk to chunk."""

    def __init__(self, data: bytes, setup: WorkerSetup) -> None:
        path = Path(setup.model)
        if hashlib.sha256(data).hexdigest() != setup.model_sha256:
            problem = "a node got other bytes than the driver read"
            raise ModelFileError(path, problem, "run the command again")
        self._request = setup.request
        self._predictor = open_predictor(setup.request, model_of_bytes(data, path), 1)
        n_readers = self._predictor.threads
        self._reader = ImageReader(self._predictor.read_options, n_readers)
        self._remarks: list[str] = []
        self._runner = BatchRunner(self._predictor.session, self._remarks.append)

    def answer(self, chunk: Chunk, clock: StageClock) -> tuple[Batch, ...]:
        """The rows of each batch of the chunk."""
        images = [image for batch in chunk.batches for image in batch]
        sizes = [len(batch) for batch in chunk.batches]
        results = self._reader.read_all(images, self._predictor.batch_size)
        answered = []
        for batch in timed_batches(results, sizes, clock):
            start = time.perf_counter()
            answers = self._predictor.answer_batch(self._runner, batch)
            clock.seconds[RUNNING] += time.perf_counter() - start
            if self._request.options.with_patient_id:
                answers = list(map(with_patient, answers))
            rows = tuple(tuple(csv_row(a.prediction, self._predictor.spec)) for a in answers)
            answered.append(Batch(rows, tuple(answer.stamp for answer in answers)))
        return tuple(answered)

    def close(self) -> None:
        """End what reads; a worker's own end does that too."""
        self._reader.close()

    def take_remarks(self) -> tuple[str, ...]:
        """What was said since the last call."""
        remarks = tuple(self._remarks)
        self._remarks.clear()
        return remarks


def check_node(setup: WorkerSetup, node: str) -> None:
    """Raise ConfigError where the node runs another kneeedge, NotFoundError without a folder.

    A node without the share would give a row with an error for each of its images.
    """
    if __version__ != setup.version:
        problem = f"node {node} has kneeedge {__version__}, and this machine {setup.version}"
        raise ConfigError(problem, "install the same version on every node")
    for folder in setup.folders:
        if not Path(folder).exists():
            remedy = "mount it there under the same path, or give the address of an object store"
            raise NotFoundError(f"{folder} is not there on node {node}", remedy)
