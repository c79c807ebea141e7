"""PNG files (PNG specification, third edition, W3C 2025), whose checksums are asked."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from kneeedge.pixels.plugin import QuietExif, UnreadableError, file_bytes, several_pictures

_HEADER_BYTES = 13
_ABOUT_PIXELS = (b"tRNS", b"eXIf")
"chunks that a reader may leave out, and that change what is seen all the same"
_PADDING = bytes(8)
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
"first column and row of each pass of an interlaced image, and the steps to the next (section 8.1)"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"by colour type (section 11.2.1)"


@dataclass(frozen=True)
class Chunks:
    """What the chunks of a PNG hold of its pixels."""

    header: bytes
    "IHDR"
    stream: bytes
    """the compressed pixels: all IDAT together, and behind them `_PADDING`, so that a stream that
    is cut in its checksum meets a wrong one"""
    n_colours: int
    "of the palette; 0 where there is none"
    transparency: bytes
    "tRNS; empty where there is none"


def read_chunks(data: bytes) -> Chunks:
    """What a file holds from its signature to IEND; what follows is not looked at.

    Raises UnreadableError where the file ends before IEND, or where the checksum fails of a chunk
    that has to do with the pixels.
    """
    contents: dict[bytes, list[memoryview]] = {}
    for kind, content in _each_chunk(data):
        contents.setdefault(kind, []).append(content)
    header = bytes(contents.get(b"IHDR", [b""])[0])
    if len(header) != _HEADER_BYTES or data[12:16] != b"IHDR":
        raise UnreadableError("damaged PNG: it does not begin with its header (IHDR)")
    return Chunks(
        header,
        b"".join([*contents.get(b"IDAT", []), _PADDING]),
        len(contents.get(b"PLTE", [b""])[-1]) // 3,
        bytes(contents.get(b"tRNS", [b""])[-1]),
    )


def _each_chunk(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and content of each chunk up to IEND."""
    view = memoryview(data)
    begin = 8
    kind = b""
    while kind != b"IEND":
        if begin + 12 > len(data):
            raise UnreadableError("damaged PNG: it is truncated, and its end (IEND) is missing")
        length, kind = struct.unpack_from(">I4s", data, begin)
        name = kind.decode("ascii", "backslashreplace")
        end = begin + 12 + length
        if end > len(data):
            raise UnreadableError(f"damaged PNG: it is truncated inside its chunk {name}")
        is_critical = not kind[0] & 0x20
        if is_critical or kind in _ABOUT_PIXELS:
            (checksum,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(view[begin + 4 : end - 4]) != checksum:
                raise UnreadableError(f"damaged PNG: the checksum of its chunk {name} fails")
        yield kind, view[begin + 8 : end - 4]
        begin = end


class Png(QuietExif, PngImageFile):
    """A PNG of one picture, all of whose pixels are there."""

    chunks: Chunks

    def _open(self) -> None:
        self.chunks = read_chunks(file_bytes(self))
        super()._open()
        if self.n_frames > 1:
            raise several_pictures("frames")
        if "transparency" in self.info and self.mode in ("1", "L", "RGB"):
            self.info["transparency"] = self._transparent_level()

    @property
    def bit_depth(self) -> int:
        """Bits a channel, of a palette image bits an index."""
        return self.chunks.header[8]

    def _transparent_level(self) -> int | tuple[int, ...]:
        """The transparent level, or colour, on the scale of the decoded pixels.

        A file gives it on its own scale of 2 ** bits levels, in the low bits of numbers of 16
        (section 11.3.1.1); Pillow brings the pixels alone to 8 bits.
        """
        if self.bit_depth == 16:
            problem = "a PNG of 16-bit colour with a transparent colour is not read"
            raise UnreadableError(problem, "save it with an alpha channel, or in grey")
        top = 2**self.bit_depth - 1
        if self.mode != "RGB":
            (level,) = struct.unpack_from(">H", self.chunks.transparency)
            return int((level & top) * (255 // top))
        return tuple(level & top for level in struct.unpack_from(">3H", self.chunks.transparency))

    def load(self) -> Any:
        if self.tile:
            if self.info.get("interlace"):
                _check_size(self.chunks)
                super().load()
            else:
                self.im = self._decoded().im
                # so that `load_end` finds what follows the pixels, such as EXIF
                self.fp.seek(self.tile[0].offset)  # type: ignore[union-attr]
                self.load_prepare()
                self.tile = []
                self.load_end()
            self._check_palette()
        return super().load()

    def _decoded(self) -> Image.Image:
        """The pixels of an image that is not interlaced; raises UnreadableError where any fails.

        They are decoded as if there were a row more. So the decoder reads on to the end of the
        stream and its checksum, where Pillow by itself stops short of both.
        """
        width, height = self.size
        canvas = Image.new(self.mode, (width, height + 1), None)
        # eight bytes a pixel: as much as any mode takes
        noise = np.random.default_rng(0).bytes(2 * 8 * width)
        unwritten = Image.frombytes(self.mode, (width, 2), noise, "raw", self.mode)
        canvas.paste(unwritten, (0, height - 1))
        (tile,) = self.tile
        try:
            canvas.frombytes(self.chunks.stream, "zip", tile.args, 0)
        except ValueError as error:
            # the row more is not there, as it should be
            if str(error) != "not enough image data":
                raise UnreadableError("damaged PNG: its compressed pixels are corrupt") from error
        if _row(canvas, height) != _row(unwritten, 1):
            raise UnreadableError("damaged PNG: it holds more rows than it says")
        if _row(canvas, height - 1) == _row(unwritten, 0):
            _check_size(self.chunks)
        return canvas.crop((0, 0, width, height))

    def _check_palette(self) -> None:
        if self.mode != "P":
            return
        largest = int(self.im.getextrema()[1])
        if largest >= self.chunks.n_colours:
            problem = (
                f"a pixel has colour {largest}, and its palette {self.chunks.n_colours} colours"
            )
            raise UnreadableError(f"damaged PNG: {problem}")


def _row(image: Image.Image, y: int) -> bytes:
    return image.crop((0, y, image.width, y + 1)).tobytes()


def _check_size(chunks: Chunks) -> None:
    """Raise UnreadableError unless the stream unpacks to the bytes that the header asks for."""
    expected = _n_bytes(chunks.header)
    inflater = zlib.decompressobj()
    n_bytes = 0
    rest = chunks.stream
    try:
        # a byte more than there should be is enough to know
        while not inflater.eof and rest and n_bytes <= expected:
            n_bytes += len(inflater.decompress(rest, 2**20))
            rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise UnreadableError("damaged PNG: its compressed pixels are corrupt") from error
    if n_bytes != expected or not inflater.eof:
        amount = "more" if n_bytes > expected else "fewer"
        raise UnreadableError(f"damaged PNG: it holds {amount} pixels than it says")


def _n_bytes(header: bytes) -> int:
    """Of the unpacked stream: each row of each pass is whole bytes, and one for its filter."""
    width, height, bits, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", header)
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    total = 0
    for left, top, step_x, step_y in passes:
        columns = -(-(width - left) // step_x)
        rows = -(-(height - top) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits * _CHANNELS[colour_type] + 7) // 8)
    return total
