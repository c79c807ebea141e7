"""The folder run: read ‖ run ‖ write, with the seconds of each stage."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from kneeedge.errors import ConfigError
from kneeedge.inference.heatmap import HeatmapWriter
from kneeedge.inference.journal import Journal, RunKey, names_sha256
from kneeedge.inference.predictions import (
    ABSTAIN,
    ERROR,
    OK,
    PredictedImage,
    Prediction,
    csv_columns,
    prediction_of_row,
    write_predictions,
)
from kneeedge.inference.predictor import Predictor
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.listing import Listing
from kneeedge.pixels.prefetch import DECODING, READING, RUNNING, StageClock
from kneeedge.system.progress import Progress
from kneeedge.version import __version__

if TYPE_CHECKING:
    from kneeedge.inference.structured_report import ReportWriter


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
        seconds = {"reading": self.reading, "running": self.running, "writing": self.writing}
        return max(seconds, key=lambda name: seconds[name])


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class FolderResult:
    """A folder run, with its predictions where they were asked for."""

    model: str
    model_sha256: str
    provider: str
    summary: FolderSummary
    others: tuple[str, ...]
    "files in the folders that are no images"
    predictions: tuple[Prediction, ...] = ()


@dataclass(frozen=True, kw_only=True)
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
    predictor: Predictor,
    listing: Listing,
    out: Path,
    progress: Progress,
    options: FolderOptions | None = None,
) -> FolderResult:
    """Answer every image of the listing and write `out`.

    Rows are written as they come, to a hidden file beside `out` that takes its name when the last
    row is in it. Raises BusyError where another run writes `out`, and ConfigError for heat maps of
    a model that has none; a KeyboardInterrupt leaves the rows for the next run.
    """
    spec = predictor.spec
    options = options or FolderOptions()
    if options.heatmaps and spec.architecture.head != "gap":
        raise ConfigError("this model's head gives no class activation map", "leave out --heatmaps")
    start = time.perf_counter()
    clock = StageClock()
    counts = AnswerCounts()
    key = run_key(predictor, listing, options.with_patient_id)
    reports = open_reports(options, spec, key)
    predictions: list[Prediction] = []
    with Journal(out, key, options.resume) as journal:
        say_kept_rows(journal, progress)
        images = listing.images[len(journal.kept) :]
        answers = predictor.predict_all(images, clock, progress)
        answers = with_side_files(answers, options, reports)
        answers = write_predictions(answers, len(listing.images), spec, journal, progress)
        earlier = (prediction_of_row(cells, spec) for cells in journal.kept)
        for prediction in chain(earlier, (answer.prediction for answer in answers)):
            counts.add(prediction)
            if options.keep:
                predictions.append(prediction)
    if reports:
        progress(reports.summary())
    seconds = time.perf_counter() - start
    return FolderResult(
        model=str(predictor.session.path),
        model_sha256=key.model_sha256,
        provider=key.provider,
        summary=folder_summary(counts, spec, stage_seconds(clock, seconds), seconds, out),
        others=tuple(map(str, listing.others)),
        predictions=tuple(predictions),
    )


def with_side_files(
    answers: Iterator[PredictedImage], options: FolderOptions, reports: "ReportWriter | None"
) -> Iterator[PredictedImage]:
    """The answers, with what the options ask for written or filled in on the way."""
    if options.with_patient_id:
        answers = map(with_patient, answers)
    if options.heatmaps:
        answers = draw_heatmaps(answers, options.heatmaps)
    if reports:
        answers = reports.pass_on(answers)
    return answers


def with_patient(answer: PredictedImage) -> PredictedImage:
    """The answer; to a DICOM image, with its patient's id."""
    facts = answer.prediction.dicom
    if facts is None or answer.study is None:
        return answer
    identified = replace(facts, patient_id=answer.study.patient.get("PatientID", ""))
    return replace(answer, prediction=replace(answer.prediction, dicom=identified))


def open_reports(options: FolderOptions, spec: ModelSpec, key: RunKey) -> "ReportWriter | None":
    """What writes the Structured Reports, where they are asked for."""
    if options.dicom_sr is None:
        return None
    from kneeedge.inference.structured_report import ReportWriter

    return ReportWriter(options.dicom_sr, spec, key.model_sha256, options.with_patient_id)


def run_key(predictor: Predictor, listing: Listing | None, with_patient_id: bool = False) -> RunKey:
    """What decides the rows of a run over these images; without a listing, of a watch."""
    names = [] if listing is None else [image.name for image in listing.images]
    return RunKey(
        version=__version__,
        model_sha256=predictor.session.file.sha256,
        provider=predictor.session.provider,
        threads=predictor.threads,
        batch_size=predictor.batch_size,
        answer_all=predictor.answer_all,
        dicom_window=predictor.read_options.pixel_path.dicom_window,
        max_pixels=predictor.read_options.max_pixels,
        with_patient_id=with_patient_id,
        columns=tuple(csv_columns(predictor.spec)),
        n=len(names),
        names_sha256=names_sha256(names),
    )


def say_kept_rows(journal: Journal, say: Callable[[str], None]) -> None:
    """Say what became of an interrupted run's rows, where there are any."""
    if journal.kept:
        say(f"going on behind {len(journal.kept):,} rows of the interrupted run")
    elif journal.n_dropped:
        dropped = f"{journal.n_dropped:,} rows of an interrupted run are dropped"
        say(f"starting anew; {dropped} (--resume would keep them)")


class AnswerCounts:
    """Counts of statuses, of grey scales, and of classes among the images answered."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.grey_scales: Counter[str] = Counter()

    def add(self, prediction: Prediction) -> None:
        self.statuses[prediction.status] += 1
        if prediction.dicom is not None and prediction.dicom.grey_scale:
            self.grey_scales[prediction.dicom.grey_scale] += 1
        if prediction.ok and prediction.prediction is not None:
            self.classes[prediction.prediction] += 1


def stage_seconds(clock: StageClock, seconds: float) -> StageSeconds:
    """The stages of a run of `seconds`; what was neither reading nor running is writing."""
    reading = clock.seconds[READING]
    running = clock.seconds[RUNNING]
    return StageSeconds(
        reading=round(reading, 3),
        running=round(running, 3),
        writing=round(max(0.0, seconds - reading - running), 3),
        decoding_cpu=round(clock.seconds[DECODING], 3),
    )


def folder_summary(
    counts: AnswerCounts, spec: ModelSpec, stages: StageSeconds, seconds: float, out: Path
) -> FolderSummary:
    n = counts.statuses.total()
    return FolderSummary(
        n=n,
        n_ok=counts.statuses[OK],
        n_abstained=counts.statuses[ABSTAIN],
        n_errors=counts.statuses[ERROR],
        counts={name: counts.classes[name] for name in spec.classes},
        grey_scales=dict(counts.grey_scales),
        seconds=round(seconds, 3),
        images_per_second=round(n / seconds, 2),
        stages=stages,
        limited_by=stages.limit(),
        out=str(out),
    )


def draw_heatmaps(answers: Iterator[PredictedImage], folder: Path) -> Iterator[PredictedImage]:
    """Pass the answers on while their class activation maps are written below `folder`."""
    with HeatmapWriter(folder) as writer:
        for answer in answers:
            if answer.image is not None and answer.cam is not None:
                writer.write(answer.prediction.path, answer.image, answer.cam)
            yield answer
