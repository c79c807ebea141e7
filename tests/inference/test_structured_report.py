"""Structured Reports: what they say, and that they name no patient unless asked to."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.model.spec import DISCLAIMER
from kneeedge.pixels.listing import find_images
from kneeedge.system.files import file_sha256
from kneeedge.version import __version__
from tests.certified_models import write_certified
from tests.tiny_onnx import write_tiny_model

hd = pytest.importorskip("highdicom", reason="pip install 'kneeedge[dicom-sr]'")
pytest.importorskip("gdcm", reason="pip install 'kneeedge[dicom-sr]'")
pydicom = pytest.importorskip("pydicom", reason="pip install 'kneeedge[dicom-sr]'")

from tests.dicom_files import TWELVE, dataset, stored

STUDY = {
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.1",
    "StudyDate": "20260101",
    "Modality": "CR",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "m.onnx")


def infer_command(tmp_path: Path, model: Path, images: Path) -> list[str]:
    """`infer` with reports below `sr`."""
    command = ["infer", str(images), "--model", str(model), "--out", str(tmp_path / "p.csv")]
    return [*command, "--dicom-sr", str(tmp_path / "sr")]


def run(tmp_path: Path, model: Path, *options: str, **tags: object) -> tuple[int, str, Path]:
    """`infer` on one DICOM file of these tags; exit code, stderr, the report's path."""
    folder = tmp_path / "in"
    (folder / "a b").mkdir(parents=True, exist_ok=True)
    (folder / "a b/x.dcm").write_bytes(stored(dataset(TWELVE, 12, **STUDY | tags)))
    result = CliRunner().invoke(app, [*infer_command(tmp_path, model, folder), *options])
    return result.exit_code, result.stderr, tmp_path / "sr/a b/x.dcm.sr.dcm"


def test_a_report_is_read_back_with_probability_model_hash_and_disclaimer(
    tmp_path: Path, model: Path
) -> None:
    code, stderr, path = run(tmp_path, model, Laterality="R")
    assert code == 0, stderr
    assert "1 Structured Reports below" in stderr
    report = hd.sr.srread(path)
    assert report.SOPClassUID == pydicom.uid.EnhancedSRStorage
    assert report.StudyInstanceUID == "1.2.3"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    (group,) = report.content.get_image_measurement_groups()
    row = (tmp_path / "p.csv").read_text().splitlines()[1].split(",")
    values = {item.name.meaning: item.value for item in group.get_measurements()}
    assert values["Probability of Osteoporosis"] == pytest.approx(float(row[3]), abs=1e-6)
    assert sum(values.values()) == pytest.approx(1.0, abs=1e-5)
    (predicted_class,) = group.get_qualitative_evaluations()
    assert predicted_class.value.meaning == row[2]
    content = path.read_bytes()
    model_hash = f"sha256 {file_sha256(model)}"
    version = f"kneeedge {__version__}"
    for text in (DISCLAIMER, model_hash, version, "threshold 0.5 for Osteoporosis"):
        assert text.encode() in content
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (image,) = series.ReferencedSOPSequence
    assert image.ReferencedSOPInstanceUID == "1.2.3.4"


@pytest.mark.parametrize("asked", [False, True])
def test_the_patient_is_named_only_where_that_is_asked_for(
    tmp_path: Path, model: Path, asked: bool
) -> None:
    _, _, path = run(tmp_path, model, *(["--with-patient-id"] if asked else []))
    content = path.read_bytes()
    for text in (b"Doe^Jane", b"secret-id", b"19500101"):
        assert (text in content) is asked


def test_an_image_left_to_a_person_has_a_report_that_gives_no_answer(
    tmp_path: Path, model: Path
) -> None:
    certified = write_certified(model, tmp_path / "certified.onnx", 1e-9, 1.0)
    code, stderr, path = run(tmp_path, certified)
    assert code == 0, stderr
    (group,) = hd.sr.srread(path).content.get_image_measurement_groups()
    (predicted_class,) = group.get_qualitative_evaluations()
    assert predicted_class.value.meaning == "no answer"
    assert {item.name.meaning for item in group.get_measurements()} == {
        "Probability of Healthy",
        "Probability of Osteoporosis",
    }
    content = path.read_bytes()
    assert b"no answer is given: refer to a person" in content
    assert b"answered below 1e-09 and from 1 on" in content
    _, _, path = run(tmp_path, certified, "--answer-all", "--out", str(tmp_path / "q.csv"))
    assert b"not to be trusted: refer to a person" in path.read_bytes()


def test_a_capture_of_an_answer_in_doubt_says_that_it_is_not_to_be_trusted(
    tmp_path: Path, model: Path
) -> None:
    from kneeedge import Predictor
    from kneeedge.inference.secondary_capture import CaptureWriter

    certified = write_certified(model, tmp_path / "certified.onnx", 1e-9, 1.0)
    predictor = Predictor(certified, "cpu", 1, answer_all=True)
    answer = predictor.predict(np.full((64, 64), 90, dtype=np.uint8))
    writer = CaptureWriter(tmp_path / "sc", predictor.spec, "0" * 64, with_patient_id=False)
    assert any(
        line.startswith("not to be trusted: refer to a person") for line in writer.caption(answer)
    )


def test_the_same_image_and_model_give_the_same_report_uid(tmp_path: Path, model: Path) -> None:
    uids = [pydicom.dcmread(run(tmp_path, model)[2]).SOPInstanceUID for _ in range(2)]
    assert uids[0] == uids[1]


def test_an_image_without_a_study_has_no_report_and_that_is_said(
    tmp_path: Path, model: Path
) -> None:
    code, stderr, path = run(tmp_path, model, StudyInstanceUID="")
    assert code == 0
    assert "0 Structured Reports" in stderr
    assert "none for 1 DICOM images that do not say of which study they are" in stderr
    assert not path.exists()


def test_own_reports_below_the_images_are_left_out_the_next_night(
    tmp_path: Path, model: Path
) -> None:
    command = infer_command(tmp_path, model, tmp_path / "in")
    for _ in range(2):
        code, stderr, _ = run(tmp_path, model, "--dicom-sr", str(tmp_path / "in/sr"))
        assert code == 0, stderr
        assert len((tmp_path / "p.csv").read_text().splitlines()) == 2
    assert CliRunner().invoke(app, command).exit_code == 0
    report = tmp_path / "in/sr/a b/x.dcm.sr.dcm"
    assert find_images([tmp_path / "in"]).own == (report,)


def test_a_report_replaces_an_older_one_and_no_image(tmp_path: Path, model: Path) -> None:
    _, _, path = run(tmp_path, model)
    assert run(tmp_path, model)[0] == 0
    image = (tmp_path / "in/a b/x.dcm").read_bytes()
    path.write_bytes(image)
    code, stderr, _ = run(tmp_path, model)
    assert code == 1
    assert "it is no Structured Report that kneeedge wrote" in stderr
    assert path.read_bytes() == image


def test_other_formats_have_no_report(tmp_path: Path, model: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "a.png")
    result = CliRunner().invoke(app, infer_command(tmp_path, model, tmp_path / "a.png"))
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "sr").exists()


def test_without_highdicom_it_says_what_to_install(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    code, stderr, _ = run(tmp_path, model)
    assert code == 1
    assert "pip install 'kneeedge[dicom-sr]'" in stderr


def test_a_report_is_a_whole_dicom_file(tmp_path: Path, model: Path) -> None:
    _, _, path = run(tmp_path, model)
    report = pydicom.dcmread(io.BytesIO(path.read_bytes()))
    assert report.file_meta.MediaStorageSOPInstanceUID == report.SOPInstanceUID
    assert report.CompletionFlag == "COMPLETE"
    assert report.VerificationFlag == "UNVERIFIED"


@pytest.mark.slow
def test_a_full_disk_keeps_an_older_report_of_that_name(tmp_path: Path, model: Path) -> None:
    """A real limit: no file of the second run may grow beyond 1,500 bytes; a report is longer."""
    resource = pytest.importorskip("resource")
    _, _, path = run(tmp_path, model)
    older = path.read_bytes()
    assert len(older) > 1500
    full = subprocess.run(
        [sys.executable, "-m", "kneeedge", *infer_command(tmp_path, model, tmp_path / "in")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)),
    )
    assert full.returncode == 1
    assert "error: File too large" in full.stderr.splitlines()[-1]
    assert path.read_bytes() == older
    assert list(path.parent.iterdir()) == [path]
