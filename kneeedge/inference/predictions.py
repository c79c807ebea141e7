"""What a model says of one image, and `predictions.csv`: a row for each, in input order."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.dicom_facts import DicomFacts, DicomStudy
from kneeedge.system.stamps import FileStamp

OK, ABSTAIN, ERROR = "ok", "abstain", "error"
"what became of an image"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"with which a cell begins that a spreadsheet may run"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One image's answer, or the reason there is none.

    An image unlike the training images has the status `abstain` and no answer, unless all were to
    be answered.
    """

    path: str
    "as in predictions.csv: relative to the folder given"
    status: str
    "ok, abstain or error"
    prediction: str | None = None
    "the class, by the model's locked threshold; None for an error or where the model abstains"
    probability: float | None = None
    "of the positive class"
    probabilities: dict[str, float] = field(default_factory=dict)
    "of each class; empty where there is no prediction"
    error: str = ""
    "why there is none, or why it is not to be trusted"
    distance: float | None = None
    "from the image's features to those of the training images; None where the model has none"
    dicom: DicomFacts | None = None
    "what a DICOM file says of itself, but for the patient; None for other formats"

    @property
    def ok(self) -> bool:
        return self.status == OK


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


def csv_columns(spec: ModelSpec) -> list[str]:
    """The header of `predictions.csv`."""
    of_classes = [f"p_{name}" for name in spec.classes]
    of_dicom = ["sop_instance_uid", "laterality", "view", "patient_id"]
    answer = ["prediction", "probability", *of_classes, "distance"]
    return ["path", "status", *answer, *of_dicom, "error"]


def csv_row(prediction: Prediction, spec: ModelSpec) -> list[str]:
    """One row of `predictions.csv`; probabilities with six digits, the distance with four."""
    of_classes = [prediction.probabilities.get(name) for name in spec.classes]
    return [
        no_formula(prediction.path),
        prediction.status,
        prediction.prediction or "",
        *(_number(value, 6) for value in (prediction.probability, *of_classes)),
        _number(prediction.distance, 4),
        *_dicom_cells(prediction.dicom),
        no_formula(prediction.error),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _dicom_cells(facts: DicomFacts | None) -> list[str]:
    if facts is None:
        return [""] * 4
    patient_id = no_formula(facts.patient_id)
    return [facts.sop_instance_uid, facts.laterality, facts.view, patient_id]


def no_formula(text: str) -> str:
    """Text that no spreadsheet takes for a formula (CWE-1236).

    Of a path it is still the path: `./=A1.png` is the file `=A1.png`.
    """
    return f"./{text}" if text.startswith(FORMULA) else text


def prediction_of_row(cells: list[str], spec: ModelSpec) -> Prediction:
    """The prediction of a row, with as many digits as that has."""
    path, status, prediction, probability, *others = cells
    of_classes = others[: len(spec.classes)]
    distance, uid, laterality, view, patient_id, error = others[len(spec.classes) :]
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
        prediction=prediction or None,
        probability=float(probability) if probability else None,
        probabilities={name: float(cell) for name, cell in named if cell},
        error=error,
        distance=float(distance) if distance else None,
        dicom=facts,
    )
