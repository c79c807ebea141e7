"""What a model says of one image, and `predictions.csv`: a row for each, in input order."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.dicom_facts import DicomFacts, DicomStudy
from kneeedge.system.files import replacing
from kneeedge.system.spreadsheet import csv_line, no_formula, original_text
from kneeedge.system.stamps import FileStamp

OK, ABSTAIN, REFER, ERROR = "ok", "abstain", "refer", "error"
"what became of an image"
TRUE, FALSE = "true", "false"
INVERTED = {True: TRUE, False: FALSE, None: ""}
"whether an image is inverted, as a cell"
READ_INVERSE = "the image is inverted; its inverse was read"
"what is said to people of an inverted image"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One image's answer, or the reason there is none.

    An image unlike the training images has the status `abstain` and no answer, and one between the
    certified limits the status `refer`: a person is to answer it. Both have an answer all the same
    where all were to be answered.
    """

    path: str
    """as in predictions.csv: relative to the folder given; of what is given to `predict`: its path,
    the name of a file object, or <array>, <image>, <bytes> or <file>
    """
    status: str
    "ok, abstain, refer or error"
    prediction: str | None = None
    """the class, by the model's locked threshold; None for an error and where a person is to answer
    """
    probability: float | None = None
    """0 to 1; of the positive class, whichever class is the answer and however many there are; None
    for an error or where the model abstains
    """
    probabilities: dict[str, float] = field(default_factory=dict)
    "0 to 1, of each class; they sum to 1; empty where there is no probability"
    error: str = ""
    "why there is none, or why it is not to be trusted"
    distance: float | None = None
    "from the image's features to those of the training images; None where the model has none"
    inverted: bool | None = None
    """whether the image is inverted (bone dark), so that the network read its inverse; None for an
    error, and where the model reads every image as it is
    """
    dicom: DicomFacts | None = None
    "what a DICOM file says of itself, but for the patient; None for other formats"
    heatmap: NDArray[np.uint8] | None = field(default=None, compare=False)
    """(S, S, 3) RGB: the network's input, or of an inverted one its inverse, with the evidence for
    the predicted class over it, where that was asked for; None without a prediction, and from a
    head that has no class activation map
    """

    @property
    def ok(self) -> bool:
        """Whether there is an answer that may be trusted: the status is `ok`."""
        return self.status == OK

    @property
    def confidence(self) -> float | None:
        """The probability, 0 to 1, of the predicted class; None where there is no prediction.

        Of two classes it is below 0.5 where the threshold is not 0.5 and decides so.
        """
        return None if self.prediction is None else self.probabilities[self.prediction]

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """The fields for JSON: with the confidence, without the heat map."""
        del record["heatmap"]
        return record | {"confidence": self.confidence}

    def __repr__(self) -> str:
        parts = [repr(self.path)]
        if self.prediction is not None:
            parts += [repr(self.prediction), f"confidence={self.confidence:.4g}"]
        if self.inverted:
            parts.append("inverted")
        if not self.ok or self.error:
            parts.append(f"{self.status}: {self.error}")
        return f"Prediction({', '.join(parts)})"


@dataclass(frozen=True)
class PredictedImage:
    """A prediction with what a heat map and a Structured Report need."""

    prediction: Prediction
    image: NDArray[np.uint8] | None = None
    "(S, S), the network's input; None where the file cannot be read"
    cam: NDArray[np.float32] | None = None
    "(S/32, S/32), of the predicted class; None where there is none"
    study: DicomStudy | None = None
    "of which study a DICOM image is, and whose: from the bytes that were answered"
    stamp: FileStamp | None = None
    "what the file was when it was read; absent where it could not be"
    depth_suspect: int = 0
    "bits that 16-bit pixels fit, 8 to 14, where so few and nobody said so; else 0"
    logits: NDArray[np.float32] | None = None
    "(K,); None where the file cannot be read"
    shown: NDArray[np.uint8] | None = None
    "(H, W), the picture itself, for people; None where it was not asked for"
    n_pixels: int = 0
    "of the picture in its file; 0 where the file cannot be read"

    def as_read(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels (H, W) uint8 of the image as the network read them: of an inverted one, turned."""
        return 255 - pixels if self.prediction.inverted else pixels


def csv_columns(spec: ModelSpec) -> list[str]:
    """The header of `predictions.csv`."""
    of_classes = [f"p_{name}" for name in spec.classes]
    of_dicom = ["sop_instance_uid", "laterality", "view", "patient_id"]
    answer = ["prediction", "probability", *of_classes, "distance", "inverted"]
    return ["path", "status", *answer, *of_dicom, "error"]


def csv_row(prediction: Prediction, spec: ModelSpec) -> list[str]:
    """One row of `predictions.csv`; probabilities with six digits, the distance with four."""
    of_classes = [prediction.probabilities.get(name) for name in spec.classes]
    return [
        no_formula(prediction.path),
        prediction.status,
        no_formula(prediction.prediction or ""),
        *(_number(value, 6) for value in (prediction.probability, *of_classes)),
        _number(prediction.distance, 4),
        INVERTED[prediction.inverted],
        *_dicom_cells(prediction.dicom),
        no_formula(prediction.error),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _dicom_cells(facts: DicomFacts | None) -> list[str]:
    if facts is None:
        return [""] * 4
    texts = (facts.sop_instance_uid, facts.laterality, facts.view, facts.patient_id)
    return [no_formula(text) for text in texts]


def prediction_of_row(cells: list[str], spec: ModelSpec) -> Prediction:
    """The prediction of a row, with as many digits as that has."""
    path, status, prediction, probability, *others = cells
    of_classes = others[: len(spec.classes)]
    distance, inverted, *of_dicom, error = others[len(spec.classes) :]
    uid, laterality, view, patient_id = of_dicom
    named = zip(spec.classes, of_classes, strict=True)
    facts = None
    if uid or laterality or view or patient_id:
        facts = DicomFacts(
            sop_instance_uid=uid,
            laterality=laterality,
            view=view,
            grey_scale="",
            photometric="",
            bits_stored=0,
            patient_id=patient_id,
        )
    return Prediction(
        path=path,
        status=status,
        prediction=original_text(prediction) or None,
        probability=float(probability) if probability else None,
        probabilities={name: float(cell) for name, cell in named if cell},
        error=error,
        distance=float(distance) if distance else None,
        inverted=inverted == TRUE if inverted else None,
        dicom=facts,
    )


def kept_in(out: Path, predictions: Iterator[Prediction], spec: ModelSpec) -> Iterator[Prediction]:
    """Pass the predictions on while their rows are written; `out` appears with the last one.

    Nothing is left of a run that is broken off: a `Journal` keeps one that must go on.
    """
    with replacing(out) as new, new.open("wb") as file:
        file.write(csv_line(csv_columns(spec)))
        for prediction in predictions:
            file.write(csv_line(csv_row(prediction, spec)))
            yield prediction
