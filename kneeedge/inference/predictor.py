"""Predictor: a model file, ready to answer images."""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol, overload

import numpy as np

from kneeedge.errors import ImageError, ModelFileError, SharingError
from kneeedge.inference.heatmap import overlay
from kneeedge.inference.predictions import (
    ABSTAIN,
    ERROR,
    OK,
    REFER,
    PredictedImage,
    Prediction,
    kept_in,
)
from kneeedge.model.file import ModelFile
from kneeedge.pixels.depth import depth_remark, depth_warning
from kneeedge.pixels.from_memory import (
    ImageLike,
    is_several,
    load_source,
    read_source,
    take,
    take_all,
)
from kneeedge.pixels.listing import FoundImage, find_images
from kneeedge.pixels.pixel_path import Input
from kneeedge.pixels.prefetch import (
    READING,
    RUNNING,
    StageClock,
    load_batches,
    open_reader,
    read_batches,
)
from kneeedge.pixels.reader import ReadFile, ReadOptions
from kneeedge.runtime.batches import BatchRunner
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.runtime.session import Outputs, Session
from kneeedge.system import machine
from kneeedge.system.outputs import ROWS, check_output
from kneeedge.system.threads import in_order

if TYPE_CHECKING:
    from kneeedge.model.spec import ModelSpec

MANY = 16
"images a core from which on the cores work apart"
BLANK = "blank image: all pixels are alike"
DEFAULT_BATCH = {"cpu": 4, "openvino": 8, "cuda": 64, "tensorrt": 64}


def say_nothing(line: str) -> None:
    """What a long run says by the way, unless its caller wants to hear it."""


class Named(Protocol):
    """An image that is to be answered, by the name that its prediction has."""

    @property
    def name(self) -> str: ...


class Predictor:
    """A model file, ready to answer: `Predictor("model.onnx").predict("xray.png")`.

    `provider` is auto, cpu, openvino, cuda or tensorrt, as of `kneeedge infer`; `threads` and
    `batch_size` are what suits it where they are None. Where `n_images` are many, each CPU core
    answers batches of its own: cores that share a batch wait for each other. With `answer_all` an
    image unlike the training images, or between the certified limits, is answered all the same; its
    status stays `abstain` or `refer`. For
    another DICOM window or a larger limit of pixels, replace its `read_options`.

    Raises NotFoundError where there is no such file, ModelFileError and SpecError where it is no
    model that kneeedge wrote, and ProviderError where the provider asked for cannot run it.

    Threads may share one. A process makes its own: it cannot be pickled; one that was idle at a
    fork answers in the child on the CPU, with one core, and not on a GPU. It holds memory alone,
    the GPU's too, which goes with it: there is nothing to close.
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

    @overload
    def predict(  # type: ignore[overload-overlap] # a str is also an iterable of str
        self, images: "ImageLike", heatmap: bool = False
    ) -> Prediction: ...
    @overload
    def predict(self, images: "Iterable[ImageLike]", heatmap: bool = False) -> list[Prediction]: ...
    def predict(
        self, images: "ImageLike | Iterable[ImageLike]", heatmap: bool = False
    ) -> Prediction | list[Prediction]:
        """The answer to one image, or a list of answers to several, in their order.

        An image is a path; a numpy array, upright, (H, W) or (H, W, 1) grey or (H, W, 3) RGB, uint8
        or uint16 with white at 65535; a Pillow image, turned upright by its EXIF; the bytes of an
        image file, DICOM too; or a file opened with "rb". Each is answered as a file of the same
        pixels is. What is decoded lacks what its file says besides: a palette has indices for
        levels; a JPEG is read straight to grey, at reduced scale where it is large; a DICOM image
        has a window and may be inverted; 12 bits end at 4095. Where there is a file, give it.

        With `heatmap` the predictions have one, where the model gives a class activation map.

        Several are any other iterable of these. They are answered in batches, decoded by threads
        ahead of them; the last digits may depend on the batch.

        Raises InputError for what is none of these. One image that cannot be read raises
        ImageError; among several it is a prediction with the status `error`. Raises
        OutOfMemoryError where memory does not suffice to run the network.
        """
        if is_several(images):
            return [prediction_of(answer, heatmap) for answer in self._answer_several(images)]
        source = take(images, self.read_options)
        loaded = load_source(source, self.read_options)
        runner = BatchRunner(self.session, say_nothing)
        (answer,) = self._answer_inputs(runner, [(source.name, loaded)])
        return prediction_of(answer, heatmap)

    def predict_folder(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str] | None = None,
        isolate: bool | None = None,
    ) -> list[Prediction]:
        """The answers to all images of a folder, as `kneeedge infer` gives them.

        `paths` is a folder, read recursively, an image, or several of both; the predictions are in
        the order of their names inside a folder, and named relative to it. An image that cannot be
        read is one with the status `error`. Several images are decoded in processes of their own,
        which may crash or hang at the cost of that image; `isolate` says otherwise.

        With `out` that CSV file is written as well, and appears once all are answered. A run that
        must outlive a kill, and heat maps of many images, are for `kneeedge infer`.

        Raises NotFoundError for a path that is not there, DataError where there are no images, and
        OutputExistsError where `out` is anything but a free name or an older table of answers.
        """
        check_output(Path(out) if out is not None else None, ROWS)
        given = [paths] if isinstance(paths, str | os.PathLike) else paths
        images = find_images([Path(path) for path in given]).images
        isolated = len(images) > 1 if isolate is None else isolate
        options = replace(self.read_options, isolated=isolated)
        answers = self._answer_files(images, options, StageClock(), say_nothing)
        predictions = (answer.prediction for answer in answers)
        return list(kept_in(Path(out), predictions, self.spec) if out is not None else predictions)

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
        yield from self._answer_files(images, self.read_options, clock or StageClock(), say)

    def answer_batch(
        self, runner: BatchRunner, batch: Sequence[tuple[Named, ReadFile]]
    ) -> list[PredictedImage]:
        """The answers to images that are read, in one run of the network; their order is kept.

        An unread one is an answer with its reason. Raises OutOfMemoryError where not even one fits.
        """
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

    def __repr__(self) -> str:
        spec = self.spec
        threshold = spec.threshold if len(spec.classes) == 2 else None
        precision = spec.file.precision if spec.file else None
        facts = f"positive={spec.positive!r}, {threshold=}, {precision=}"
        provider = self.session.provider
        size = spec.pixel_path.size
        path = str(self.session.path)
        return f"Predictor({path!r}, classes={spec.classes}, {facts}, {provider=}, {size=})"

    def __reduce__(self) -> NoReturn:
        remedy = "make one in each process, as in the initializer of a pool"
        raise SharingError("a Predictor", remedy)

    def _answer_several(self, images: Iterable[object]) -> Iterator[PredictedImage]:
        clock = StageClock()
        sources = take_all(images, self.read_options)
        read = partial(read_source, options=self.read_options)
        batches = load_batches(read, sources, self.batch_size, self.threads, clock)
        return self._answer_batches(batches, clock, say_nothing)

    def _answer_files(
        self,
        images: Iterable[FoundImage],
        options: ReadOptions,
        clock: StageClock,
        say: Callable[[str], None],
    ) -> Iterator[PredictedImage]:
        reader = open_reader(options)
        batches = read_batches(images, reader, self.batch_size, self.threads, clock)
        return self._answer_batches(batches, clock, say)

    def _answer_batches(
        self,
        batches: Generator[Sequence[tuple[Named, ReadFile]]],
        clock: StageClock,
        say: Callable[[str], None],
    ) -> Iterator[PredictedImage]:
        """The answers to batches of images, in their order; the batches are closed at the end."""
        runner = BatchRunner(self.session, say, self.lanes)
        with closing(batches):
            # One batch more than there are lanes, so that no lane waits while the caller writes.
            answer_batch = partial(self.answer_batch, runner)
            answered = in_order(answer_batch, batches, self.lanes, self.lanes + 1)
            suspects: list[tuple[str, int]] = []
            for answers in _timed(answered, clock):
                suspects += [
                    (a.prediction.path, a.depth_suspect) for a in answers if a.depth_suspect
                ]
                yield from answers
            if suspects:
                say(depth_warning(suspects))

    def _answer_inputs(
        self, runner: BatchRunner, inputs: list[tuple[str, Input]]
    ) -> list[PredictedImage]:
        """The answers to one or more images, each under its name."""
        images = np.stack([loaded.pixels for _, loaded in inputs])[:, None]
        outputs = runner.run(images)
        if not np.allclose(outputs.probabilities.sum(axis=1), 1.0, atol=1e-3):
            raise ModelFileError(self.session.path, "its probabilities do not sum to 1")
        decided = self.spec.decide(outputs.probabilities)
        inverted = self.spec.inverted(images)
        answers = []
        for i, (name, loaded) in enumerate(inputs):
            prediction = with_facts(self._predict(name, outputs, i, int(decided[i])), loaded)
            if inverted is not None:
                prediction = replace(prediction, inverted=bool(inverted[i]))
            cam = None
            if outputs.cam is not None and prediction.prediction is not None:
                cam = outputs.cam[i, decided[i]]
            answers.append(
                PredictedImage(
                    prediction,
                    loaded.pixels,
                    cam,
                    loaded.study,
                    depth_suspect=loaded.depth_suspect,
                    logits=outputs.logits[i],
                    shown=loaded.shown,
                    n_pixels=loaded.n_pixels,
                )
            )
        return answers

    def _predict(self, name: str, outputs: Outputs, i: int, decided: int) -> Prediction:
        """What `outputs` say of image `i`."""
        spec = self.spec
        distance = None if outputs.distance is None else float(outputs.distance[i])
        refusal = self._refusal(distance)
        if refusal and not self.answer_all:
            return Prediction(path=name, status=ABSTAIN, error=refusal, distance=distance)
        probabilities = outputs.probabilities[i].tolist()
        doubt = "" if refusal else referral(spec, probabilities[spec.positive_index])
        is_answered = self.answer_all or not doubt
        return Prediction(
            path=name,
            status=ABSTAIN if refusal else REFER if doubt else OK,
            prediction=spec.classes[decided] if is_answered else None,
            probability=probabilities[spec.positive_index],
            probabilities=dict(zip(spec.classes, probabilities, strict=True)),
            error=refusal or doubt,
            distance=distance,
        )

    def _refusal(self, distance: float | None) -> str:
        """Why the model abstains at this distance; empty where it answers."""
        novelty = self.spec.novelty
        if novelty is None or distance is None or distance <= novelty.limit:
            return ""
        return f"unlike the training images (distance {distance:.4g}, limit {novelty.limit:.4g})"


def referral(spec: "ModelSpec", probability: float) -> str:
    """Why a person is to answer at this probability of the positive class; empty: nobody need."""
    certified = spec.certified
    if certified is None or not certified.low <= probability < certified.high:
        return ""
    limits = f"{certified.low:.6g} to {certified.high:.6g}"
    return f"refer to a person (probability {probability:.4g}, between the limits {limits})"


def prediction_of(answer: PredictedImage, heatmap: bool) -> Prediction:
    """The prediction; with its heat map, where that is asked for and there is a map."""
    if not heatmap or answer.image is None or answer.cam is None:
        return answer.prediction
    picture = overlay(answer.as_read(answer.image), answer.cam)
    return replace(answer.prediction, heatmap=picture)


def with_facts(prediction: Prediction, loaded: Input) -> Prediction:
    """The prediction with what the file says of itself, and a warning where it shows nothing."""
    remarks = [prediction.error] if prediction.error else []
    if loaded.blank:
        remarks.append(BLANK)
    if loaded.depth_suspect:
        remarks.append(depth_remark(loaded.depth_suspect))
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
