"""A DICOM node under load and under kills: `python -m benchmarks.node MODEL --json FILE`.

The objects are phantoms of the size of a radiograph (2,000 × 2,500 pixels, 12 bits) with other
noise each. First some are sent one after another at a steady pace, each timed from the begin of its
C-STORE until its Structured Report is back at the destination. Then all others, small ones, are
sent by DCMTK's storescu, each again until it is acknowledged, while the node is killed (SIGKILL) at
random moments and started again. At the end the rows, and what the destination got, are counted
against what was acknowledged.
"""

import argparse
import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pynetdicom import AE, evt

from kneeedge.node.sender import SENT
from kneeedge.pixels.phantom import phantom
from kneeedge.system.machine import environment
from tests.dicom_files import dataset, stored

WIDTH, HEIGHT = 2000, 2500
UID_ROOT = "1.2.826.0.1.3680043.10.99"
START_SECONDS = 120.0
DRAIN_SECONDS = 900.0
LONGEST_LIFE = 6.0
"seconds from a start of the node to its kill, at most"
CR = "1.2.840.10008.5.1.4.1.1.1"


def write_objects(folder: Path, n: int, size: tuple[int, int]) -> list[Path]:
    """`n` DICOM files of one phantom, each with noise of its own."""
    folder.mkdir(parents=True)
    width, height = size
    base = phantom(0, 0.0, 256)
    rows = np.arange(height) * 256 // height
    columns = np.arange(width) * 256 // width
    large = base[np.ix_(rows, columns)].astype(np.uint16) * 15
    paths = []
    for i in range(n):
        noise = np.random.default_rng(i).integers(0, 64, large.shape, dtype=np.uint16)
        image = dataset(
            large + noise,
            12,
            SOPInstanceUID=f"{UID_ROOT}.{i + 1}",
            StudyInstanceUID=f"{UID_ROOT}.0.{i + 1}",
            SeriesInstanceUID=f"{UID_ROOT}.0.{i + 1}.1",
            StudyDate="20260101",
            Modality="CR",
        )
        paths.append(folder / f"{i:05}.dcm")
        paths[-1].write_bytes(stored(image))
    return paths


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class NodeProcess:
    """`kneeedge serve --dicom`, which may be killed and started again."""

    model: Path
    folder: Path
    destination: str
    "AET@HOST:PORT"
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "kneeedge", "serve", "--dicom", "--model", self.model]
        command += ["--out", self.folder, "--port", str(self.port), "--max-rate", "1000000"]
        command += ["--send-to", self.destination, *self.options]
        with (self.folder.parent / "node.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while not listens(self.port):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder.parent / "node.log").read_text())
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(START_SECONDS)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def path_to_dcmtk() -> str:
    """PATH without this Python's own programs: pynetdicom's have the names of DCMTK's."""
    own = Path(sys.executable).parent
    return os.pathsep.join(folder for folder in os.get_exec_path() if Path(folder) != own)


def store(path: Path, port: int) -> bool:
    """Send a file by DCMTK's storescu; whether it was acknowledged."""
    command = ["storescu", "-v", "-to", "30", "-aec", "KNEEEDGE", "127.0.0.1", str(port), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return "Received Store Response (Success)" in result.stdout + result.stderr


@dataclass(frozen=True, kw_only=True)
class KillResult:
    """What became of objects while the node was killed."""

    n_objects: int
    n_kills: int
    n_acknowledged: int
    n_rows: int
    n_lost: int
    "acknowledged, without a row"
    n_answered_twice: int
    "objects with more than one row"
    n_reports: int
    "different Structured Reports that the destination has"
    n_without_report: int
    "answered objects without one"
    n_sends_repeated: int
    "that were not acknowledged, since the node was being killed, and were sent again"
    n_reports_repeated: int
    "that came to the destination again, under the same UID and with the same bytes"
    n_reports_changed: int
    "that came again with other bytes"


def kill_run(
    model: Path, paths: list[Path], n_kills: int, folder: Path, longest_life: float = LONGEST_LIFE
) -> KillResult:
    """Send all objects while the node is killed `n_kills` times, each within `longest_life` s."""
    rng = random.Random(0)  # noqa: S311 - moments, no secrets
    archive = Archive()
    node = NodeProcess(model, folder / "node", archive.place)
    node.start()
    sending = Sending(paths, node.port)
    sending.start()
    for _ in range(n_kills):
        time.sleep(rng.uniform(0.0, longest_life))
        node.stop(signal.SIGKILL)
        node.start()
    sending.join()
    end = time.monotonic() + DRAIN_SECONDS
    while waits(folder / "node") and time.monotonic() < end:
        time.sleep(0.2)
    node.stop()
    archive.stop()
    with (folder / "node/predictions.csv").open(newline="") as file:
        rows = Counter(row["sop_instance_uid"] for row in csv.DictReader(file))
    answered = {uid for uid in rows if uid}
    return KillResult(
        n_objects=len(paths),
        n_kills=n_kills,
        n_acknowledged=len(sending.acknowledged),
        n_rows=rows.total(),
        n_lost=len(sending.acknowledged - set(rows)),
        n_answered_twice=sum(n > 1 for n in rows.values()),
        n_reports=len(archive.contents),
        n_without_report=len(answered - archive.times.keys()),
        n_sends_repeated=sending.n_repeated,
        n_reports_repeated=archive.n_repeated,
        n_reports_changed=archive.n_changed,
    )


def waits(folder: Path) -> bool:
    """Whether anything is not yet answered or not yet sent."""
    return any(any((folder / name).glob("*.dcm")) for name in ("inbox", "made", "outbox"))


class Sending(threading.Thread):
    """Sends files one after another, each until it is acknowledged."""

    def __init__(self, paths: list[Path], port: int) -> None:
        super().__init__()
        self.paths = paths
        self.port = port
        self.acknowledged: set[str] = set()
        self.n_repeated = 0

    def run(self) -> None:
        for path in self.paths:
            uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            while not store(path, self.port):
                self.n_repeated += 1
                time.sleep(0.1)
            self.acknowledged.add(uid)


class Archive:
    """A destination that remembers when the report of each image first came."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self.contents: dict[str, bytes] = {}
        self.n_repeated = 0
        self.n_changed = 0
        entity = AE("ARCHIVE")
        for sop_class in SENT:
            entity.add_supported_context(sop_class)
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.place = f"ARCHIVE@127.0.0.1:{self._server.server_address[1]}"

    def _store(self, event: evt.Event) -> int:
        now = time.monotonic()
        content = event.encoded_dataset(include_meta=False)
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in self.contents:
            self.n_repeated += self.contents[uid] == content
            self.n_changed += self.contents[uid] != content
        self.contents[uid] = content
        report = event.dataset
        if report.SOPClassUID == SENT[0]:
            study = report.CurrentRequestedProcedureEvidenceSequence[0]
            image = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
            self.times.setdefault(str(image.ReferencedSOPInstanceUID), now)
        return 0

    def stop(self) -> None:
        self._server.shutdown()


@dataclass(frozen=True, kw_only=True)
class LatencyResult:
    """How long it is from the begin of a C-STORE until the report is back, in seconds."""

    n: int
    pace: float
    "objects a second"
    mb: float
    "of an object"
    p50_s: float
    p99_s: float
    largest_s: float


def latency_run(model: Path, paths: list[Path], pace: float, folder: Path) -> LatencyResult:
    """Send objects at a steady pace."""
    archive = Archive()
    node = NodeProcess(model, folder / "paced", archive.place, ("--heatmaps",))
    node.start()
    entity = AE("CR1")
    entity.add_requested_context(CR, "1.2.840.10008.1.2.1")
    begun: dict[str, float] = {}
    images = [pydicom.dcmread(path) for path in paths]
    warm, *timed = images
    for image in (warm, *timed):
        association = entity.associate("127.0.0.1", node.port, ae_title="KNEEEDGE")
        start = time.monotonic()
        begun[str(image.SOPInstanceUID)] = start
        if association.send_c_store(image).Status != 0:
            raise RuntimeError("an object was refused")
        association.release()
        if image is warm:
            wait_for(lambda: len(archive.times) == 1)
        else:
            time.sleep(max(0.0, start + 1 / pace - time.monotonic()))
    wait_for(lambda: len(archive.times) == len(paths))
    node.stop()
    archive.stop()
    seconds = [archive.times[str(i.SOPInstanceUID)] - begun[str(i.SOPInstanceUID)] for i in timed]
    return LatencyResult(
        n=len(timed),
        pace=pace,
        mb=paths[0].stat().st_size / 1e6,
        p50_s=round(float(np.percentile(seconds, 50)), 4),
        p99_s=round(float(np.percentile(seconds, 99)), 4),
        largest_s=round(max(seconds), 4),
    )


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + DRAIN_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError("it never came to that")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--timed", type=int, default=100, help="objects sent at a steady pace")
    parser.add_argument("--pace", type=float, default=1.0, help="objects a second")
    parser.add_argument("--size", type=int, nargs=2, default=(WIDTH, HEIGHT))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    os.environ["PATH"] = path_to_dcmtk()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed = write_objects(folder / "timed", args.timed + 1, tuple(args.size))
        latency = latency_run(args.model, timed, args.pace, folder)
        print(latency)
        small = write_objects(folder / "objects", args.objects, (256, 320))
        kills = kill_run(args.model, small, args.kills, folder)
        print(kills)
    result = {
        "model": args.model.name,
        "environment": asdict(environment()),
        "latency": asdict(latency),
        "kills": asdict(kills),
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
