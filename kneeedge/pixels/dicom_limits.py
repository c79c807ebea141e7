"""What a DICOM file holds inside its compressed parts, looked at before anything is decompressed.

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

if TYPE_CHECKING:
    from pydicom import Dataset


MAX_BITS = 16
DEFLATED = b"1.2.840.10008.1.2.1.99"
BYTES_A_PIXEL = 6
"three samples of 16 bits, the most that is read"
_CHUNK = 1 << 20
_J2K_BEGIN = b"\xff\x4f\xff\x51"
"start of codestream, and of its sizes (ITU-T T.800, A.4.1 and A.5.1)"
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"the frame headers of JPEG (ITU-T T.81, table B.1) and of JPEG-LS (T.87, C.2.2)"


class Frame(NamedTuple):
    """What a compressed frame says of itself."""

    columns: int
    rows: int
    components: int
    bits: int
    "a sample; the most of any component"


def check_inflated(data: bytes, path: Path, max_pixels: int) -> None:
    """Raise ImageError where a deflated data set unpacks to more than the pixels that are allowed
    can take.
    """
    if DEFLATED not in data:
        return
    from pydicom.filereader import read_dataset

    file = io.BytesIO(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    rest = file.read()
    n = 0
    most = BYTES_A_PIXEL * max_pixels + _CHUNK
    while rest and not inflate.eof:
        n += len(inflate.decompress(rest, _CHUNK))
        rest = inflate.unconsumed_tail
        if n > most:
            raise ImageError(path, f"its deflated data set unpacks to more than {most} bytes")


def check_stream(dataset: "Dataset", path: Path) -> None:
    """Raise ImageError where the compressed frame is not what the data set says: GDCM believes
    either, or aborts.
    """
    from pydicom.encaps import get_frame
    from pydicom.uid import (
        JPEG2000TransferSyntaxes,
        JPEGBaseline8Bit,
        JPEGLSTransferSyntaxes,
        JPEGTransferSyntaxes,
    )

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes):
        return
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    found = j2k_header(frame) if syntax in JPEG2000TransferSyntaxes else jpeg_header(frame)
    if found is None:
        raise ImageError(path, "damaged DICOM pixels (no sound frame header)")
    said = (dataset.Columns, dataset.Rows, dataset.SamplesPerPixel)
    if found[:3] != said:
        found_size, said_size = (" × ".join(map(str, size)) for size in (found[:3], said))
        raise ImageError(
            path, f"damaged DICOM pixels (a frame of {found_size}, not of {said_size})"
        )
    if found.bits > MAX_BITS or (syntax == JPEGBaseline8Bit and dataset.BitsStored != 8):
        raise ImageError(
            path,
            f"DICOM frames of {found.bits} bits for {dataset.BitsStored} stored are not supported",
        )


def jpeg_header(frame: bytes) -> Frame | None:
    """By the frame header; None where the segments up to the scan are not all sound.

    GDCM ends the process where there is something between two segments.
    """
    at = 2
    found = None
    while frame[at : at + 1] == b"\xff":
        if frame[at + 1 : at + 2] == b"\xff":  # a fill byte (T.81, B.1.1.2)
            at += 1
            continue
        if at + 10 > len(frame):
            return None
        if frame[at + 1] == 0xDA:
            return found
        if (
            not 0xC0 <= frame[at + 1] <= 0xFE or 0xD0 <= frame[at + 1] <= 0xD9
        ):  # no segment of its own
            return None
        (size,) = struct.unpack_from(">H", frame, at + 2)
        if frame[at + 1] in _FRAME_MARKERS:
            bits, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
            found = Frame(columns, rows, components, bits)
        at += 2 + size
    return None


def j2k_header(frame: bytes) -> Frame | None:
    """By the codestream's SIZ marker, inside a JP2 box or not; None where it is not all there."""
    at = frame.find(_J2K_BEGIN)
    if at < 0 or at + 42 > len(frame):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, at + 8)
    (components,) = struct.unpack_from(">H", frame, at + 40)
    depths = frame[at + 42 : at + 42 + 3 * components : 3]
    if not components or len(depths) < components:
        return None
    return Frame(right - left, bottom - top, components, max(1 + depth % 128 for depth in depths))
