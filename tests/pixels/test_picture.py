"""Which grey levels come out of a file, and which files give none."""

import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.pixels import picture
from kneeedge.pixels.picture import read_grey
from tests.image_files import (
    RAMP,
    WIDE_RAMP,
    colour,
    encode,
    encode_frames,
    luma,
    png,
    png_header,
    save,
    tiff,
    write,
)

SIZE = 32


# Formats and modes


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_8_bit_grey_is_exact_in_every_lossless_format(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    grey = read_grey(save(tmp_path / f"a.{suffix}", Image.fromarray(RAMP), **options), SIZE)
    assert grey.dtype == np.uint8
    assert np.array_equal(grey, RAMP)


def test_jpeg_is_within_its_own_loss(tmp_path: Path) -> None:
    grey = read_grey(save(tmp_path / "a.jpg", Image.fromarray(RAMP), quality=95), SIZE)
    assert np.abs(grey.astype(int) - RAMP).max() <= 4


@pytest.mark.parametrize("compression", [None, "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff_compressions_agree(tmp_path: Path, compression: str | None) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(RAMP), compression=compression)
    assert np.array_equal(read_grey(path, SIZE), RAMP)


def test_big_tiff_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(RAMP), big_tiff=True)
    assert path.read_bytes()[:4] == b"II+\0"
    assert np.array_equal(read_grey(path, SIZE), RAMP)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_1_bit_is_black_and_white(tmp_path: Path, suffix: str) -> None:
    expected = np.where(RAMP > 100, 255, 0)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(expected == 255))
    assert np.array_equal(read_grey(path, SIZE), expected)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_colour_becomes_601_luma(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    grey = read_grey(save(tmp_path / f"a.{suffix}", colour(), **options), SIZE)
    assert np.abs(grey - luma(np.asarray(colour()))).max() <= 1


def test_colour_jpeg_gives_the_luma_of_its_decoded_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", colour(), quality=95, subsampling=0)
    with Image.open(path) as image:
        expected = luma(np.asarray(image.convert("RGB")))
    # Y itself, before colours out of range are clipped
    assert np.mean(np.abs(read_grey(path, SIZE) - expected)) <= 2


@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("CMYK", "tif", {}),
        ("CMYK", "jpg", {"quality": 100}),
        ("YCbCr", "tif", {"compression": "jpeg", "quality": 100}),
        ("YCbCr", "jpg", {"quality": 100}),
    ],
)
def test_print_and_video_colours_become_luma(
    tmp_path: Path, mode: str, suffix: str, options: dict[str, object]
) -> None:
    flat = np.full((16, 16, 3), (200, 120, 40), np.uint8)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(flat).convert(mode), **options)
    assert np.abs(read_grey(path, SIZE) - luma(flat)).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_palette_gives_the_luma_of_its_colours(tmp_path: Path, suffix: str) -> None:
    few = colour().quantize(16)
    expected = luma(np.asarray(few.convert("RGB")))
    assert np.abs(read_grey(save(tmp_path / f"a.{suffix}", few), SIZE) - expected).max() <= 1


@pytest.mark.parametrize("transparency", [3, bytes([0, 128, 255])])
def test_transparent_palette_entries_lie_on_black(
    tmp_path: Path, transparency: int | bytes
) -> None:
    few = colour().quantize(16)
    path = save(tmp_path / "a.png", few, transparency=transparency)
    index = np.asarray(few)
    single = {transparency: 0} if isinstance(transparency, int) else dict(enumerate(transparency))
    alpha = np.vectorize(lambda i: single.get(int(i), 255))(index)
    expected = luma(np.asarray(few.convert("RGB"))) * alpha / 255
    assert np.abs(read_grey(path, SIZE) - expected).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_transparent_pixels_lie_on_black(tmp_path: Path, suffix: str) -> None:
    rgba = np.random.default_rng(5).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    rgba[0] = (255, 255, 255, 0)
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    grey = read_grey(save(tmp_path / f"a.{suffix}", Image.fromarray(rgba), **options), SIZE)
    assert not grey[0].any()
    assert np.abs(grey - luma(rgba[..., :3]) * rgba[..., 3] / 255).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_with_alpha_lies_on_black(tmp_path: Path, suffix: str) -> None:
    both = np.stack([RAMP, RAMP[:, ::-1]], axis=-1)
    expected = RAMP.astype(float) * RAMP[:, ::-1] / 255
    grey = read_grey(save(tmp_path / f"a.{suffix}", Image.fromarray(both)), SIZE)
    assert np.abs(grey - expected).max() <= 1


def test_a_transparent_grey_level_is_black(tmp_path: Path) -> None:
    grey = read_grey(save(tmp_path / "a.png", Image.fromarray(RAMP), transparency=200), SIZE)
    assert np.array_equal(grey, np.where(RAMP == 200, 0, RAMP))


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    save(tmp_path / "a.png", Image.fromarray(RAMP))
    path = (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_grey(path, SIZE), RAMP)


# Wider pixels


def wide_file(path: Path, form: str) -> Path:
    if form == "png":
        return save(path, Image.fromarray(WIDE_RAMP), format="PNG")
    if form == "lzw":
        return save(path, Image.fromarray(WIDE_RAMP), format="TIFF", compression="tiff_lzw")
    if form == "int32":
        return write(path, tiff(WIDE_RAMP.astype(np.int32), sample_format=2))
    return write(path, tiff(WIDE_RAMP, order="<" if form == "little" else ">"))


@pytest.mark.parametrize("form", ["png", "lzw", "little", "big", "int32"])
def test_16_bit_keeps_its_range(tmp_path: Path, form: str) -> None:
    grey = read_grey(wide_file(tmp_path / "a", form), SIZE)
    assert np.array_equal(grey, np.floor(WIDE_RAMP / 257 + 0.5))
    # half a step at either end, a whole one of 257 between
    assert np.bincount(grey.ravel()).min() >= 128


@pytest.mark.parametrize("order", ["<", ">"])
def test_compressed_16_bit_keeps_its_range_in_either_byte_order(tmp_path: Path, order: str) -> None:
    path = write(tmp_path / "a.tif", tiff(WIDE_RAMP, order, deflate=True))
    assert np.array_equal(read_grey(path, SIZE), np.floor(WIDE_RAMP / 257 + 0.5))


def test_dark_16_bit_stays_dark(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(np.full((5, 5), 2570, np.uint16)))
    assert (read_grey(path, SIZE) == 10).all()


def test_12_bit_tiff_uses_its_whole_range(tmp_path: Path) -> None:
    packed = np.array([[0x00, 0x0F, 0xFF], [0x80, 0x04, 0x00]], np.uint8)  # 0, 4095; 2048, 1024
    data = tiff(packed, bits=12, width=2)
    assert read_grey(write(tmp_path / "a.tif", data), SIZE).tolist() == [[0, 255], [128, 64]]


def test_a_transparent_16_bit_level_is_black(tmp_path: Path) -> None:
    data = zlib.compress(b"\0" + struct.pack(">2H", 65535, 25700))
    chunks = ((b"tRNS", struct.pack(">H", 65535)), (b"IDAT", data))
    path = write(tmp_path / "a.png", png(png_header(2, 1, bits=16), *chunks))
    assert read_grey(path, SIZE).tolist() == [[0, 100]]


def test_float_from_0_to_1_is_scaled_by_255(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    path = save(tmp_path / "a.tif", Image.fromarray(values))
    assert read_grey(path, SIZE).tolist() == [[0, 64, 128, 255]]


@pytest.mark.parametrize("value", [1.01, -0.01, 255.0, np.nan, np.inf])
def test_float_out_of_range_is_refused(tmp_path: Path, value: float) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[0.0, value, 1.0]], np.float32)))
    with pytest.raises(ImageError, match="outside 0 to 1"):
        read_grey(path, SIZE)


@pytest.mark.parametrize("value", [-1, 65536, 2**31 - 1])
def test_integers_out_of_range_are_refused(tmp_path: Path, value: int) -> None:
    path = write(tmp_path / "a.tif", tiff(np.array([[0, value]], np.int32), sample_format=2))
    with pytest.raises(ImageError, match="outside 0 to 65535"):
        read_grey(path, SIZE)


@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero_is_turned_over_at_8_bit(tmp_path: Path, order: str) -> None:
    path = write(tmp_path / "a.tif", tiff(RAMP, photometric=0, order=order))
    assert np.array_equal(read_grey(path, SIZE), 255 - RAMP)


def test_white_is_zero_is_turned_over_at_16_bit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", tiff(WIDE_RAMP, photometric=0))
    expected = np.floor((65535 - WIDE_RAMP.astype(float)) / 257 + 0.5)
    assert np.array_equal(read_grey(path, SIZE), expected)


def test_white_is_zero_is_turned_over_at_1_bit(tmp_path: Path) -> None:
    data = tiff(np.array([[0b11110000]], np.uint8), photometric=0, bits=1, width=8)
    assert read_grey(write(tmp_path / "a.tif", data), SIZE).tolist() == [[0] * 4 + [255] * 4]


def test_white_is_zero_is_turned_over_for_floats(tmp_path: Path) -> None:
    values = np.array([[0, 0.2, 1]], np.float32)
    path = write(tmp_path / "a.tif", tiff(values, photometric=0, sample_format=3))
    assert read_grey(path, SIZE).tolist() == [[255, 204, 0]]


# Reduced decoding


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((640, 512), (80, 64)),  # by 8
        ((511, 511), (128, 128)),  # by 4: by 8 would be just as large, but Pillow divides down
        ((127, 1000), (127, 1000)),  # the shorter side decides
        ((128, 1001), (64, 501)),  # by 2
        ((40, 30), (40, 30)),
    ],
)
def test_a_jpeg_is_reduced_but_never_below_twice_the_size(
    tmp_path: Path, shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    path = save(tmp_path / "a.jpg", colour(*shape))
    grey = read_grey(path, SIZE)
    assert grey.shape == expected
    assert min(grey.shape) >= min(2 * SIZE, *shape)


def test_a_larger_network_reads_more_of_a_jpeg(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", colour(600, 600))
    assert read_grey(path, 224).shape == (600, 600)


def test_other_formats_are_not_reduced(tmp_path: Path) -> None:
    assert read_grey(save(tmp_path / "a.png", colour(640, 512)), SIZE).shape == (640, 512)


def test_reading_again_gives_the_same_pixels_in_any_thread(tmp_path: Path) -> None:
    paths = [
        save(tmp_path / f"a.{suffix}", colour(600, 500))
        for suffix in ("jpg", "png", "tif", "bmp", "webp")
    ]
    once = [read_grey(path, SIZE) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda path: read_grey(path, SIZE), paths * 4))
    assert all(np.array_equal(a, b) for a, b in zip(once * 4, again, strict=True))


# Files that give no pixels


NOISE = colour(64, 64)
BOMB = png(png_header(60_000, 60_000, bits=1), (b"IDAT", zlib.compress(bytes(100))))
ABOVE_PILLOWS_WARNING = png(png_header(10_000, 10_000, bits=1), (b"IDAT", zlib.compress(b"")))
BAD_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"patient,label\n1,0\n", "is not a JPEG"),
    "gif": (encode(NOISE, "gif"), "is not a JPEG"),
    "bomb": (BOMB, "is more than 67108864 pixels"),
    "half bomb": (ABOVE_PILLOWS_WARNING, "is more than 67108864 pixels"),
    "jpeg head": (encode(NOISE, "jpeg")[:30], "damaged"),
    "jpeg cut": (encode(NOISE, "jpeg")[:-400], "truncated"),
    "png head": (encode(NOISE, "png")[:20], "damaged"),
    "png cut": (encode(NOISE, "png")[:-400], "truncated"),
    "png checksum": (encode(NOISE, "png").replace(b"IHDR\0", b"IHDR\1", 1), "damaged"),
    "png without pixels": (png(png_header(8, 8)), "damaged"),
    "tiff head": (encode(NOISE, "tiff")[:6], "truncated"),
    "tiff cut": (encode(NOISE, "tiff")[:-400], "truncated"),
    "lzw tiff cut": (encode(NOISE, "tiff", compression="tiff_lzw")[:-400], "truncated"),
    "grey tiff cut": (tiff(RAMP)[:-40], "truncated"),
    "tiff of unknown layout": (tiff(RAMP, sample_format=6), "unsupported"),
    "bmp cut": (encode(NOISE, "bmp")[:-400], "truncated"),
    "bmp head": (b"BM" + bytes(40), "damaged"),
    "webp cut": (encode(NOISE, "webp")[:-400], "damaged"),
    "multi-page tiff": (encode_frames("tiff"), "more than one picture"),
    "animated png": (encode_frames("png"), "more than one picture"),
    "animated webp": (encode_frames("webp"), "more than one picture"),
    "multi-picture jpeg": (encode_frames("mpo"), "more than one picture"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_with_its_reason(tmp_path: Path, name: str) -> None:
    data, reason = BAD_FILES[name]
    path = write(tmp_path / "bad.png", data)
    with pytest.raises(ImageError, match=reason) as caught:
        read_grey(path, SIZE)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gives_no_warning(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "bad.png", BAD_FILES[name][0])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(ImageError):
            read_grey(path, SIZE)
    assert not seen


@pytest.mark.parametrize("suffix", ["jpeg", "png", "tiff", "bmp", "webp"])
def test_a_file_cut_anywhere_is_an_image_error_or_whole(tmp_path: Path, suffix: str) -> None:
    data = encode(colour(64, 64), suffix)
    whole = read_grey(write(tmp_path / "a", data), SIZE)
    for end in range(0, len(data), max(1, len(data) // 40)):
        try:
            grey = read_grey(write(tmp_path / "a", data[:end]), SIZE)
        except ImageError:
            continue
        assert np.array_equal(grey, whole)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not there; check the path"):
        read_grey(tmp_path / "none.png", SIZE)


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder"):
        read_grey(tmp_path, SIZE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_grey(tmp_path / "a.png", SIZE)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MAX_BYTES", 100)
    with pytest.raises(ImageError, match="larger than 100 bytes"):
        read_grey(write(tmp_path / "a.png", bytes(101)), SIZE)


def test_reading_changes_no_setting_of_pillow_or_warnings() -> None:
    script = (
        "import warnings, numpy; from PIL import Image, ImageFile; f = list(warnings.filters)\n"
        "import kneeedge.pixels.picture\n"
        "assert list(warnings.filters) == f and not ImageFile.LOAD_TRUNCATED_IMAGES\n"
        "assert Image.MAX_IMAGE_PIXELS == 89478485"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
