"""PNG files written byte by byte: every kind of transparency, and every way to lack pixels."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz.seeds import interlaced
from kneeedge.errors import ImageError
from kneeedge.pixels.picture import read_grey
from tests.image_files import luma, png, png_header, write

SIZE = 32
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
"colour types"
LEVELS = np.random.default_rng(7).integers(0, 256, (8, 16), dtype=np.uint8)
ROWS = b"".join(b"\0" + row.tobytes() for row in LEVELS)
"with the filter that is none"
STREAM = zlib.compress(ROWS)
SOUND = png(png_header(16, 8), (b"IDAT", STREAM))


def stream(rows: np.ndarray) -> tuple[bytes, bytes]:
    """IDAT of rows as they are stored."""
    return b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))


def packed(levels: np.ndarray, bits: int) -> np.ndarray:
    """Rows of levels of 1 to 8 bits, the first in the high bits of its byte."""
    out = np.zeros((levels.shape[0], levels.shape[1] * bits // 8), dtype=np.uint8)
    for i in range(8 // bits):
        out = (out << bits) | levels[:, i :: 8 // bits]
    return out


def grey_of(path: Path, data: bytes) -> np.ndarray:
    return read_grey(write(path, data), SIZE)


# Transparency


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("noise_above", [0, 1])
def test_a_transparent_level_of_any_depth_is_black(
    tmp_path: Path, bits: int, noise_above: int
) -> None:
    """tRNS holds the level as it is stored; Pillow scales the pixels to 8 bits, not the level."""
    levels = LEVELS >> (8 - bits)
    for level in {0, 1, 2**bits - 1}:
        # of its 16 bits the low ones count
        told = level + noise_above * 2**bits
        chunks = ((b"tRNS", struct.pack(">H", told)), stream(packed(levels, bits)))
        expected = np.where(levels == level, 0, levels * (255 // (2**bits - 1)))
        grey = grey_of(tmp_path / "a.png", png(png_header(16, 8, bits), *chunks))
        assert np.array_equal(grey, expected)


def test_a_transparent_16_bit_level_is_no_other_of_the_same_upper_byte(tmp_path: Path) -> None:
    wide = np.array([[0x6400, 0x6401, 0xFFFF]], dtype=">u2")
    chunks = ((b"tRNS", struct.pack(">H", 0x6401)), stream(wide))
    grey = grey_of(tmp_path / "a.png", png(png_header(3, 1, 16), *chunks))
    assert grey.tolist() == [[100, 0, 255]]


def test_a_transparent_colour_is_black(tmp_path: Path) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    rgb[2:4] = (9, 200, 77)
    expected = luma(rgb)
    expected[2:4] = 0
    chunks = ((b"tRNS", struct.pack(">3H", 9, 200, 77)), stream(rgb))
    grey = grey_of(tmp_path / "a.png", png(png_header(16, 8, 8, RGB), *chunks))
    assert np.abs(grey - expected).max() <= 1


def test_a_transparent_16_bit_colour_is_refused(tmp_path: Path) -> None:
    """Of 16-bit colour Pillow keeps 8 bits, in which other colours would be transparent too."""
    rgb = np.random.default_rng(1).integers(0, 65536, (8, 16, 3)).astype(">u2")
    data = png(png_header(16, 8, 16, RGB), (b"tRNS", rgb[0, 0].tobytes()), stream(rgb))
    with pytest.raises(ImageError, match="a transparent colour is not read; save it with an alpha"):
        grey_of(tmp_path / "a.png", data)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_with_alpha_lies_on_black_at_every_depth(tmp_path: Path, bits: int) -> None:
    rng = np.random.default_rng(bits)
    colours = rng.integers(0, 256, (2**bits, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, 2**bits, dtype=np.uint8)
    index = LEVELS >> (8 - bits)
    chunks = ((b"PLTE", colours.tobytes()), (b"tRNS", alpha.tobytes()))
    data = png(png_header(16, 8, bits, PALETTE), *chunks, stream(packed(index, bits)))
    expected = luma(colours[index]) * alpha[index] / 255
    assert np.abs(grey_of(tmp_path / "a.png", data) - expected).max() <= 2


def test_16_bit_grey_with_alpha_lies_on_black(tmp_path: Path) -> None:
    both = np.random.default_rng(2).integers(0, 65536, (8, 16, 2)).astype(">u2")
    data = png(png_header(16, 8, 16, GREY_ALPHA), stream(both))
    expected = both[..., 0] / 257 * both[..., 1] / 65535
    assert np.abs(grey_of(tmp_path / "a.png", data) - expected).max() <= 2


def test_a_picture_that_is_transparent_everywhere_is_refused(tmp_path: Path) -> None:
    rgba = np.random.default_rng(3).integers(0, 256, (8, 16, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    data = png(png_header(16, 8, 8, RGBA), stream(rgba))
    with pytest.raises(ImageError, match="transparent everywhere; save it without its alpha"):
        grey_of(tmp_path / "a.png", data)


def test_gamma_and_significant_bits_change_nothing(tmp_path: Path) -> None:
    wide = np.random.default_rng(4).integers(0, 65536, (8, 16)).astype(">u2")
    chunks = ((b"gAMA", struct.pack(">I", 45455)), (b"sBIT", b"\x0c"), stream(wide))
    grey = grey_of(tmp_path / "a.png", png(png_header(16, 8, 16), *chunks))
    assert np.array_equal(grey, np.floor(wide / 257 + 0.5))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_colour_beyond_the_palette_is_refused(tmp_path: Path, bits: int) -> None:
    """Pillow makes it black."""
    index = LEVELS >> (8 - bits)
    head = png_header(16, 8, bits, PALETTE)
    data = png(head, (b"PLTE", bytes(3)), stream(packed(index, bits)))
    with pytest.raises(ImageError, match=f"colour {index.max()}, and its palette 1 colours"):
        grey_of(tmp_path / "a.png", data)


# Files that lack pixels


@pytest.mark.parametrize("n_bytes", [1, 16, 17, 18, 34, 135])
def test_fewer_pixels_than_the_header_says_are_refused(tmp_path: Path, n_bytes: int) -> None:
    """Whole rows above all, at which Pillow ends as if there were no more."""
    data = png(png_header(16, 8), (b"IDAT", zlib.compress(ROWS[:-n_bytes])))
    with pytest.raises(ImageError, match="fewer pixels than it says"):
        grey_of(tmp_path / "a.png", data)


@pytest.mark.parametrize("n_rows", [1, 3])
def test_more_rows_than_the_header_says_are_refused(tmp_path: Path, n_rows: int) -> None:
    data = png(png_header(16, 8), (b"IDAT", zlib.compress(ROWS + bytes(17 * n_rows))))
    with pytest.raises(ImageError, match="more rows than it says"):
        grey_of(tmp_path / "a.png", data)


@pytest.mark.parametrize("n_bytes", [-60, -38, -20, -1, 1])
def test_an_interlaced_image_of_another_length_is_refused(tmp_path: Path, n_bytes: int) -> None:
    data = interlaced(np.random.default_rng(0).integers(0, 256, (21, 37), dtype=np.uint8))
    at = data.index(b"IDAT")
    (length,) = struct.unpack_from(">I", data, at - 4)
    rows = zlib.decompress(data[at + 4 : at + 4 + length])
    rows = rows[:n_bytes] if n_bytes < 0 else rows + bytes(n_bytes)
    other = png(data[16:29], (b"IDAT", zlib.compress(rows)))
    with pytest.raises(ImageError, match=r"(fewer|more) pixels than it says"):
        grey_of(tmp_path / "a.png", other)


@pytest.mark.parametrize("end", [-4, -2, -1])
def test_a_stream_without_its_whole_checksum_is_refused(tmp_path: Path, end: int) -> None:
    data = png(png_header(16, 8), (b"IDAT", STREAM[:end]))
    with pytest.raises(ImageError, match="corrupt"):
        grey_of(tmp_path / "a.png", data)


def test_a_stream_whose_checksum_fails_is_refused(tmp_path: Path) -> None:
    data = png(png_header(16, 8), (b"IDAT", STREAM[:-1] + bytes([STREAM[-1] ^ 1])))
    with pytest.raises(ImageError, match="corrupt"):
        grey_of(tmp_path / "a.png", data)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND", b"tRNS", b"eXIf"])
def test_a_chunk_whose_checksum_fails_is_refused(tmp_path: Path, kind: bytes) -> None:
    more = ((b"tRNS", b"\0\7"), (b"eXIf", b"II*\0" + bytes(10)), (b"IDAT", STREAM))
    data = bytearray(png(png_header(16, 8), *more))
    at = data.index(kind)
    (length,) = struct.unpack_from(">I", data, at - 4)
    data[at + 4 + length] ^= 1
    with pytest.raises(ImageError, match=f"checksum of its chunk {kind.decode()} fails"):
        grey_of(tmp_path / "a.png", bytes(data))


@pytest.mark.parametrize("n_bytes", [1, 11, 12])
def test_a_file_without_its_end_is_refused(tmp_path: Path, n_bytes: int) -> None:
    with pytest.raises(ImageError, match="truncated"):
        grey_of(tmp_path / "a.png", SOUND[:-n_bytes])


def test_a_chunk_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    data = SOUND[:33] + struct.pack(">I", 1_000_000) + SOUND[37:]
    with pytest.raises(ImageError, match="truncated inside its chunk IDAT"):
        grey_of(tmp_path / "a.png", data)


def test_a_row_of_an_unknown_filter_is_refused(tmp_path: Path) -> None:
    data = png(png_header(16, 8), (b"IDAT", zlib.compress(b"\7" + ROWS[1:])))
    with pytest.raises(ImageError, match="corrupt"):
        grey_of(tmp_path / "a.png", data)


# Files that lack nothing


def broken_text() -> bytes:
    """A comment whose checksum is wrong: no pixel hangs on it."""
    return struct.pack(">I", 4) + b"tEXta\0bc" + b"nope"


@pytest.mark.parametrize(
    "data",
    [
        SOUND,
        SOUND + b"what follows the end" * 9,
        png(png_header(16, 8), (b"IDAT", STREAM[:30]), (b"IDAT", b""), (b"IDAT", STREAM[30:])),
        png(png_header(16, 8), (b"IDAT", STREAM + b"behind the checksum")),
        SOUND[:-12] + broken_text() + SOUND[-12:],
    ],
    ids=["plain", "trailing", "parts", "longer stream", "comment"],
)
def test_what_touches_no_pixel_is_read_past(tmp_path: Path, data: bytes) -> None:
    assert np.array_equal(grey_of(tmp_path / "a.png", data), LEVELS)


def test_a_last_row_of_any_level_is_there(tmp_path: Path) -> None:
    """The check for rows that are missing takes no row for one, not even of a single pixel."""
    for level in range(256):
        column = np.array([[7], [level]], dtype=np.uint8)
        grey = grey_of(tmp_path / "a.png", png(png_header(1, 2), stream(column)))
        assert grey.tolist() == [[7], [level]]


def test_exif_behind_the_pixels_turns_them(tmp_path: Path) -> None:
    turned = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
    data = png(png_header(16, 8), (b"IDAT", STREAM), (b"eXIf", turned))
    assert np.array_equal(grey_of(tmp_path / "a.png", data), LEVELS.T[:, ::-1])
