"""What a DICOM file says of itself, read from the dataset whose pixels were decoded.

A hostile file may say anything, and any element may name a patient: each value is held against what
the standard allows it to be, and only the elements named here are looked at.
"""

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# PS3.5, section 6.2: what the value representations UI, DA, TM, LO, SH and PN allow
_UID = re.compile(r"[0-9.]{1,64}")
_DATE = re.compile(r"[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])")
_TIME = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9](([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?")
_LONG = re.compile(r"[^\\]{1,64}")
_SHORT = re.compile(r"[^\\]{1,16}")
_LATERALITY = re.compile(r"[RLBU]")
"right, left, both, unpaired: PS3.3, sections C.7.3.1 and C.8.11.5"
_VIEW = re.compile(r"AP|PA|LL|RL|RLD|LLD|RLO|LLO")
"the defined terms of View Position: PS3.3, section C.8.1.1"
_DEVICE_TAGS = ("Manufacturer", "ManufacturerModelName")
_VOLTAGE = re.compile(r"[1-9][0-9]{1,2}(\.[0-9]{1,6})?")
"of an X-ray tube: 10 to 999 kV, of the value representation DS"
PATIENT_TAGS = {
    "PatientName": _LONG,
    "PatientID": _LONG,
    "PatientBirthDate": _DATE,
    "PatientSex": re.compile(r"[MFO]"),
    "StudyID": _SHORT,
    "StudyDate": _DATE,
    "StudyTime": _TIME,
    "AccessionNumber": _SHORT,
    "ReferringPhysicianName": _LONG,
}
"all that may be said of the patient and the study, where that is asked for"


@dataclass(frozen=True, kw_only=True)
class DicomFacts:
    """What a row of predictions may say of a DICOM image; nothing in it names a patient."""

    sop_instance_uid: str
    laterality: str
    "R, L, B (both), U (unpaired), or empty"
    view: str
    "AP, PA, LL, RL, RLD, LLD, RLO, LLO, or empty"
    grey_scale: str
    "how its grey levels were made, with a remark on a table that leaves its depth unused"
    photometric: str
    bits_stored: int
    patient_id: str = ""
    "empty unless it was asked for"


@dataclass(frozen=True, kw_only=True)
class DicomStudy:
    """Of which study a DICOM image is, and whose; read from the bytes that were decoded.

    Each value fits its value representation, or is empty.
    """

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    patient: dict[str, str] = field(default_factory=dict)
    "by keyword, those of PATIENT_TAGS that the file has; for those alone who ask for the patient"
    device: str = ""
    "maker and model of what took the image"
    tube_kv: float | None = None
    "peak voltage of the X-ray tube"


def facts_of(dataset: "Dataset", grey_scale: str) -> DicomFacts:
    """What a row may say of the image, whose grey levels were made by `grey_scale`."""
    laterality = dataset.get("ImageLaterality") or dataset.get("Laterality")
    return DicomFacts(
        sop_instance_uid=_matching(_UID, dataset.get("SOPInstanceUID")),
        laterality=_matching(_LATERALITY, laterality),
        view=_matching(_VIEW, dataset.get("ViewPosition")),
        grey_scale=grey_scale,
        photometric=str(dataset.PhotometricInterpretation),
        bits_stored=int(dataset.BitsStored),
    )


def study_of(dataset: "Dataset") -> DicomStudy:
    """The image's UIDs, and the patient."""
    patient = {
        keyword: _matching(allowed, _printable(dataset, keyword))
        for keyword, allowed in PATIENT_TAGS.items()
    }
    return DicomStudy(
        sop_class_uid=_matching(_UID, dataset.get("SOPClassUID")),
        sop_instance_uid=_matching(_UID, dataset.get("SOPInstanceUID")),
        study_instance_uid=_matching(_UID, dataset.get("StudyInstanceUID")),
        series_instance_uid=_matching(_UID, dataset.get("SeriesInstanceUID")),
        patient={keyword: value for keyword, value in patient.items() if value},
        device=" ".join(filter(None, map(partial(_long, dataset), _DEVICE_TAGS))),
        tube_kv=_voltage(dataset),
    )


def _long(dataset: "Dataset", keyword: str) -> str:
    """An element of the value representation LO, or nothing where it is none."""
    return _matching(_LONG, _printable(dataset, keyword))


def _voltage(dataset: "Dataset") -> float | None:
    """KVP, where the file has one that an X-ray tube may have."""
    text = _matching(_VOLTAGE, _printable(dataset, "KVP"))
    return float(text) if text else None


def _matching(allowed: re.Pattern[str], value: object) -> str:
    """The text of an element, or nothing where the standard does not allow it."""
    text = str(value or "").strip()
    return text if allowed.fullmatch(text) else ""


def _printable(dataset: "Dataset", keyword: str) -> str:
    """An element's text without control characters; empty where it is missing or unreadable."""
    try:
        text = str(dataset.get(keyword) or "")
    except (ValueError, TypeError, LookupError, AttributeError):  # bytes of an unknown charset
        return ""
    return "".join(char for char in text if char.isprintable())
