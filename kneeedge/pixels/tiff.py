"""TIFF files (TIFF 6.0): which picture they hold, whether it is all there, and what it means."""

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ImagePalette
from PIL.TiffImagePlugin import TiffImageFile

from kneeedge.pixels.jpeg import Jpeg
from kneeedge.pixels.plugin import QuietExif, UnreadableError, file_bytes, several_pictures
from kneeedge.pixels.tags import Directory, directory_at, first_offset

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_NEW_SUBFILE, _OLD_SUBFILE, _DESCRIPTION, _SAMPLES, _PLANAR = 254, 255, 270, 277, 284
_OFFSETS, _ROWS, _LENGTHS = 273, 278, 279
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_LENGTHS = 322, 323, 324, 325
_COLOURS, _INK_SET, _EXTRA, _FORMAT, _JPEG_TABLES = 320, 332, 338, 339, 347
_DEPTH, _STACK = 32997, 33629
"tags of TIFF 6.0; SGI's depth of a volume, and MetaMorph's list of planes"
_ORIENTATION = 274
_UNCOMPRESSED, _JPEG = 1, 7
_RGB, _PALETTE, _CMYK = 2, 3, 5
"photometric interpretations"
_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
"of samples"
_UNSIGNED, _SIGNED, _UNDEFINED = 1, 2, 4
_REDUCED = 1
"the bit of NewSubfileType that says: a smaller version of another page"
_OLD_REDUCED = 2
"SubfileType's word for the same"
_SEPARATE = 2
"planar configuration: each channel by itself"
_MAX_PAGES = 1000
"pages that are looked at; a file of more is not one of a radiograph and its previews"
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""what Pillow takes pixels for that libtiff unpacked, and what they are: libtiff gives them in the
machine's byte order, whatever the file's"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the pixels of a TIFF are stored."""

    width: int
    height: int
    bits: tuple[int, ...]
    "of each channel"
    samples: int
    "channels"
    photometric: int
    format: int
    "of the samples: 1 unsigned, 2 signed, 3 floating-point"
    compression: int
    separate: bool
    "each channel by itself"
    extra: tuple[int, ...]
    "what further channels are: 1 and 2 alpha, 0 not told"

    @property
    def pixel_bits(self) -> int:
        """Of a pixel, or of its part where each channel is by itself."""
        if self.separate or len(self.bits) == 1:
            return self.bits[0] * (1 if self.separate else self.samples)
        return sum(self.bits[: self.samples])

    def __str__(self) -> str:
        sample_format = _FORMATS.get(self.format, "undefined")
        planes = " one by one" if self.separate else ""
        return (
            f"{self.samples} × {max(self.bits)}-bit {sample_format} samples{planes} "
            f"(photometric interpretation {self.photometric}, compression {self.compression})"
        )


class Tiff(QuietExif, TiffImageFile):
    """A TIFF of one picture, all of whose strips or tiles are there."""

    directory: Directory
    layout: Layout

    def _open(self) -> None:
        self.directory = read_pages(file_bytes(self))
        self.layout = read_layout(self.directory)
        try:
            super()._open()
        except (LookupError, SyntaxError) as error:
            raise _unsupported(self.layout) from error
        self.tile = [
            tile._replace(args=(_NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:]))
            if tile.codec_name == "libtiff" and isinstance(tile.args, tuple)
            else tile
            for tile in self.tile
        ]
        if self.layout.photometric == _PALETTE:
            self.palette = _palette(self.directory, self.layout)

    def stored_orientation(self) -> int:
        return int(self.tag_v2.get(_ORIENTATION, 1))

    def load(self) -> Any:
        is_first = bool(self.tile)
        if is_first:
            _check_parts(file_bytes(self), self.directory, self.layout)
        pixels = super().load()
        if is_first:
            self._check_samples()
        return pixels

    def _check_samples(self) -> None:
        """Raise UnreadableError for samples that Pillow takes for others."""
        layout = self.layout
        if layout.format == _SIGNED and layout.bits == (8,) and self.im.getextrema()[1] > 127:
            raise UnreadableError("integer pixels outside 0 to 255", "save them without a sign")
        if layout.photometric == _RGB and layout.samples == 4 and not layout.extra:
            alpha = self.getchannel(3).getextrema()
            if alpha != (255, 255):
                problem = "does not say what its fourth channel is (ExtraSamples)"
                raise UnreadableError(problem, "save it in grey or in RGB")


def read_pages(data: bytes) -> Directory:
    """The directory of the one picture in a file; what is marked as a smaller version is none.

    Raises UnreadableError where there are several pictures or the first is a smaller version, and
    ValueError where a directory is cut off.
    """
    begin = first_offset(data)
    main = directory_at(data, begin)
    if _is_reduced(main):
        problem = "begins with a preview, which is marked as a smaller version of the picture"
        raise UnreadableError(problem, "save the picture by itself")
    seen = {begin}
    directory = main
    while directory.next_offset and directory.next_offset not in seen:
        seen.add(directory.next_offset)
        directory = directory_at(data, directory.next_offset)
        if not _is_reduced(directory) or len(seen) > _MAX_PAGES:
            raise several_pictures("pages")
    if _is_stack(main):
        raise several_pictures("a stack behind one directory")
    return main


def _is_reduced(directory: Directory) -> bool:
    is_reduced = bool(directory.number(_NEW_SUBFILE, 0) & _REDUCED)
    return is_reduced or directory.number(_OLD_SUBFILE, 0) == _OLD_REDUCED


def _is_stack(directory: Directory) -> bool:
    """Whether more pictures follow the first one's pixels without directories of their own."""
    entries = directory.entries
    description = bytes(entries[_DESCRIPTION].data) if _DESCRIPTION in entries else b""
    # ImageJ's for stacks of more than 4 GB, and Python's tifffile with truncate=True
    images = re.match(rb"ImageJ=.*?^images=(\d+)", description, re.DOTALL | re.MULTILINE)
    if images and int(images[1][:9]) > 1:
        return True
    if re.match(rb'\{.*"truncated": true', description, re.DOTALL):
        return True
    n_planes = len(entries[_STACK].data) // 8 if _STACK in entries else 1
    return n_planes > 1 or directory.number(_DEPTH, 1) > 1


def read_layout(directory: Directory) -> Layout:
    """How the picture is stored; raises UnreadableError where that is not told, or not read."""
    samples = directory.number(_SAMPLES, 1)
    formats = set(directory.numbers(_FORMAT)) or {_UNSIGNED}
    if _PHOTOMETRIC not in directory.entries:
        problem = "does not say whether 0 is black or white (PhotometricInterpretation)"
        raise UnreadableError(problem, "save it again with another program")
    layout = Layout(
        width=directory.number(_WIDTH, 0),
        height=directory.number(_HEIGHT, 0),
        bits=tuple(directory.numbers(_BITS)) or (1,),
        samples=samples,
        photometric=directory.number(_PHOTOMETRIC, 0),
        format=formats.pop() if len(formats) == 1 else _UNDEFINED,
        compression=directory.number(_COMPRESSION, _UNCOMPRESSED),
        separate=samples > 1 and directory.number(_PLANAR, 1) == _SEPARATE,
        extra=tuple(directory.numbers(_EXTRA)),
    )
    is_ink = layout.photometric == _CMYK and directory.number(_INK_SET, 1) != 1
    # Pillow mixes up the bytes of wide channels that stand one by one
    is_mixed = layout.separate and layout.compression == _UNCOMPRESSED and max(layout.bits) > 8
    if is_ink or is_mixed:
        raise _unsupported(layout)
    return layout


def _unsupported(layout: Layout) -> UnreadableError:
    problem = f"unsupported TIFF: {layout} are not read"
    return UnreadableError(problem, "save it in 8- or 16-bit grey")


def _palette(directory: Directory, layout: Layout) -> ImagePalette.ImagePalette:
    """The colour map: 16 bits a channel, or 8 where no entry needs more, as libtiff takes them."""
    levels = np.array(directory.numbers(_COLOURS))
    if len(levels) != 3 * 2 ** layout.bits[0]:
        raise UnreadableError("damaged TIFF: its colour map is missing, or of another size")
    if levels.max() > 255:
        levels >>= 8
    return ImagePalette.raw("RGB;L", levels.astype(np.uint8).tobytes())


@dataclass(frozen=True)
class Parts:
    """The strips or tiles of a TIFF, by channel, by row and by column."""

    what: str
    "strips or tiles"
    offsets: list[int]
    "in the file"
    lengths: list[int]
    "in bytes, as the file says; none in old files"
    rows: list[int]
    "of pixels in each, as many as there must be parts"
    row_bytes: int
    "of each row, where it is not compressed"


def parts_of(directory: Directory, layout: Layout) -> Parts:
    """The strips or tiles that there are, and those that there must be."""
    is_tiled = _TILE_OFFSETS in directory.entries
    if is_tiled:
        width = directory.number(_TILE_WIDTH, 0)
        height = directory.number(_TILE_LENGTH, 0)
    else:
        width = layout.width
        height = min(directory.number(_ROWS, layout.height), layout.height)
    if not width * height:
        raise UnreadableError("damaged TIFF: its strips or tiles have no size")
    rows = [height] * -(-layout.height // height)
    if not is_tiled:
        rows[-1] = layout.height - height * (len(rows) - 1)
    n_across = -(-layout.width // width)
    n_planes = layout.samples if layout.separate else 1
    return Parts(
        what="tiles" if is_tiled else "strips",
        offsets=directory.numbers(_TILE_OFFSETS if is_tiled else _OFFSETS),
        lengths=directory.numbers(_TILE_LENGTHS if is_tiled else _LENGTHS),
        rows=[n_rows for n_rows in rows for _ in range(n_across)] * n_planes,
        row_bytes=-(-width * layout.pixel_bits // 8),
    )


def _check_parts(data: bytes, directory: Directory, layout: Layout) -> None:
    """Raise UnreadableError unless every strip or tile is there, as long as it must be."""
    parts = parts_of(directory, layout)
    what = parts.what
    offsets = parts.offsets
    if len(offsets) != len(parts.rows):
        raise UnreadableError(f"damaged TIFF: it has {len(offsets)} of {len(parts.rows)} {what}")
    # old files leave out how long their only strip is
    lengths = parts.lengths or [len(data) - offset for offset in offsets if len(offsets) == 1]
    if len(lengths) != len(offsets) or not all(lengths) or not all(offsets):
        raise UnreadableError(f"damaged TIFF: some of its {what} are empty")
    needed = lengths
    if layout.compression == _UNCOMPRESSED:
        needed = [rows * parts.row_bytes for rows in parts.rows]
    if any(length < least for length, least in zip(lengths, needed, strict=True)):
        raise UnreadableError(f"damaged TIFF: some of its {what} are too short")
    if any(offset + n > len(data) for offset, n in zip(offsets, needed, strict=True)):
        raise UnreadableError(f"damaged TIFF: it is truncated, and some of its {what} are outside")
    if layout.compression == _JPEG:
        tables = directory.entries.get(_JPEG_TABLES)
        for offset, length in zip(offsets, lengths, strict=True):
            _check_jpeg(bytes(tables.data) if tables else b"", data[offset : offset + length])


def _check_jpeg(tables: bytes, part: bytes) -> None:
    """Raise what is wrong with a strip or tile that is a JPEG, of which libtiff only warns.

    `tables` is what all of them have in common (TIFF Technical Note 2): a JPEG without a picture.
    """
    whole = tables[:-2] + part[2:] if tables else part
    with Jpeg(io.BytesIO(whole)) as image:
        # an eighth of the work: it is thrown away
        image.draft("L", (1, 1))
        image.load()
