"""Image files that came over a network → answers, as `kneeedge infer` gives them for a folder."""

import base64
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from kneeedge.errors import ImageError, ModelFileError, WorkerError
from kneeedge.inference.predictions import Prediction
from kneeedge.inference.predictor import Predictor, say_nothing
from kneeedge.model.file import ModelFile
from kneeedge.pixels.prefetch import open_reader
from kneeedge.pixels.reader import ReadFile
from kneeedge.runtime.batches import BatchRunner
from kneeedge.runtime.golden import read_golden
from kneeedge.system.strict_json import to_json
from kneeedge.triton.repository import prove

FORMAT = "kneeedge-answer/1"
UNNAMED = "<file>"
"in an answer, where the request has no id"


@dataclass(frozen=True)
class Upload:
    """One image file of a request."""

    name: str
    "the id of the request, or UNNAMED"
    data: bytes


@dataclass(frozen=True)
class Answer:
    """A prediction, and which model it is of."""

    prediction: Prediction
    model_sha256: str

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """One level of fields for JSON: those of `infer --json`, and the model's hash."""
        prediction: dict[str, Any] = record["prediction"]
        return {"format": FORMAT, "model_sha256": self.model_sha256, **prediction}

    def to_bytes(self) -> bytes:
        """UTF-8 JSON; what has no value is null."""
        return to_json(self, indent=None).encode()


class FileAnswerer:
    """A model that answers files; it repeats its golden inputs before it answers the first.

    Files are decoded in processes of their own, which may crash or hang at the cost of that file.
    They get them through a private folder, by default below /tmp, and each is gone once read.
    Raises ModelFileError where the file has another hash than the repository was written with, or
    answers its golden inputs otherwise here.
    """

    def __init__(self, model: ModelFile, sha256: str, provider: str, threads: int | None) -> None:
        if model.sha256 != sha256:
            problem = f"its hash is {model.sha256}, and config.pbtxt says {sha256}"
            remedy = "write the repository again with `kneeedge triton`"
            raise ModelFileError(model.path, problem, remedy)
        self._predictor = Predictor(model, provider, threads)
        self.spec = self._predictor.spec
        self.provider = self._predictor.session.provider
        self.sha256 = sha256
        self.n_golden = prove(self._predictor.session)
        self._runner = BatchRunner(self._predictor.session, say_nothing)
        self._reader = open_reader(replace(self._predictor.read_options, isolated=True))
        # A decoder ends with the thread that started it, so the threads are kept.
        self._readers = ThreadPoolExecutor(self._predictor.threads)
        self._scratch = tempfile.TemporaryDirectory(prefix="kneeedge-")
        self._numbers = count()
        try:
            self._try_a_decoder()
        except BaseException:
            self.close()
            raise

    def answer(self, uploads: Sequence[Upload]) -> list[Answer]:
        """The answers to the files, in their order; an unreadable one says why.

        Raises ModelFileError where the network gives no finite answer, and OutOfMemoryError where
        not even one image fits.
        """
        reading = [self._readers.submit(self._read, upload) for upload in uploads]
        size = self._predictor.batch_size
        answers: list[Answer] = []
        for start in range(0, len(uploads), size):
            chunk = slice(start, start + size)
            answers += self._answer_chunk(uploads[chunk], reading[chunk])
        return answers

    def close(self) -> None:
        """End the decoders, and remove what they were reading."""
        self._reader.close()
        self._readers.shutdown(cancel_futures=True)
        self._scratch.cleanup()

    def _try_a_decoder(self) -> None:
        """Start one before the first request; raises WorkerError where it cannot read a PNG."""
        for picture in read_golden(self._predictor.session).pictures[:1]:
            upload = Upload(picture.name, base64.b64decode(picture.content))
            result = self._readers.submit(self._read, upload).result().result
            if isinstance(result, ImageError):
                remedy = "look at what Triton's Python has installed"
                raise WorkerError("a decoder process", result.reason, remedy)

    def _answer_chunk(
        self, uploads: Sequence[Upload], reading: Sequence["Future[ReadFile]"]
    ) -> list[Answer]:
        read = [future.result() for future in reading]
        batch = list(zip(uploads, read, strict=True))
        answered = self._predictor.answer_batch(self._runner, batch)
        return [Answer(answer.prediction, self.sha256) for answer in answered]

    def _read(self, upload: Upload) -> ReadFile:
        path = Path(self._scratch.name, str(next(self._numbers)))
        try:
            path.write_bytes(upload.data)
            return self._reader.read(path)
        finally:
            path.unlink(missing_ok=True)
