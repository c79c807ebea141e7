"""What belongs to an answer beside its row, written before the row is: heat map and report."""

import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kneeedge.errors import ConfigError
from kneeedge.inference.heatmap import WHOLE, heatmap_lines, heatmap_path, write_heatmap
from kneeedge.inference.predictions import PredictedImage
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.pixel_path import picture_box
from kneeedge.system.threads import in_order

if TYPE_CHECKING:
    from kneeedge.inference.secondary_capture import CaptureWriter
    from kneeedge.inference.structured_report import ReportWriter

N_AHEAD = 16
"answers that wait for their heat maps or reports, while the network goes on"
N_WRITERS = 4
"threads that write; they mostly wait for the disk, which forces several files out at once"
N_LOCKS = 64
"among which the paths of heat maps are shared out"
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR)
"what a file system says of one name; all other errors are of the disk, and end the run"
REPORT_ERRORS = (ValueError, TypeError, AttributeError, LookupError, OverflowError)
"what pydicom and highdicom raise for an element that may not hold what it holds"


@dataclass(frozen=True, kw_only=True)
class SideOptions:
    """What is written beside the rows, and what is said of patients."""

    heatmaps: Path | None = None
    "a folder for a picture of each answer"
    dicom_sr: Path | None = None
    "a folder for a Structured Report of each DICOM image"
    captures: Path | None = None
    "a folder for a Secondary Capture of each DICOM image's class activation map"
    with_patient_id: bool = False
    "let the rows of DICOM images, and the reports, say who the patient is"


class SideFiles:
    """Writes the heat maps and Structured Reports of answers, on threads of its own.

    Raises ConfigError for heat maps of a model that has none, and MissingExtraError for reports
    without highdicom.
    """

    def __init__(self, options: SideOptions, spec: ModelSpec, model_sha256: str) -> None:
        if (options.heatmaps or options.captures) and spec.architecture.head != "gap":
            problem = "this model's head gives no class activation map"
            raise ConfigError(problem, "leave out --heatmaps")
        self.options = options
        self.spec = spec
        self.reports = open_reports(options, spec, model_sha256)
        self.captures = open_captures(options, spec, model_sha256)
        # Two names may have one map, as `../a.png` and `_/a.png`: it is written by one at a time.
        self._map_locks = tuple(threading.Lock() for _ in range(N_LOCKS))
        self._dicom_lock = threading.Lock()

    def written(self, answers: Iterator[PredictedImage]) -> Iterator[PredictedImage]:
        """The answers in order, each once what belongs to it is on the disk.

        An answer whose file cannot be written because of its name or its elements says so in its
        row.
        """
        if self.options.with_patient_id:
            answers = map(with_patient, answers)
        if not (self.options.heatmaps or self.reports or self.captures):
            return answers
        return in_order(self._write, answers, N_WRITERS, N_AHEAD)

    def say_what_was_written(self, say: Callable[[str], None]) -> None:
        """Say how many reports there are, and why not more, where they were asked for."""
        if self.reports:
            say(self.reports.summary())

    def _write(self, answer: PredictedImage) -> PredictedImage:
        remarks = [self._draw(answer)]
        with self._dicom_lock:  # highdicom does not say what threads may share
            remarks += [self._report(answer), self._capture(answer)]
        for remark in filter(None, remarks):
            answer = with_remark(answer, remark)
        return answer

    def _draw(self, answer: PredictedImage) -> str:
        """Write the heat map of an answer that has one; why that cannot be, else nothing."""
        folder = self.options.heatmaps
        if folder is None or answer.image is None or answer.cam is None:
            return ""
        name = answer.prediction.path
        lines = heatmap_lines(answer.prediction, self.spec)
        shown = answer.as_read(answer.image if answer.shown is None else answer.shown)
        box = WHOLE
        if answer.shown is not None:
            box = picture_box(shown.shape, self.spec.pixel_path)
        try:
            with self._map_locks[hash(heatmap_path(folder, name)) % N_LOCKS]:
                write_heatmap(folder, name, shown, answer.cam, lines, box)
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            return f"no heat map: {error.strerror}"
        return ""

    def _report(self, answer: PredictedImage) -> str:
        """Write the report of a DICOM image; why that cannot be, else nothing."""
        if self.reports is None or answer.study is None:
            return ""
        return _why_not_written(self.reports.write, answer, "Structured Report")

    def _capture(self, answer: PredictedImage) -> str:
        """Write the capture of a DICOM image with a heat map; why that cannot be, else nothing."""
        if self.captures is None or answer.study is None or answer.cam is None:
            return ""
        return _why_not_written(self.captures.write, answer, "Secondary Capture")


def _why_not_written(
    write: Callable[[PredictedImage], None], answer: PredictedImage, what: str
) -> str:
    """Write a DICOM object about an answer; why that cannot be, because of its name or elements."""
    try:
        write(answer)
    except OSError as error:
        if error.errno not in NAME_ERRORS:
            raise
        return f"no {what}: {error.strerror}"
    except REPORT_ERRORS as error:
        return f"no {what}: {' '.join(str(error).split())}"
    return ""


def open_reports(options: SideOptions, spec: ModelSpec, model_sha256: str) -> "ReportWriter | None":
    """What writes the Structured Reports, where they are asked for."""
    if options.dicom_sr is None:
        return None
    from kneeedge.inference.structured_report import ReportWriter

    return ReportWriter(options.dicom_sr, spec, model_sha256, options.with_patient_id)


def open_captures(
    options: SideOptions, spec: ModelSpec, model_sha256: str
) -> "CaptureWriter | None":
    """What writes the Secondary Captures, where they are asked for."""
    if options.captures is None:
        return None
    from kneeedge.inference.secondary_capture import CaptureWriter

    return CaptureWriter(options.captures, spec, model_sha256, options.with_patient_id)


def with_remark(answer: PredictedImage, remark: str) -> PredictedImage:
    """The answer, with one more remark in the last cell of its row."""
    prediction = answer.prediction
    error = f"{prediction.error}; {remark}" if prediction.error else remark
    return replace(answer, prediction=replace(prediction, error=error))


def with_patient(answer: PredictedImage) -> PredictedImage:
    """The answer; to a DICOM image, with its patient's id."""
    facts = answer.prediction.dicom
    if facts is None or answer.study is None:
        return answer
    identified = replace(facts, patient_id=answer.study.patient.get("PatientID", ""))
    return replace(answer, prediction=replace(answer.prediction, dicom=identified))
