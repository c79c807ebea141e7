"""What kneeedge itself wrote, known again by what a file or a folder holds, not by its name."""

import json
import re
import struct
from pathlib import Path

from kneeedge.version import __version__

SOFTWARE = f"kneeedge {__version__}"
"what a picture says that it was made with"
PNG_TEXT = {"Software": SOFTWARE}
"for the tEXt chunk of that keyword (PNG, third edition, 11.3.3.2)"
FOLDER_MARK = ".kneeedge"
"a file in a folder that pictures or reports were written below: whoever lists it looks into them"
HEAD_BYTES = 4096
"of a file, in which its mark stands"
_MARK = b"kneeedge"
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SOFTWARE = b"Software\0" + _MARK
_SR_CLASSES = b"1.2.840.10008.5.1.4.1.1.88."
"the SOP classes of Structured Reports (PS3.4, table B.5-1)"
_SC_CLASS = b"1.2.840.10008.5.1.4.1.1.7\0"
"the SOP class of Secondary Captures"
_MANUFACTURER = b"\x08\x00\x70\x00LO" + struct.pack("<H", len(_MARK)) + _MARK
"(0008,0070) as explicit little endian (PS3.5, 7.1.2)"
_MANUFACTURERS = re.compile(rb"\x08\x00\x70\x00(LO.\x00|.\x00\x00\x00)" + _MARK, re.DOTALL)
"the same, and as implicit little endian (PS3.5, 7.1.3)"
RUN_CONFIG = "config.json"
"of a run folder: what was asked for, and where the data is"
_RUN_KEYS = {"config", "command", "data_root"}
_MAX_CONFIG_BYTES = 1 << 20


def figure_metadata(suffix: str) -> dict[str, str]:
    """What Matplotlib writes into a .png, .svg or .pdf, by which `is_own_picture` knows it."""
    return PNG_TEXT if suffix == ".png" else {"Creator": SOFTWARE}


def is_own_picture(head: bytes) -> bool:
    """Whether the head of a PNG says that kneeedge made it: a heat map or a figure."""
    if not head.startswith(_PNG):
        return False
    place = len(_PNG)
    while place + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, place)
        if kind == b"IDAT":
            break
        content = head[place + 8 : place + 8 + length]
        if kind == b"tEXt" and content.startswith(_PNG_SOFTWARE):
            return True
        place += length + 12  # with the length, the kind and the checksum
    return False


def is_own_report(head: bytes) -> bool:
    """Whether the head of a DICOM file is that of a Structured Report that kneeedge wrote."""
    return head[128:132] == b"DICM" and _SR_CLASSES in head and _MANUFACTURER in head


def is_own_capture(head: bytes) -> bool:
    """Whether the head of a DICOM file is that of a Secondary Capture that kneeedge wrote."""
    return head[128:132] == b"DICM" and _SC_CLASS in head and _MANUFACTURER in head


def is_own_object(dataset: bytes) -> bool:
    """Whether a DICOM data set, as encoded in little endian, says that kneeedge made it."""
    return _MANUFACTURERS.search(dataset, 0, HEAD_BYTES) is not None


def is_own_file(path: Path | str) -> bool:
    """Whether a file is kneeedge's picture, report or capture; False where it cannot be read."""
    try:
        head = read_head(path)
    except OSError:
        return False
    return is_own_picture(head) or is_own_report(head) or is_own_capture(head)


def read_head(path: Path | str) -> bytes:
    """The first HEAD_BYTES bytes of a file."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - 100,000 paths need no Path each
        return file.read(HEAD_BYTES)


def mark_folder(folder: Path) -> None:
    """Let a folder say that kneeedge writes pictures or reports below it."""
    mark = folder / FOLDER_MARK
    if not mark.exists():
        mark.write_text("kneeedge writes below this folder; its listing looks for that\n")


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds a run of kneeedge's, by what its RUN_CONFIG says."""
    try:
        with (folder / RUN_CONFIG).open("rb") as file:
            record = json.loads(file.read(_MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):  # is not there, or is somebody else's
        return False
    return isinstance(record, dict) and record.keys() >= _RUN_KEYS
