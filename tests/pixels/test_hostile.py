"""Files that mean harm or are odd: what they declare and carry, their names and their places."""

import csv
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.fuzz.seeds import interlaced, rle_bmp
from kneeedge.cli.app import app
from kneeedge.errors import ImageError
from kneeedge.inference.predictor import BLANK
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.picture import read_grey, read_picture
from tests.image_files import (
    CORNERS,
    RAMP,
    colour,
    encode,
    luma,
    png,
    png_chunk,
    png_header,
    save,
    tiff,
    write,
)
from tests.tiny_onnx import write_tiny_model

SIZE = 32
HUGE = 50_000


# What they declare: more pixels than there is memory for, in a few bytes


def bomb(kind: str) -> bytes:
    """A file of some hundred bytes that declares 50,000 × 50,000 pixels.

    In WebP, which ends there, it is 16,000 × 16,000.
    """
    if kind == "png":
        return png(png_header(HUGE, HUGE, colour_type=6), (b"IDAT", zlib.compress(bytes(1000))))
    if kind == "jpeg":
        data = bytearray(encode(Image.new("L", (16, 16)), "JPEG"))
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, HUGE, HUGE)
        return bytes(data)
    if kind == "bmp":
        data = bytearray(encode(Image.new("L", (16, 16)), "BMP"))
        struct.pack_into("<ii", data, 18, HUGE, HUGE)
        return bytes(data)
    if kind == "webp":
        data = bytearray(encode(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
        at = data.index(b"VP8L") + 9
        (bits,) = struct.unpack_from("<I", data, at)
        struct.pack_into("<I", data, at, (bits & ~((1 << 28) - 1)) | 15999 | 15999 << 14)
        return bytes(data)
    data = bytearray(encode(Image.new("L", (16, 16)), "TIFF", compression="tiff_adobe_deflate"))
    (begin,) = struct.unpack_from("<I", data, 4)
    # width and height are the first entries
    for i, tag in enumerate((256, 257)):
        struct.pack_into("<HHII", data, begin + 2 + 12 * i, tag, 4, 1, HUGE)
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "bmp", "webp"])
def test_a_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile.load", never)
    with pytest.raises(ImageError, match=r"is more than 67108864 pixels; .*--max-megapixels"):
        read_grey(write(tmp_path / "a", bomb(kind)), SIZE)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
def test_the_limit_of_pixels_holds_for_every_format(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", colour(30, 40))
    assert read_picture(path, SIZE, max_pixels=1200).grey.shape == (30, 40)
    refusal = "40 × 30 is more than 1199 pixels; take it out, or raise --max-megapixels"
    with pytest.raises(ImageError, match=refusal):
        read_picture(path, SIZE, max_pixels=1199)


def test_the_limit_is_an_option_in_megapixels(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "large.png", colour(200, 200))
    save(folder / "small.png", colour(60, 60))
    rows = infer(folder, tmp_path, "--max-megapixels", "0.01")
    statuses = {row["path"]: row["status"] for row in rows}
    assert statuses == {"large.png": "error", "small.png": "ok"}
    assert rows[0]["error"] == "200 × 200 is more than 10000 pixels"


def infer(folder: Path, scratch: Path, *options: str) -> list[dict[str, str]]:
    """The rows of a run over the folder."""
    model = write_tiny_model(scratch / "m.onnx")
    out = scratch / "p.csv"
    command = ["infer", str(folder), "--model", str(model), "--out", str(out), "--threads", "1"]
    done = CliRunner().invoke(app, [*command, "-q", *options])
    assert done.exit_code in (0, 3), done.output
    with out.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


# What they carry


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_one_pixel_is_an_image(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.new("L", (1, 1), 77))
    assert read_grey(path, SIZE).tolist() == [[77]]


@pytest.mark.parametrize(
    "data",
    [
        png(png_header(0, 9), (b"IDAT", zlib.compress(b""))),
        png(png_header(9, 0), (b"IDAT", zlib.compress(b""))),
        tiff(RAMP, width=0),
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 0, 5, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
    ids=["png of no width", "png of no height", "tiff", "bmp"],
)
def test_an_image_without_pixels_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ImageError, match="; "):
        read_grey(write(tmp_path / "a", data), SIZE)


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000)])
@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_a_line_of_pixels_is_an_image(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.new("L", size, 50))
    assert read_grey(path, SIZE).shape == size[::-1]


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_a_line_of_pixels_has_an_answer(tmp_path: Path, fit: str) -> None:
    from kneeedge.model.spec import PixelPath
    from kneeedge.pixels.pixel_path import load_input

    path = save(tmp_path / "a.png", Image.new("L", (100_000, 1), 50))
    assert load_input(path, PixelPath(32, fit)).shape == (32, 32)


def test_interlaced_pngs_are_exact(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 37), dtype=np.uint8)
    assert np.array_equal(read_grey(write(tmp_path / "a.png", interlaced(pixels)), SIZE), pixels)


def test_bmps_with_runs_are_exact(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4, (21, 37), dtype=np.uint8)
    assert np.array_equal(read_grey(write(tmp_path / "a.bmp", rle_bmp(pixels)), SIZE), pixels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_every_depth_are_looked_up(tmp_path: Path, bits: int) -> None:
    levels = np.random.default_rng(bits).integers(0, 256, (2**bits, 3), dtype=np.uint8)
    index = (np.arange(8 * 8).reshape(8, 8) % 2**bits).astype(np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putpalette(levels.tobytes())
    path = save(tmp_path / "a.png", image, bits=bits)
    assert path.read_bytes()[24] == bits
    assert np.abs(read_grey(path, SIZE) - luma(levels[index])).max() <= 1


def test_a_palette_image_without_its_palette_is_refused(tmp_path: Path) -> None:
    data = png(png_header(8, 8, colour_type=3), (b"IDAT", zlib.compress(bytes(72))))
    with pytest.raises(ImageError, match="damaged PNG: a pixel has colour 0, and its palette 0"):
        read_grey(write(tmp_path / "a.png", data), SIZE)


@pytest.mark.parametrize(
    "profile", [b"", b"\0", b"no profile", b"\xff" * 5000, struct.pack(">I", 2**31) + bytes(200)]
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_a_corrupt_colour_profile_changes_nothing(
    tmp_path: Path, profile: bytes, suffix: str
) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    plain = read_grey(save(tmp_path / f"a.{suffix}", colour(), **options), SIZE)
    with_profile = save(tmp_path / f"b.{suffix}", colour(), icc_profile=profile, **options)
    assert np.array_equal(read_grey(with_profile, SIZE), plain)


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"\xff" * 3000, b"Exif\0\0MM\0*\xff\xff\xff\xf0" + bytes(50)]
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_corrupt_exif_changes_nothing(tmp_path: Path, block: bytes, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    plain = read_grey(save(tmp_path / f"a.{suffix}", colour(), **options), SIZE)
    with_exif = save(tmp_path / f"b.{suffix}", colour(), exif=block, **options)
    assert np.array_equal(read_grey(with_exif, SIZE), plain)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_is_none_turns_nothing(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = save(tmp_path / "a.png", Image.fromarray(CORNERS), exif=exif)
    assert np.array_equal(read_grey(path, SIZE), CORNERS)


def test_cmyk_with_adobes_marker_is_the_other_way_round(tmp_path: Path) -> None:
    """Adobe stores ink as its complement and says so; without its marker the same bytes are ink."""
    flat = np.full((16, 16, 3), (200, 120, 40), np.uint8)
    data = encode(Image.fromarray(flat).convert("CMYK"), "JPEG", quality=100)
    at = data.index(b"\xff\xee")
    assert data[at + 4 : at + 9] == b"Adobe"
    assert np.abs(read_grey(write(tmp_path / "a.jpg", data), SIZE) - luma(flat)).max() <= 2
    (size,) = struct.unpack_from(">H", data, at + 2)
    without = data[:at] + data[at + 2 + size :]
    assert read_grey(write(tmp_path / "b.jpg", without), SIZE).shape == (16, 16)


def test_text_chunks_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    """200 MB of text in 200 KB: it is never all unpacked."""
    chunk = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000)))
    data = encode(Image.fromarray(RAMP), "PNG")
    path = write(tmp_path / "a.png", data[:33] + chunk + data[33:])
    with pytest.raises(ImageError, match="Decompressed data too large"):
        read_grey(path, SIZE)


# Blank images


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_image_keeps_its_answer_and_has_a_warning(tmp_path: Path, level: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "blank.png", Image.new("L", (70, 50), level))
    save(folder / "knee.png", colour(70, 50))
    for options in ((), ("--no-isolate",)):
        blank, knee = infer(folder, tmp_path, *options)
        assert (blank["status"], blank["error"]) == ("ok", BLANK)
        assert blank["prediction"]
        assert (knee["status"], knee["error"]) == ("ok", "")


# What they are called, and where they lie


NAMES = [
    "with space.png",
    "comma,.png",
    'quote".png',
    "new\nline.png",
    "tab\t.png",
    "🦴 knie.png",
    "=1+1.png",
    "'.png",
    "100%.png",
    "-rf.png",
    "\x1b[31mred.png",
    "a" * 251 + ".png",
    "kn\udcff\udcfeee.png",
]


@pytest.mark.skipif(os.name == "nt", reason="most of these names are not allowed there")
def test_every_name_that_a_disk_takes_is_a_row_that_finds_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        save(folder / name, colour(40, 40))
        write(folder / f"{name[:-4][:247]}.bad.png"[-255:], b"no image")
    rows = infer(folder, tmp_path)
    assert len(rows) == 2 * len(NAMES)
    names = {os.path.normpath(row["path"]) for row in rows}
    assert names == {path.name for path in folder.iterdir()}
    refusal = "is not a JPEG, PNG, TIFF, BMP, WebP or DICOM image"
    assert {row["error"] for row in rows} == {"", refusal}


def test_an_error_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "new\nline\x1b[2J🦴.png", b"no image")
    with pytest.raises(ImageError) as caught:
        read_grey(path, SIZE)
    assert str(caught.value).isprintable()
    assert "new\\nline\\x1b[2J🦴.png" in str(caught.value)


def test_a_file_that_may_not_be_read_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = save(folder / "a.png", colour())
    save(folder / "b.png", colour())
    path.chmod(0)
    # root reads all: then the system's answer is made
    if os.access(path, os.R_OK):
        real = Path.open

        def refuse(self: Path, *mode: Any, **how: Any) -> Any:
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, *mode, **how)

        monkeypatch.setattr(Path, "open", refuse)
    closed, good = infer(folder, tmp_path, "--no-isolate")
    assert (closed["status"], closed["error"]) == ("error", "cannot be read (Permission denied)")
    assert good["status"] == "ok"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_devices_and_links_to_them_are_never_opened(tmp_path: Path) -> None:
    """An open of a pipe waits for ever, that of /dev/zero reads for ever."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    save(folder / "a.png", colour())
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "sub" / "PIPE")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "ZERO").symlink_to("/dev/zero")
    (folder / "to-pipe.dcm").symlink_to(folder / "pipe.png")
    (folder / "loop").symlink_to(folder)
    (folder / "sub" / "up.png").symlink_to(folder)
    (folder / "one.png").symlink_to(folder / "two.png")
    (folder / "two.png").symlink_to(folder / "one.png")
    (folder / "outside.png").symlink_to(save(tmp_path / "elsewhere.png", colour()))
    listing = find_images([folder])
    # a link of an image's name that leads nowhere is told of when it is read
    images = ["a.png", "one.png", "outside.png", "two.png"]
    assert [image.name for image in listing.images] == images
    assert len(listing.others) == 7
