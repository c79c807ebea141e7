"""Predictor: a model file, ready to answer images."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kneeedge.errors import ImageError, ModelFileError
from kneeedge.inference.predictions import ABSTAIN, ERROR, OK, PredictedImage, Prediction
from kneeedge.model.file import ModelFile
from kneeedge.pixels.listing import FoundImage
from kneeedge.pixels.pixel_path import Input, load_with_facts
from kneeedge.pixels.prefetch import READING, RUNNING, StageClock, open_reader, read_batches
from kneeedge.pixels.reader import ReadFile, ReadOptions
from kneeedge.runtime.batches import BatchRunner
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.runtime.session import Outputs, Session
from kneeedge.system import machine
from kneeedge.system.threads import in_order

if TYPE_CHECKING:
    from kneeedge.model.spec import ModelSpec

MANY = 16
"images a core from which on the cores work apart"
BLANK = "blank image: all pixels are alike"
DEFAULT_BATCH = {"cpu": 4, "openvino": 8, "cuda": 64, "tensorrt": 64}


def say_nothing(line: str) -> None:
    """What a long run says by the way, unless its caller wants to hear it."""


class Predictor:
    """A model file, ready to answer: `Predictor("model.onnx").predict("xray.png")`.

    Where `n_images` are many, each CPU core answers batches of its own: cores that share a batch
    wait for each other. With `answer_all` an image unlike the training images is answered all the
    same; its status stays `abstain`.
    """

    def __init__(
        self,
        model: Path | str | ModelFile,
        provider: str = "auto",
        threads: int | None = None,
        batch_size: int | None = None,
        answer_all: bool = False,
        n_images: int = 1,
        gpu: GpuOptions | None = None,
    ) -> None:
        self.threads = threads or machine.available_cpus()
        # OpenVINO's threads share a batch without loss: lanes of their own bring nothing there.
        apart = n_images >= MANY * self.threads and provider in ("auto", "cpu")
        self.session = Session(model, provider, 1 if apart else self.threads, gpu)
        self.spec: ModelSpec = self.session.spec
        self.read_options = ReadOptions(self.spec.pixel_path)
        "by the model's own pixel path; another DICOM window and other limits may be asked for"
        self.batch_size = batch_size or DEFAULT_BATCH.get(self.session.provider, 8)
        self.lanes = self.threads if apart else 1
        "batches that the network answers at once"
        if self.session.runner:
            self.lanes = self.session.gpu.lanes
        self.answer_all = answer_all

    def predict(self, path: Path | str) -> Prediction:
        """The answer to one image file.

        Raises ImageError where it cannot be read, and OutOfMemoryError where memory does not
        suffice to run the network.
        """
        options = self.read_options
        loaded = load_with_facts(Path(path), options.pixel_path, options.max_pixels)
        runner = BatchRunner(self.session, say_nothing)
        (answer,) = self._answer_inputs(runner, [(str(path), loaded)])
        return answer.prediction

    def predict_all(
        self,
        images: Iterable[FoundImage],
        clock: StageClock | None = None,
        say: Callable[[str], None] = say_nothing,
    ) -> Iterator[PredictedImage]:
        """Answers in the order of `images`; an unreadable file is an answer with its reason.

        As many threads as the network may use decode ahead of it. Batches shrink where memory does
        not suffice, which goes to `say`; `clock` gets the seconds of each stage. Raises
        OutOfMemoryError where not even one image fits.
        """
        clock = clock or StageClock()
        runner = BatchRunner(self.session, say, self.lanes)
        reader = open_reader(self.read_options)
        with closing(read_batches(images, reader, self.batch_size, self.threads, clock)) as batches:
            # One batch more than there are lanes, so that no lane waits while the caller writes.
            answer_batch = partial(self._answer_batch, runner)
            answered = in_order(answer_batch, batches, self.lanes, self.lanes + 1)
            for answers in _timed(answered, clock):
                yield from answers

    def _answer_batch(
        self, runner: BatchRunner, batch: list[tuple[FoundImage, ReadFile]]
    ) -> list[PredictedImage]:
        inputs = [
            (image.name, file.result) for image, file in batch if isinstance(file.result, Input)
        ]
        answered = iter(self._answer_inputs(runner, inputs) if inputs else [])
        answers = []
        for image, file in batch:
            if isinstance(file.result, ImageError):
                unread = Prediction(path=image.name, status=ERROR, error=file.result.reason)
                answers.append(PredictedImage(unread, stamp=file.stamp))
            else:
                answers.append(replace(next(answered), stamp=file.stamp))
        return answers

    def _answer_inputs(
        self, runner: BatchRunner, inputs: list[tuple[str, Input]]
    ) -> list[PredictedImage]:
        """The answers to one or more images, each under its name."""
        outputs = runner.run(np.stack([loaded.pixels for _, loaded in inputs])[:, None])
        if not np.allclose(outputs.probabilities.sum(axis=1), 1.0, atol=1e-3):
            raise ModelFileError(self.session.path, "its probabilities do not sum to 1")
        decided = self.spec.decide(outputs.probabilities)
        answers = []
        for i, (name, loaded) in enumerate(inputs):
            prediction = with_facts(self._predict(name, outputs, i, int(decided[i])), loaded)
            cam = None
            if outputs.cam is not None and prediction.prediction is not None:
                cam = outputs.cam[i, decided[i]]
            answers.append(PredictedImage(prediction, loaded.pixels, cam, loaded.study))
        return answers

    def _predict(self, name: str, outputs: Outputs, i: int, decided: int) -> Prediction:
        """What `outputs` say of image `i`."""
        spec = self.spec
        distance = None if outputs.distance is None else float(outputs.distance[i])
        refusal = self._refusal(distance)
        status = ABSTAIN if refusal else OK
        if refusal and not self.answer_all:
            return Prediction(path=name, status=status, error=refusal, distance=distance)
        probabilities = outputs.probabilities[i].tolist()
        return Prediction(
            path=name,
            status=status,
            prediction=spec.classes[decided],
            probability=probabilities[spec.positive_index],
            probabilities=dict(zip(spec.classes, probabilities, strict=True)),
            error=refusal,
            distance=distance,
        )

    def _refusal(self, distance: float | None) -> str:
        """Why the model abstains at this distance; empty where it answers."""
        novelty = self.spec.novelty
        if novelty is None or distance is None or distance <= novelty.limit:
            return ""
        return f"unlike the training images (distance {distance:.4g}, limit {novelty.limit:.4g})"


def with_facts(prediction: Prediction, loaded: Input) -> Prediction:
    """The prediction with what the file says of itself, and a warning where it shows nothing."""
    remarks = [prediction.error] if prediction.error else []
    if loaded.blank:
        remarks.append(BLANK)
    return replace(prediction, dicom=loaded.dicom, error="; ".join(remarks))


def _timed(
    answered: Iterator[list[PredictedImage]], clock: StageClock
) -> Iterator[list[PredictedImage]]:
    """The batches of answers; the time waited for them is the network's, while it had images."""
    while True:
        reading = clock.seconds[READING]
        start = time.perf_counter()
        answers = next(answered, None)
        lacked_images = clock.seconds[READING] - reading
        clock.seconds[RUNNING] += time.perf_counter() - start - lacked_images
        if answers is None:
            return
        yield answers
