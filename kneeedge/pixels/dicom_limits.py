"""What a DICOM file's compressed parts declare, looked at before anything is decompressed.

Rows and Columns are a promise that the stream behind them may break: 200 bytes of JPEG 2000 can
declare more pixels than there is memory for, and a deflated data set can unpack to a thousand times
its size.
"""

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kneeedge.errors import ImageError
from kneeedge.pixels.dicom_numbers import DamagedError

if TYPE_CHECKING:
    from pydicom import Dataset


MAX_BITS = 16
DEFLATED = b"1.2.840.10008.1.2.1.99"
BYTES_PER_PIXEL = 6
"three samples of 16 bits, the most that is read"
_CHUNK_BYTES = 1 << 20
_J2K_BEGIN = b"\xff\x4f\xff\x51"
"start of codestream, and of its sizes (ITU-T T.800, A.4.1 and A.5.1)"
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"the frame headers of JPEG (ITU-T T.81, table B.1) and of JPEG-LS (T.87, C.2.2)"
_START_OF_SCAN = 0xDA


class Frame(NamedTuple):
    """What a compressed frame says of itself."""

    columns: int
    rows: int
    components: int
    bits: int
    "a sample; the most of any component"


def check_inflated(data: bytes, path: Path, max_pixels: int) -> None:
    """Raise ImageError where a deflated data set unpacks to more than `max_pixels` can take."""
    if DEFLATED not in data:
        return
    from pydicom.filereader import read_dataset

    file = io.BytesIO(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = file.read()
    n_bytes = 0
    max_bytes = BYTES_PER_PIXEL * max_pixels + _CHUNK_BYTES
    while packed and not inflate.eof:
        n_bytes += len(inflate.decompress(packed, _CHUNK_BYTES))
        packed = inflate.unconsumed_tail
        if n_bytes > max_bytes:
            problem = f"its deflated data set unpacks to more than {max_bytes} bytes"
            raise ImageError(path, problem)


def check_stream(stream: bytes, dataset: "Dataset") -> None:
    """Raise DamagedError where the compressed frame is not what the data set says.

    GDCM believes either of the two, or aborts. Raises NotImplementedError for a depth that is not
    read.
    """
    from pydicom.uid import (
        JPEG2000TransferSyntaxes,
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLSTransferSyntaxes,
        JPEGTransferSyntaxes,
    )

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes):
        return
    frame = j2k_header(stream) if syntax in JPEG2000TransferSyntaxes else jpeg_header(stream)
    if frame is None:
        raise DamagedError("no sound frame header")
    declared = (dataset.Columns, dataset.Rows, dataset.SamplesPerPixel)
    if frame[:3] != declared:
        raise DamagedError(f"a frame of {_size(frame[:3])}, not of {_size(declared)}")
    unsound = frame.bits > MAX_BITS
    if syntax == JPEGBaseline8Bit:
        unsound = dataset.BitsStored != 8
    if syntax == JPEGExtended12Bit:
        unsound = frame.bits != (8 if dataset.BitsStored <= 8 else 12)
    if unsound:
        depth = f"{frame.bits} bits for {dataset.BitsStored} stored"
        raise NotImplementedError(f"DICOM frames of {depth} are not supported")


def _size(sides: tuple[int, ...]) -> str:
    return " × ".join(map(str, sides))


def jpeg_header(stream: bytes) -> Frame | None:
    """What the frame header says; None where the segments up to the scan are not all sound.

    GDCM ends the process where there is something between two segments.
    """
    at = 2
    frame = None
    while stream[at : at + 1] == b"\xff":
        # fill bytes may stand before any marker (T.81, B.1.1.2)
        if stream[at + 1 : at + 2] == b"\xff":
            at += 1
            continue
        if at + 10 > len(stream):
            return None
        marker = stream[at + 1]
        if marker == _START_OF_SCAN:
            return frame
        if not _begins_segment(marker):
            return None
        (size,) = struct.unpack_from(">H", stream, at + 2)
        if marker in _FRAME_MARKERS:
            bits, rows, columns, components = struct.unpack_from(">BHHB", stream, at + 4)
            frame = Frame(columns, rows, components, bits)
        at += 2 + size
    return None


def _begins_segment(marker: int) -> bool:
    """Whether a length and parameters follow a marker (T.81, B.1.1.3 and table B.1)."""
    return 0xC0 <= marker <= 0xFE and not 0xD0 <= marker <= 0xD9


def j2k_header(stream: bytes) -> Frame | None:
    """What the codestream's SIZ marker says, in a JP2 box or not; None where it is cut off."""
    at = stream.find(_J2K_BEGIN)
    if at < 0 or at + 42 > len(stream):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
    (components,) = struct.unpack_from(">H", stream, at + 40)
    depths = stream[at + 42 : at + 42 + 3 * components : 3]
    if not components or len(depths) < components:
        return None
    return Frame(right - left, bottom - top, components, max(1 + depth % 128 for depth in depths))
