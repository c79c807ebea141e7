"""The folder run: read ‖ run ‖ write, with the seconds of each stage."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
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
    columns,
    of_row,
    write_predictions,
)
from kneeedge.inference.predictor import Predictor
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.dicom import patient_id
from kneeedge.pixels.listing import FoundImage, Listing
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
        return max(("reading", "running", "writing"), key=lambda name: float(getattr(self, name)))


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
    """PredictedImage every image of the listing and write `out`.

    Rows are written as they come, to a hidden file beside `out` that takes its name when the last
    row is in it. Raises BusyError where another run writes `out`; a KeyboardInterrupt leaves the
    rows for the next.
    """
    spec = predictor.spec
    options = options or FolderOptions()
    if options.heatmaps and spec.architecture.head != "gap":
        raise ConfigError("this model's head gives no class activation map", "leave out --heatmaps")
    start = time.perf_counter()
    clock = StageClock()
    tally = Tally()
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
    summary = folder_summary(tally, spec, stage_seconds(clock, seconds), seconds, out)
    others = tuple(map(str, listing.others))
    predictions = tuple(kept) if options.keep else ()
    path = str(predictor.session.path)
    return FolderResult(
        model=path,
        model_sha256=key.model_sha256,
        provider=key.provider,
        summary=summary,
        others=others,
        predictions=predictions,
    )


def name_patients(
    answers: Iterator[PredictedImage], images: Iterable[FoundImage]
) -> Iterator[PredictedImage]:
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
    from kneeedge.inference.structured_report import ReportWriter

    return ReportWriter(options.dicom_sr, spec, key.model_sha256, options.with_patient_id)


def run_key(predictor: Predictor, listing: Listing | None, with_patient_id: bool = False) -> RunKey:
    """What decides the rows of a run over these images, or of one to which images come."""
    names = [image.name for image in listing.images] if listing else []
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
        columns=tuple(columns(predictor.spec)),
        n=len(names),
        names_sha256=names_sha256(names),
    )


def say_what_stands(journal: Journal, say: Callable[[str], None]) -> None:
    """What became of an interrupted run's rows."""
    if journal.kept:
        say(f"going on behind {len(journal.kept):,} rows of the interrupted run")
    elif journal.n_dropped:
        say(
            f"starting anew; {journal.n_dropped:,} rows of an interrupted run are dropped (--resume would keep them)"
        )


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


def folder_summary(
    tally: Tally, spec: ModelSpec, stages: StageSeconds, seconds: float, out: Path
) -> FolderSummary:
    """What the run came to."""
    found = tally.statuses
    n = tally.statuses.total()
    counts = {name: tally.classes[name] for name in spec.classes}
    return FolderSummary(
        n=n,
        n_ok=found[OK],
        n_abstained=found[ABSTAIN],
        n_errors=found[ERROR],
        counts=counts,
        grey_scales=dict(tally.grey_scales),
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
