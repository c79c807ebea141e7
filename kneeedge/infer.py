"""Predictor, and the folder pipeline: reading, running and writing at the same time, rows in input order."""

import csv
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge import machine
from kneeedge.errors import ConfigError, ImageError, ModelFileError
from kneeedge.gpu import GpuOptions
from kneeedge.heatmap import HeatmapWriter
from kneeedge.images import FoundImage, Listing
from kneeedge.preprocess import load_input
from kneeedge.progress import Progress
from kneeedge.session import Outputs, Session
from kneeedge.spec import ModelSpec

OK, ABSTAIN, ERROR = "ok", "abstain", "error"
DEFAULT_BATCH = {"cpu": 4, "cuda": 64, "tensorrt": 64}


@dataclass(frozen=True)
class Prediction:
    """One image's answer, or the reason there is none.

    An image unlike the training images has the status `abstain` and no answer, unless all were to be answered.
    """

    path: str
    "as in predictions.csv: relative to the folder given"
    status: str
    "ok, abstain or error"
    prediction: str | None
    "the class, by the model's locked threshold; None for an error or where the model abstains"
    probability: float | None
    "of the positive class"
    probabilities: dict[str, float]
    "of each class; empty where there is no prediction"
    error: str = ""
    "why there is none, or why it is not to be trusted"
    distance: float | None = None
    "how far the image's features lie from those of the training images; None where the model does not say"

    @property
    def ok(self) -> bool:
        return self.status == OK


@dataclass(frozen=True)
class Answer:
    """A prediction with what a heat map needs."""

    prediction: Prediction
    image: NDArray[np.uint8] | None
    "(S, S), the network's input"
    cam: NDArray[np.float32] | None
    "(S/32, S/32), of the predicted class"


class Predictor:
    """A model file, ready to answer: `Predictor("model.onnx").predict("xray.png")`.

    With `answer_all` an image unlike the training images is answered all the same; its status stays `abstain`.
    """

    def __init__(
        self,
        model: Path | str,
        provider: str = "auto",
        threads: int | None = None,
        batch_size: int | None = None,
        answer_all: bool = False,
        gpu: GpuOptions | None = None,
    ) -> None:
        self.session = Session(model, provider, threads, gpu)
        self.spec: ModelSpec = self.session.spec
        self.batch_size = batch_size or DEFAULT_BATCH.get(self.session.provider, 8)
        self.answer_all = answer_all

    def predict(self, path: Path | str) -> Prediction:
        """The answer to one image file. Raises ImageError where it cannot be read."""
        image = load_input(Path(path), self.spec.pixel_path)
        (answer,) = self._run([image], [str(path)])
        return answer.prediction

    def predict_all(self, images: Sequence[FoundImage], n_readers: int | None = None) -> Iterator[Answer]:
        """Answers in the order of `images`; a file that cannot be read is an answer with its reason.

        Reader threads decode ahead while the network runs (Pillow and ONNX Runtime both release the interpreter
        lock); at most four batches are in memory.
        """
        readers = n_readers or max(2, machine.available_cpus())
        with ThreadPoolExecutor(readers) as pool:
            remaining = iter(images)
            waiting: deque[tuple[FoundImage, Future[NDArray[np.uint8] | ImageError]]] = deque()
            try:
                while True:
                    for image in islice(remaining, 4 * self.batch_size - len(waiting)):
                        waiting.append((image, pool.submit(self._read, image.path)))
                    if not waiting:
                        return
                    yield from self._answer_batch(
                        [waiting.popleft() for _ in range(min(self.batch_size, len(waiting)))]
                    )
            finally:
                pool.shutdown(cancel_futures=True)

    def _read(self, path: Path) -> NDArray[np.uint8] | ImageError:
        try:
            return load_input(path, self.spec.pixel_path)
        except ImageError as error:
            return error

    def _answer_batch(self, batch: list[tuple[FoundImage, Future[NDArray[np.uint8] | ImageError]]]) -> Iterator[Answer]:
        read = [(found, future.result()) for found, future in batch]
        pixels = [(found.name, image) for found, image in read if not isinstance(image, ImageError)]
        answers = iter(self._run([image for _, image in pixels], [name for name, _ in pixels]) if pixels else [])
        for found, image in read:
            if isinstance(image, ImageError):
                yield Answer(Prediction(found.name, ERROR, None, None, {}, image.reason), None, None)
            else:
                yield next(answers)

    def _run(self, images: list[NDArray[np.uint8]], names: list[str]) -> list[Answer]:
        outputs = self.session.run(np.stack(images)[:, None])
        if not np.allclose(outputs.probabilities.sum(axis=1), 1.0, atol=1e-3):
            raise ModelFileError(self.session.path, "its probabilities do not sum to 1")
        decided = self.spec.decide(outputs.probabilities)
        answers = []
        for i, name in enumerate(names):
            prediction = self._predict(name, outputs, i, int(decided[i]))
            maps = None if prediction.prediction is None else outputs.cam
            answers.append(Answer(prediction, images[i], None if maps is None else maps[i, decided[i]]))
        return answers

    def _predict(self, name: str, outputs: Outputs, i: int, decided: int) -> Prediction:
        """What `outputs` say of image `i`."""
        spec, probabilities = self.spec, outputs.probabilities[i]
        distance = None if outputs.distance is None else float(outputs.distance[i])
        reason = self._refusal(distance)
        if reason and not self.answer_all:
            return Prediction(name, ABSTAIN, None, None, {}, reason, distance)
        by_class = dict(zip(spec.classes, map(float, probabilities), strict=True))
        status, positive = ABSTAIN if reason else OK, float(probabilities[spec.positive_index])
        return Prediction(name, status, spec.classes[decided], positive, by_class, reason, distance)

    def _refusal(self, distance: float | None) -> str:
        """Why the model abstains at this distance; empty where it answers."""
        novelty = self.spec.novelty
        if novelty is None or distance is None or distance <= novelty.limit:
            return ""
        return f"unlike the training images (distance {distance:.4g}, limit {novelty.limit:.4g})"


@dataclass(frozen=True)
class FolderSummary:
    """What a folder run came to."""

    n: int
    n_ok: int
    "images answered"
    n_abstained: int
    "images unlike the training images"
    n_errors: int
    counts: dict[str, int]
    "images answered to be of each class; those of `n_abstained` are not among them"
    seconds: float
    "from the first file to the last row"
    images_per_second: float
    out: str


@dataclass(frozen=True)
class FolderResult:
    """A folder run, with its predictions where they were asked for."""

    model: str
    provider: str
    summary: FolderSummary
    others: tuple[str, ...]
    "files in the folders that are no images"
    predictions: tuple[Prediction, ...] = ()


def infer_folder(
    predictor: Predictor, listing: Listing, out: Path, progress: Progress, heatmaps: Path | None = None,
    keep: bool = False,
) -> FolderResult:  # fmt: skip
    """Answer every image of the listing and write `out`; with `heatmaps`, a picture of each answer as well.

    Rows are written as they come, to a hidden file beside `out` that takes its name when the last row is in it.
    """
    spec = predictor.spec
    if heatmaps and spec.architecture.head != "gap":
        raise ConfigError("this model's head gives no class activation map", "leave out --heatmaps")
    start = time.perf_counter()
    statuses: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    kept = []
    answers = predictor.predict_all(listing.images)
    if heatmaps:
        answers = draw_heatmaps(answers, heatmaps)
    for answer in write_predictions(answers, len(listing.images), spec, out, progress):
        prediction = answer.prediction
        statuses[prediction.status] += 1
        if prediction.ok and prediction.prediction is not None:
            counts[prediction.prediction] += 1
        if keep:
            kept.append(prediction)
    n, seconds = len(listing.images), time.perf_counter() - start
    summary = FolderSummary(
        n, statuses[OK], statuses[ABSTAIN], statuses[ERROR], {name: counts[name] for name in spec.classes},
        round(seconds, 3), round(n / seconds, 2), str(out),
    )  # fmt: skip
    others = tuple(map(str, listing.others))
    return FolderResult(str(predictor.session.path), predictor.session.provider, summary, others, tuple(kept))


def draw_heatmaps(answers: Iterator[Answer], folder: Path) -> Iterator[Answer]:
    """Pass the answers on while their class activation maps are written below `folder`."""
    with HeatmapWriter(folder) as writer:
        for answer in answers:
            if answer.image is not None and answer.cam is not None:
                writer.write(answer.prediction.path, answer.image, answer.cam)
            yield answer


def columns(spec: ModelSpec) -> list[str]:
    """The header of `predictions.csv`."""
    return ["path", "status", "prediction", "probability", *(f"p_{name}" for name in spec.classes), "distance", "error"]


def row(prediction: Prediction, spec: ModelSpec) -> list[str]:
    """One row of `predictions.csv`; probabilities with six digits, the distance with four."""
    numbers = [prediction.probabilities.get(name) for name in spec.classes]
    return [
        prediction.path,
        prediction.status,
        prediction.prediction or "",
        *("" if value is None else f"{value:.6f}" for value in (prediction.probability, *numbers)),
        "" if prediction.distance is None else f"{prediction.distance:.4f}",
        prediction.error,
    ]


def write_predictions(
    answers: Iterator[Answer], n: int, spec: ModelSpec, out: Path, progress: Progress
) -> Iterator[Answer]:
    """Pass the answers on while their rows are written; `out` takes its name only when the last row is in it."""
    part = out.with_name(f".{out.name}.part")
    with (
        part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        progress.stage("infer", n) as stage,
    ):
        writer = csv.writer(file)
        writer.writerow(columns(spec))
        for answer in answers:
            writer.writerow(row(answer.prediction, spec))
            file.flush()
            stage.advance()
            yield answer
    part.replace(out)
