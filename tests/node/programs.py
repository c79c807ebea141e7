"""Programs of others that listen, started and ended by a test; and what to wait for."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks.node import free_port, listens
from tests.tools import need, need_file


def until(holds: Callable[[], object], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


class Program:
    """A program that listens on a port of this machine, until its context is left."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file)
        self.port = port
        until(lambda: listens(port))

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


class Orthanc(Program):
    """Debian's Orthanc, with DICOMweb, for loopback alone."""

    PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"

    def __init__(self, folder: Path, modalities: dict[str, list[object]] | None = None) -> None:
        need("Orthanc")
        need_file(self.PLUGIN, "orthanc-dicomweb")
        folder.mkdir()
        self.dicom_port = free_port()
        web_port = free_port()
        self.url = f"http://127.0.0.1:{web_port}"
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": "ORTHANC",
            "DicomPort": self.dicom_port,
            "HttpPort": web_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": modalities or {},
            "Plugins": [self.PLUGIN],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        super().__init__(["Orthanc", str(folder / "orthanc.json")], web_port, folder / "log")

    def ask(self, place: str, body: bytes | None = None):
        """The JSON of its own REST interface; a body is posted."""
        request = urllib.request.Request(f"{self.url}/{place}", body)  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)
