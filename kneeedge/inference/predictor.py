"""Predictor: a model file, ready to answer images."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kneeedge.errors import ImageError, ModelFileError
from kneeedge.inference.predictions import ABSTAIN, ERROR, OK, PredictedImage, Prediction
from kneeedge.model.file import ModelFile
from kneeedge.pixels.listing import FoundImage
from kneeedge.pixels.pixel_path import Input, load_with_facts
from kneeedge.pixels.prefetch import READING, RUNNING, StageClock, open_reader, read_batches
from kneeedge.pixels.reader import ReadOptions
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
        self.lanes = self.session.gpu.lanes if self.session.runner else self.threads if apart else 1
        self.answer_all = answer_all

    def predict(self, path: Path | str) -> Prediction:
        """The answer to one image file. Raises ImageError where it cannot be read, OutOfMemoryError
        where not run.
        """
        options = self.read_options
        found = load_with_facts(Path(path), options.pixel_path, options.max_pixels)
        outputs = BatchRunner(self.session, say_nothing).run(found.pixels[None, None])
        (answer,) = self._answer(outputs, [found], [str(path)])
        return answer.prediction

    def predict_all(
        self,
        images: Iterable[FoundImage],
        clock: StageClock | None = None,
        say: Callable[[str], None] = say_nothing,
    ) -> Iterator[PredictedImage]:
        """Answers in the order of `images`; a file that cannot be read is an answer with its
        reason.

        As many threads as the network may use decode ahead of it. Batches shrink where memory does
        not suffice, which goes to `say`; `clock` gets the seconds of each stage. Raises
        OutOfMemoryError where not even one image fits.
        """
        clock = clock or StageClock()
        runner = BatchRunner(self.session, say, self.lanes)
        reader = open_reader(self.read_options)
        with closing(read_batches(images, reader, self.batch_size, self.threads, clock)) as batches:
            # One batch more than there are lanes, so that no lane waits while the caller writes.
            answered = in_order(
                lambda batch: self._answer_batch(batch, runner), batches, self.lanes, self.lanes + 1
            )
            while (answers := self._wait(answered, clock)) is not None:
                yield from answers

    def _wait(
        self, answered: Iterator[list[PredictedImage]], clock: StageClock
    ) -> list[PredictedImage] | None:
        """The next answers; the time until then is the network's, but for that in which it lacked
        images.
        """
        read = clock.seconds[READING]
        start = time.perf_counter()
        answers = next(answered, None)
        clock.seconds[RUNNING] += time.perf_counter() - start - (clock.seconds[READING] - read)
        return answers

    def _answer_batch(
        self, batch: list[tuple[FoundImage, Input | ImageError]], runner: BatchRunner
    ) -> list[PredictedImage]:
        good = [(image.name, read) for image, read in batch if not isinstance(read, ImageError)]
        answers: Iterator[PredictedImage] = iter(())
        if good:
            names = [name for name, _ in good]
            inputs = [read for _, read in good]
            pixels = np.stack([read.pixels for read in inputs])[:, None]
            answers = iter(self._answer(runner.run(pixels), inputs, names))
        return [
            PredictedImage(
                Prediction(
                    path=image.name,
                    status=ERROR,
                    prediction=None,
                    probability=None,
                    probabilities={},
                    error=read.reason,
                ),
                None,
                None,
            )
            if isinstance(read, ImageError)
            else next(answers)
            for image, read in batch
        ]

    def _answer(
        self, outputs: Outputs, inputs: list[Input], names: list[str]
    ) -> list[PredictedImage]:
        if not np.allclose(outputs.probabilities.sum(axis=1), 1.0, atol=1e-3):
            raise ModelFileError(self.session.path, "its probabilities do not sum to 1")
        decided = self.spec.decide(outputs.probabilities)
        answers = []
        for i, name in enumerate(names):
            prediction = with_facts(self._predict(name, outputs, i, int(decided[i])), inputs[i])
            maps = None if prediction.prediction is None else outputs.cam
            answers.append(
                PredictedImage(
                    prediction, inputs[i].pixels, None if maps is None else maps[i, decided[i]]
                )
            )
        return answers

    def _predict(self, name: str, outputs: Outputs, i: int, decided: int) -> Prediction:
        """What `outputs` say of image `i`."""
        spec = self.spec
        probabilities = outputs.probabilities[i]
        distance = None if outputs.distance is None else float(outputs.distance[i])
        reason = self._refusal(distance)
        if reason and not self.answer_all:
            return Prediction(
                path=name,
                status=ABSTAIN,
                prediction=None,
                probability=None,
                probabilities={},
                error=reason,
                distance=distance,
            )
        by_class = dict(zip(spec.classes, map(float, probabilities), strict=True))
        status = ABSTAIN if reason else OK
        positive = float(probabilities[spec.positive_index])
        return Prediction(
            path=name,
            status=status,
            prediction=spec.classes[decided],
            probability=positive,
            probabilities=by_class,
            error=reason,
            distance=distance,
        )

    def _refusal(self, distance: float | None) -> str:
        """Why the model abstains at this distance; empty where it answers."""
        novelty = self.spec.novelty
        if novelty is None or distance is None or distance <= novelty.limit:
            return ""
        return f"unlike the training images (distance {distance:.4g}, limit {novelty.limit:.4g})"


def with_facts(prediction: Prediction, read: Input) -> Prediction:
    """The same with what the file says of itself, and a warning where it shows nothing."""
    remarks = filter(None, (prediction.error, BLANK if read.blank else ""))
    return replace(prediction, dicom=read.dicom, error="; ".join(remarks))
