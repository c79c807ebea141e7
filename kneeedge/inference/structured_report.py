"""DICOM Structured Reports: one for each DICOM image, by template TID 1500 (PS3.16)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneeedge.errors import MissingExtraError
from kneeedge.inference.heatmap import place_below
from kneeedge.inference.predictions import ABSTAIN, READ_INVERSE, REFER, PredictedImage, Prediction
from kneeedge.model.spec import DISCLAIMER, ModelSpec
from kneeedge.pixels.dicom_facts import PATIENT_TAGS, DicomStudy
from kneeedge.system.files import replacing
from kneeedge.system.outputs import REPORT, check_output
from kneeedge.system.own import mark_folder
from kneeedge.version import __version__

if TYPE_CHECKING:
    from pydicom import Dataset


SCHEME = "99KNEEEDGE"
"codes of our own: DICOM has none for the classes of a model"
NAMES = ("PatientName", "ReferringPhysicianName")


class DicomWriter:
    """Writes objects about DICOM images below a folder. MissingExtraError without highdicom."""

    asked_by = "--dicom-sr"
    "what needs highdicom, in words"

    def __init__(
        self, folder: Path, spec: ModelSpec, model_sha256: str, with_patient_id: bool
    ) -> None:
        try:
            import highdicom  # noqa: F401
        except ModuleNotFoundError as error:
            install = "pip install 'kneeedge[dicom-sr]'"
            raise MissingExtraError(self.asked_by, "highdicom", install) from error
        self.folder = folder
        self.spec = spec
        self.model_sha256 = model_sha256
        self.with_patient_id = with_patient_id


class ReportWriter(DicomWriter):
    """Writes `<image>.sr.dcm` below a folder. Raises MissingExtraError without highdicom."""

    def __init__(
        self, folder: Path, spec: ModelSpec, model_sha256: str, with_patient_id: bool
    ) -> None:
        super().__init__(folder, spec, model_sha256, with_patient_id)
        self.n_written = 0
        self.n_without_study = 0

    def write(self, answer: PredictedImage) -> None:
        """Write the report of a DICOM image; none where that does not say of which study it is.

        Raises OutputExistsError where it would replace anything but an older report.
        """
        prediction = answer.prediction
        study = answer.study
        evidence = None if study is None else evidence_of(study, self.with_patient_id)
        if evidence is None:
            self.n_without_study += 1
            return
        path = place_below(self.folder, prediction.path, ".sr.dcm")
        check_output(path, REPORT)
        mark_folder(self.folder)
        with replacing(path, private=True) as new:
            report = self.report(prediction, evidence, identity(answer, self.model_sha256))
            report.save_as(new, enforce_file_format=True)
        self.n_written += 1

    def summary(self) -> str:
        """How many reports there are, and why not more."""
        line = f"{self.n_written:,} Structured Reports below {self.folder}"
        if self.n_without_study:
            without = f"{self.n_without_study:,} DICOM images"
            line += f"; none for {without} that do not say of which study they are"
        return line

    def report(self, prediction: Prediction, evidence: "Dataset", source: Sequence[str]) -> Any:
        """The highdicom EnhancedSR of one image, its UIDs made from `source`."""
        import highdicom as hd
        from pydicom.uid import generate_uid

        return hd.sr.EnhancedSR(
            evidence=[evidence],
            content=self._content(prediction, evidence),
            series_number=9900,
            instance_number=1,
            manufacturer="kneeedge",
            series_instance_uid=generate_uid(entropy_srcs=["series", *source]),
            sop_instance_uid=generate_uid(entropy_srcs=["report", *source]),
            is_complete=True,
            is_final=False,
            is_verified=False,
        )

    def _content(self, prediction: Prediction, evidence: "Dataset") -> Any:
        """The measurement report (TID 1500), and what must be read with it."""
        import highdicom as hd
        from pydicom.sr.codedict import codes

        report = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(observer_device_context=self._observer()),
            procedure_reported=_code("KNEE-XRAY", "Knee radiograph"),
            imaging_measurements=[self._measurements(prediction, evidence)],
        )
        contains = hd.sr.RelationshipTypeValues.CONTAINS
        for text in self._remarks(prediction):
            remark = hd.sr.TextContentItem(codes.DCM.Comment, text, contains)
            report[0].ContentSequence.append(remark)
        return report[0]

    def _observer(self) -> Any:
        """The model, as the device that read the image."""
        import highdicom as hd
        from pydicom.sr.codedict import codes
        from pydicom.uid import generate_uid

        device = hd.sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=[self.model_sha256]),
            name="kneeedge",
            model_name=self.spec.name[:64],
        )
        return hd.sr.ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )

    def _measurements(self, prediction: Prediction, evidence: "Dataset") -> Any:
        """The probabilities, and the class where one was given."""
        import highdicom as hd
        from pydicom.sr.codedict import codes
        from pydicom.uid import generate_uid

        probabilities = [
            hd.sr.Measurement(_code(f"P{i}", f"Probability of {name}"), value, codes.UCUM.NoUnits)
            for i, (name, value) in enumerate(prediction.probabilities.items())
        ]
        answer = prediction.prediction or "no answer"
        tracked = ["tracking", str(evidence.SOPInstanceUID), self.model_sha256]
        return hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(
                generate_uid(entropy_srcs=tracked), "kneeedge"
            ),
            algorithm_id=hd.sr.AlgorithmIdentification(
                name=self.spec.name,
                version=f"kneeedge {__version__}",
                parameters=[f"sha256 {self.model_sha256}"],
            ),
            finding_sites=[hd.sr.FindingSite(codes.SCT.KneeRegionStructure)],
            source_images=[
                hd.sr.SourceImageForMeasurementGroup(evidence.SOPClassUID, evidence.SOPInstanceUID)
            ],
            measurements=probabilities or None,
            qualitative_evaluations=[
                hd.sr.QualitativeEvaluation(
                    _code("CLASS", "Predicted class"), _code(f"C-{answer}"[:16], answer)
                )
            ],
        )

    def _remarks(self, prediction: Prediction) -> list[str]:
        """What must stand in a report whoever reads it."""
        remarks = [DISCLAIMER, f"threshold {self.spec.threshold:.6g} for {self.spec.positive}"]
        certified = self.spec.certified
        if certified:
            remarks.append(f"answered below {certified.low:.6g} and from {certified.high:.6g} on")
        if prediction.status == REFER and prediction.prediction is None:
            remarks.append(f"no answer is given: {prediction.error}")
        elif prediction.status in (ABSTAIN, REFER):
            remarks.append(f"not to be trusted: {prediction.error}")
        if prediction.inverted:
            remarks.append(READ_INVERSE)
        return remarks


def identity(answer: PredictedImage, model_sha256: str) -> list[str]:
    """What the UIDs of an answer's objects are made from.

    The same pixels under the same UID, by the same model, are the same object: no archive holds it
    twice. Other pixels under that UID, which a sender may not but can give it, are another one.
    """
    uid = answer.study.sop_instance_uid if answer.study else ""
    pixels = b"" if answer.image is None else answer.image.tobytes()
    return [uid, model_sha256, hashlib.sha256(pixels).hexdigest()]


def evidence_of(study: DicomStudy, with_patient: bool) -> "Dataset | None":
    """All that a report is told of the image: its UIDs, and the patient where that is asked for.

    None where a UID is missing. The image's own dataset is not handed on: it holds hundreds of
    elements that may name a patient.
    """
    from pydicom import Dataset

    uids = {
        "SOPClassUID": study.sop_class_uid,
        "SOPInstanceUID": study.sop_instance_uid,
        "StudyInstanceUID": study.study_instance_uid,
        "SeriesInstanceUID": study.series_instance_uid,
    }
    if not all(uids.values()):
        return None
    evidence = Dataset()
    evidence.SpecificCharacterSet = "ISO_IR 192"
    for keyword, uid in uids.items():
        setattr(evidence, keyword, uid)
    told = study.patient if with_patient else {}
    for keyword in PATIENT_TAGS:  # a report holds them all, if with nothing in them
        value = told.get(keyword, "")
        if value and keyword in NAMES and "^" not in value:
            value += "^"  # the same name, PS3.5, section 6.2.1, and no remark of highdicom's
        setattr(evidence, keyword, value)
    return evidence


def _code(value: str, meaning: str) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(value, SCHEME, meaning[:64])
