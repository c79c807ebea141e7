"""BMP files written byte by byte, against the arrays that they were written from."""

import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz.seeds import rle_bmp
from kneeedge.errors import ImageError
from kneeedge.pixels.picture import read_grey
from tests.image_files import bmp, luma, write

SIZE = 32
RNG = np.random.default_rng(5)
LEVELS = RNG.integers(0, 256, (6, 8), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (6, 8, 4), dtype=np.uint8)
RGB = RGBA[..., :3]
BGR = RGB[..., ::-1]
GREYS = b"".join(bytes([level, level, level, 0]) for level in range(256))
COLOURS = RNG.integers(0, 256, (256, 4), dtype=np.uint8)
BLACK_WHITE = bytes([0, 0, 0, 0, 255, 255, 255, 0])
RGB_MASKS = (0xFF0000, 0xFF00, 0xFF)
ALPHA_MASK = 0xFF000000
BITFIELDS = 3


def grey_of(path: Path, data: bytes) -> np.ndarray:
    return read_grey(write(path, data), SIZE)


def refusal(path: Path, data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        grey_of(path, data)
    return str(caught.value)


def indexed(index: np.ndarray, bits: int, palette: bytes, **more: int) -> bytes:
    """Indices of 1, 4 or 8 bits, in rows of whole words, bottom up."""
    n = 8 // bits
    packed = np.zeros((6, 8 // n), dtype=np.uint8)
    for i in range(n):
        packed = (packed << bits) | index[:, i::n]
    rows = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4)))
    return bmp(rows[::-1].tobytes(), 8, 6, bits, palette, **more)


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize(
    "palette",
    [COLOURS.tobytes(), GREYS, BLACK_WHITE, BLACK_WHITE[4:] + BLACK_WHITE[:4], GREYS[:8]],
    ids=["colours", "greys", "black and white", "white and black", "0 and 1"],
)
def test_an_index_is_looked_up_whatever_the_palette_holds(
    tmp_path: Path, bits: int, palette: bytes
) -> None:
    """Pillow takes indices for levels, of one bit or eight, where the colours are grey."""
    n_colours = min(len(palette) // 4, 2**bits)
    index = np.minimum(LEVELS, n_colours - 1)
    colours = np.frombuffer(palette, dtype=np.uint8).reshape(-1, 4)[:n_colours, 2::-1]
    data = indexed(index, bits, palette[: 4 * n_colours], n_colours=n_colours)
    assert np.abs(grey_of(tmp_path / "a.bmp", data) - luma(colours[index])).max() <= 1


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_an_index_beyond_the_palette_is_refused(tmp_path: Path, bits: int) -> None:
    n_colours = 2**bits - 1
    index = LEVELS >> (8 - bits)
    index[2, 2] = 2**bits - 1
    data = indexed(index, bits, GREYS[: 4 * n_colours], n_colours=n_colours)
    words = f"a pixel has colour {n_colours}, and its palette {n_colours} colours"
    assert words in refusal(tmp_path / "a.bmp", data)


def test_a_palette_that_the_header_calls_longer_ends_where_the_pixels_begin(
    tmp_path: Path,
) -> None:
    palette = COLOURS[:100].tobytes()
    index = np.minimum(LEVELS, 99)
    grey = grey_of(tmp_path / "a.bmp", indexed(index, 8, palette))
    assert np.abs(grey - luma(COLOURS[index, 2::-1])).max() <= 1
    assert "and its palette 100 colours" in refusal(tmp_path / "a.bmp", indexed(LEVELS, 8, palette))


@pytest.mark.parametrize("header_size", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("fourth", ["zeros", "noise"])
def test_a_fourth_byte_that_is_no_alpha_hides_nothing(
    tmp_path: Path, header_size: int, fourth: str
) -> None:
    alpha = np.zeros((6, 8), np.uint8) if fourth == "zeros" else RGBA[..., 3]
    rows = np.dstack([BGR, alpha])[::-1].tobytes()
    for data in (
        bmp(rows, 8, 6, 32, header_size=header_size),
        bmp(rows, 8, 6, 32, struct.pack("<3I", *RGB_MASKS), BITFIELDS)
        if header_size == 40
        else bmp(rows, 8, 6, 32, compression=BITFIELDS, masks=RGB_MASKS, header_size=header_size),
    ):
        assert np.abs(grey_of(tmp_path / "a.bmp", data) - luma(RGB)).max() <= 1


@pytest.mark.parametrize("header_size", [56, 108, 124])
def test_an_alpha_channel_lies_on_black_and_one_that_nobody_filled_is_none(
    tmp_path: Path, header_size: int
) -> None:
    def masked(alpha: np.ndarray) -> bytes:
        rows = np.dstack([BGR, alpha])[::-1].tobytes()
        masks = (*RGB_MASKS, ALPHA_MASK)
        return bmp(rows, 8, 6, 32, compression=BITFIELDS, masks=masks, header_size=header_size)

    alpha = RGBA[..., 3]
    grey = grey_of(tmp_path / "a.bmp", masked(alpha))
    assert np.abs(grey - luma(RGB) * alpha / 255).max() <= 2
    grey = grey_of(tmp_path / "a.bmp", masked(np.zeros_like(alpha)))
    assert np.abs(grey - luma(RGB)).max() <= 1


@pytest.mark.parametrize(
    ("masks", "widths"),
    [((0x7C00, 0x3E0, 0x1F), (5, 5, 5)), ((0xF800, 0x7E0, 0x1F), (5, 6, 5)), ((), (5, 5, 5))],
    ids=["555", "565", "no masks"],
)
def test_16_bit_colours_fill_the_range(
    tmp_path: Path, masks: tuple[int, ...], widths: tuple[int, ...]
) -> None:
    words = RNG.integers(0, 65536, (6, 8), dtype=np.uint16)
    channels = []
    shift = sum(widths)
    for width in widths:
        shift -= width
        channels.append((words >> shift) % 2**width * 255 / (2**width - 1))
    palette = struct.pack("<3I", *masks) if masks else b""
    rows = words[::-1].astype("<u2").tobytes()
    data = bmp(rows, 8, 6, 16, palette, BITFIELDS if masks else 0)
    assert np.abs(grey_of(tmp_path / "a.bmp", data) - luma(np.dstack(channels))).max() <= 2


def test_rows_from_the_top_are_not_turned_over(tmp_path: Path) -> None:
    data = bmp(LEVELS.tobytes(), 8, -6, 8, GREYS)
    assert np.array_equal(grey_of(tmp_path / "a.bmp", data), LEVELS)


def test_os2_headers_have_colours_of_three_bytes(tmp_path: Path) -> None:
    palette = COLOURS[:, :3].tobytes()
    head = struct.pack("<IHHHH", 12, 8, 6, 1, 8) + palette
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(head)) + head + LEVELS[::-1].tobytes()
    expected = luma(COLOURS[LEVELS, 2::-1])
    assert np.abs(grey_of(tmp_path / "a.bmp", data) - expected).max() <= 1


@pytest.mark.parametrize("offset", [14, 30, 53])
def test_pixels_that_begin_inside_the_header_are_refused(tmp_path: Path, offset: int) -> None:
    data = bmp(LEVELS.tobytes(), 8, 6, 8, GREYS)
    moved = data[:10] + struct.pack("<I", offset) + data[14:]
    assert "begin inside its header" in refusal(tmp_path / "a.bmp", moved)


@pytest.mark.parametrize("n_bytes", [1, 9, 40])
def test_a_bmp_that_is_too_short_is_refused(tmp_path: Path, n_bytes: int) -> None:
    for data in (
        bmp(LEVELS.tobytes(), 8, 6, 8, GREYS),
        bmp(BGR.tobytes(), 8, 6, 24),
        bmp(np.dstack([BGR, LEVELS]).tobytes(), 8, 6, 32),
    ):
        assert "its pixels end too early" in refusal(tmp_path / "a.bmp", data[:-n_bytes])


@pytest.mark.parametrize("damage", ["cut", "zeros", "early end"])
def test_runs_that_end_too_early_are_refused(tmp_path: Path, damage: str) -> None:
    data = rle_bmp(RNG.integers(0, 4, (21, 37), dtype=np.uint8))
    half = (struct.unpack_from("<I", data, 10)[0] + len(data)) // 4 * 2
    rest = {"cut": b"", "zeros": bytes(len(data) - half), "early end": b"\0\1" + data[half + 2 :]}
    assert "its pixels end too early" in refusal(tmp_path / "a.bmp", data[:half] + rest[damage])
