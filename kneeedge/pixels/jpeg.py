"""JPEG files (ITU-T T.81), whose scans are asked for all their blocks.

libjpeg fills what a scan lacks with grey, and only warns; Pillow passes its warnings on to nobody.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from kneeedge.pixels.plugin import QuietExif, UnreadableError, file_bytes, several_pictures
from kneeedge.pixels.tags import embedded_directory

_STUFFED, _FILL = 0x00, 0xFF
"what may follow 0xFF where there is no marker (T.81, B.1.1)"
_RST0, _RST7, _EOI, _SOS, _DRI = 0xD0, 0xD7, 0xD9, 0xDA, 0xDD
"markers of T.81, table B.1"
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA)
"start of a frame that is sequential, progressive or lossless, by Huffman or arithmetic coding"
_PROGRESSIVE, _ARITHMETIC = (0xC2, 0xCA), (0xC9, 0xCA)
_STANDALONE = (0x01, *range(0xD0, 0xD9))
"markers without a segment behind them"
_ONES = b"\xff\x00"
"eight bits that no Huffman code begins with (T.81, C.2), as they are stuffed"
_ZERO_BITS = b"\0"
_AHEAD = 8
"bytes that libjpeg reads ahead of the bits that it uses"
_SLACK = 64
"bytes that may follow the last block of a scan; some cameras leave a few"
_MAX_PARTS = 4096
"restart intervals of a scan that are looked at one by one; of more only the number is"
_N_PICTURES, _MP_ENTRIES = 0xB001, 0xB002
"tags of the multi-picture index (CIPA DC-007, 5.2.3)"
_MP_KIND, _MP_SEVERAL, _MP_UNDEFINED = 0xFFFFFF, 0x02, 0x000000
"""the bits of a picture's type; the class of panorama, stereo and multi-angle pictures; and that of
no type (CIPA DC-007, table 4)"""
_MAX_HEAD = 2**16
"bytes of another picture in which it says what it is"
_GAIN_MAP_WORDS = (b"hdrgm:", b"HDRGainMap", b"urn:iso:std:iso:ts:21496:-1")
"what a gain map says of itself: Adobe's and Google's, Apple's and ISO 21496-1's"


@dataclass(frozen=True)
class Scan:
    """One scan of a JPEG, by offsets in its file."""

    start: int
    "of its coded blocks"
    end: int
    "of these: where the next marker is, or the file ends"
    restarts: tuple[int, ...]
    "where its restart markers are"


@dataclass(frozen=True)
class Layout:
    """Where the parts of a JPEG are, and what they code."""

    scans: tuple[Scan, ...]
    frame: int
    "the marker of the frame; 0 where there is none"
    is_whole: bool
    "the scans code every coefficient of every component to its last bit"
    is_closed: bool
    "it ends with its marker (EOI)"


class Jpeg(QuietExif, JpegImageFile):
    """A JPEG of one picture, all of whose blocks are there."""

    def _open(self) -> None:
        super()._open()
        if _n_pictures(self, file_bytes(self)) > 1:
            raise several_pictures("a stereo pair, a panorama or a series")

    def load(self) -> Any:
        if self.tile:
            data = file_bytes(self)
            layout = read_layout(data)
            if not layout.is_whole:
                raise UnreadableError("damaged JPEG: it is truncated, and scans are missing")
            # libjpeg does not decode arithmetic coding piece by piece
            if layout.frame not in _ARITHMETIC:
                self.im = self._decoded(data, layout, _ONES).im
                self.tile = []
                self.load_end()
        return super().load()

    def _decoded(self, data: bytes, layout: Layout, padding: bytes) -> Image.Image:
        """The pixels; `padding` is what is fed where a scan ends."""
        pixels = Image.new(self.mode, self.size, None)
        ((codec, extents, _, args),) = self.tile
        # no public way leads to how much of its input a decoder has used
        decoder = Image._getdecoder(self.mode, codec, args, self.decoderconfig)
        try:
            decoder.setimage(pixels.im, extents)
            _Feeder(decoder, data, padding).feed_scans(layout.scans)
        finally:
            decoder.cleanup()
        # some programs leave the end out; then no pixel may hang on what was fed in its place
        if layout.is_closed or padding == _ZERO_BITS:
            return pixels
        if self._decoded(data, layout, _ZERO_BITS).tobytes() != pixels.tobytes():
            raise UnreadableError("damaged JPEG: it is truncated")
        return pixels


class _Feeder:
    """Feeds a decoder a JPEG part by part, and sees whether each holds the blocks that it must."""

    def __init__(self, decoder: Any, data: bytes, padding: bytes) -> None:
        self._decoder = decoder
        self._padding = padding
        self._data = memoryview(data)
        self._left = b""
        "what the decoder has not used"
        self._is_done = False
        "the decoder has given every row"

    def feed_scans(self, scans: tuple[Scan, ...]) -> None:
        """Raises UnreadableError where blocks are missing, or bytes are left over."""
        begin = 0
        for scan in scans:
            stops = scan.restarts if len(scan.restarts) <= _MAX_PARTS else ()
            start = scan.start
            for end in (*stops, scan.end):
                self._feed_part(begin, start, end)
                if self._is_done and end != scan.end:
                    raise UnreadableError("damaged JPEG: it holds more blocks than it says")
                begin = end
                start = end + 2
            # what follows the last row is no part of the picture
            if self._is_done:
                return
        self._feed(b"\xff\xd9")
        if not self._is_done:
            raise UnreadableError("damaged JPEG: it is truncated")

    def _feed_part(self, begin: int, start: int, end: int) -> None:
        """Feed from `begin` to `end`, where from `start` on there is nothing but coded blocks."""
        cut = max(start, end - _SLACK)
        self._feed(self._data[begin:cut])
        probe = min(cut + 2, end)
        if start < cut and self._waits_for_marker(
            self._data[cut : cut + 1], self._data[cut + 1 : probe]
        ):
            raise UnreadableError("damaged JPEG: it holds more blocks than it says, or other ones")
        self._feed(self._data[probe if start < cut else cut : end])
        if self._is_done:
            return
        self._feed(self._padding * _AHEAD)
        if not self._waits_for_marker(self._padding, self._padding):
            raise UnreadableError(
                "damaged JPEG: it is truncated or corrupt, and blocks are missing"
            )

    def _waits_for_marker(self, *few: bytes | memoryview) -> bool:
        """Whether the decoder throws away what it is fed, a byte or two at a time.

        It does between a part's last block and the marker that must follow. Inside a block it takes
        no byte before there are some more, so that one of these would be left.
        """
        left = []
        for piece in few:
            self._feed(piece)
            left.append(self._left)
        return not any(left)

    def _feed(self, more: bytes | memoryview) -> None:
        if self._is_done:
            return
        fed = self._left + more if self._left else more
        n_used, status = self._decoder.decode(fed)
        if n_used < 0:
            self._is_done = True
            self._left = b""
            if status < 0:
                raise UnreadableError("damaged JPEG: its compressed pixels are corrupt")
        else:
            self._left = bytes(fed[n_used:])


def read_layout(data: bytes) -> Layout:
    """The scans of a JPEG, by its markers from SOI to EOI, or to where it ends without one.

    Raises UnreadableError where restart markers are missing, and struct.error or LookupError where
    a segment is cut off.
    """
    markers = _markers(data)
    scans: list[Scan] = []
    coded: dict[int, NDArray[np.bool_]] = {}
    frame = 0
    frame_segment = b""
    interval = 0
    is_closed = False
    at = 2
    while (i := int(np.searchsorted(markers, at))) < len(markers):
        begin = int(markers[i])
        kind = data[begin + 1]
        if kind == _EOI:
            is_closed = True
            break
        at = begin + 2
        if kind in _STANDALONE:
            continue
        if at + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, at)
        segment = data[at + 2 : at + length]
        at += length
        if kind in _FRAMES and not frame:
            frame = kind
            frame_segment = segment
            coded = {segment[6 + 3 * k]: np.zeros(64, bool) for k in range((len(segment) - 6) // 3)}
        elif kind == _DRI and len(segment) == 2:
            (interval,) = struct.unpack(">H", segment)
        elif kind == _SOS:
            scan = _scan_at(data, markers, at)
            if interval:
                _check_restarts(data, scan, -(-_n_units(frame_segment, segment) // interval) - 1)
            scans.append(scan)
            _note_coded(coded, segment, frame in _PROGRESSIVE)
            at = scan.end
    is_whole = bool(scans) and all(bool(done.all()) for done in coded.values())
    return Layout(tuple(scans), frame, is_whole, is_closed)


def _markers(data: bytes) -> NDArray[np.intp]:
    """Where there is 0xFF and behind it what makes a marker of it; APP segments hold some too."""
    codes = np.frombuffer(data, dtype=np.uint8)
    places = np.flatnonzero(codes[:-1] == 0xFF)
    follows = codes[places + 1]
    markers: NDArray[np.intp] = places[(follows != _STUFFED) & (follows != _FILL)]
    return markers


def _scan_at(data: bytes, markers: NDArray[np.intp], start: int) -> Scan:
    """The scan whose coded blocks begin at `start`."""
    restarts: list[int] = []
    for i in range(int(np.searchsorted(markers, start)), len(markers)):
        place = int(markers[i])
        if not _RST0 <= data[place + 1] <= _RST7:
            return Scan(start, place, tuple(restarts))
        restarts.append(place)
    return Scan(start, len(data), tuple(restarts))


def _check_restarts(data: bytes, scan: Scan, n_expected: int) -> None:
    """Raise UnreadableError unless a scan has all restart markers, which count from 0 to 7 again.

    libjpeg fills up what lies between others.
    """
    kinds = [data[place + 1] - _RST0 for place in scan.restarts]
    if len(kinds) != n_expected or any(kind != i % 8 for i, kind in enumerate(kinds)):
        found = f"{len(kinds)} of {n_expected} restart markers, or they are out of order"
        raise UnreadableError(f"damaged JPEG: it has {found}")


def _n_units(frame: bytes, scan: bytes) -> int:
    """Minimum coded units of a scan (T.81, A.2), by the segments of the frame and of the scan."""
    _, height, width, n_components = struct.unpack_from(">BHHB", frame)
    sampling = {frame[6 + 3 * k]: divmod(frame[7 + 3 * k], 16) for k in range(n_components)}
    most_across = max(1, *(across for across, _ in sampling.values()))
    most_down = max(1, *(down for _, down in sampling.values()))
    if scan[0] > 1:
        return int(-(-width // (8 * most_across)) * -(-height // (8 * most_down)))
    across, down = sampling[scan[1]]
    columns = -(-width * across // most_across)
    rows = -(-height * down // most_down)
    return int(-(-columns // 8) * -(-rows // 8))


def _note_coded(coded: dict[int, NDArray[np.bool_]], segment: bytes, progressive: bool) -> None:
    """Note which coefficients of which components a scan codes to their last bit (T.81, B.2.3)."""
    n_components = segment[0] if segment else 0
    components = segment[1 : 1 + 2 * n_components : 2]
    first, last, approximation = 0, 63, 0
    if progressive and len(segment) >= 4 + 2 * n_components:
        first, last, approximation = segment[1 + 2 * n_components : 4 + 2 * n_components]
    for component in components:
        if component in coded and not approximation & 0x0F:
            coded[component][first : last + 1] = True


def _n_pictures(image: Jpeg, data: bytes) -> int:
    """Pictures in the multi-picture index: thumbnails, previews and gain maps are none.

    A picture of a class that is not told is one where it is as large as the first, and neither of
    the two says that it has or is a gain map.
    """
    directory = embedded_directory(image.info.get("mp", b""))
    n_entries = directory.number(_N_PICTURES, 1)
    index = directory.entries.get(_MP_ENTRIES)
    if index is None:
        return n_entries
    has_gain_map = any(_names_gain_map(segment) for _, segment in image.applist)
    entry = struct.Struct(f"{index.order}IIIHH")
    n_pictures = 1
    for place in range(entry.size, len(index.data) - entry.size + 1, entry.size):
        attributes, n_bytes, offset, _, _ = entry.unpack_from(index.data, place)
        kind = attributes & _MP_KIND
        begin = int(image.info["mpoffset"]) + offset
        other = data[begin : begin + n_bytes]
        if kind >> 16 == _MP_SEVERAL:
            n_pictures += 1
        elif kind == _MP_UNDEFINED and not has_gain_map and not _names_gain_map(other[:_MAX_HEAD]):
            n_pictures += _frame_size(other) == _frame_size(data)
    return n_pictures


def _names_gain_map(head: bytes) -> bool:
    return any(word in head for word in _GAIN_MAP_WORDS)


def _frame_size(data: bytes) -> tuple[int, int]:
    """Height and width of the frame; zeros where there is none before the first scan."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        if kind == _SOS:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + length
    return 0, 0
