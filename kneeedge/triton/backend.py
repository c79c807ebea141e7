"""What Triton's `python` backend runs: requests → files → answers → responses.

Tensors go by DLPack and are numbers alone: Triton 2.51 reads NumPy 2's arrays as empty
(python_backend#384), and text is made of those. So a file comes as uint8, and its answer goes as
the uint8 of a JSON text.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # which the server puts beside this process

from kneeedge.errors import ConfigError, InputError, KneeEdgeError
from kneeedge.model.file import open_model
from kneeedge.system.machine import available_cpus
from kneeedge.triton.answers import UNNAMED, Answer, FileAnswerer, Upload
from kneeedge.triton.config import (
    ANSWER,
    DISTANCE,
    FILE,
    PROBABILITIES,
    PROVIDER,
    SHA256,
    THREADS,
)
from kneeedge.triton.repository import MODEL

KEY_VARIABLE = "KNEEEDGE_REQUIRE_SIGNATURE"
"names the public key whose owner must have signed the model; the server's, not the repository's"


class TritonPythonModel:
    """One instance of the model that takes files; the names are those that Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model of this version; what is raised keeps Triton from serving it."""
        config = json.loads(args["model_config"])
        values = {name: value["string_value"] for name, value in config["parameters"].items()}
        copies = sum(group["count"] for group in config["instance_group"])
        threads = int(values.get(THREADS, max(1, available_cpus() // copies)))
        path = Path(args["model_repository"], args["model_version"], MODEL)
        model = open_model(path, _required_key())
        self._answerer = FileAnswerer(model, values[SHA256], values[PROVIDER], threads)
        signed = f"signed by {model.signed_by}" if model.signed_by else "no signature asked for"
        triton.Logger.log_info(
            f"{args['model_name']}: model {values[SHA256]}, {signed}, {self._answerer.n_golden} "
            f"golden inputs repeated on {self._answerer.provider}"
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A response for each request, in their order.

        One that holds more than one file is an error of its own; where the network fails, all are.
        """
        responses: list[Any] = [None] * len(requests)
        uploads: dict[int, Upload] = {}
        for i, request in enumerate(requests):
            try:
                uploads[i] = _upload_of(request)
            except InputError as error:
                responses[i] = _failure(error)
        try:
            answers = self._answerer.answer(list(uploads.values()))
        except (KneeEdgeError, OSError) as error:  # OSError: no room for the files
            for i in uploads:
                responses[i] = _failure(error)
        else:
            for i, answer in zip(uploads, answers, strict=True):
                responses[i] = _response(answer, self._answerer.spec.classes)
        return responses

    def finalize(self) -> None:
        """Let the decoders go."""
        self._answerer.close()


def _required_key() -> Path | None:
    """The public key that the server asks for; ConfigError where the variable is set and empty."""
    value = os.environ.get(KEY_VARIABLE)
    if value == "":
        raise ConfigError(f"{KEY_VARIABLE} is set and empty", "name a public key, or unset it")
    return Path(value) if value else None


def _upload_of(request: Any) -> Upload:
    tensor = triton.get_input_tensor_by_name(request, FILE)
    rows = np.from_dlpack(tensor)
    if len(rows) != 1:
        problem = f"holds {len(rows)} files"
        raise InputError("a request", problem, "send one each; Triton makes the batches")
    return Upload(request.request_id() or UNNAMED, rows[0].tobytes())


def _response(answer: Answer, classes: Sequence[str]) -> Any:
    """The answer as JSON, and its figures as numbers; NaN where there is none."""
    prediction = answer.prediction
    text = np.frombuffer(answer.to_bytes(), dtype=np.uint8)
    probabilities = [prediction.probabilities.get(name, np.nan) for name in classes]
    distance = np.nan if prediction.distance is None else prediction.distance
    tensors = {
        ANSWER: text[None].copy(),  # DLPack takes none that may not be written to
        PROBABILITIES: np.array([probabilities], dtype=np.float32),
        DISTANCE: np.array([[distance]], dtype=np.float32),
    }
    outputs = [triton.Tensor.from_dlpack(name, array) for name, array in tensors.items()]
    return triton.InferenceResponse(output_tensors=outputs)


def _failure(error: Exception) -> Any:
    return triton.InferenceResponse(output_tensors=[], error=triton.TritonError(str(error)))
