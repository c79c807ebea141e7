"""Pixels of 16 bits that use fewer: what is said of them, and what a depth that is told does."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.depth import depth_warning
from kneeedge.pixels.isolation import ProcessReader
from kneeedge.pixels.picture import read_file, read_grey, read_picture
from kneeedge.pixels.reader import ReadOptions, ThreadReader
from tests.image_files import grey_tags, png, png_header, save, tiff, tiff_of, write

SIZE = 32
RNG = np.random.default_rng(12)


def noise(bits: int) -> np.ndarray:
    """All of `bits` bits, the largest value among them."""
    values = RNG.integers(0, 2**bits, (20, 30), dtype=np.uint16)
    values[5, 5] = 2**bits - 1
    return values


def wide_file(path: Path, values: np.ndarray, form: str = "png") -> Path:
    if form == "png":
        return save(path, Image.fromarray(values), format="PNG")
    if form == "int32":
        return write(path, tiff(values.astype(np.int32), sample_format=2))
    return write(path, tiff(values, order="<" if form == "little" else ">"))


@pytest.mark.parametrize("form", ["png", "little", "big", "int32"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_a_depth_that_nobody_told_is_remarked_and_changes_no_pixel(
    tmp_path: Path, form: str, bits: int
) -> None:
    values = noise(bits)
    picture = read_picture(wide_file(tmp_path / "a", values, form), SIZE)
    assert picture.depth_suspect == bits
    assert np.array_equal(picture.grey, np.floor(values / 257 + 0.5))


@pytest.mark.parametrize("form", ["png", "little", "big", "int32"])
@pytest.mark.parametrize("bits", [8, 9, 10, 11, 12, 13, 14, 15, 16])
def test_a_depth_that_is_told_becomes_the_whole_range(tmp_path: Path, form: str, bits: int) -> None:
    values = noise(bits)
    picture = read_picture(wide_file(tmp_path / "a", values, form), SIZE, grey_bits=bits)
    assert picture.depth_suspect == 0
    assert np.array_equal(picture.grey, np.rint(values * 255.0 / (2**bits - 1)))


REMARKED = [(1, 8), (255, 8), (256, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14)]


@pytest.mark.parametrize(("top", "suspect"), [*REMARKED, (16384, 0), (65535, 0), (0, 0)])
def test_the_largest_value_decides_what_is_remarked(tmp_path: Path, top: int, suspect: int) -> None:
    values = np.array([[0, top]], dtype=np.uint16)
    assert read_picture(wide_file(tmp_path / "a", values), SIZE).depth_suspect == suspect


def test_no_pixel_hangs_on_the_largest_of_its_picture(tmp_path: Path) -> None:
    values = noise(12)
    dark = read_grey(wide_file(tmp_path / "a", values), SIZE)
    values[0, 0] = 65535
    bright = read_grey(wide_file(tmp_path / "b", values), SIZE)
    assert bright[0, 0] == 255
    assert np.array_equal(dark.ravel()[1:], bright.ravel()[1:])


def test_a_value_beyond_the_depth_that_is_told_is_refused(tmp_path: Path) -> None:
    values = noise(12)
    values[3, 3] = 4096
    with pytest.raises(ImageError, match=r"integer pixels outside 0 to 4095; .*--grey-bits"):
        read_grey(wide_file(tmp_path / "a", values), SIZE, grey_bits=12)


def test_full_16_bits_that_are_told_are_not_remarked(tmp_path: Path) -> None:
    path = wide_file(tmp_path / "a", noise(12))
    told = read_picture(path, SIZE, grey_bits=16)
    assert told.depth_suspect == 0
    assert np.array_equal(told.grey, read_grey(path, SIZE))


@pytest.mark.parametrize("grey_bits", [0, 10, 12])
def test_files_of_another_kind_have_their_own_depth(tmp_path: Path, grey_bits: int) -> None:
    levels = noise(8).astype(np.uint8)
    dim = levels // 64
    packed = np.array([[0x00, 0x0F, 0xFF], [0x80, 0x04, 0x00]], np.uint8)
    twelve = write(tmp_path / "12.tif", tiff(packed, bits=12, width=2))
    files = {
        save(tmp_path / "a.png", Image.fromarray(dim)): dim,
        save(tmp_path / "a.bmp", Image.fromarray(dim)): dim,
        save(tmp_path / "f.tif", Image.fromarray(dim.astype(np.float32) / 255)): dim,
        twelve: np.array([[0, 255], [128, 64]]),
    }
    for path, expected in files.items():
        picture = read_picture(path, SIZE, grey_bits=grey_bits)
        assert picture.depth_suspect == 0
        assert np.array_equal(picture.grey, expected)


def test_white_is_zero_is_turned_over_within_the_depth(tmp_path: Path) -> None:
    values = np.array([[0, 1365, 4095]], dtype=np.uint16)
    data = tiff_of([values.astype("<u2").tobytes()], grey_tags(1, 3, 16, photometric=0))
    path = write(tmp_path / "a.tif", data)
    assert read_grey(path, SIZE, grey_bits=12).tolist() == [[255, 170, 0]]
    assert read_picture(path, SIZE).depth_suspect == 12


def test_a_transparent_level_is_black_within_the_depth(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[4095, 2048, 100]], dtype=np.uint16))
    path = save(tmp_path / "a.png", image, transparency=4095)
    assert read_grey(path, SIZE, grey_bits=12).tolist() == [[0, 128, 6]]


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_16_bit_colour_of_fewer_bits_is_remarked_and_not_scaled(tmp_path: Path, form: str) -> None:
    colours = RNG.integers(0, 4096, (8, 16, 3)).astype(np.uint16)
    colours[1, 1] = 4095
    if form == "png":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
        data = png(png_header(16, 8, 16, colour_type=2), (b"IDAT", zlib.compress(rows)))
    else:
        tags = grey_tags(8, 16, (16,) * 3, samples=3, photometric=2)
        data = tiff_of([colours.astype("<u2").tobytes()], tags)
    path = write(tmp_path / "a", data)
    assert read_picture(path, SIZE).depth_suspect == 12
    assert read_picture(path, SIZE, grey_bits=16).depth_suspect == 0
    with pytest.raises(
        ImageError, match="16-bit colour cannot be read as 12 bits; save it in grey"
    ):
        read_grey(path, SIZE, grey_bits=12)


def test_a_whole_file_says_its_depth_too(tmp_path: Path) -> None:
    path = wide_file(tmp_path / "a", noise(12))
    assert read_file(path).depth_suspect == 12
    assert read_file(path, 12).depth_suspect == 0
    assert read_file(path, 12).grey.max() == 255


def test_a_decoder_process_says_the_same_as_a_thread(tmp_path: Path) -> None:
    path = wide_file(tmp_path / "a.png", noise(12))
    for grey_bits, suspect in ((0, 12), (12, 0)):
        options = ReadOptions(PixelPath(SIZE, grey_bits=grey_bits))
        here = ThreadReader(options).read(path).result
        reader = ProcessReader(replace(options, isolated=True))
        there = reader.read(path).result
        reader.close()
        assert here.depth_suspect == there.depth_suspect == suspect
        assert np.array_equal(here.pixels, there.pixels)


def test_the_warning_names_the_number_one_file_and_the_depth() -> None:
    line = depth_warning([("a.png", 10), ("b.png", 12)])
    assert "2 images of 16 bits a pixel, a.png the first, use no more than 12" in line
    assert line.endswith("give --grey-bits 12, and if not, --grey-bits 16")
    assert "1 image of" in depth_warning([("a.png", 10)])
    assert depth_warning([]) == ""


def test_a_header_says_the_bits_of_a_channel(tmp_path: Path) -> None:
    for bits, colour_type in ((1, 0), (4, 0), (8, 2), (16, 0), (16, 2)):
        n_bytes = 1 + (4 * bits * (3 if colour_type else 1) + 7) // 8
        head = struct.pack(">IIBBBBB", 4, 1, bits, colour_type, 0, 0, 0)
        path = write(tmp_path / "a.png", png(head, (b"IDAT", zlib.compress(bytes(n_bytes)))))
        assert read_picture(path, SIZE).header.bit_depth == bits
