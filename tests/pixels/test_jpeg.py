"""JPEG files that lack blocks or only their end, and those that hold other pictures too."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.pixels.picture import read_grey
from tests.image_files import encode, encode_frames, write

SIZE = 32
FULL = 2000
"a network so large that no JPEG here is reduced"
EOI = b"\xff\xd9"
KINDS: dict[str, dict[str, object]] = {
    "sequential": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restart by rows": {"restart_marker_rows": 1},
    "restart by blocks": {"restart_marker_blocks": 7},
}
COLOUR: dict[str, dict[str, object]] = {
    "colour": {},
    "progressive colour": {"progressive": True},
    "colour not subsampled": {"subsampling": 0},
}


def knee() -> Image.Image:
    """Smooth with noise, and a black border, as radiographs are."""
    y, x = np.mgrid[0:200, 0:170]
    noise = np.random.default_rng(0).normal(0, 4, y.shape)
    levels = 100 + 60 * np.sin(x / 20) + 50 * np.cos(y / 30) + noise
    levels[:, :20] = 0
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def jpeg(kind: str) -> bytes:
    if kind in COLOUR:
        return encode(knee().convert("RGB"), "JPEG", **COLOUR[kind])
    return encode(knee(), "JPEG", **KINDS[kind])


def grey_of(path: Path, data: bytes, size: int = FULL) -> np.ndarray:
    return read_grey(write(path, data), size)


def coded(data: bytes) -> int:
    """Where the blocks of the last scan begin."""
    at = data.rindex(b"\xff\xda")
    (length,) = struct.unpack_from(">H", data, at + 2)
    return at + 2 + length


@pytest.mark.parametrize("size", [FULL, SIZE])
@pytest.mark.parametrize("kind", [*KINDS, *COLOUR])
def test_a_sound_jpeg_has_the_pixels_that_pillow_gives(
    tmp_path: Path, kind: str, size: int
) -> None:
    data = jpeg(kind)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", (2 * size, 2 * size))
        expected = np.asarray(image)
    assert np.array_equal(grey_of(tmp_path / "a.jpg", data, size), expected)


@pytest.mark.parametrize("ending", [b"", EOI, b"zeros"])
@pytest.mark.parametrize("kind", [*KINDS, *COLOUR])
def test_a_jpeg_whose_blocks_end_early_is_refused(tmp_path: Path, kind: str, ending: bytes) -> None:
    """Cut off, cut off and closed, or half written: libjpeg makes grey of what is missing."""
    data = jpeg(kind)
    first = data.index(b"\xff\xda")
    for end in np.linspace(first + 20, len(data) - 70, 12).astype(int):
        rest = bytes(len(data) - end) if ending == b"zeros" else ending
        with pytest.raises(ImageError, match=r"damaged JPEG: .*; replace the file"):
            grey_of(tmp_path / "a.jpg", data[:end] + rest)


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_lacks_bytes_inside_is_refused(tmp_path: Path, kind: str) -> None:
    data = jpeg(kind)
    begin = coded(data) + 100
    with pytest.raises(ImageError, match="damaged JPEG"):
        grey_of(tmp_path / "a.jpg", data[:begin] + data[begin + 600 :])


@pytest.mark.parametrize("kind", ["sequential", "progressive"])
def test_a_jpeg_with_foreign_bytes_inside_is_refused(tmp_path: Path, kind: str) -> None:
    data = jpeg(kind)
    at = coded(data) + 200
    with pytest.raises(ImageError, match="damaged JPEG"):
        grey_of(
            tmp_path / "a.jpg",
            data[:at] + data[at - 300 : at].replace(b"\xff", b"\xfe") + data[at:],
        )


@pytest.mark.parametrize("kind", [*KINDS, *COLOUR])
def test_a_jpeg_of_fewer_rows_than_are_coded_is_refused(tmp_path: Path, kind: str) -> None:
    data = bytearray(jpeg(kind))
    at = data.index(b"\xff\xc2" if "progressive" in kind else b"\xff\xc0")
    struct.pack_into(">H", data, at + 5, 160)
    with pytest.raises(ImageError, match="damaged JPEG"):
        grey_of(tmp_path / "a.jpg", bytes(data))


@pytest.mark.parametrize("kind", ["restart by rows", "restart by blocks"])
@pytest.mark.parametrize("n_lost", [1, 8])
def test_a_jpeg_that_lost_restart_intervals_is_refused(
    tmp_path: Path, kind: str, n_lost: int
) -> None:
    """Eight lost ones leave the markers in their order, 0 to 7."""
    data = jpeg(kind)
    marks = [
        i
        for i in range(coded(data), len(data) - 1)
        if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7
    ]
    with pytest.raises(ImageError, match="restart markers"):
        grey_of(tmp_path / "a.jpg", data[: marks[2]] + data[marks[2 + n_lost] :])


def test_a_progressive_jpeg_without_its_last_scans_is_refused(tmp_path: Path) -> None:
    data = jpeg("progressive")
    with pytest.raises(ImageError, match="scans are missing"):
        grey_of(tmp_path / "a.jpg", data[: data.rindex(b"\xff\xda")] + EOI)


@pytest.mark.parametrize("kind", [*KINDS, *COLOUR])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(tmp_path: Path, kind: str) -> None:
    """Every block is there; some cameras and programs leave the marker out."""
    data = jpeg(kind)
    whole = grey_of(tmp_path / "a.jpg", data)
    assert data.endswith(EOI)
    assert np.array_equal(grey_of(tmp_path / "b.jpg", data[:-2]), whole)


@pytest.mark.parametrize("kind", [*KINDS, *COLOUR])
@pytest.mark.parametrize("trailing", [b"what follows", bytes(3000), EOI, b"\xff" * 40])
def test_what_follows_the_end_is_not_looked_at(tmp_path: Path, kind: str, trailing: bytes) -> None:
    data = jpeg(kind)
    whole = grey_of(tmp_path / "a.jpg", data)
    assert np.array_equal(grey_of(tmp_path / "b.jpg", data + trailing), whole)


@pytest.mark.parametrize("kind", ["sequential", "progressive"])
@pytest.mark.parametrize("extra", [b"\0", b"\xff", bytes(20)])
def test_a_few_bytes_before_the_end_marker_are_read_past(
    tmp_path: Path, kind: str, extra: bytes
) -> None:
    data = jpeg(kind)
    whole = grey_of(tmp_path / "a.jpg", data)
    assert np.array_equal(grey_of(tmp_path / "b.jpg", data[:-2] + extra + EOI), whole)


def test_a_jpeg_with_a_thumbnail_in_its_exif_is_one_picture(tmp_path: Path) -> None:
    thumbnail = encode(knee().resize((40, 50)), "JPEG")
    data = jpeg("sequential")
    block = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 0) + thumbnail
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    whole = grey_of(tmp_path / "a.jpg", data)
    assert np.array_equal(grey_of(tmp_path / "b.jpg", data[:2] + segment + data[2:]), whole)


# Several pictures in one file


BASELINE, THUMBNAIL, UNTOLD = 0x030000, 0x010001, 0
PANORAMA, STEREO, ANGLES = 0x020001, 0x020002, 0x020003
"types of CIPA DC-007, table 4"


def multi_picture(kinds: list[int], others: list[bytes], note: bytes = b"") -> bytes:
    """A JPEG with a multi-picture index (CIPA DC-007, 5.2) and the other pictures behind it."""
    first = jpeg("sequential")
    if note:
        first = first[:2] + b"\xff\xe1" + struct.pack(">H", len(note) + 2) + note + first[2:]
    n_bytes = 2 + 2 + 4 + 8 + 2 + 3 * 12 + 4 + 16 * len(kinds)
    whole = len(first) + n_bytes
    # offsets count from the byte order mark, which stands behind SOI, the marker and MPF\0
    begin = 2 + 8
    offset = whole - begin
    entries = struct.pack(">IIIHH", kinds[0] | 1 << 29, whole, 0, 0, 0)
    for kind, other in zip(kinds[1:], others, strict=True):
        entries += struct.pack(">IIIHH", kind, len(other), offset, 0, 0)
        offset += len(other)
    index = b"MM\0*" + struct.pack(">IH", 8, 3)
    index += struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    index += struct.pack(">HHII", 0xB001, 4, 1, len(kinds))
    index += struct.pack(">HHII", 0xB002, 7, len(entries), 8 + 2 + 3 * 12 + 4)
    index += struct.pack(">I", 0) + entries
    segment = b"\xff\xe2" + struct.pack(">H", len(index) + 6) + b"MPF\0" + index
    assert len(segment) == n_bytes
    return first[:2] + segment + first[2:] + b"".join(others)


SMALL = encode(knee().resize((85, 100)), "JPEG")
ALIKE = encode(knee().transpose(Image.Transpose.FLIP_LEFT_RIGHT), "JPEG")
GAIN_MAP = ALIKE[:2] + b"\xff\xe1" + struct.pack(">H", 24) + b'<x hdrgm:Version="1"/>' + ALIKE[2:]


@pytest.mark.parametrize(
    ("kinds", "others"),
    [
        ([BASELINE, THUMBNAIL], [SMALL]),
        ([BASELINE, THUMBNAIL], [ALIKE]),
        ([BASELINE, THUMBNAIL + 1, THUMBNAIL], [SMALL, SMALL]),
        ([BASELINE, UNTOLD], [SMALL]),
        ([BASELINE, UNTOLD], [GAIN_MAP]),
        ([UNTOLD, UNTOLD], [b"no picture at all"]),
    ],
    ids=["thumbnail", "large thumbnail", "previews", "small", "gain map", "no picture"],
)
def test_previews_and_gain_maps_are_no_further_pictures(
    tmp_path: Path, kinds: list[int], others: list[bytes]
) -> None:
    whole = grey_of(tmp_path / "a.jpg", jpeg("sequential"))
    assert np.array_equal(grey_of(tmp_path / "b.jpg", multi_picture(kinds, others)), whole)


def test_a_gain_map_that_the_first_picture_names_is_no_further_one(tmp_path: Path) -> None:
    note = b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>'
    data = multi_picture([BASELINE, UNTOLD], [ALIKE], note)
    assert grey_of(tmp_path / "a.jpg", data).shape == (200, 170)


@pytest.mark.parametrize("kind", [PANORAMA, STEREO, ANGLES, UNTOLD])
def test_views_that_stand_beside_each_other_are_several_pictures(tmp_path: Path, kind: int) -> None:
    with pytest.raises(ImageError, match=r"more than one picture .*; save the one that is meant"):
        grey_of(tmp_path / "a.jpg", multi_picture([kind, kind], [ALIKE]))


def test_the_pictures_that_pillow_writes_side_by_side_are_several(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="more than one picture"):
        grey_of(tmp_path / "a.jpg", encode_frames("mpo"))


def test_an_index_that_is_damaged_is_none(tmp_path: Path) -> None:
    data = multi_picture([STEREO, STEREO], [ALIKE]).replace(b"MPF\0MM\0*", b"MPF\0MM\0+")
    assert grey_of(tmp_path / "a.jpg", data).shape == (200, 170)
