"""`infer --dicomweb`: a study of an archive, answered and reported there."""

import csv
from pathlib import Path

import pytest

pytest.importorskip("dicomweb_client", reason="pip install 'kneeedge[node]'")

from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import ArchiveError, ConfigError
from kneeedge.node.dicomweb import Archive, check_url, failed_instances
from tests.node.objects import image, uid, write_images
from tests.node.programs import Orthanc
from tests.tiny_onnx import write_tiny_model

URL = "http://127.0.0.1:1/dicom-web"
STUDY = str(image(0).StudyInstanceUID)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "m.onnx")


def run(model: Path, out: Path, url: str, *options: str):
    command = ["infer", "--model", str(model), "--out", str(out), "--dicomweb", url]
    return CliRunner().invoke(app, [*command, *options])


@pytest.mark.slow
def test_a_study_is_answered_as_its_files_are_and_its_reports_are_stored_in_it(tmp_path, model):
    paths = write_images(tmp_path / "in", 2)
    with Orthanc(tmp_path / "orthanc") as orthanc:
        for path in paths:
            orthanc.ask("instances", path.read_bytes())
        url = f"{orthanc.url}/dicom-web"
        out = tmp_path / "p.csv"
        result = run(model, out, url, "--study", STUDY, "--with-patient-id")
        assert result.exit_code == 0, result.stderr
        assert f"study {STUDY}: 1 image" in result.stderr
        assert "1 report stored in" in result.stderr
        studies = {s["MainDicomTags"]["StudyInstanceUID"]: s for s in orthanc.ask("studies?expand")}
        series = orthanc.ask(f"studies/{studies[STUDY]['ID']}/series")
        assert sorted(one["MainDicomTags"]["Modality"] for one in series) == ["CR", "SR"]
        again = run(model, out, url, "--study", STUDY, "--with-patient-id", "--resume")
        assert again.exit_code == 0, again.stderr
        assert "1 image; 1 other object" in again.stderr
        assert len(orthanc.ask("instances")) == 3
        unknown = run(model, tmp_path / "q.csv", url, "--study", "1.2.3.4.5")
    assert unknown.exit_code == 1
    assert "study 1.2.3.4.5 has none in 0 objects; name a study with radiographs" in unknown.stderr
    (row,) = rows(out)
    assert row["path"] == f"{STUDY}/{uid(0)}.dcm"
    result = CliRunner().invoke(
        app, ["infer", str(paths[0]), "--model", str(model), "--out", str(tmp_path / "f.csv")]
    )
    assert result.exit_code == 0, result.stderr
    (of_file,) = rows(tmp_path / "f.csv")
    assert (row["probability"], row["distance"]) == (of_file["probability"], of_file["distance"])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_archive_that_is_not_there_is_one_line(tmp_path, model):
    result = run(model, tmp_path / "p.csv", URL, "--study", STUDY)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"error: {URL} did not find the study: it does not answer; "
        "check the address, and that the archive runs"
    )
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "there is nothing to answer; name images or folders, or --dicomweb URL and --study"),
        (["--study", "1.2"], "--study is of no archive; name it with --dicomweb URL"),
        (["--dicomweb", URL], "name a study with --study UID"),
        (["--dicomweb", URL, "--study", "../1"], "is no UID"),
        (["--dicomweb", "ftp://host", "--study", "1.2"], "give an http or https URL"),
        (["in", "--dicomweb", URL, "--study", "1.2"], "excludes paths and --engine ray"),
        (["--dicomweb", URL, "--study", "1.2", "--watch"], "answers a study once"),
        (["--dicomweb", URL, "--study", "1.2", "--out", "-"], "name one with --dicom-sr"),
    ],
)
def test_what_makes_no_sense_together_is_wrong_usage(options, says):
    result = CliRunner().invoke(app, ["infer", *options, "--model", "m.onnx"])
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_password_in_the_url_is_refused():
    with pytest.raises(
        ConfigError, match=r"put it into \.netrc, or a token into KNEEEDGE_DICOMWEB"
    ):
        check_url("https://me:secret@host/dicom-web")


def test_an_archive_that_names_objects_by_no_uid_is_refused(monkeypatch):
    archive = Archive(URL)
    record = {"0020000E": {"Value": ["1.2"]}, "00080018": {"Value": ["../../evil"]}}
    monkeypatch.setattr(archive._client, "search_for_instances", lambda *_, **__: [record])
    with pytest.raises(ArchiveError, match="names no objects"):
        archive.find(STUDY)


def test_a_report_that_the_archive_refuses_is_named():
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    item.FailureReason = 0xA700
    answer = Dataset()
    answer.FailedSOPSequence = [item]
    assert failed_instances(answer) == ["1.2.3 (A700)"]
    assert failed_instances(Dataset()) == []


def test_a_token_goes_into_the_header_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("KNEEEDGE_DICOMWEB_TOKEN", "secret")
    archive = Archive(URL)
    assert archive._client._session.headers["Authorization"] == "Bearer secret"
    assert "secret" not in repr(archive)
