"""Decodes image files in a process of its own, which a crash or a hang of a native decoder ends.

`python -m kneeedge.pixels.decoder` reads ReadOptions and then paths from stdin, each a line of
JSON. It answers each path with a line of JSON, a DecoderReply, and the pixels that this
announces; it ends with its input. `kneeedge.pixels.isolation` is the other side.
"""

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kneeedge.errors import ImageError, KneeEdgeError
from kneeedge.pixels.dicom_facts import DicomFacts, DicomStudy
from kneeedge.pixels.reader import ReadOptions, read_input
from kneeedge.system.processes import Failure, end_with_parent
from kneeedge.system.stamps import FileStamp
from kneeedge.system.strict_json import from_json, to_json

ALARM_SECONDS = 10
"beyond the time for a file, after which a decoder whose parent is gone ends itself"
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"they reach whole groups of processes; what they stop is the parent, which lets its decoders go"


@dataclass(frozen=True, kw_only=True)
class DecoderReply:
    """What became of one file; the first of all only says that the decoder is ready."""

    side: int = 0
    "the pixels that follow are (side, side) uint8; none where it is 0"
    shown: tuple[int, ...] = ()
    "height and width of the picture, uint8, that follows them; none where it is empty"
    dicom: DicomFacts | None = None
    study: DicomStudy | None = None
    stamp: FileStamp | None = None
    blank: bool = False
    depth_suspect: int = 0
    n_pixels: int = 0
    reason: str = ""
    "why there are no pixels"
    remedy: str = ""
    failure: Failure | None = None
    "what ends the run, such as an extra that is not installed"
    seconds: float = 0.0
    "processor time"


def decode(path: Path, options: ReadOptions) -> tuple[DecoderReply, bytes]:
    """What became of the file, and the pixels that the reply announces."""
    try:
        read = read_input(path, options)
    except KneeEdgeError as error:
        return DecoderReply(failure=Failure(type(error).__name__, str(error))), b""
    result = read.result
    if isinstance(result, ImageError):
        refusal = DecoderReply(
            reason=result.reason, remedy=result.remedy, stamp=read.stamp, seconds=read.seconds
        )
        return refusal, b""
    shown = result.shown
    reply = DecoderReply(
        side=len(result.pixels),
        shown=() if shown is None else shown.shape,
        dicom=result.dicom,
        study=result.study,
        stamp=read.stamp,
        blank=result.blank,
        depth_suspect=result.depth_suspect,
        n_pixels=result.n_pixels,
        seconds=read.seconds,
    )
    return reply, result.pixels.tobytes() + (b"" if shown is None else shown.tobytes())


def serve(requests: BinaryIO, out: BinaryIO) -> None:
    """Answer each path of `requests` until there are no more; the first line holds the options."""
    options = from_json(ReadOptions, requests.readline())
    send(out, DecoderReply(), b"")
    for line in requests:
        set_alarm(int(options.timeout) + ALARM_SECONDS)
        reply, pixels = decode(Path(json.loads(line)), options)
        set_alarm(0)
        send(out, reply, pixels)
        forget_stderr()


def send(out: BinaryIO, reply: DecoderReply, pixels: bytes) -> None:
    out.write(to_json(reply, indent=None).encode("utf-8", "surrogatepass") + b"\n" + pixels)
    out.flush()


def set_alarm(seconds: int) -> None:
    """End this process after so long, whatever a decoder does; 0: never. Windows cannot."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def forget_stderr() -> None:
    """Of what libraries say, only that on the last file matters; it is a file that would grow."""
    sys.stderr.flush()
    if os.path.isfile(2):  # noqa: PTH113 - a descriptor
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)


def leave_no_core() -> None:
    """No memory image of a crash, which would hold a radiograph. Windows has no such limit."""
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
    end_with_parent()
    leave_no_core()
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, out)


if __name__ == "__main__":
    main()
