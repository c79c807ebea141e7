"""The folder run: read ‖ run ‖ write, by whole batches that outlive a stop."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from kneeedge.inference.drift_log import DriftLog, DriftOptions, open_drift
from kneeedge.inference.journal import Batch, Journal, KeptBatch, RunKey
from kneeedge.inference.output import publish
from kneeedge.inference.predictions import (
    PredictedImage,
    Prediction,
    csv_columns,
    csv_row,
    prediction_of_row,
)
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.side_files import SideFiles, SideOptions
from kneeedge.inference.summary import (
    AnswerCounts,
    FolderResult,
    FolderSummary,
    folder_summary,
    stage_seconds,
)
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.listing import FoundImage, Listing
from kneeedge.pixels.prefetch import StageClock
from kneeedge.system.outputs import STDOUT
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress
from kneeedge.system.spreadsheet import csv_line, no_formula
from kneeedge.system.stamps import FileStamp, still_is
from kneeedge.system.threads import in_threads
from kneeedge.version import __version__

Image = TypeVar("Image", bound=FoundImage)


@dataclass(frozen=True, kw_only=True)
class FolderOptions(SideOptions):
    """What a folder run does beside answering."""

    drift: DriftOptions | None = None
    "compare the images with what came before; None: not"

    keep: bool = False
    "give the predictions back as well"
    resume: bool = False
    "let the rows of an interrupted run stand, and answer what is missing or has changed"


def infer_folder(
    predictor: Predictor,
    listing: Listing,
    out: Path,
    progress: Progress,
    options: FolderOptions | None = None,
) -> FolderResult:
    """Answer every image of the listing and write `out`, a CSV file, or `-` for stdout.

    Rows go to a journal beside `out` as they come, each after what belongs to it (heat map,
    Structured Report) is written; `out` takes its name when the last row is known. Raises BusyError
    where another run writes `out`, and ConfigError for heat maps of a model that has none; a
    KeyboardInterrupt leaves the rows for the next run.
    """
    options = options or FolderOptions()
    start = time.perf_counter()
    run = FolderRun(predictor, progress, options)
    try:
        if out == STDOUT:
            run.write_to_stdout(listing.images)
        else:
            run.write(listing.images, out)
    finally:
        run.close()
    run.beside.say_what_was_written(progress)
    seconds = time.perf_counter() - start
    stages = stage_seconds(run.clock, seconds)
    summary = folder_summary(run.counts, predictor.spec, stages, seconds, out)
    kept = [run.predictions[image.name] for image in listing.images] if options.keep else []
    return folder_result(predictor, summary, listing, kept, run.drift)


def folder_result(
    predictor: Predictor,
    summary: FolderSummary,
    listing: Listing,
    predictions: Sequence[Prediction] = (),
    drift: DriftLog | None = None,
) -> FolderResult:
    """What is told of a run over the listing."""
    return FolderResult(
        model=str(predictor.session.path),
        model_sha256=predictor.session.file.sha256,
        provider=predictor.session.provider,
        summary=summary,
        others=tuple(map(str, listing.others)),
        remarks=tuple(listing.remarks()),
        predictions=tuple(predictions),
        drift=drift.status() if drift else None,
    )


class FolderRun:
    """One run over images, and what it has counted so far."""

    def __init__(self, predictor: Predictor, progress: Progress, options: FolderOptions) -> None:
        self.predictor = predictor
        self.progress = progress
        self.options = options
        self.beside = SideFiles(options, predictor.spec, predictor.session.file.sha256)
        self.clock = StageClock()
        self.counts = AnswerCounts()
        self.predictions: dict[str, Prediction] = {}
        "by path, where they are to be kept"
        self.drift = open_drift(options.drift, predictor, progress)

    def close(self) -> None:
        """Let another run have the history of drift."""
        if self.drift:
            self.drift.close()

    def write(self, images: Sequence[FoundImage], out: Path) -> None:
        """Answer what no earlier run has answered, and put the output in place."""
        size = self.predictor.batch_size
        batches = [images[i : i + size] for i in range(0, len(images), size)]
        with Journal(out, run_key(self.predictor, self.options), self.options.resume) as journal:
            kept = kept_batches(batches, journal, self.progress)
            for batch in kept.values():
                self._take(prediction_of_row(row, self.spec) for row in journal.rows(batch))
            missing = [image for batch in batches if names(batch) not in kept for image in batch]
            with self.progress.stage("infer", len(images)) as stage:
                stage.advance(len(images) - len(missing))
                answered = commit(self._answers(missing), size, journal, self.spec, self.drift)
                for batch, answers in answered:
                    kept[batch.paths] = batch
                    self._take(answer.prediction for answer in answers)
                    stage.advance(len(answers))
            if self.drift:
                self.drift.count_batches((kept[names(batch)] for batch in batches), journal)
            publish(out, rows_in_order(batches, kept, journal), journal)
        if self.drift:
            self.drift.tell()

    def write_to_stdout(self, images: Sequence[FoundImage]) -> None:
        """Write each row as soon as it is known; nothing is kept of a run that is stopped."""
        write_line(csv_columns(self.spec))
        compared = []
        with self.progress.stage("infer", len(images)) as stage:
            for answer in self._answers(images):
                write_line(csv_row(answer.prediction, self.spec))
                self._take([answer.prediction])
                if self.drift:
                    compared += self.drift.compared(answer)
                stage.advance()
        if self.drift:
            self.drift.count(compared)
            self.drift.save()
            self.drift.tell()

    @property
    def spec(self) -> ModelSpec:
        return self.predictor.spec

    def _answers(self, images: Iterable[FoundImage]) -> Iterator[PredictedImage]:
        answers = self.predictor.predict_all(images, self.clock, self.progress)
        return self.beside.written(answers)

    def _take(self, predictions: Iterable[Prediction]) -> None:
        for prediction in predictions:
            self.counts.add(prediction)
            if self.options.keep:
                self.predictions[prediction.path] = prediction


def run_key(predictor: Predictor, options: SideOptions) -> RunKey:
    """What decides the rows of a run, beside the images."""
    return RunKey(
        version=__version__,
        model_sha256=predictor.session.file.sha256,
        provider=predictor.session.provider,
        threads=predictor.threads,
        batch_size=predictor.batch_size,
        answer_all=predictor.answer_all,
        dicom_window=predictor.read_options.pixel_path.dicom_window,
        grey_bits=predictor.read_options.pixel_path.grey_bits,
        max_pixels=predictor.read_options.max_pixels,
        with_patient_id=options.with_patient_id,
        heatmaps=_folder(options.heatmaps),
        dicom_sr=_folder(options.dicom_sr),
        columns=tuple(csv_columns(predictor.spec)),
        captures=_folder(options.captures),
    )


def _folder(path: Path | None) -> str:
    return "" if path is None else str(path.resolve())


def names(batch: Iterable[FoundImage]) -> tuple[str, ...]:
    """The first cells of the rows of these images."""
    return tuple(no_formula(image.name) for image in batch)


def commit(
    answers: Iterator[PredictedImage],
    size: int,
    journal: Journal,
    spec: ModelSpec,
    drift: DriftLog | None = None,
) -> Iterator[tuple[KeptBatch, list[PredictedImage]]]:
    """The answers, by batches of `size` as they come, each once the journal has it.

    With a watch for drift the journal has what that compares of them as well.
    """
    while batch := list(islice(answers, size)):
        rows = tuple(tuple(csv_row(answer.prediction, spec)) for answer in batch)
        stamps = tuple(answer.stamp for answer in batch)
        figures = tuple(map(drift.measure, batch)) if drift else ()
        yield journal.append(Batch(rows, stamps, figures)), batch


def rows_in_order(
    batches: Iterable[Sequence[FoundImage]],
    kept: Mapping[tuple[str, ...], KeptBatch],
    journal: Journal,
) -> Iterator[list[str]]:
    """The rows of all batches, in the order of these."""
    for batch in batches:
        yield from journal.rows(kept[names(batch)])


def is_as_answered(image_and_stamp: tuple[FoundImage, FileStamp | None]) -> bool:
    """Whether the file has the bytes that were answered."""
    image, stamp = image_and_stamp
    return stamp is not None and still_is(stamp, image.path)


def kept_batches(
    batches: Sequence[Sequence[Image]],
    journal: Journal,
    progress: Progress,
    is_same: Callable[[tuple[Image, FileStamp | None]], bool] = is_as_answered,
) -> dict[tuple[str, ...], KeptBatch]:
    """The batches in the journal that are of these images, as they are now, by their paths.

    `is_same` tells of an image whether it is what had the stamp.
    """
    say_what_is_found(journal, progress)
    by_paths = {batch.paths: batch for batch in journal.found.batches}
    known = [batch for batch in batches if names(batch) in by_paths]
    images = [image for batch in known for image in batch]
    stamps = [stamp for batch in known for stamp in by_paths[names(batch)].stamps]
    checks = in_threads(is_same, list(zip(images, stamps, strict=True)), "check", progress)
    changed = {image.name for image, same in zip(images, checks, strict=True) if not same}
    kept = {
        names(batch): by_paths[names(batch)]
        for batch in known
        if not any(image.name in changed for image in batch)
    }
    if changed:
        problem = (
            f"changed, or could not be read: {counted(len(changed), 'file')}, as {min(changed)}"
        )
        progress(f"{problem}; answered anew")
    if by_paths:
        n_rows = sum(map(len, kept))
        progress(f"going on behind {counted(n_rows, 'row')} of the run before")
    return kept


def say_what_is_found(journal: Journal, say: Callable[[str], None]) -> None:
    """Say what an earlier run left, where that is not simply gone on with."""
    if journal.n_dropped:
        dropped = counted(journal.n_dropped, "row")
        say(f"starting anew, without {dropped} of an interrupted run (--resume would keep them)")
    if journal.found.n_damaged:
        damaged = f"{journal.found.n_damaged:,} records of {journal.path} were edited or taken out"
        say(f"{damaged}: what they answered is answered anew")


def write_line(row: Sequence[str]) -> None:
    """One row of CSV to stdout, at once."""
    sys.stdout.buffer.write(csv_line(row))
    sys.stdout.buffer.flush()
