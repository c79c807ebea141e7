"""DICOM files that mean harm or are broken: frames, deflated bombs, and what fuzzing came upon."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.pixels.dicom import decode_dicom

pytest.importorskip("gdcm", reason="pip install 'kneeedge[dicom]'")
pytest.importorskip("pydicom", reason="pip install 'kneeedge[dicom]'")

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from tests.dicom_files import EIGHT, RNG, TWELVE, dataset, encapsulated, grey, scaled, stored
from tests.image_files import encode
from tests.jpeg_frames import flat_blocks, lossless, segment


def j2k(width: int = 48, height: int = 40, components: int = 1) -> bytes:
    """A frame whose header declares this; nothing behind it."""
    sizes = np.array([width, height, 0, 0, width, height, 0, 0], ">u4").tobytes()
    depths = bytes([components >> 8, components & 255]) + bytes([7, 1, 1]) * components
    return b"\xff\x4f\xff\x51\0\x29\0\0" + sizes + depths


def jpeg(width: int = 48, height: int = 40, marker: int = 0xC0) -> bytes:
    """A frame whose header, of this marker, declares this; a fill byte and a segment before it."""
    head = bytes([0xFF, 0xD8, 0xFF, 0xFF, 0xE0, 0, 4, 0, 0, 0xFF, marker, 0, 11, 8])
    sizes = np.array([height, width], ">u2").tobytes()
    return head + sizes + bytes([1, 1, 0x11, 0, 0xFF, 0xDA]) + bytes(8)


def frame_in(stream: bytes, syntax: str) -> bytes:
    return encapsulated(dataset(EIGHT), stream, syntax)


@pytest.mark.parametrize(
    ("stream", "syntax", "size"),
    [
        (j2k(60_000, 60_000), JPEG2000Lossless, "60000 × 60000 × 1"),
        (j2k(components=16_384), JPEG2000Lossless, "48 × 40 × 16384"),
        (bytes(12) + j2k(60_000), JPEG2000Lossless, "60000 × 40 × 1"),
        (jpeg(60_000, 60_000), JPEGBaseline8Bit, "60000 × 60000 × 1"),
        (jpeg(60_000, 60_000, 0xC3), JPEGLosslessSV1, "60000 × 60000 × 1"),
        (jpeg(60_000, 60_000, 0xF7), JPEGLSLossless, "60000 × 60000 × 1"),
    ],
)
def test_a_frame_of_another_size_is_refused_before_it_is_decompressed(
    stream: bytes, syntax: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> None:
        raise AssertionError("decompressed")

    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", never)
    with pytest.raises(ImageError, match=f"a frame of {size}, not of 48 × 40 × 1"):
        grey(frame_in(stream, syntax))


@pytest.mark.parametrize("stream", [b"\xff\xd8", b"\xff\xd8\xff\xda\0\x0c" + bytes(20), j2k()[:30]])
def test_a_frame_without_its_header_is_refused(stream: bytes) -> None:
    for syntax in (JPEGBaseline8Bit, JPEG2000Lossless):
        with pytest.raises(ImageError, match="damaged"):
            grey(frame_in(stream + b"\0" * (len(stream) % 2), syntax))


def test_a_deflated_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("unpacked")

    data = stored(dataset(np.zeros((4000, 4000), np.uint16), 12), DeflatedExplicitVRLittleEndian)
    assert len(data) < 100_000
    monkeypatch.setattr("pydicom.dcmread", never)
    refusal = "its deflated data set unpacks to more than 1648576 bytes"
    with pytest.raises(ImageError, match=refusal):
        decode_dicom(data, Path("a.dcm"), 0, 100_000)


def test_a_deflated_data_set_that_is_cut_off_is_refused() -> None:
    data = stored(dataset(TWELVE, 12), DeflatedExplicitVRLittleEndian)
    for n in (2, 10, 1000):
        with pytest.raises(ImageError, match=r"damaged DICOM .*decompressing"):
            grey(data[:-n])


@pytest.mark.parametrize(("rows", "columns"), [(0, 48), (40, 0)])
def test_an_image_of_no_pixels_is_refused(rows: int, columns: int) -> None:
    with pytest.raises(ImageError, match="holds no pixels; "):
        grey(stored(dataset(TWELVE, 12, Rows=rows, Columns=columns)))


@pytest.mark.parametrize("pixels", [TWELVE, EIGHT[:39, :47]], ids=["16 bit", "odd"])
@pytest.mark.parametrize("n_lost", [2, 4, 600])
def test_uncompressed_pixels_that_are_too_few_are_refused(pixels: np.ndarray, n_lost: int) -> None:
    image = dataset(pixels)
    image.PixelData = image.PixelData[:-n_lost] + bytes(len(image.PixelData) % 2)
    with pytest.raises(ImageError, match="bytes of pixel data is less than expected"):
        grey(stored(image))
    with pytest.raises(ImageError, match="damaged"):
        grey(stored(dataset(pixels))[:-n_lost])


def test_some_bytes_behind_the_pixels_are_padding() -> None:
    image = dataset(TWELVE, 12)
    image.PixelData += bytes(64)
    assert (grey(stored(image)) == scaled(TWELVE, 0, 4095)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 60_000), (60_000, 1)])
def test_one_pixel_and_one_line_are_images(size: tuple[int, int]) -> None:
    white = stored(dataset(np.full(size, 4095, np.uint16), 12))
    assert np.array_equal(grey(white), np.full(size, 255))


# Found by benchmarks/fuzz


def test_a_deflated_data_set_that_is_damaged_is_refused() -> None:
    data = bytearray(stored(dataset(TWELVE, 12), DeflatedExplicitVRLittleEndian))
    data[-600:] = b"\xff" * 600
    with pytest.raises(ImageError, match=r"damaged DICOM .*decompressing"):
        grey(bytes(data))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SamplesPerPixel": 3}, "3 samples a pixel, MONOCHROME2 has 1"),
        ({"PhotometricInterpretation": "RGB"}, "1 samples a pixel, RGB has 3"),
        ({"Rows": 20}, "more than 48 × 20"),
        ({"Rows": 1, "Columns": 3}, "more than 3 × 1"),
        ({"Rows": 39}, "more than 48 × 39, by 96 bytes"),
        ({"Columns": 47}, "more than 47 × 40, by 80 bytes"),
    ],
)
# outside the tests this warning is no error
@pytest.mark.filterwarnings("ignore:The number of bytes of pixel data")
def test_pixels_that_are_not_one_picture_are_refused(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ImageError, match=f"damaged DICOM .*{reason}"):
        grey(stored(dataset(TWELVE, 12, **changes)))


def test_a_number_that_is_none_is_refused() -> None:
    data = stored(dataset(TWELVE, 12, NumberOfFrames="1 "))
    with pytest.raises(ImageError, match="damaged DICOM"):
        grey(data.replace(b"IS\x02\x001 ", b"IS\x02\x001A"))


def test_an_element_of_a_broken_length_is_refused() -> None:
    data = stored(dataset(TWELVE, 12))
    assert data[132:140] == b"\x02\0\0\0UL\x04\0"
    with pytest.raises(ImageError, match="damaged DICOM"):
        grey(data[:138] + b"\x05" + data[139:])


def test_what_a_file_says_is_printable_in_its_refusal() -> None:
    syntax = b"1.2.840.10008.1.2.1\0"
    data = stored(dataset(TWELVE, 12))
    with pytest.raises(ImageError) as caught:
        grey(data.replace(syntax, b"\x9b2J\n0.10008.1.2.1\0\0\0", 1))
    assert str(caught.value).isprintable()


def baseline(old: bytes = b"", new: bytes = b"") -> bytes:
    """A baseline JPEG in DICOM, `old` bytes in the JPEG replaced by `new` ones."""
    frame = encode(Image.fromarray(EIGHT), "JPEG", quality=90)
    assert old in frame
    return frame_in(frame.replace(old, new, 1), JPEGBaseline8Bit)


def test_a_jpeg_with_something_between_its_segments_is_refused() -> None:
    """GDCM would end the process."""
    with pytest.raises(ImageError, match="no sound frame header"):
        grey(baseline(b"\xff\xc4", b"\0\0\0\xff\xc4"))


def test_a_jpeg_of_another_jfif_version_is_read() -> None:
    """GDCM would end the process."""
    assert (grey(baseline(b"JFIF\0\1", b"JFIF\0\3")) == grey(baseline())).all()


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGExtended12Bit])
def test_other_jpegs_of_another_jfif_version_are_read(syntax: str) -> None:
    """GDCM would end the process."""
    levels = RNG.integers(0, 4096, (5, 6))
    blocks = np.kron(levels, np.ones((8, 8), dtype=int)).astype(np.uint16)
    plain = lossless(blocks, 12) if syntax == JPEGLosslessSV1 else flat_blocks(levels, 12)
    frame = plain[:2] + segment(0xE0, b"JFIF\0\3\1\0\0\1\0\1\0\0") + plain[2:]
    data = encapsulated(dataset(blocks, 12), frame, syntax)
    assert (grey(data) == scaled(blocks, 0, 4095)).all()


def test_baseline_jpeg_has_8_bits() -> None:
    data = encapsulated(dataset(EIGHT, 7), jpeg(), JPEGBaseline8Bit)
    with pytest.raises(ImageError, match="DICOM frames of 8 bits for 7 stored are not supported"):
        grey(data)


def test_jpeg_2000_of_more_bits_than_there_are_is_refused() -> None:
    """GDCM would end the process."""
    stream = bytearray(j2k())
    stream[42] = 186
    with pytest.raises(ImageError, match="DICOM frames of 59 bits for 8 stored are not supported"):
        grey(frame_in(bytes(stream), JPEG2000Lossless))
