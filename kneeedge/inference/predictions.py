"""What a model says of one image, and `predictions.csv`: a row for each, in input order."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.inference.journal import Journal
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.dicom import DicomFacts
from kneeedge.system.progress import Progress

OK, ABSTAIN, ERROR = "ok", "abstain", "error"
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
    prediction: str | None
    "the class, by the model's locked threshold; None for an error or where the model abstains"
    probability: float | None
    "of the positive class"
    probabilities: dict[str, float]
    "of each class; empty where there is no prediction"
    error: str = ""
    "why there is none, or why it is not to be trusted"
    distance: float | None = None
    """how far the image's features lie from those of the training images; None where the model does
    not say
    """
    dicom: DicomFacts | None = None
    "what a DICOM file says of itself, but for the patient; None for other formats"

    @property
    def ok(self) -> bool:
        return self.status == OK


@dataclass(frozen=True)
class PredictedImage:
    """A prediction with what a heat map needs."""

    prediction: Prediction
    image: NDArray[np.uint8] | None
    "(S, S), the network's input"
    cam: NDArray[np.float32] | None
    "(S/32, S/32), of the predicted class"


def columns(spec: ModelSpec) -> list[str]:
    """The header of `predictions.csv`."""
    answer = ["prediction", "probability", *(f"p_{name}" for name in spec.classes), "distance"]
    return [
        "path",
        "status",
        *answer,
        "sop_instance_uid",
        "laterality",
        "view",
        "patient_id",
        "error",
    ]


def row(prediction: Prediction, spec: ModelSpec) -> list[str]:
    """One row of `predictions.csv`; probabilities with six digits, the distance with four."""
    facts = prediction.dicom
    numbers = [prediction.probabilities.get(name) for name in spec.classes]
    return [
        no_formula(prediction.path),
        prediction.status,
        prediction.prediction or "",
        *("" if value is None else f"{value:.6f}" for value in (prediction.probability, *numbers)),
        "" if prediction.distance is None else f"{prediction.distance:.4f}",
        *(
            (facts.sop_instance_uid, facts.laterality, facts.view, no_formula(facts.patient_id))
            if facts
            else [""] * 4
        ),
        no_formula(prediction.error),
    ]


def no_formula(path: str) -> str:
    """A path that no spreadsheet takes for a formula: `./=A1.png` is the file `=A1.png` (CWE-1236)."""
    return f"./{path}" if path.startswith(FORMULA) else path


def of_row(cells: list[str], spec: ModelSpec) -> Prediction:
    """The prediction of a row, with as many digits as that has."""
    path, status, prediction, *numbers = cells
    probability, *of_class = (
        float(cell) if cell else None for cell in numbers[: len(spec.classes) + 1]
    )
    distance, uid, laterality, view, patient_id, error = numbers[len(spec.classes) + 1 :]
    by_class = {name: p for name, p in zip(spec.classes, of_class, strict=True) if p is not None}
    is_dicom = uid or laterality or view or patient_id
    facts = (
        DicomFacts(
            sop_instance_uid=uid,
            laterality=laterality,
            view=view,
            grey_scale="",
            photometric="",
            bits_stored=0,
            patient_id=patient_id,
        )
        if is_dicom
        else None
    )
    return Prediction(
        path=path,
        status=status,
        prediction=prediction or None,
        probability=probability,
        probabilities=by_class,
        error=error,
        distance=float(distance) if distance else None,
        dicom=facts,
    )


def write_predictions(
    answers: Iterator[PredictedImage], n: int, spec: ModelSpec, journal: Journal, progress: Progress
) -> Iterator[PredictedImage]:
    """Pass the answers on while their rows are written; the output takes its name only when the
    last row is in it.
    """
    with progress.stage("infer", n) as stage:
        stage.advance(len(journal.kept))
        for answer in answers:
            journal.append(row(answer.prediction, spec))
            stage.advance()
            yield answer
    journal.publish()
