"""TIFF files written byte by byte, against the arrays that they were written from."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.pixels.picture import read_grey
from tests.image_files import encode, grey_tags, luma, tiff_of, write

SIZE = 32
RNG = np.random.default_rng(11)
GREY = RNG.integers(0, 256, (6, 8), dtype=np.uint8)
WIDE = RNG.integers(0, 65536, (6, 8), dtype=np.uint16)
RGBA = RNG.integers(0, 256, (6, 8, 4), dtype=np.uint8)
RGB = RGBA[..., :3]
COLOURS = RNG.integers(0, 256, (256, 3), dtype=np.uint16)
ORDERS = pytest.mark.parametrize("order", ["<", ">"])
DEFLATE = 8


def grey_of(path: Path, data: bytes) -> np.ndarray:
    return read_grey(write(path, data), SIZE)


def refusal(path: Path, data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        grey_of(path, data)
    return str(caught.value)


def stored(pixels: np.ndarray, order: str) -> bytes:
    return pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()


def narrowed(wide: np.ndarray) -> np.ndarray:
    return np.floor(wide / 257 + 0.5)


def reversed_bits(data: bytes) -> bytes:
    return np.packbits(
        np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)[:, ::-1]
    ).tobytes()


def rgb_tags(n_channels: int = 3, **more: object) -> dict[int, object]:
    return grey_tags(6, 8, (8,) * n_channels, samples=n_channels, photometric=2, **more)


# What samples mean


@ORDERS
def test_signed_bytes_below_0_are_refused_and_others_kept(tmp_path: Path, order: str) -> None:
    half = GREY // 2
    data = tiff_of([half.tobytes()], grey_tags(6, 8, format=2), order)
    assert np.array_equal(grey_of(tmp_path / "a.tif", data), half)
    half[3, 3] = 254  # -2
    data = tiff_of([half.tobytes()], grey_tags(6, 8, format=2), order)
    assert "integer pixels outside 0 to 255" in refusal(tmp_path / "a.tif", data)


@ORDERS
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("dtype", "sample_format"), [("u2", 1), ("i2", 2), ("i4", 2), ("f4", 3)])
def test_wide_samples_are_the_same_in_either_byte_order_packed_or_not(
    tmp_path: Path, order: str, compressed: bool, dtype: str, sample_format: int
) -> None:
    """libtiff gives the machine's byte order, which Pillow takes for the file's for some."""
    wide = WIDE // 2 if dtype == "i2" else WIDE
    values = (wide / 65535 if dtype == "f4" else wide).astype(dtype)
    data = stored(values, order)
    tags = grey_tags(6, 8, values.itemsize * 8, format=sample_format)
    if compressed:
        data = zlib.compress(data)
        tags |= {259: DEFLATE}
    grey = grey_of(tmp_path / "a.tif", tiff_of([data], tags, order))
    assert np.array_equal(grey, narrowed(wide))


@pytest.mark.parametrize(
    ("bits", "sample_format", "words"),
    [
        (8, 4, "1 × 8-bit undefined samples"),
        (16, 5, "1 × 16-bit complex samples"),
        (16, 3, "1 × 16-bit floating-point samples"),
        (64, 3, "1 × 64-bit floating-point samples"),
        (10, 1, "1 × 10-bit unsigned samples"),
        (14, 1, "1 × 14-bit unsigned samples"),
        (4, 2, "1 × 4-bit signed samples"),
    ],
)
def test_samples_that_are_not_read_are_named(
    tmp_path: Path, bits: int, sample_format: int, words: str
) -> None:
    data = tiff_of([bytes(6 * bits)], grey_tags(6, 8, bits, format=sample_format))
    text = refusal(tmp_path / "a.tif", data)
    assert words in text
    assert text.endswith("save it in 8- or 16-bit grey")


@ORDERS
@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_levels_of_few_bits_fill_the_range(
    tmp_path: Path, order: str, bits: int, photometric: int, fill_order: int
) -> None:
    levels = GREY >> (8 - bits)
    packed = np.zeros((6, bits), dtype=np.uint8)
    for i in range(8 // bits):
        packed = (packed << bits) | levels[:, i :: 8 // bits]
    data = reversed_bits(packed.tobytes()) if fill_order == 2 else packed.tobytes()
    tags = grey_tags(6, 8, bits, photometric=photometric, fill_order=fill_order)
    expected = levels * (255 // (2**bits - 1))
    grey = grey_of(tmp_path / "a.tif", tiff_of([data], tags, order))
    assert np.array_equal(grey, expected if photometric else 255 - expected)


def test_a_tiff_that_does_not_say_whether_0_is_black_is_refused(tmp_path: Path) -> None:
    """Pillow takes 0 for white then, and others for black."""
    data = tiff_of([GREY.tobytes()], grey_tags(6, 8, photometric=None))
    assert "whether 0 is black or white" in refusal(tmp_path / "a.tif", data)


@ORDERS
@pytest.mark.parametrize("scale", [1, 257])
def test_colour_maps_of_8_and_of_16_bits_mean_the_same(
    tmp_path: Path, order: str, scale: int
) -> None:
    colours = tuple(int(level) * scale for level in COLOURS.T.ravel())
    data = tiff_of([GREY.tobytes()], grey_tags(6, 8, photometric=3, colours=colours), order)
    assert np.abs(grey_of(tmp_path / "a.tif", data) - luma(COLOURS[GREY])).max() <= 1


@pytest.mark.parametrize("colours", [None, (1, 2, 3) * 10])
def test_a_colour_map_of_another_size_is_refused(
    tmp_path: Path, colours: tuple[int, ...] | None
) -> None:
    data = tiff_of([GREY.tobytes()], grey_tags(6, 8, photometric=3, colours=colours))
    refusal(tmp_path / "a.tif", data)


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_fourth_channel_is_what_the_file_says(
    tmp_path: Path, extra: int, compressed: bool
) -> None:
    """Of 1, associated alpha, the colours are multiplied already."""
    pixels = RGBA.copy()
    if extra == 1:
        pixels[..., :3] = np.minimum(pixels[..., :3], pixels[..., 3:])
    expected = luma(pixels[..., :3])
    if extra == 2:
        expected *= pixels[..., 3] / 255
    data = pixels.tobytes()
    tags = rgb_tags(4, extra=extra)
    if compressed:
        data = zlib.compress(data)
        tags |= {259: DEFLATE}
    grey = grey_of(tmp_path / "a.tif", tiff_of([data], tags))
    assert np.abs(grey - expected).max() <= 2


def test_a_fourth_channel_that_is_not_told_is_refused_unless_it_hides_nothing(
    tmp_path: Path,
) -> None:
    data = tiff_of([RGBA.tobytes()], rgb_tags(4))
    assert "does not say what its fourth channel is" in refusal(tmp_path / "a.tif", data)
    opaque = RGBA.copy()
    opaque[..., 3] = 255
    grey = grey_of(tmp_path / "a.tif", tiff_of([opaque.tobytes()], rgb_tags(4)))
    assert np.abs(grey - luma(RGB)).max() <= 1


@ORDERS
@pytest.mark.parametrize("compressed", [False, True])
def test_channels_one_by_one_are_put_together(tmp_path: Path, order: str, compressed: bool) -> None:
    planes = [RGB[k : k + 2, :, i].tobytes() for i in range(3) for k in (0, 2, 4)]
    tags = rgb_tags(planar=2, rows=2)
    if compressed:
        planes = [zlib.compress(plane) for plane in planes]
        tags |= {259: DEFLATE}
    grey = grey_of(tmp_path / "a.tif", tiff_of(planes, tags, order))
    assert np.abs(grey - luma(RGB)).max() <= 1


@ORDERS
def test_16_bit_channels_one_by_one_are_refused(tmp_path: Path, order: str) -> None:
    planes = [stored(WIDE, order)] * 3
    tags = grey_tags(6, 8, (16,) * 3, samples=3, photometric=2, planar=2)
    assert "3 × 16-bit unsigned samples one by one" in refusal(
        tmp_path / "a.tif", tiff_of(planes, tags, order)
    )


@ORDERS
def test_16_bit_colour_is_read_by_its_upper_bits(tmp_path: Path, order: str) -> None:
    wide = RNG.integers(0, 65536, (6, 8, 3), dtype=np.uint16)
    tags = grey_tags(6, 8, (16,) * 3, samples=3, photometric=2)
    grey = grey_of(tmp_path / "a.tif", tiff_of([stored(wide, order)], tags, order))
    assert np.abs(grey - luma(wide) / 257).max() <= 1.5


def test_ink_is_turned_into_light(tmp_path: Path) -> None:
    tags = grey_tags(6, 8, (8,) * 4, samples=4, photometric=5)
    expected = luma((255.0 - RGB) * (255.0 - RGBA[..., 3:]) / 255)
    grey = grey_of(tmp_path / "a.tif", tiff_of([RGBA.tobytes()], tags))
    assert np.abs(grey - expected).max() <= 2
    other_inks = grey_tags(6, 8, (8,) * 4, samples=4, photometric=5, ink_set=2)
    assert "unsupported TIFF" in refusal(tmp_path / "a.tif", tiff_of([RGBA.tobytes()], other_inks))


def test_lab_is_turned_into_light(tmp_path: Path) -> None:
    """L* 53.2, a* 80, b* 67 is sRGB's red (IEC 61966-2-1); L* of 100 is white."""
    data = tiff_of(
        [bytes([136, 80, 67, 255, 0, 0])], grey_tags(1, 2, (8,) * 3, samples=3, photometric=8)
    )
    assert np.abs(grey_of(tmp_path / "a.tif", data) - [[76, 255]]).max() <= 3


@ORDERS
@pytest.mark.parametrize("wide", [False, True])
def test_differences_between_neighbours_are_summed(tmp_path: Path, order: str, wide: bool) -> None:
    pixels = WIDE if wide else GREY
    steps = np.diff(pixels.astype(np.int64), axis=1, prepend=0).astype(pixels.dtype)
    tags = grey_tags(6, 8, pixels.itemsize * 8, compression=DEFLATE, predictor=2)
    data = tiff_of([zlib.compress(stored(steps, order))], tags, order)
    assert np.array_equal(grey_of(tmp_path / "a.tif", data), narrowed(WIDE) if wide else GREY)


# Which picture


@pytest.mark.parametrize(
    "more",
    [
        {"description": b"ImageJ=1.53t\nimages=3\nslices=3\nloop=false\n"},
        {"description": b'{"shape": [3, 6, 8], "truncated": true}'},
        {"depth": 3},
    ],
    ids=["imagej", "tifffile", "volume"],
)
def test_a_stack_behind_one_directory_is_several_pictures(
    tmp_path: Path, more: dict[str, object]
) -> None:
    data = tiff_of([GREY.tobytes() * 3], grey_tags(6, 8, lengths=144, **more))
    assert "more than one picture (a stack behind one directory)" in refusal(
        tmp_path / "a.tif", data
    )


@pytest.mark.parametrize(
    "description", [b"ImageJ=1.53t\nimages=1\n", b"ImageJ=1.53t\nunit=mm\n", b"images=3", b"{}"]
)
def test_a_description_of_one_picture_is_one_picture(tmp_path: Path, description: bytes) -> None:
    data = tiff_of([GREY.tobytes()], grey_tags(6, 8, description=description))
    assert np.array_equal(grey_of(tmp_path / "a.tif", data), GREY)


def two_pages(**second: object) -> bytes:
    """A picture and behind it a page of its upper half, whose further tags are `second`."""
    place = len(tiff_of([GREY.tobytes()], grey_tags(6, 8)))
    first = tiff_of([GREY.tobytes()], grey_tags(6, 8), closing=place)
    half = tiff_of([GREY[:3].tobytes()], grey_tags(3, 8, **second))
    (begin,) = struct.unpack_from("<I", half, 4)
    # its pixels are where the first picture's begin
    return first + half[begin:]


@pytest.mark.parametrize("second", [{"subfile": 1}, {"old_subfile": 2}])
def test_a_smaller_version_behind_the_picture_is_no_further_one(
    tmp_path: Path, second: dict[str, object]
) -> None:
    assert np.array_equal(grey_of(tmp_path / "a.tif", two_pages(**second)), GREY)


@pytest.mark.parametrize("second", [{}, {"subfile": 2}, {"subfile": 4}, {"old_subfile": 3}])
def test_any_other_page_is_a_further_picture(tmp_path: Path, second: dict[str, object]) -> None:
    assert "more than one picture (pages)" in refusal(tmp_path / "a.tif", two_pages(**second))


@pytest.mark.parametrize("more", [{"subfile": 1}, {"old_subfile": 2}])
def test_a_file_that_begins_with_a_preview_is_refused(
    tmp_path: Path, more: dict[str, object]
) -> None:
    data = tiff_of([GREY.tobytes()], grey_tags(6, 8, **more))
    assert "begins with a preview" in refusal(tmp_path / "a.tif", data)


def test_directories_in_a_circle_are_one_picture(tmp_path: Path) -> None:
    begin = 8 + GREY.size
    data = tiff_of([GREY.tobytes()], grey_tags(6, 8), closing=begin)
    assert np.array_equal(grey_of(tmp_path / "a.tif", data), GREY)


# Files that lack pixels


STRIPS = [GREY[:2].tobytes(), GREY[2:4].tobytes(), GREY[4:].tobytes()]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("n_strips", "more", "words"),
    [
        (2, {}, "2 of 3 strips"),
        (3, {"lengths": (16, 0, 16)}, "strips are empty"),
        (3, {"offsets": (8, 0, 24)}, "strips are empty"),
        (3, {"lengths": (16, 16)}, "strips are empty"),
        (3, {"offsets": (8, 24, 9000)}, "strips are outside"),
    ],
    ids=["missing", "empty", "nowhere", "untold", "outside"],
)
def test_strips_that_are_not_there_are_refused(
    tmp_path: Path, compressed: bool, n_strips: int, more: dict[str, object], words: str
) -> None:
    strips = [zlib.compress(strip) if compressed else strip for strip in STRIPS[:n_strips]]
    tags = grey_tags(6, 8, rows=2, compression=DEFLATE if compressed else 1, **more)
    assert words in refusal(tmp_path / "a.tif", tiff_of(strips, tags))


def test_strips_shorter_than_their_rows_are_refused(tmp_path: Path) -> None:
    tags = grey_tags(6, 8, rows=2, lengths=(16, 4, 16))
    assert "strips are too short" in refusal(tmp_path / "a.tif", tiff_of(STRIPS, tags))


@pytest.mark.parametrize(
    "damaged",
    [zlib.compress(STRIPS[1][:8]), bytes(20), zlib.compress(STRIPS[1])[:-4] + b"nope"],
    ids=["fewer rows", "zeros", "checksum"],
)
def test_packed_strips_that_lack_rows_are_refused(tmp_path: Path, damaged: bytes) -> None:
    strips = [zlib.compress(STRIPS[0]), damaged, zlib.compress(STRIPS[2])]
    tags = grey_tags(6, 8, rows=2, compression=DEFLATE)
    assert "compressed pixels are corrupt" in refusal(tmp_path / "a.tif", tiff_of(strips, tags))


def test_tiles_are_put_together_and_none_may_be_missing(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
    padded = np.pad(pixels, ((0, 8), (0, 14)))
    tiles = [padded[y : y + 16, x : x + 16].tobytes() for y in (0, 16, 32) for x in (0, 16, 32, 48)]
    offsets = tuple(range(8, 8 + 12 * 256, 256))

    def tiled(n_tiles: int) -> bytes:
        layout = {"tile_width": 16, "tile_length": 16, "rows": None, "offsets": None}
        places = {"tile_offsets": offsets[:n_tiles], "tile_lengths": (256,) * n_tiles}
        tags = grey_tags(40, 50, lengths=None, **layout, **places)
        return tiff_of(tiles[:n_tiles], tags)

    assert np.array_equal(grey_of(tmp_path / "a.tif", tiled(12)), pixels)
    assert "11 of 12 tiles" in refusal(tmp_path / "a.tif", tiled(11))


def test_a_single_strip_whose_length_is_not_told_is_read(tmp_path: Path) -> None:
    data = tiff_of([GREY.tobytes()], grey_tags(6, 8, lengths=None))
    assert np.array_equal(grey_of(tmp_path / "a.tif", data), GREY)


def test_a_jpeg_in_a_tiff_that_lacks_blocks_is_refused(tmp_path: Path) -> None:
    """libtiff only warns of it."""
    y, x = np.mgrid[0:64, 0:64]
    noise = RNG.normal(0, 9, y.shape)
    image = Image.fromarray((120 + 50 * np.sin(x / 9 + y / 7) + noise).astype(np.uint8))
    data = encode(image, "TIFF", compression="jpeg")
    whole = grey_of(tmp_path / "a.tif", data)
    assert np.abs(whole - np.asarray(image, dtype=float)).mean() < 9
    end = data.index(b"\xff\xd9")
    assert end - data.index(b"\xff\xda") > 700
    zeroed = data[: end - 500] + bytes(500) + data[end:]
    assert "damaged JPEG" in refusal(tmp_path / "a.tif", zeroed)
