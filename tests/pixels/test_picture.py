"""What is taken for an image, and which grey levels come out of it."""

import io
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

from kneeedge.errors import DataError, ImageError, NotFoundError
from kneeedge.pixels import picture
from kneeedge.pixels.listing import IMAGE_SUFFIXES, FoundImage, find_images
from kneeedge.pixels.picture import read_grey, read_picture

SIZE = 32
RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
WIDE_RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
CORNERS = np.array(
    [[10, 60, 110], [160, 210, 250]], dtype=np.uint8
)  # no symmetry: every turn differs


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def colour(height: int = 6, width: int = 8) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 in double precision, (H, W) float64."""
    return rgb @ np.array([0.299, 0.587, 0.114])


def tiff(pixels: np.ndarray, order: str = "<", deflate: bool = False, **tags: int) -> bytes:
    """A single-strip grey TIFF; `tags` are photometric (0 is white-is-zero), sample_format (3 is
    float) and bits.
    """
    height, width = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflate else data
    values = {
        256: tags.get("width", width),
        257: height,
        258: tags.get("bits", pixels.dtype.itemsize * 8),
    }
    values |= {
        259: 8 if deflate else 1,
        262: tags.get("photometric", 1),
        273: 8,
        277: 1,
        278: height,
        279: len(data),
    }
    values[339] = tags.get("sample_format", 1)
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in values.items()
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(values)) + entries + bytes(4)


def png(header: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = ((b"IHDR", header), *chunks, (b"IEND", b""))
    packed = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# Formats and modes


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_8_bit_grey_is_exact_in_every_lossless_format(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    found = read_grey(save(tmp_path / f"a.{suffix}", Image.fromarray(RAMP), **options), SIZE)
    assert found.dtype == np.uint8
    assert np.array_equal(found, RAMP)


def test_jpeg_is_within_its_own_loss(tmp_path: Path) -> None:
    found = read_grey(save(tmp_path / "a.jpg", Image.fromarray(RAMP), quality=95), SIZE)
    assert np.abs(found.astype(int) - RAMP).max() <= 4


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
    found = read_grey(save(tmp_path / f"a.{suffix}", colour(), **options), SIZE)
    assert np.abs(found - luma(np.asarray(colour()))).max() <= 1


def test_colour_jpeg_gives_the_luma_of_its_decoded_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", colour(), quality=95, subsampling=0)
    with Image.open(path) as image:
        expected = luma(np.asarray(image.convert("RGB")))
    assert (
        np.mean(np.abs(read_grey(path, SIZE) - expected)) <= 2
    )  # Y itself, before colours out of range are clipped


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
    found = read_grey(save(tmp_path / f"a.{suffix}", Image.fromarray(rgba), **options), SIZE)
    assert not found[0].any()
    assert np.abs(found - luma(rgba[..., :3]) * rgba[..., 3] / 255).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_with_alpha_lies_on_black(tmp_path: Path, suffix: str) -> None:
    both = np.stack([RAMP, RAMP[:, ::-1]], axis=-1)
    expected = RAMP.astype(float) * RAMP[:, ::-1] / 255
    found = read_grey(save(tmp_path / f"a.{suffix}", Image.fromarray(both)), SIZE)
    assert np.abs(found - expected).max() <= 1


def test_a_transparent_grey_level_is_black(tmp_path: Path) -> None:
    found = read_grey(save(tmp_path / "a.png", Image.fromarray(RAMP), transparency=200), SIZE)
    assert np.array_equal(found, np.where(RAMP == 200, 0, RAMP))


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
        return written(path, tiff(WIDE_RAMP.astype(np.int32), sample_format=2))
    return written(path, tiff(WIDE_RAMP, order="<" if form == "little" else ">"))


@pytest.mark.parametrize("form", ["png", "lzw", "little", "big", "int32"])
def test_16_bit_keeps_its_range(tmp_path: Path, form: str) -> None:
    found = read_grey(wide_file(tmp_path / "a", form), SIZE)
    assert np.array_equal(found, np.floor(WIDE_RAMP / 257 + 0.5))
    assert (
        np.bincount(found.ravel()).min() >= 128
    )  # half a step at either end, a whole one of 257 between


@pytest.mark.parametrize("order", ["<", ">"])
def test_compressed_16_bit_keeps_its_range_in_either_byte_order(tmp_path: Path, order: str) -> None:
    path = written(tmp_path / "a.tif", tiff(WIDE_RAMP, order, deflate=True))
    assert np.array_equal(read_grey(path, SIZE), np.floor(WIDE_RAMP / 257 + 0.5))


def test_dark_16_bit_stays_dark(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(np.full((5, 5), 2570, np.uint16)))
    assert (read_grey(path, SIZE) == 10).all()


def test_12_bit_tiff_uses_its_whole_range(tmp_path: Path) -> None:
    packed = np.array([[0x00, 0x0F, 0xFF], [0x80, 0x04, 0x00]], np.uint8)  # 0, 4095; 2048, 1024
    data = tiff(packed, bits=12, width=2)
    assert read_grey(written(tmp_path / "a.tif", data), SIZE).tolist() == [[0, 255], [128, 64]]


def test_a_transparent_16_bit_level_is_black(tmp_path: Path) -> None:
    data = zlib.compress(b"\0" + struct.pack(">2H", 65535, 25700))
    chunks = ((b"tRNS", struct.pack(">H", 65535)), (b"IDAT", data))
    path = written(tmp_path / "a.png", png(struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0), *chunks))
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
    path = written(tmp_path / "a.tif", tiff(np.array([[0, value]], np.int32), sample_format=2))
    with pytest.raises(ImageError, match="outside 0 to 65535"):
        read_grey(path, SIZE)


@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero_is_turned_over_at_8_bit(tmp_path: Path, order: str) -> None:
    path = written(tmp_path / "a.tif", tiff(RAMP, photometric=0, order=order))
    assert np.array_equal(read_grey(path, SIZE), 255 - RAMP)


def test_white_is_zero_is_turned_over_at_16_bit(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", tiff(WIDE_RAMP, photometric=0))
    assert np.array_equal(
        read_grey(path, SIZE), np.floor((65535 - WIDE_RAMP.astype(float)) / 257 + 0.5)
    )


def test_white_is_zero_is_turned_over_at_1_bit(tmp_path: Path) -> None:
    data = tiff(np.array([[0b11110000]], np.uint8), photometric=0, bits=1, width=8)
    assert read_grey(written(tmp_path / "a.tif", data), SIZE).tolist() == [[0] * 4 + [255] * 4]


def test_white_is_zero_is_turned_over_for_floats(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.tif",
        tiff(np.array([[0, 0.2, 1]], np.float32), photometric=0, sample_format=3),
    )
    assert read_grey(path, SIZE).tolist() == [[255, 204, 0]]


# Orientation


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
    found = read_grey(path, SIZE)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_applied_at_16_bit(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = save(
        tmp_path / f"a.{suffix}", Image.fromarray(CORNERS.astype(np.uint16) * 257), exif=exif
    )
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
    found = read_grey(path, SIZE)
    assert found.shape == expected
    assert min(found.shape) >= min(2 * SIZE, *shape)


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


def encoded(suffix: str, **options: object) -> bytes:
    stream = io.BytesIO()
    colour(64, 64).save(stream, suffix, **options)
    return stream.getvalue()


def many(suffix: str) -> bytes:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (0, 120, 240)]
    frames[0].save(stream, suffix, save_all=True, append_images=frames[1:])
    return stream.getvalue()


BOMB = png(
    struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0), (b"IDAT", zlib.compress(bytes(100)))
)
ABOVE_PILLOWS_WARNING = png(
    struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0), (b"IDAT", zlib.compress(b""))
)
BAD_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"patient,label\n1,0\n", "is not a JPEG"),
    "gif": (encoded("gif"), "is not a JPEG"),
    "bomb": (BOMB, "is more than 67108864 pixels"),
    "half bomb": (ABOVE_PILLOWS_WARNING, "is more than 67108864 pixels"),
    "jpeg head": (encoded("jpeg")[:30], "damaged"),
    "jpeg cut": (encoded("jpeg")[:-400], "truncated"),
    "png head": (encoded("png")[:20], "damaged"),
    "png cut": (encoded("png")[:-400], "truncated"),
    "png checksum": (encoded("png").replace(b"IHDR\0", b"IHDR\1", 1), "damaged"),
    "png without pixels": (png(struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)), "damaged"),
    "tiff head": (encoded("tiff")[:6], "truncated"),
    "tiff cut": (encoded("tiff")[:-400], "truncated"),
    "lzw tiff cut": (encoded("tiff", compression="tiff_lzw")[:-400], "truncated"),
    "grey tiff cut": (tiff(RAMP)[:-40], "truncated"),
    "tiff of unknown layout": (tiff(RAMP, sample_format=6), "unsupported"),
    "bmp cut": (encoded("bmp")[:-400], "truncated"),
    "bmp head": (b"BM" + bytes(40), "damaged"),
    "webp cut": (encoded("webp")[:-400], "damaged"),
    "multi-page tiff": (many("tiff"), "more than one picture"),
    "animated png": (many("png"), "more than one picture"),
    "animated webp": (many("webp"), "more than one picture"),
    "multi-picture jpeg": (many("mpo"), "more than one picture"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_with_its_reason(tmp_path: Path, name: str) -> None:
    data, reason = BAD_FILES[name]
    path = written(tmp_path / "bad.png", data)
    with pytest.raises(ImageError, match=reason) as caught:
        read_grey(path, SIZE)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gives_no_warning(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "bad.png", BAD_FILES[name][0])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(ImageError):
            read_grey(path, SIZE)
    assert not seen


@pytest.mark.parametrize("suffix", ["jpeg", "png", "tiff", "bmp", "webp"])
def test_a_file_cut_anywhere_is_an_image_error_or_whole(tmp_path: Path, suffix: str) -> None:
    data = encoded(suffix)
    whole = read_grey(written(tmp_path / "a", data), SIZE)
    for end in range(0, len(data), max(1, len(data) // 40)):
        try:
            found = read_grey(written(tmp_path / "a", data[:end]), SIZE)
        except ImageError:
            continue
        assert np.array_equal(found, whole)


def test_an_hdr_gain_map_is_not_a_second_picture(tmp_path: Path) -> None:
    note = b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>'
    segment = b"\xff\xe1" + struct.pack(">H", len(note) + 2) + note
    data = many("mpo")
    assert read_grey(written(tmp_path / "a.jpg", data[:2] + segment + data[2:]), SIZE).shape == (
        16,
        16,
    )


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
        read_grey(written(tmp_path / "a.png", bytes(101)), SIZE)


def test_an_image_of_the_most_pixels_allowed_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", colour(10, 10))
    assert read_picture(path, SIZE, max_pixels=100).grey.shape == (10, 10)
    with pytest.raises(
        ImageError, match="10 × 10 is more than 99 pixels; take it out, or raise --max-megapixels"
    ):
        read_picture(path, SIZE, max_pixels=99)


def test_reading_changes_no_setting_of_pillow_or_warnings() -> None:
    script = (
        "import warnings, numpy; from PIL import Image, ImageFile; f = list(warnings.filters)\n"
        "import kneeedge.pixels.picture\n"
        "assert list(warnings.filters) == f and not ImageFile.LOAD_TRUNCATED_IMAGES\n"
        "assert Image.MAX_IMAGE_PIXELS == 89478485"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Listing


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(paths: list[Path]) -> list[str]:
    return [image.name for image in find_images(paths).images]


def test_a_folder_is_listed_by_relative_posix_path(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.png", "b/10.png", "a.jpg", "b-1.png", "b.png", "Z.png")
    expected = ["Z.png", "a.jpg", "b-1.png", "b.png", "b/10.png", "b/2.png"]
    assert names([tmp_path]) == expected
    assert [image.path for image in find_images([tmp_path]).images] == [
        tmp_path / name for name in expected
    ]


def test_every_image_suffix_is_known_in_either_case(tmp_path: Path) -> None:
    files = [f"{i}{suffix}" for i, suffix in enumerate(IMAGE_SUFFIXES)]
    touch(tmp_path, *files, *(f"{file}".upper() for file in files))
    assert len(names([tmp_path])) == 2 * len(files)


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".hidden.png", ".cache/b.png", "sub/.DS_Store", "._a.png")
    listing = find_images([tmp_path])
    assert [image.name for image in listing.images] == ["a.png"]
    assert not listing.others


def test_other_files_are_listed_as_such(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/labels.csv", "README", "scan.dat")
    assert find_images([tmp_path]).others == tuple(
        tmp_path / n for n in ("README", "scan.dat", "sub/labels.csv")
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_never_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert find_images([tmp_path]).others == (tmp_path / "b.png",)
    assert find_images([tmp_path / "a.png", tmp_path / "b.png"]).others == (tmp_path / "b.png",)


def test_linked_files_are_images_and_linked_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in/file.png").symlink_to(tmp_path / "out/b.png")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/self.png").symlink_to(tmp_path / "in/self.png")
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "nowhere.png")
    listing = find_images([tmp_path / "in"])
    assert [image.name for image in listing.images] == ["a.png", "file.png"]
    assert [path.name for path in listing.others] == ["folder", "gone.png", "loop", "self.png"]


def test_a_linked_folder_that_is_given_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "out/b.png")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert names([tmp_path / "link"]) == ["b.png"]


def test_a_file_given_is_an_image_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "scan.bin", ".hidden")
    for file in (tmp_path / "scan.bin", tmp_path / ".hidden"):
        assert find_images([file]).images == (FoundImage("", file.as_posix()),)


def test_same_names_in_two_sub_folders_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path, "left/1.png", "right/1.png")
    assert names([tmp_path]) == ["left/1.png", "right/1.png"]


def test_same_names_in_two_folders_given_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "b/1.png", "a/1.png", "a/x/2.png")
    assert names([Path("b"), Path("a/"), Path("./a/x/2.png")]) == [
        "b/1.png",
        "a/1.png",
        "a/x/2.png",
    ]


def test_a_path_given_twice_is_listed_once(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "notes.txt")
    listing = find_images([tmp_path, tmp_path])
    assert [image.path for image in listing.images] == [tmp_path / "1.png"]
    assert listing.others == (tmp_path / "notes.txt",)


def test_a_missing_path_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not there; check the path"):
        find_images([tmp_path, tmp_path / "none"])


def test_no_images_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "labels.csv")
    with pytest.raises(DataError, match="no images found; give files"):
        find_images([tmp_path])
    with pytest.raises(DataError, match="no path given"):
        find_images([])


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "closed/a.png")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(DataError, match="cannot be listed"):
        find_images([tmp_path])
