"""Look-up tables of DICOM: each is followed as the standard says, in numbers that cannot wrap."""

from collections.abc import Callable

import numpy as np
import pytest

from kneeedge.errors import ImageError

pytest.importorskip("gdcm", reason="pip install 'kneeedge[dicom]'")
pytest.importorskip("pydicom", reason="pip install 'kneeedge[dicom]'")

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.dicom_files import (
    RNG,
    SHAPE,
    TWELVE,
    dataset,
    grey,
    grey_scale,
    lut,
    scaled,
    stored,
    with_element,
)
from tests.image_files import luma

SQUARES = [i * i * 234 // 4095**2 for i in range(4096)]
"0 to 234, as a VOI LUT of 8 bits for 12-bit pixels"
Packing = Callable[[Dataset, list[int], str], Dataset]


def looked_up(values: np.ndarray, first: int, entries: list[int]) -> np.ndarray:
    """What the standard says of each value, in wide integers (PS3.3, C.11.1.1.1)."""
    index = np.clip(values.astype(np.int64) - first, 0, len(entries) - 1)
    return np.array(entries, dtype=np.int64)[index]


def order_of(syntax: str) -> str:
    return ">" if syntax == ExplicitVRBigEndian else "<"


def in_words(table: Dataset, entries: list[int], syntax: str) -> Dataset:
    """An entry in a word of its own, as OW."""
    words = np.array(entries, dtype=f"{order_of(syntax)}u2").tobytes()
    return with_element(table, "LUTData", "OW", words)


def packed(entries: list[int]) -> np.ndarray:
    """Two entries in a word, the first in its low byte."""
    data = np.array([*entries, *[0] * (len(entries) % 2)], np.uint8)
    return data[0::2] | data[1::2].astype(np.uint16) << 8


def packed_in_words(table: Dataset, entries: list[int], syntax: str) -> Dataset:
    words = packed(entries).astype(f"{order_of(syntax)}u2").tobytes()
    return with_element(table, "LUTData", "OW", words)


def packed_in_numbers(table: Dataset, entries: list[int], _: str) -> Dataset:
    return with_element(table, "LUTData", "US", packed(entries).tolist())


def as_numbers(table: Dataset, entries: list[int], _: str) -> Dataset:
    return with_element(table, "LUTData", "US", entries)


SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("n", [4096, 4095])
@pytest.mark.parametrize("packing", [as_numbers, in_words, packed_in_words, packed_in_numbers])
def test_a_table_of_bytes_is_followed_however_it_is_packed(
    packing: Packing, n: int, syntax: str
) -> None:
    entries = SQUARES[:n]
    table = packing(lut(0, entries, 8), entries, syntax)
    data = stored(dataset(TWELVE, 12, VOILUTSequence=Sequence([table])), syntax)
    assert (grey(data) == looked_up(TWELVE, 0, entries)).all()
    assert grey(data).max() > 230


def test_bytes_are_bytes_in_either_byte_order() -> None:
    table = with_element(lut(0, SQUARES, 8), "LUTData", "OB", bytes(SQUARES))
    data = stored(dataset(TWELVE, 12, VOILUTSequence=Sequence([table])))
    assert (grey(data) == looked_up(TWELVE, 0, SQUARES)).all()


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_of_8_to_16_bits_spans_its_depth(keyword: str, bits: int) -> None:
    top = 2**bits - 1
    entries = [top - i * top // 4095 for i in range(4096)]
    data = stored(dataset(TWELVE, 12, **{keyword: Sequence([lut(0, entries, bits)])}))
    assert (grey(data) == scaled(looked_up(TWELVE, 0, entries), 0, top)).all()


def test_the_first_value_is_signed_where_the_rescaled_values_may_be() -> None:
    """64512 is -1024."""
    entries = (np.arange(2048) * 32).tolist()
    tags = {
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "VOILUTSequence": Sequence([lut(64512, entries, 16)]),
    }
    wanted = scaled(looked_up(TWELVE.astype(int) - 1024, -1024, entries), 0, 65535)
    assert (grey(stored(dataset(TWELVE, 12, **tags))) == wanted).all()


def test_the_first_value_is_unsigned_where_no_value_is_negative() -> None:
    pixels = RNG.integers(30_000, 50_000, SHAPE, dtype=np.uint16)
    entries = (np.arange(10_000) * 6).tolist()
    data = stored(dataset(pixels, 16, VOILUTSequence=Sequence([lut(35_000, entries, 16)])))
    assert (grey(data) == scaled(looked_up(pixels, 35_000, entries), 0, 65535)).all()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_signed_pixels_lifted_above_zero_have_an_unsigned_table(syntax: str) -> None:
    """Whatever pydicom makes of the descriptor's value representation."""
    pixels = RNG.integers(-2_000, 20_000, SHAPE, dtype=np.int16)
    entries = (np.arange(20_000) * 3).tolist()
    tags = {
        "RescaleSlope": 1,
        "RescaleIntercept": 32768,
        "VOILUTSequence": Sequence([lut(32_768, entries, 16)]),
    }
    wanted = scaled(looked_up(pixels.astype(int) + 32768, 32_768, entries), 0, 65535)
    assert (grey(stored(dataset(pixels, 16, **tags), syntax)) == wanted).all()


def test_a_modality_table_that_begins_at_the_lowest_value_does_not_wrap() -> None:
    pixels = RNG.integers(-32768, 32768, SHAPE, dtype=np.int16)
    entries = np.arange(65536).tolist()
    data = stored(dataset(pixels, 16, ModalityLUTSequence=Sequence([lut(-32768, entries, 16)])))
    assert (grey(data) == scaled(pixels.astype(int) + 32768, 0, 65535)).all()


@pytest.mark.parametrize(("slope", "intercept"), [(1, -500), (40, -500), (-40, 32_000)])
def test_values_beyond_a_table_are_its_ends(slope: int, intercept: int) -> None:
    entries = list(range(20, 220))
    tags = {
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
        "VOILUTSequence": Sequence([lut(1000, entries, 8)]),
    }
    wanted = looked_up(TWELVE.astype(int) * slope + intercept, 1000, entries)
    assert (grey(stored(dataset(TWELVE, 12, **tags))) == wanted).all()
    assert {20, 219} <= {*wanted.ravel().tolist()}


def test_a_value_between_two_whole_ones_is_the_one_nearer_zero() -> None:
    """As in DCMTK."""
    entries = [i * i % 256 for i in range(1200)]
    tags = {
        "RescaleSlope": "0.37",
        "RescaleIntercept": -500,
        "VOILUTSequence": Sequence([lut(-500, entries, 8)]),
    }
    wanted = looked_up(np.trunc(TWELVE * 0.37 - 500), -500, entries)
    assert (grey(stored(dataset(TWELVE, 12, **tags))) == wanted).all()


def test_a_window_follows_a_modality_table() -> None:
    entries = [60_000 - 10 * i for i in range(4096)]
    tags = {
        "ModalityLUTSequence": Sequence([lut(0, entries, 16)]),
        "WindowCenter": 40_000,
        "WindowWidth": 30_001,
    }
    wanted = scaled(60_000 - 10 * TWELVE.astype(int), 40_000 - 0.5 - 15_000, 40_000 - 0.5 + 15_000)
    assert (grey(stored(dataset(TWELVE, 12, **tags))) == wanted).all()


def test_the_second_table_is_followed_where_it_is_asked_for() -> None:
    up = list(range(256))
    tables = [lut(0, up, 8), lut(0, up[::-1], 8)]
    data = stored(dataset(TWELVE, 12, VOILUTSequence=Sequence(tables)))
    assert (grey(data, 1) == 255 - np.minimum(TWELVE, 255)).all()
    with pytest.raises(ImageError, match="has 2 windows, and --dicom-window asks for number 2"):
        grey(data, 2)


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_that_leaves_its_depth_unused_is_remarked_on(keyword: str) -> None:
    dark = stored(dataset(TWELVE, 12, **{keyword: Sequence([lut(0, list(range(4096)), 16)])}))
    assert grey(dark).max() == 16
    assert "(entries end at 4095 of 65535)" in grey_scale(dark)
    whole = stored(dataset(TWELVE, 12, **{keyword: Sequence([lut(0, list(range(4096)), 12)])}))
    assert "entries" not in grey_scale(whole)


@pytest.mark.parametrize(
    ("descriptor", "entries", "reason"),
    [
        ([256, 0, 8], [0] * 200, "LUTData has 400 bytes for 256 entries of 8 bits"),
        ([200, 0, 12], [0] * 100, "LUTData has 200 bytes for 200 entries of 12 bits"),
        ([0, 0, 16], [0] * 100, "LUTData has 200 bytes for 65536 entries of 16 bits"),
        ([3, 0, 8], [0, 1, 256], "LUTData has an entry of 256, beyond 8 bits"),
        ([3, 0, 7], [0, 1, 2], "LUTDescriptor has 7 bits an entry, not 8 to 16"),
        ([3, 0, 17], [0, 1, 2], "LUTDescriptor has 17 bits an entry, not 8 to 16"),
        ([3, 0], [0, 1, 2], "LUTDescriptor has 2 values, not 3"),
        ([3, 0, 8], None, "LUTData has 0 bytes for 3 entries of 8 bits"),
    ],
)
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_that_is_not_what_it_says_is_refused(
    keyword: str, descriptor: list[int], entries: list[int] | None, reason: str
) -> None:
    table = lut(0, [0], 8)
    table.LUTDescriptor = descriptor
    with_element(table, "LUTData", "US", entries)
    with pytest.raises(ImageError, match=rf"damaged DICOM grey scale \({reason}\)"):
        grey(stored(dataset(TWELVE, 12, **{keyword: Sequence([table])})))


def test_a_sequence_that_is_none_is_refused() -> None:
    image = with_element(dataset(TWELVE, 12), "VOILUTSequence", "US", 5)
    with pytest.raises(ImageError, match="VOILUTSequence is no sequence"):
        grey(stored(image))


# Palettes

INDICES = RNG.integers(0, 16, SHAPE, dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (3, 16))
"of red, green and blue"


def with_palette(
    channels: list[bytes], bits: int, first: int = 0, kind: str = "", n: int = 16
) -> Dataset:
    image = dataset(INDICES, 8, "PALETTE COLOR")
    for name, data in zip(("Red", "Green", "Blue"), channels, strict=True):
        keyword = f"{name}PaletteColorLookupTable"
        with_element(image, f"{keyword}Descriptor", "US", [n, first, bits])
        with_element(image, f"{kind}{keyword}Data", "OW", data)
    return image


def as_bytes(channels: np.ndarray, kind: str) -> list[bytes]:
    return [channel.astype(kind).tobytes() for channel in channels]


@pytest.mark.parametrize(
    ("channels", "bits"),
    [
        (as_bytes(COLOURS, "u1"), 8),
        (as_bytes(COLOURS, "<u2"), 8),
        (as_bytes(COLOURS * 256, "<u2"), 16),
        (as_bytes(COLOURS * 257, "<u2"), 16),
    ],
    ids=["bytes", "bytes in words", "high bytes", "words"],
)
@pytest.mark.parametrize("first", [0, 4])
def test_a_palette_is_followed_however_it_is_packed(
    channels: list[bytes], bits: int, first: int
) -> None:
    colours = COLOURS.T[np.clip(INDICES.astype(int) - first, 0, 15)]
    levels = grey(stored(with_palette(channels, bits, first)))
    assert np.abs(levels - luma(colours)).max() <= 1


@pytest.mark.parametrize(("bits", "kind"), [(8, "u1"), (16, "<u2")])
def test_a_segmented_palette_is_expanded(bits: int, kind: str) -> None:
    """Three entries as they are, then a line over thirteen (PS3.3, C.7.9.2)."""
    unit = 2 ** (bits - 8)
    segments = np.array([0, 3, 10 * unit, 40 * unit, 100 * unit, 1, 13, 230 * unit])
    channel = np.array([10, 40, *(100 + 10 * i for i in range(14))])
    image = with_palette([segments.astype(kind).tobytes()] * 3, bits, kind="Segmented")
    assert np.abs(grey(stored(image)).astype(int) - channel[INDICES]).max() <= 1


@pytest.mark.parametrize(
    ("channels", "bits", "kind", "reason"),
    [
        (as_bytes(COLOURS[:, :12], "u1"), 8, "", "Data has 12 bytes for 16 entries of 8 bits"),
        (as_bytes(COLOURS, "u1"), 16, "", "Data has 16 bytes for 16 entries of 16 bits"),
        (as_bytes(COLOURS * 256, "<u2"), 8, "", "beyond 8 bits"),
        (as_bytes(COLOURS, "u1"), 12, "", "Descriptor has 12 bits an entry, not 8 or 16"),
        ([b"\0\3\1\2\3\0"] * 3, 8, "Segmented", "segments hold 3 entries, not 16"),
        ([b"\1\x10\5\0"] * 3, 8, "Segmented", "a palette segment of kind 1"),
        ([b"\0\1\5\2\1\0\0\0"] * 3, 8, "Segmented", "a palette segment of kind 2"),
    ],
)
def test_a_palette_that_is_not_what_it_says_is_refused(
    channels: list[bytes], bits: int, kind: str, reason: str
) -> None:
    with pytest.raises(ImageError, match=f"damaged DICOM palette .*{reason}"):
        grey(stored(with_palette(channels, bits, kind=kind)))


def test_a_palette_too_dark_for_its_depth_is_not_answered_as_black() -> None:
    with pytest.raises(ImageError, match=r"alike .*entries end at \d+ of 65535"):
        grey(stored(with_palette(as_bytes(COLOURS, "<u2"), 16)))


def test_a_palette_that_is_missing_is_refused() -> None:
    with pytest.raises(ImageError, match="damaged DICOM palette"):
        grey(stored(dataset(INDICES, 8, "PALETTE COLOR")))
