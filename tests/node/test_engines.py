"""`kneeedge serve --dicom` between the programs of others: DCMTK, Orthanc, dciodvfy."""

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="pip install 'kneeedge[node]'")

import pydicom

from benchmarks.node import (
    NodeProcess,
    free_port,
    kill_run,
    path_to_dcmtk,
    store,
    write_objects,
)
from tests.node.objects import image, uid, write_images
from tests.node.programs import Orthanc, Program, until
from tests.tiny_onnx import write_tiny_model
from tests.tools import need

ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture(autouse=True)
def from_anywhere(monkeypatch) -> None:
    """Child processes import what this one does, and programs are the system's."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("PATH", path_to_dcmtk())


@pytest.fixture
def node(tmp_path, model) -> Iterator[Callable[..., NodeProcess]]:
    """Start a node that sends to `AET@HOST:PORT`."""
    nodes: list[NodeProcess] = []

    def start(destination: str, *options: str, port: int = 0) -> NodeProcess:
        folder = tmp_path / "node"
        nodes.append(NodeProcess(model, folder, destination, options, port or free_port()))
        nodes[-1].start()
        return nodes[-1]

    yield start
    for one in nodes:
        if one.process and one.process.poll() is None:
            one.stop(signal.SIGKILL)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_dcmtk_sends_and_receives_and_the_reports_are_sound(tmp_path, node):
    need("storescu", "dciodvfy")
    archive = tmp_path / "archive"
    archive.mkdir()
    port = free_port()
    command = ["storescp", "-od", str(archive), "-aet", "ARCHIVE", str(port)]
    with Program(command, port, tmp_path / "storescp.log"):
        one = node(f"ARCHIVE@127.0.0.1:{port}", "--heatmaps", "--with-patient-id")
        paths = write_images(tmp_path / "in", 3)
        echo = ["echoscu", "-aec", "KNEEEDGE", "127.0.0.1", str(one.port)]
        assert subprocess.run(echo, check=False).returncode == 0
        assert subprocess.run([*echo[:2], "OTHER", *echo[3:]], check=False).returncode != 0
        assert all(store(path, one.port) for path in paths)
        until(lambda: len(list(archive.glob("[!.]*"))) == 6)
        assert one.stop() == 130
    assert [(row["sop_instance_uid"], row["status"]) for row in rows(one.folder)] == [
        (uid(i), "ok") for i in range(3)
    ]
    for path in archive.iterdir():
        assert errors_of(path) == []
        report = pydicom.dcmread(path)
        assert report.PatientID == "secret-id"
        assert report.StudyInstanceUID in {image(i).StudyInstanceUID for i in range(3)}


def errors_of(path: Path) -> list[str]:
    """What dciodvfy finds wrong in a DICOM file by the tables of the standard."""
    result = subprocess.run(
        ["dciodvfy", path],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    said = result.stdout + result.stderr
    assert "SR" in said or "SCImage" in said, said
    return [line for line in said.splitlines() if line.startswith("Error")]


@pytest.mark.slow
def test_kills_lose_nothing_and_answer_nothing_twice(tmp_path, model):
    need("storescu")
    paths = write_objects(tmp_path / "in", 8, (64, 96))
    result = kill_run(model, paths, 2, tmp_path, longest_life=2.0)
    assert (result.n_acknowledged, result.n_rows, result.n_reports) == (8, 8, 8)
    assert (result.n_lost, result.n_answered_twice, result.n_without_report) == (0, 0, 0)
    assert result.n_reports_changed == 0


@pytest.mark.slow
def test_orthanc_sends_an_image_and_gets_its_report_into_the_same_study(tmp_path, node):
    here = free_port()
    (path,) = write_images(tmp_path / "in", 1)
    modalities = {"kneeedge": ["KNEEEDGE", "127.0.0.1", here]}
    with Orthanc(tmp_path / "orthanc", modalities) as orthanc:
        options = ["--heatmaps", "--with-patient-id", "--peer", "ORTHANC@127.0.0.1"]
        one = node(f"ORTHANC@127.0.0.1:{orthanc.dicom_port}", *options, port=here)
        stored = orthanc.ask("instances", path.read_bytes())
        orthanc.ask("modalities/kneeedge/store", stored["ID"].encode())
        until(lambda: len(orthanc.ask("instances")) == 3)
        (study,) = orthanc.ask("studies?expand")
        series = orthanc.ask(f"studies/{study['ID']}/series")
    assert study["MainDicomTags"]["StudyInstanceUID"] == image(0).StudyInstanceUID
    modalities = Counter(one["MainDicomTags"]["Modality"] for one in series)
    assert modalities == {"CR": 1, "SR": 1, "OT": 1}
    assert [row["status"] for row in rows(one.folder)] == ["ok"]


@pytest.mark.slow
def test_over_tls_only_who_has_a_certificate_may_send(tmp_path, node):
    need("openssl", "storescu")
    authority = certificate(tmp_path, "ca")
    files = ["--tls-cert", str(authority[0]), "--tls-key", str(authority[1])]
    one = node(f"ARCHIVE@127.0.0.1:{free_port()}", *files, "--tls-ca", str(authority[0]))
    (path,) = write_images(tmp_path / "in", 1)
    place = ["-aec", "KNEEEDGE", "127.0.0.1", str(one.port), str(path)]
    trusted = ["--add-cert-file", str(authority[0]), "--require-peer-cert"]
    with_tls = ["storescu", "+tls", str(authority[1]), str(authority[0]), *trusted, *place]
    assert subprocess.run(with_tls, check=False).returncode == 0
    until(lambda: list((one.folder / "outbox").glob("*.dcm")))
    anonymous = ["storescu", "+tla", "--add-cert-file", str(authority[0]), *place]
    assert subprocess.run(anonymous, check=False).returncode != 0
    plain = ["storescu", "-to", "5", *place]
    assert subprocess.run(plain, check=False).returncode != 0
    one.stop()
    assert len(rows(one.folder)) == 1


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signed itself, and its key."""
    files = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files
