"""Whose answer it is: from the bytes that were answered, and told only to those who ask."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.inference.folder import FolderOptions, infer_folder
from kneeedge.inference.predictor import Predictor
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.reader import ReadOptions
from kneeedge.runtime.session import Outputs
from kneeedge.system.progress import Progress
from tests.tiny_onnx import write_tiny_model

pytest.importorskip("highdicom", reason="pip install 'kneeedge[dicom-sr]'")
pytest.importorskip("gdcm", reason="pip install 'kneeedge[dicom-sr]'")
pydicom = pytest.importorskip("pydicom", reason="pip install 'kneeedge[dicom-sr]'")

from pydicom.datadict import DicomDictionary

from tests.dicom_files import TWELVE, dataset, stored

STUDY = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
LISTED = {"PatientName", "PatientID", "StudyID", "AccessionNumber", "ReferringPhysicianName"}
"text that a report may hold where the patient is asked for"
TEXT = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
DATE, TIME, NUMBER, UID = "19711103", "031407", "57317", "1.2.826.57317.1"
"planted in every element of those value representations"
LEFT_OUT = (0x0000, 0x0002, 0x0028, 0x2050, 0x5400, 0x7FE0)
"groups of messages and files, and those with nonsense in which there is no image"


def planted() -> tuple[pydicom.Dataset, dict[str, str]]:
    """An image with a token in every element of the dictionary; the tokens of text by keyword."""
    image = dataset(TWELVE, 12)
    tokens = {}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if not keyword or tag >> 16 in LEFT_OUT or keyword in ("SOPClassUID", "SOPInstanceUID"):
            continue
        first = vr.split(" or ")[0]
        if first in TEXT:
            tokens[keyword] = f"TK{tag:08X}"
            image.add_new(tag, first, tokens[keyword])
        elif first == "SQ":
            item = pydicom.Dataset()
            item.PatientName = tokens[keyword] = f"TK{tag:08X}"
            image.add_new(tag, "SQ", [item])
        elif first in ("DA", "DT", "TM", "IS", "DS", "UI", "AS"):
            values = {"DA": DATE, "DT": DATE + TIME, "TM": TIME, "UI": UID, "AS": "573Y"}
            image.add_new(tag, first, values.get(first, NUMBER))
    for keyword, uid in STUDY.items():
        setattr(image, keyword, uid)
    return image, tokens


def outputs_of(tmp_path: Path, *options: str) -> bytes:
    """Every byte that `infer` writes or prints of the planted image."""
    folder = tmp_path / "in"
    folder.mkdir()
    image, _ = planted()
    (folder / "x.dcm").write_bytes(stored(image))
    out = tmp_path / "out"
    out.mkdir()
    model = write_tiny_model(tmp_path / "m.onnx")
    command = ["infer", str(folder), "--model", str(model), "--out", str(out / "p.csv")]
    command += ["--json", str(out / "p.json"), "--heatmaps", str(out / "maps")]
    result = CliRunner().invoke(app, [*command, "--dicom-sr", str(out / "sr"), *options])
    assert result.exit_code == 0, result.output
    files = [path for path in out.rglob("*") if path.is_file()]
    # rows, journal, JSON, heat map and report, and the marks of their two folders
    assert len(files) == 7
    return b"".join([result.output.encode(), *(path.read_bytes() for path in files)])


def test_without_the_option_no_output_holds_anything_of_the_patient(tmp_path: Path) -> None:
    written = outputs_of(tmp_path)
    _, tokens = planted()
    assert len(tokens) > 2000
    leaked = [keyword for keyword, token in tokens.items() if token.encode() in written]
    assert leaked == []
    for token in (DATE, UID):
        assert token.encode() not in written


def test_with_the_option_only_what_a_report_needs_is_told(tmp_path: Path) -> None:
    written = outputs_of(tmp_path, "--with-patient-id")
    _, tokens = planted()
    told = {keyword for keyword, token in tokens.items() if token.encode() in written}
    assert told == LISTED
    assert UID.encode() not in written


def test_a_file_that_is_replaced_after_it_was_read_lends_no_answer_its_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in" / "x.dcm"
    path.parent.mkdir()
    path.write_bytes(stored(dataset(TWELVE, 12, PatientID="first", **STUDY)))
    predictor = Predictor(write_tiny_model(tmp_path / "m.onnx"), "cpu", 1)
    run = predictor.session.run

    def run_and_replace(images: np.ndarray) -> Outputs:
        other = {**STUDY, "SOPInstanceUID": "1.2.9.9"}
        path.write_bytes(stored(dataset(TWELVE[::-1].copy(), 12, PatientID="second", **other)))
        return run(images)

    monkeypatch.setattr(predictor.session, "run", run_and_replace)
    options = FolderOptions(dicom_sr=tmp_path / "sr", with_patient_id=True)
    for isolated in (False, True):
        path.write_bytes(stored(dataset(TWELVE, 12, PatientID="first", **STUDY)))
        predictor.read_options = ReadOptions(predictor.spec.pixel_path, isolated=isolated)
        listing = find_images([path.parent])
        infer_folder(predictor, listing, tmp_path / "p.csv", Progress(quiet=True), options)
        assert ",first," in (tmp_path / "p.csv").read_text()
        report = pydicom.dcmread(tmp_path / "sr/x.dcm.sr.dcm")
        assert report.PatientID == "first"
        (study,) = report.CurrentRequestedProcedureEvidenceSequence
        (series,) = study.ReferencedSeriesSequence
        (image,) = series.ReferencedSOPSequence
        assert image.ReferencedSOPInstanceUID == "1.2.3.4"


@pytest.mark.parametrize(
    ("keyword", "value", "column", "told"),
    [
        ("ImageLaterality", "R", "laterality", "R"),
        ("Laterality", "B", "laterality", "B"),
        ("ImageLaterality", "U", "laterality", "U"),
        ("ImageLaterality", "LEFT", "laterality", ""),
        ("ImageLaterality", "DOE", "laterality", ""),
        ("ViewPosition", "AP", "view", "AP"),
        ("ViewPosition", "RLO", "view", "RLO"),
        ("ViewPosition", "DOE JANE", "view", ""),
    ],
)
def test_side_and_view_are_what_the_standard_defines_or_empty(
    tmp_path: Path, keyword: str, value: str, column: str, told: str
) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(stored(dataset(TWELVE, 12, **{keyword: value})))
    prediction = Predictor(write_tiny_model(tmp_path / "m.onnx"), "cpu", 1).predict(path)
    assert prediction.dicom is not None
    assert getattr(prediction.dicom, column) == told


@pytest.mark.parametrize(
    "odd",
    [
        {"Modality": None},
        {"StudyDate": "yesterday"},
        {"PatientBirthDate": "1950-01-01"},
        {"SpecificCharacterSet": "ISO_IR 999"},
        {"PatientName": "Doe^Jane\\Roe^Richard"},
        {"StudyTime": "noon"},
        {"StudyTime": "2561"},
        {"StudyDate": "20261399"},
        {"PatientSex": "unknown"},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_an_odd_element_costs_neither_the_report_nor_the_night(
    tmp_path: Path, odd: dict[str, object]
) -> None:
    (tmp_path / "in").mkdir()
    image = dataset(TWELVE, 12, **STUDY)
    with pydicom.config.disable_value_validation():
        for keyword, value in odd.items():
            if value is None:
                assert keyword not in image
            else:
                setattr(image, keyword, value)
        (tmp_path / "in" / "x.dcm").write_bytes(stored(image))
    command = [
        "infer",
        str(tmp_path / "in"),
        "--with-patient-id",
        "--json",
        str(tmp_path / "p.json"),
    ]
    command += ["--model", str(write_tiny_model(tmp_path / "m.onnx"))]
    command += ["--out", str(tmp_path / "p.csv"), "--dicom-sr", str(tmp_path / "sr")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert pydicom.dcmread(tmp_path / "sr/x.dcm.sr.dcm").StudyInstanceUID == "1.2.3"
    (row,) = json.loads((tmp_path / "p.json").read_text())["predictions"]
    assert row["dicom"]["patient_id"] == "secret-id"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize(("options", "mode"), [((), 0o644), (("--with-patient-id",), 0o600)])
def test_what_shows_or_names_a_patient_is_its_owners_alone(
    tmp_path: Path, options: tuple[str, ...], mode: int
) -> None:
    before = os.umask(0o022)
    try:
        outputs_of(tmp_path, *options)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*.*")}
    assert modes["p.csv"] == mode
    assert {modes[name] for name in ("x.dcm.map.png", "x.dcm.sr.dcm", ".p.csv.journal")} == {0o600}
