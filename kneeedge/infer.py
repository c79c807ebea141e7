"""Predictor, and the streaming folder pipeline: read ‖ run ‖ write, with the seconds of each stage."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kneeedge import __version__, machine
from kneeedge.dicom import patient_id
from kneeedge.errors import ConfigError, ImageError, ModelFileError
from kneeedge.gpu import GpuOptions
from kneeedge.heatmap import HeatmapWriter
from kneeedge.images import FoundImage, Listing
from kneeedge.journal import Journal, RunKey, names_sha256
from kneeedge.memory import BatchRunner
from kneeedge.model_file import ModelFile
from kneeedge.predictions import ABSTAIN, ERROR, OK, Answer, Prediction, columns, of_row, write_predictions
from kneeedge.preprocess import Input, load_with_facts
from kneeedge.progress import Progress
from kneeedge.reading import DECODING, READING, RUNNING, Reading, StageClock, in_order, open_reader, read_batches
from kneeedge.session import Outputs, Session
from kneeedge.spec import ModelSpec

if TYPE_CHECKING:
    from kneeedge.dicom_report import ReportWriter

MANY = 16
"images a core from which on the cores work apart"
BLANK = "blank image: all pixels are alike"
DEFAULT_BATCH = {"cpu": 4, "openvino": 8, "cuda": 64, "tensorrt": 64}


def say_nothing(line: str) -> None:
    """What a long run says by the way, unless its caller wants to hear it."""


class Predictor:
    """A model file, ready to answer: `Predictor("model.onnx").predict("xray.png")`.

    Where `n_images` are many, each CPU core answers batches of its own: cores that share a batch wait for each other.
    With `answer_all` an image unlike the training images is answered all the same; its status stays `abstain`.
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
        self.reading = Reading(self.spec.pixel_path)
        "by the model's own pixel path; another DICOM window and other limits may be asked for"
        self.batch_size = batch_size or DEFAULT_BATCH.get(self.session.provider, 8)
        self.lanes = self.session.gpu.lanes if self.session.runner else self.threads if apart else 1
        self.answer_all = answer_all

    def predict(self, path: Path | str) -> Prediction:
        """The answer to one image file. Raises ImageError where it cannot be read, OutOfMemoryError where not run."""
        found = load_with_facts(Path(path), self.reading.pixel_path, self.reading.max_pixels)
        outputs = BatchRunner(self.session, say_nothing).run(found.pixels[None, None])
        (answer,) = self._answer(outputs, [found], [str(path)])
        return answer.prediction

    def predict_all(
        self, images: Iterable[FoundImage], clock: StageClock | None = None, say: Callable[[str], None] = say_nothing
    ) -> Iterator[Answer]:
        """Answers in the order of `images`; a file that cannot be read is an answer with its reason.

        As many threads as the network may use decode ahead of it. Batches shrink where memory does not suffice, which
        goes to `say`; `clock` gets the seconds of each stage. Raises OutOfMemoryError where not even one image fits.
        """
        clock, runner = clock or StageClock(), BatchRunner(self.session, say, self.lanes)
        reader = open_reader(self.reading)
        with closing(read_batches(images, reader, self.batch_size, self.threads, clock)) as batches:
            # One batch more than there are lanes, so that no lane waits while the caller writes.
            answered = in_order(lambda batch: self._answer_batch(batch, runner), batches, self.lanes, self.lanes + 1)
            while (answers := self._wait(answered, clock)) is not None:
                yield from answers

    def _wait(self, answered: Iterator[list[Answer]], clock: StageClock) -> list[Answer] | None:
        """The next answers; the time until then is the network's, but for that in which it lacked images."""
        read, start = clock.seconds[READING], time.perf_counter()
        answers = next(answered, None)
        clock.seconds[RUNNING] += time.perf_counter() - start - (clock.seconds[READING] - read)
        return answers

    def _answer_batch(self, batch: list[tuple[FoundImage, Input | ImageError]], runner: BatchRunner) -> list[Answer]:
        good = [(image.name, read) for image, read in batch if not isinstance(read, ImageError)]
        answers: Iterator[Answer] = iter(())
        if good:
            names, inputs = [name for name, _ in good], [read for _, read in good]
            pixels = np.stack([read.pixels for read in inputs])[:, None]
            answers = iter(self._answer(runner.run(pixels), inputs, names))
        return [
            Answer(Prediction(image.name, ERROR, None, None, {}, read.reason), None, None)
            if isinstance(read, ImageError)
            else next(answers)
            for image, read in batch
        ]

    def _answer(self, outputs: Outputs, inputs: list[Input], names: list[str]) -> list[Answer]:
        if not np.allclose(outputs.probabilities.sum(axis=1), 1.0, atol=1e-3):
            raise ModelFileError(self.session.path, "its probabilities do not sum to 1")
        decided = self.spec.decide(outputs.probabilities)
        answers = []
        for i, name in enumerate(names):
            prediction = with_facts(self._predict(name, outputs, i, int(decided[i])), inputs[i])
            maps = None if prediction.prediction is None else outputs.cam
            answers.append(Answer(prediction, inputs[i].pixels, None if maps is None else maps[i, decided[i]]))
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


def with_facts(prediction: Prediction, read: Input) -> Prediction:
    """The same with what the file says of itself, and a warning where it shows nothing."""
    remarks = filter(None, (prediction.error, BLANK if read.blank else ""))
    return replace(prediction, dicom=read.dicom, error="; ".join(remarks))


@dataclass(frozen=True)
class StageSeconds:
    """Where the time of a folder run went; the first three add up to it."""

    reading: float
    "the network waited for images that were not decoded yet"
    running: float
    "in the network; that images are decoded at the same time slows it where they share cores"
    writing: float
    "rows, progress, and heat maps that were not written yet"
    decoding_cpu: float
    "processor time of the readers, over all threads"

    def limit(self) -> str:
        """The name of the stage that took most of the time."""
        return max(("reading", "running", "writing"), key=lambda name: float(getattr(self, name)))


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
    grey_scales: dict[str, int]
    "DICOM images by how their grey levels were made"
    seconds: float
    "from the first file to the last row"
    images_per_second: float
    stages: StageSeconds
    limited_by: str
    "the stage that took most of the time: reading, running or writing"
    out: str


@dataclass(frozen=True)
class FolderResult:
    """A folder run, with its predictions where they were asked for."""

    model: str
    model_sha256: str
    provider: str
    summary: FolderSummary
    others: tuple[str, ...]
    "files in the folders that are no images"
    predictions: tuple[Prediction, ...] = ()


@dataclass(frozen=True)
class FolderOptions:
    """What a folder run does beside answering."""

    heatmaps: Path | None = None
    "a folder for a picture of each answer"
    dicom_sr: Path | None = None
    "a folder for a Structured Report of each DICOM image"
    with_patient_id: bool = False
    "let the rows of DICOM images, and the reports, say who the patient is"
    keep: bool = False
    "give the predictions back as well"
    resume: bool = False
    "let the rows of an interrupted run stand, and answer what is missing"


def infer_folder(
    predictor: Predictor, listing: Listing, out: Path, progress: Progress, options: FolderOptions | None = None
) -> FolderResult:
    """Answer every image of the listing and write `out`.

    Rows are written as they come, to a hidden file beside `out` that takes its name when the last row is in it. Raises
    BusyError where another run writes `out`; a KeyboardInterrupt leaves the rows for the next.
    """
    spec, options = predictor.spec, options or FolderOptions()
    if options.heatmaps and spec.architecture.head != "gap":
        raise ConfigError("this model's head gives no class activation map", "leave out --heatmaps")
    start, clock, tally = time.perf_counter(), StageClock(), Tally()
    key = run_key(predictor, listing, options.with_patient_id)
    reports = open_reports(options, spec, key)
    with Journal(out, key, options.resume) as journal:
        say_what_stands(journal, progress)
        kept = [tally.add(of_row(cells, spec)) for cells in journal.kept]
        images = listing.images[len(kept) :]
        answers = predictor.predict_all(images, clock, progress)
        if options.with_patient_id:
            answers = name_patients(answers, images)
        if options.heatmaps:
            answers = draw_heatmaps(answers, options.heatmaps)
        if reports:
            answers = reports.pass_on(answers, images)
        for answer in write_predictions(answers, len(listing.images), spec, journal, progress):
            tally.add(answer.prediction)
            if options.keep:
                kept.append(answer.prediction)
    if reports:
        progress(reports.summary())
    seconds = time.perf_counter() - start
    summary = summarise(tally, spec, stage_seconds(clock, seconds), seconds, out)
    others, predictions = tuple(map(str, listing.others)), tuple(kept) if options.keep else ()
    path = str(predictor.session.path)
    return FolderResult(path, key.model_sha256, key.provider, summary, others, predictions)


def name_patients(answers: Iterator[Answer], images: Iterable[FoundImage]) -> Iterator[Answer]:
    """The answers to `images`, those to DICOM images with their patient's id."""
    for answer, image in zip(answers, images, strict=True):
        facts = answer.prediction.dicom
        if facts is not None:
            named = replace(facts, patient_id=patient_id(image.path))
            answer = replace(answer, prediction=replace(answer.prediction, dicom=named))  # noqa: PLW2901
        yield answer


def open_reports(options: FolderOptions, spec: ModelSpec, key: RunKey) -> "ReportWriter | None":
    """What writes the Structured Reports, where they are asked for."""
    if options.dicom_sr is None:
        return None
    from kneeedge.dicom_report import ReportWriter

    return ReportWriter(options.dicom_sr, spec, key.model_sha256, options.with_patient_id)


def run_key(predictor: Predictor, listing: Listing | None, with_patient_id: bool = False) -> RunKey:
    """What decides the rows of a run over these images, or of one to which images come."""
    names = [image.name for image in listing.images] if listing else []
    return RunKey(
        version=__version__, model_sha256=predictor.session.file.sha256, provider=predictor.session.provider,
        threads=predictor.threads, batch_size=predictor.batch_size, answer_all=predictor.answer_all,
        dicom_window=predictor.reading.pixel_path.dicom_window, max_pixels=predictor.reading.max_pixels,
        with_patient_id=with_patient_id,
        columns=tuple(columns(predictor.spec)), n=len(names), names_sha256=names_sha256(names),
    )  # fmt: skip


def say_what_stands(journal: Journal, say: Callable[[str], None]) -> None:
    """What became of an interrupted run's rows."""
    if journal.kept:
        say(f"going on behind {len(journal.kept):,} rows of the interrupted run")
    elif journal.n_dropped:
        say(f"starting anew; {journal.n_dropped:,} rows of an interrupted run are dropped (--resume would keep them)")


class Tally:
    """Counts of statuses, and of classes among the images answered."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.grey_scales: Counter[str] = Counter()

    def add(self, prediction: Prediction) -> Prediction:
        """Count a prediction, and give it back."""
        self.statuses[prediction.status] += 1
        if prediction.dicom is not None and prediction.dicom.grey_scale:
            self.grey_scales[prediction.dicom.grey_scale] += 1
        if prediction.ok and prediction.prediction is not None:
            self.classes[prediction.prediction] += 1
        return prediction


def stage_seconds(clock: StageClock, seconds: float) -> StageSeconds:
    """The stages of a run of `seconds`; what was neither reading nor running is writing."""
    reading, running, decoding = (clock.seconds[stage] for stage in (READING, RUNNING, DECODING))
    writing = max(0.0, seconds - reading - running)
    return StageSeconds(*(round(value, 3) for value in (reading, running, writing, decoding)))


def summarise(tally: Tally, spec: ModelSpec, stages: StageSeconds, seconds: float, out: Path) -> FolderSummary:
    """What the run came to."""
    found, n = tally.statuses, tally.statuses.total()
    counts = {name: tally.classes[name] for name in spec.classes}
    return FolderSummary(
        n, found[OK], found[ABSTAIN], found[ERROR], counts, dict(tally.grey_scales), round(seconds, 3),
        round(n / seconds, 2), stages, stages.limit(), str(out),
    )  # fmt: skip


def draw_heatmaps(answers: Iterator[Answer], folder: Path) -> Iterator[Answer]:
    """Pass the answers on while their class activation maps are written below `folder`."""
    with HeatmapWriter(folder) as writer:
        for answer in answers:
            if answer.image is not None and answer.cam is not None:
                writer.write(answer.prediction.path, answer.image, answer.cam)
            yield answer
