"""WebP files (RFC 9649), which have no checksum: asked are their sizes, and how they end."""

import io
import struct
from typing import Any

from PIL.WebPImagePlugin import WebPImageFile

from kneeedge.pixels.plugin import QuietExif, UnreadableError, file_bytes, several_pictures

_CODED = (b"VP8 ", b"VP8L", b"ALPH")
"chunks that hold pixels"
_ZEROS = bytes(64)
"at the end of a chunk: few pictures have so many, and every file that was only half written"
_SPARE = 32
"bytes without which no sound chunk decodes"


class WebP(QuietExif, WebPImageFile):
    """A WebP of one picture whose chunks are all there."""

    def _open(self) -> None:
        data = file_bytes(self)
        self._shortened = [_shortened(data, chunk) for chunk in _check_chunks(data)]
        super()._open()
        if self.n_frames > 1:
            raise several_pictures("frames")

    def load(self) -> Any:
        """Decode; raises UnreadableError where pixels need less than all of their chunk.

        Zeros that take the place of coded pixels stand for another number of them. A file whose
        chunks end in zeros is decoded once more, without their ends: then no sound one decodes.
        """
        while self._shortened:
            if _decodes(self._shortened.pop()):
                raise UnreadableError("damaged WebP: its pixels end in zeros, as if half written")
        return super().load()


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the first chunk (RFC 9649, sections 2.5 to 2.7).

    Raises struct.error where it is cut off.
    """
    if data[12:16] == b"VP8X":
        low, high, height_low, height_high = struct.unpack_from("<HBHB", data, 24)
        return 1 + low + (high << 16), 1 + height_low + (height_high << 16)
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    width, height = struct.unpack_from("<HH", data, 26)
    return width % 2**14, height % 2**14


def _check_chunks(data: bytes) -> list[tuple[int, int]]:
    """Offset and length of each chunk of pixels that ends in zeros.

    Raises UnreadableError where the file or a chunk is cut off.
    """
    (size,) = struct.unpack_from("<I", data, 4)
    end = 8 + size
    if end > len(data):
        raise UnreadableError("damaged WebP: it is truncated")
    suspects: list[tuple[int, int]] = []
    at = 12
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, at)
        stop = at + 8 + length
        if stop > end:
            raise UnreadableError("damaged WebP: it is truncated inside a chunk")
        if name in _CODED and data.endswith(_ZEROS, at + 8, stop):
            suspects.append((at, length))
        at = stop + length % 2
    return suspects


def _shortened(data: bytes, chunk: tuple[int, int]) -> bytes:
    """The file without the last bytes of a chunk."""
    at, length = chunk
    stop = at + 8 + length
    short = bytearray(data[: stop - _SPARE] + data[stop:])
    struct.pack_into("<I", short, 4, struct.unpack_from("<I", data, 4)[0] - _SPARE)
    struct.pack_into("<I", short, at + 4, length - _SPARE)
    return bytes(short)


def _decodes(data: bytes) -> bool:
    """Whether libwebp finds all pixels."""
    try:
        with WebPImageFile(io.BytesIO(data)) as image:
            image.load()
    except (OSError, EOFError, SyntaxError, ValueError):
        return False
    return True
