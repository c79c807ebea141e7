"""What files say before their pixels: which way is up, and whether there is a second picture."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.pixels.picture import read_grey
from tests.image_files import CORNERS, encode_frames, save, write

SIZE = 32
TURNS = {  # EXIF 2.3, table 6: what brings the stored rows upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(CORNERS), exif=exif, **options)
    assert np.array_equal(read_grey(path, SIZE), TURNS[orientation](CORNERS))


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied_to_a_reduced_jpeg(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    large = np.kron(CORNERS, np.ones((128, 128), np.uint8))
    path = save(tmp_path / "a.jpg", Image.fromarray(large), exif=exif, quality=95)
    expected = TURNS[orientation](large[::4, ::4])
    grey = read_grey(path, SIZE)
    assert grey.shape == expected.shape
    assert np.abs(grey.astype(int) - expected).mean() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_applied_at_16_bit(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    wide = Image.fromarray(CORNERS.astype(np.uint16) * 257)
    path = save(tmp_path / f"a.{suffix}", wide, exif=exif)
    assert np.array_equal(read_grey(path, SIZE), TURNS[6](CORNERS))


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_a_damaged_exif_block_is_no_orientation(tmp_path: Path, block: bytes) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(np.full((16, 24), 90, np.uint8)), exif=block)
    assert read_grey(path, SIZE).shape == (16, 24)


def test_an_exif_block_without_its_closing_offset_still_turns(tmp_path: Path) -> None:
    block = b"Exif\0\0II*\0" + struct.pack("<IHHHIHH", 8, 1, 274, 3, 1, 6, 0)
    path = save(tmp_path / "a.jpg", Image.fromarray(np.full((16, 24), 90, np.uint8)), exif=block)
    assert read_grey(path, SIZE).shape == (24, 16)


def test_an_hdr_gain_map_is_not_a_second_picture(tmp_path: Path) -> None:
    note = b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>'
    segment = b"\xff\xe1" + struct.pack(">H", len(note) + 2) + note
    data = encode_frames("mpo")
    path = write(tmp_path / "a.jpg", data[:2] + segment + data[2:])
    assert read_grey(path, SIZE).shape == (16, 16)
