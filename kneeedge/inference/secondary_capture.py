"""DICOM Secondary Captures: the class activation map over the radiograph, for an archive."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kneeedge.inference.heatmap import answer_line, caveat_lines, fitting, overlay, place_below
from kneeedge.inference.predictions import PredictedImage, Prediction
from kneeedge.inference.structured_report import DicomWriter, evidence_of, identity
from kneeedge.model.spec import DISCLAIMER
from kneeedge.system.files import replacing
from kneeedge.system.outputs import CAPTURE, check_output
from kneeedge.system.own import SOFTWARE, mark_folder

if TYPE_CHECKING:
    from pydicom import Dataset

SIDE = 640
"pixels of the picture, which the network sees smaller"
FONT_SIZE = 18
"pixels"
LINE = 26
"pixels from one line of text to the next"
MARGIN = 8
"pixels"
SERIES_NUMBER = 9901


class CaptureWriter(DicomWriter):
    """Writes `<image>.sc.dcm` below a folder. Raises MissingExtraError without highdicom."""

    asked_by = "a Secondary Capture"

    def write(self, answer: PredictedImage) -> None:
        """Write the capture of an answered DICOM image, where it says of which study it is.

        Raises OutputExistsError where it would replace anything but an older capture.
        """
        if answer.image is None or answer.cam is None or answer.study is None:
            return
        evidence = evidence_of(answer.study, self.with_patient_id)
        if evidence is None:
            return
        path = place_below(self.folder, answer.prediction.path, ".sc.dcm")
        check_output(path, CAPTURE)
        mark_folder(self.folder)
        mapped = overlay(answer.as_read(answer.image), answer.cam)
        picture = captioned(mapped, self.caption(answer.prediction))
        with replacing(path, private=True) as new:
            capture = self.capture(picture, evidence, identity(answer, self.model_sha256))
            capture.Laterality = laterality_of(answer.prediction)
            capture.save_as(new, enforce_file_format=True)

    def caption(self, prediction: Prediction) -> tuple[str, ...]:
        """What is burned in below the picture."""
        lines = [answer_line(prediction, self.spec), *caveat_lines(prediction)]
        return (*lines, f"{self.spec.name}, {SOFTWARE}", DISCLAIMER)

    def capture(
        self, picture: NDArray[np.uint8], evidence: "Dataset", source: Sequence[str]
    ) -> Any:
        """The highdicom SCImage of a picture (H, W, 3) uint8 RGB, its UIDs made from `source`."""
        import highdicom as hd
        from pydicom.uid import ExplicitVRLittleEndian, generate_uid

        image = hd.sc.SCImage.from_ref_dataset(
            evidence,
            pixel_array=picture,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            series_instance_uid=generate_uid(entropy_srcs=["captures", *source]),
            series_number=SERIES_NUMBER,
            sop_instance_uid=generate_uid(entropy_srcs=["capture", *source]),
            instance_number=1,
            manufacturer="kneeedge",
            patient_orientation=("L", "F"),  # which highdicom wants; emptied below
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        image.PatientOrientation = []  # what the image has, which need not say it
        image.ConversionType = "WSD"
        image.BurnedInAnnotation = "YES"
        image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        image.SeriesDescription = "kneeedge: evidence for the answer"
        image.DerivationDescription = f"class activation map of model {self.model_sha256}"
        image.SourceImageSequence = [reference(evidence)]
        return image


def laterality_of(prediction: Prediction) -> str:
    """R or L where the image says so, else nothing: Laterality has no other values."""
    side = prediction.dicom.laterality if prediction.dicom else ""
    return side if side in ("R", "L") else ""


def captioned(picture: NDArray[np.uint8], lines: tuple[str, ...]) -> NDArray[np.uint8]:
    """The picture (S, S, 3) uint8 at SIDE pixels, with lines of text below it: (H, SIDE, 3)."""
    large = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (SIDE, SIDE + LINE * len(lines) + MARGIN))
    canvas.paste(large, (0, 0))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(FONT_SIZE)
    for i, line in enumerate(lines):
        shown = fitting(line, font, SIDE - 2 * MARGIN)
        draw.text((MARGIN, SIDE + i * LINE + MARGIN // 2), shown, "white", font)
    return np.asarray(canvas)


def reference(evidence: "Dataset") -> "Dataset":
    """What names the image that was answered (PS3.3, table 10-3)."""
    from pydicom import Dataset

    source = Dataset()
    source.ReferencedSOPClassUID = evidence.SOPClassUID
    source.ReferencedSOPInstanceUID = evidence.SOPInstanceUID
    return source
