"""Decodes image files in a process of its own: what a crash or a hang of a native decoder takes
down, and no more.

`python -m kneeedge.pixels.decoder` reads a Reading and then paths from stdin, a line of JSON each.
It answers each with a line of JSON, an Answer, and the pixels that this announces; it ends with its
input. `kneeedge.pixels.isolation` is the other side.
"""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import ImageError, KneeEdgeError
from kneeedge.pixels.dicom import DicomFacts
from kneeedge.pixels.reader import Reading, read_input
from kneeedge.system.processes import Failure
from kneeedge.system.strict_json import from_json, to_json

ALARM_SECONDS = 10
"beyond the time for a file, after which a decoder whose parent is gone ends itself"
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"they reach whole groups of processes; what they stop is the parent, which lets its decoders go"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one file; the first of all only says that the decoder is ready."""

    side: int = 0
    "the pixels that follow are (side, side) uint8; none where it is 0"
    dicom: DicomFacts | None = None
    blank: bool = False
    reason: str = ""
    "why there are no pixels"
    remedy: str = ""
    failure: Failure | None = None
    "what ends the run, such as an extra that is not installed"
    seconds: float = 0.0
    "processor time"


def answer(path: Path, reading: Reading) -> tuple[Answer, NDArray[np.uint8]]:
    """What became of the file, and its pixels (S, S), or none."""
    start = time.thread_time()
    nothing = np.empty((0, 0), dtype=np.uint8)
    try:
        found = read_input(path, reading)
    except KneeEdgeError as error:
        return Answer(failure=Failure(type(error).__name__, str(error))), nothing
    seconds = time.thread_time() - start
    if isinstance(found, ImageError):
        return Answer(reason=found.reason, remedy=found.remedy, seconds=seconds), nothing
    return Answer(
        side=len(found.pixels), dicom=found.dicom, blank=found.blank, seconds=seconds
    ), found.pixels


def serve(requests: BinaryIO, out: BinaryIO) -> None:
    """Answer each path until there are no more."""
    reading = from_json(Reading, requests.readline())
    send(out, Answer(), b"")
    for line in requests:
        set_alarm(int(reading.timeout) + ALARM_SECONDS)
        said, pixels = answer(Path(json.loads(line)), reading)
        set_alarm(0)
        send(out, said, pixels.tobytes())
        forget_stderr()


def send(out: BinaryIO, said: Answer, pixels: bytes) -> None:
    out.write(to_json(said, indent=None).encode("utf-8", "surrogatepass") + b"\n" + pixels)
    out.flush()


def set_alarm(seconds: int) -> None:
    """End this process after so long, whatever a decoder does, where the system can (not Windows);
    0: never.
    """
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def forget_stderr() -> None:
    """Of what libraries say, only that on the last file matters; it is a file that would grow."""
    sys.stderr.flush()
    if os.path.isfile(2):  # noqa: PTH113 - a descriptor
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)


def leave_no_core() -> None:
    """No memory image of a crash, which would hold a radiograph; where the system has limits (not
    Windows).
    """
    try:
        import resource
    except ModuleNotFoundError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answer stdin on stdout, which is kept clear of what libraries print."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    leave_no_core()
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, out)


if __name__ == "__main__":
    main()
