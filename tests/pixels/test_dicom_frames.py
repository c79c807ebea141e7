"""Compressed frames of DICOM: whole ones are read however they are kept, others are refused."""

import io
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError

pytest.importorskip("gdcm", reason="pip install 'kneeedge[dicom]'")
pydicom = pytest.importorskip("pydicom", reason="pip install 'kneeedge[dicom]'")

from pydicom.encaps import encapsulate, fragment_frame, get_frame
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicom_files import (
    EIGHT,
    GDCM_SYNTAXES,
    RGB,
    RNG,
    SIGNED,
    TWELVE,
    compressed,
    dataset,
    encapsulated,
    grey,
    scaled,
    stored,
)
from tests.image_files import encode
from tests.jpeg_frames import flat_blocks, lossless

WANTED = scaled(TWELVE, 0, 4095)
SYNTAXES = [*GDCM_SYNTAXES]
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def frame_of(syntax: str, folder: Path) -> bytes:
    """TWELVE as GDCM compresses it."""
    data = compressed(dataset(TWELVE, 12), syntax, folder)
    return get_frame(pydicom.dcmread(io.BytesIO(data)).PixelData, 0, number_of_frames=1)


def twelve(frame: bytes, syntax: str) -> bytes:
    """The file of a frame of 48 × 40 pixels of 12 bits."""
    return encapsulated(dataset(TWELVE, 12), frame, syntax)


# Fragments


def fragmented(frame: bytes, syntax: str, offsets: bool) -> bytes:
    """Three fragments, and an offset table with an entry for each, or an empty one."""
    image = dataset(TWELVE, 12)
    fragments = [*fragment_frame(frame, 3)]
    begins = np.cumsum([0, *(8 + len(fragment) for fragment in fragments[:-1])])
    table = begins.astype("<u4").tobytes() if offsets else b""
    items = [table, *fragments]
    image.PixelData = b"".join(
        b"\xfe\xff\x00\xe0" + struct.pack("<I", len(item)) + item for item in items
    )
    image["PixelData"].is_undefined_length = True
    return stored(image, syntax)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("offsets", [True, False])
def test_fragments_are_one_frame_whatever_the_offset_table_says(
    syntax: str, offsets: bool, tmp_path: Path
) -> None:
    assert (grey(fragmented(frame_of(syntax, tmp_path), syntax, offsets)) == WANTED).all()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_an_extended_offset_table_changes_nothing(syntax: str, tmp_path: Path) -> None:
    image = dataset(TWELVE, 12)
    frame = frame_of(syntax, tmp_path)
    image.ExtendedOffsetTable = struct.pack("<Q", 0)
    image.ExtendedOffsetTableLengths = struct.pack("<Q", len(frame) // 2)
    assert (grey(encapsulated(image, frame, syntax)) == WANTED).all()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_fragments_of_a_defined_length_are_read(syntax: str, tmp_path: Path) -> None:
    """Against the standard, and done."""
    data = twelve(frame_of(syntax, tmp_path), syntax)
    at = data.index(b"\xe0\x7f\x10\0") + 8
    value = data[at + 4 : -len(DELIMITER)]
    defined = data[:at] + struct.pack("<I", len(value)) + value
    assert (grey(defined) == WANTED).all()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("n_kept", [0, 1, 3, 4, 7])
def test_a_whole_frame_that_nothing_closes_is_read(
    syntax: str, n_kept: int, tmp_path: Path
) -> None:
    data = twelve(frame_of(syntax, tmp_path), syntax)
    assert data.endswith(DELIMITER)
    assert (grey(data[: len(data) - 8 + n_kept]) == WANTED).all()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("n_lost", [9, 10, 300, 2000])
def test_a_file_that_ends_within_its_frame_is_refused(
    syntax: str, n_lost: int, tmp_path: Path
) -> None:
    data = twelve(frame_of(syntax, tmp_path), syntax)
    with pytest.raises(ImageError, match="its fragments are cut off"):
        grey(data[:-n_lost])


def test_a_file_that_ends_before_its_frame_is_refused() -> None:
    data = twelve(bytes(100), JPEGLosslessSV1)
    begin = data.index(b"\xe0\x7f\x10\0") + 12
    for n in (begin + 4, begin + 8, begin + 12):
        with pytest.raises(ImageError, match="its fragments are cut off"):
            grey(data[:n])
    with pytest.raises(ImageError, match="holds no pixels"):
        grey(data[:begin])


def test_pixels_that_are_no_fragments_are_refused() -> None:
    """As where a file was unpacked and its transfer syntax left as it was."""
    plain = stored(dataset(TWELVE, 12))
    uid = b"1.2.840.10008.1.2.1\0"
    assert len(uid) == len(JPEGBaseline8Bit) - 2
    data = plain.replace(b"UI\x14\0" + uid, b"UI\x16\0" + JPEGBaseline8Bit.encode())
    with pytest.raises(ImageError, match="its fragments are cut off"):
        grey(data)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_two_frames_in_a_file_of_one_are_refused(syntax: str, tmp_path: Path) -> None:
    frame = frame_of(syntax, tmp_path)
    image = dataset(TWELVE, 12)
    image.PixelData = encapsulate([frame, frame])
    image["PixelData"].is_undefined_length = True
    with pytest.raises(ImageError, match="damaged"):
        grey(stored(image, syntax))


# Frames with holes


def holes(frame: bytes, n_header: int) -> dict[str, bytes]:
    """The frame with zeros in place of parts of it, or without them; its header stays."""
    third = n_header + (len(frame) - n_header) // 3
    half = n_header + (len(frame) - n_header) // 2
    return {
        "zeros to the end": frame[:third] + bytes(len(frame) - third),
        "zeros to the end marker": frame[:third] + bytes(len(frame) - third - 2) + frame[-2:],
        "zeros inside": frame[:third] + bytes(half - third) + frame[half:],
        "cut short": frame[:half],
        "cut short, and closed": frame[:half] + frame[-2:],
        "a part left out": frame[:third] + frame[half:],
        "without its last bytes": frame[:-6],
    }


HOLES = [*holes(bytes(100), 0)]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("hole", HOLES)
def test_a_frame_with_a_hole_is_refused(syntax: str, hole: str, tmp_path: Path) -> None:
    frame = frame_of(syntax, tmp_path)
    n_header = 64 if syntax == RLELossless else 200
    with pytest.raises(ImageError, match="damaged"):
        grey(twelve(holes(frame, n_header)[hole], syntax))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("padding", [b"\0", b"\0\0", b"\0\0\0"])
def test_zeros_behind_a_frame_are_padding(syntax: str, padding: bytes, tmp_path: Path) -> None:
    assert (grey(twelve(frame_of(syntax, tmp_path) + padding, syntax)) == WANTED).all()


def test_a_lossless_frame_without_its_end_marker_is_refused(tmp_path: Path) -> None:
    for syntax in (JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless):
        frame = frame_of(syntax, tmp_path).rstrip(b"\0")
        assert frame.endswith(b"\xff\xd9")
        with pytest.raises(ImageError, match="damaged"):
            grey(twelve(frame[:-2], syntax))


# JPEG lossless, as the tests write it


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("rows_per_restart", [0, 1, 7])
def test_every_predictor_of_lossless_jpeg_is_exact(predictor: int, rows_per_restart: int) -> None:
    frame = lossless(TWELVE, 12, predictor, rows_per_restart)
    assert (grey(twelve(frame, JPEGLossless)) == WANTED).all()


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_jpeg_of_every_depth_is_exact(bits: int) -> None:
    pixels = RNG.integers(0, 2**bits, TWELVE.shape).astype(np.uint8 if bits == 8 else np.uint16)
    pixels[3, 4:8] = [0, 2**bits - 1, 0, 2 ** (bits - 1)]
    data = encapsulated(dataset(pixels, bits), lossless(pixels, bits), JPEGLosslessSV1)
    assert (grey(data) == scaled(pixels, 0, 2**bits - 1)).all()


def test_signed_lossless_jpeg_is_exact() -> None:
    for bits, words in ((12, SIGNED.view(np.uint16) % 4096), (16, SIGNED.view(np.uint16))):
        data = encapsulated(dataset(SIGNED, 12), lossless(words, bits), JPEGLosslessSV1)
        assert (grey(data) == scaled(SIGNED, -2048, 2047)).all()


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("shift", [1, 3])
def test_a_point_transform_drops_the_lowest_bits(shift: int, bits: int) -> None:
    data = twelve(lossless(TWELVE, bits, shift=shift), JPEGLosslessSV1)
    assert (grey(data) == scaled(TWELVE >> shift << shift, 0, 4095)).all()


def test_fill_bytes_before_a_marker_are_no_part_of_a_scan() -> None:
    frame = lossless(TWELVE, 12, rows_per_restart=8)
    frame = frame.replace(b"\xff\xd2", b"\xff\xff\xff\xd2")
    filled = frame[:-2] + b"\xff\xff\xff\xd9"
    assert (grey(twelve(filled, JPEGLosslessSV1)) == WANTED).all()


def restarts(frame: bytes) -> list[int]:
    return [at for at in range(len(frame) - 1) if frame[at] == 255 and 0xD0 <= frame[at + 1] < 0xD8]


def without_a_segment(frame: bytes) -> bytes:
    """The third of the segments between restarts is gone; the markers still come in turn."""
    at = restarts(frame)
    later = bytearray(frame[at[2] + 2 :])
    for place in restarts(bytes(later)):
        later[place + 1] = 0xD0 + (later[place + 1] - 1) % 8
    return frame[: at[1] + 2] + bytes(later)


def test_a_scan_without_one_of_its_segments_is_refused() -> None:
    frame = without_a_segment(lossless(TWELVE, 12, rows_per_restart=4))
    with pytest.raises(ImageError, match="9 segments between restarts, not 10"):
        grey(twelve(frame, JPEGLosslessSV1))


def test_restart_markers_out_of_turn_are_refused() -> None:
    frame = lossless(TWELVE, 12, rows_per_restart=4)
    at = restarts(frame)
    swapped = b"".join(frame[a:b] for a, b in pairwise([0, at[1], at[1]]))
    swapped += frame[at[2] : at[3]] + frame[at[1] : at[2]] + frame[at[3] :]
    with pytest.raises(ImageError, match="restart markers out of turn"):
        grey(twelve(swapped, JPEGLosslessSV1))


# JPEG of 8 and of 12 bits


LEVELS = RNG.integers(0, 4096, (5, 6))
BLOCKS = np.kron(LEVELS, np.ones((8, 8), dtype=int)).astype(np.uint16)


@pytest.mark.parametrize("blocks_per_restart", [0, 1, 4])
def test_12_bit_jpeg_is_exact(blocks_per_restart: int) -> None:
    frame = flat_blocks(LEVELS, 12, blocks_per_restart)
    data = encapsulated(dataset(BLOCKS, 12), frame, JPEGExtended12Bit)
    assert (grey(data) == scaled(BLOCKS, 0, 4095)).all()


def test_12_bit_jpeg_without_gdcm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encapsulated(dataset(BLOCKS, 12), flat_blocks(LEVELS, 12), JPEGExtended12Bit)
    monkeypatch.setitem(__import__("sys").modules, "gdcm", None)
    with pytest.raises(ImageError, match="12-bit JPEG needs gdcm, which is not installed"):
        grey(data)


def test_12_bit_jpeg_of_fewer_stored_bits_clips_what_was_lost() -> None:
    """A value beyond the highest would wrap to black."""
    blocks = np.kron(LEVELS // 4, np.ones((8, 8), dtype=int)).astype(np.uint16)
    blocks[:8, :8] = 1023
    levels = LEVELS // 4
    levels[0, 0] = 1030
    data = encapsulated(dataset(blocks, 10), flat_blocks(levels, 12), JPEGExtended12Bit)
    assert (grey(data) == scaled(blocks, 0, 1023)).all()


@pytest.mark.parametrize(("frame_bits", "bits"), [(8, 12), (12, 8)])
def test_jpeg_of_another_depth_is_refused(frame_bits: int, bits: int) -> None:
    pixels = BLOCKS if bits == 12 else (BLOCKS >> 4).astype(np.uint8)
    levels = LEVELS if frame_bits == 12 else LEVELS >> 4
    frame = flat_blocks(levels, frame_bits)
    data = encapsulated(dataset(pixels, bits), frame, JPEGExtended12Bit)
    with pytest.raises(ImageError, match=f"frames of {frame_bits} bits for {bits} stored"):
        grey(data)


@pytest.mark.parametrize("bits", [8, 12])
def test_jpeg_without_all_of_its_segments_is_refused(bits: int) -> None:
    pixels = BLOCKS if bits == 12 else (BLOCKS >> 4).astype(np.uint8)
    frame = without_a_segment(flat_blocks(LEVELS >> (12 - bits), bits, 3))
    syntax = JPEGExtended12Bit if bits == 12 else JPEGBaseline8Bit
    with pytest.raises(ImageError, match="9 segments between restarts, not 10"):
        grey(encapsulated(dataset(pixels, bits), frame, syntax))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("options", [{"restart_marker_blocks": 3}, {"progressive": True}, {}])
def test_a_colour_jpeg_is_whole_with_or_without_restarts(
    subsampling: int, options: dict[str, object]
) -> None:
    smooth = np.array(Image.fromarray(RGB).resize((150, 70), Image.Resampling.BICUBIC))
    frame = encode(Image.fromarray(smooth), "JPEG", quality=95, subsampling=subsampling, **options)
    data = encapsulated(dataset(smooth, 8, "YBR_FULL_422"), frame, JPEGBaseline8Bit)
    with Image.open(io.BytesIO(frame)) as picture:
        wanted = np.array(picture.convert("RGB").convert("L")).astype(int)
    assert np.abs(grey(data) - wanted).max() <= 3


NOISE = RNG.integers(0, 256, (96, 128), dtype=np.uint8)


def baseline(pixels: np.ndarray, **options: object) -> bytes:
    return encode(Image.fromarray(pixels), "JPEG", quality=90, **options)


@pytest.mark.parametrize("hole", HOLES)
def test_a_baseline_jpeg_with_a_hole_is_refused(hole: str) -> None:
    """All but a part left out, which no JPEG can tell without restarts."""
    if hole in ("a part left out", "cut short, and closed", "without its last bytes"):
        frame = holes(baseline(NOISE, restart_marker_blocks=4), 700)[hole]
    else:
        frame = holes(baseline(NOISE), 700)[hole]
    with pytest.raises(ImageError, match="damaged"):
        grey(encapsulated(dataset(NOISE), frame, JPEGBaseline8Bit))


def test_zeros_that_code_a_black_background_are_no_hole() -> None:
    """The tables of the picture itself make a flat block as short as two zeros."""
    black = np.zeros((400, 400), np.uint8)
    black[100:110, 100:110] = RNG.integers(0, 256, (10, 10))
    frame = baseline(black, optimize=True)
    assert bytes(64) in frame
    assert grey(encapsulated(dataset(black), frame, JPEGBaseline8Bit)).max() > 100


# JPEG 2000


def tiled(side: int = 16, **options: object) -> bytes:
    image = Image.fromarray(EIGHT)
    return encode(image, "JPEG2000", tile_size=(side, side), no_jp2=True, **options)


def tile_parts(stream: bytes) -> list[int]:
    """Where each begins, and where the last one ends, by their lengths."""
    at = [stream.index(b"\xff\x90")]
    while stream[at[-1] : at[-1] + 2] == b"\xff\x90":
        at.append(at[-1] + struct.unpack_from(">I", stream, at[-1] + 6)[0])
    return at


def test_a_tiled_jpeg_2000_is_exact() -> None:
    stream = tiled()
    assert len(tile_parts(stream)) - 1 == 9
    data = encapsulated(dataset(EIGHT), stream, JPEG2000Lossless)
    assert (grey(data) == EIGHT).all()


@pytest.mark.parametrize("syntax", [JPEG2000, JPEG2000Lossless])
def test_a_jpeg_2000_without_some_tiles_is_refused(syntax: str) -> None:
    stream = tiled()
    at = tile_parts(stream)
    fewer = stream[: at[2]] + stream[at[5] :]
    with pytest.raises(ImageError, match="a JPEG 2000 codestream of 6 tiles, not 9"):
        grey(encapsulated(dataset(EIGHT), fewer, syntax))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda stream, at: stream[: at[4] + 10], "cut off"),
        (lambda stream, at: stream[: at[4]] + b"\xff\xd9", "4 tiles, not 9"),
        (lambda stream, at: stream[: at[8] + 20] + b"\xff\xd9", "tile 8 is cut off"),
        (lambda stream, at: stream[: at[9]], "without its end"),
        (lambda stream, at: stream[: at[9]] + bytes(100), "without its end"),
        (
            lambda stream, at: stream[: at[4] + 11] + b"\2" + stream[at[4] + 12 :],
            "all parts of its tiles",
        ),
        (
            lambda stream, at: stream[: at[4] + 10] + b"\1" + stream[at[4] + 11 :],
            "8 tiles, not 9",
        ),
        (lambda stream, at: stream[: at[4] + 14] + bytes(200) + stream[at[4] + 214 :], "hole of"),
        (lambda stream, _: stream[:45], "damaged"),
    ],
)
def test_a_jpeg_2000_that_breaks_its_own_word_is_refused(change: object, reason: str) -> None:
    stream = tiled()
    broken = change(stream, tile_parts(stream))
    with pytest.raises(ImageError, match=reason):
        grey(encapsulated(dataset(EIGHT), broken, JPEG2000Lossless))


def test_a_last_tile_of_no_length_runs_to_the_end() -> None:
    stream = tiled(64)
    (begin, _) = tile_parts(stream)
    open_ended = stream[: begin + 6] + bytes(4) + stream[begin + 10 :]
    data = encapsulated(dataset(EIGHT), open_ended, JPEG2000Lossless)
    assert (grey(data) == EIGHT).all()


def test_empty_packets_of_a_black_jpeg_2000_are_no_hole() -> None:
    black = np.zeros((256, 256), np.uint16)
    black[100:104, 100:104] = 4095
    stream = encode(
        Image.fromarray(black),
        "JPEG2000",
        no_jp2=True,
        quality_layers=[40, 20, 10, 5, 2, 0],
        precinct_size=(32, 32),
        codeblock_size=(16, 16),
    )
    data = encapsulated(dataset(black, 12), stream, JPEG2000Lossless)
    assert (grey(data) == scaled(black, 0, 4095)).all()


# RLE


def rle(*segments: bytes) -> bytes:
    offsets = np.cumsum([64, *(len(segment) for segment in segments[:-1])])
    header = np.zeros(16, "<u4")
    header[: len(segments) + 1] = [len(segments), *offsets]
    return header.tobytes() + b"".join(segments)


def literal(data: bytes) -> bytes:
    return b"".join(
        bytes([len(run) - 1]) + run for run in (data[at : at + 128] for at in range(0, 1920, 128))
    )


HIGH = literal((TWELVE >> 8).astype(np.uint8).tobytes())
LOW = literal((TWELVE & 255).astype(np.uint8).tobytes())


def test_rle_segments_may_end_in_a_byte_of_padding() -> None:
    assert (grey(twelve(rle(HIGH + b"\0", LOW + b"\0"), RLELossless)) == WANTED).all()
    assert (grey(twelve(rle(HIGH + b"\x80", LOW), RLELossless)) == WANTED).all()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (rle(HIGH), "an RLE frame of 1 segments, not 2"),
        (rle(HIGH, LOW, LOW), "an RLE frame of 3 segments, not 2"),
        (rle(HIGH, LOW[:-130]), "an RLE segment of 1791 bytes, not 1920"),
        (rle(HIGH + LOW, LOW), "an RLE segment of more than 1920 bytes"),
        (rle(HIGH, LOW + b"\xff\7"), "an RLE segment of more than 1920 bytes"),
        (rle(HIGH, LOW)[:60], "an RLE frame without its header"),
        (b"\2\0\0\0\xff\xff\0\0" + rle(HIGH, LOW)[8:], "RLE segments out of order"),
    ],
)
def test_rle_that_does_not_unpack_to_the_pixels_is_refused(frame: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        grey(twelve(frame, RLELossless))


def test_what_every_decoder_refuses_is_told_in_words(tmp_path: Path) -> None:
    frame = holes(frame_of(JPEGLSLossless, tmp_path), 200)["zeros inside"]
    with pytest.raises(ImageError, match=r"DICOM pixels \(a frame that does not decode\)"):
        grey(twelve(frame, JPEGLSLossless))
