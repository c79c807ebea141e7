"""Sound, small files of every format that kneeedge reads, made by code: the mutations' start."""

import io
import struct
import tempfile
import zlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from pydicom import Dataset

SHAPE = (40, 48)
ADAM7 = (
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4),
    (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1),
)  # fmt: skip
"first row, first column, row step and column step of each pass (PNG, section 8.2)"
TIFF_COMPRESSIONS = {
    "L": ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "zstd", "lzma"),
    "1": ("raw", "group3", "group4", "tiff_ccitt"),
    "RGB": ("raw", "tiff_lzw", "jpeg"),
    "RGBA": ("raw", "tiff_adobe_deflate"),
    "LA": ("raw",), "P": ("raw", "tiff_lzw"), "CMYK": ("raw", "tiff_lzw"), "YCbCr": ("raw", "jpeg"),
    "LAB": ("raw",), "I;16": ("raw", "tiff_lzw"), "I": ("raw",), "F": ("raw", "tiff_lzw"),
}  # fmt: skip


def pictures() -> dict[str, Image.Image]:
    """A picture of each of Pillow's modes, of a smooth ramp with noise."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(SHAPE[0]) * 2, np.arange(SHAPE[1]) * 3)
    noisy = ramp[..., None] + rng.integers(0, 9, (*SHAPE, 4))
    rgba = Image.fromarray((noisy % 256).astype(np.uint8))
    wide = (noisy[..., 0] * 200).astype(np.uint16)
    converted = {mode: rgba.convert(mode) for mode in ("1", "LA", "RGB", "RGBA", "CMYK", "YCbCr")}
    return converted | {
        "L": rgba.convert("L"),
        "P": rgba.convert("RGB").quantize(64),
        "LAB": Image.new("LAB", SHAPE[::-1], (90, 120, 130)),
        "I;16": Image.fromarray(wide),
        "I": Image.fromarray(wide.astype(np.int32)),
        "F": Image.fromarray((wide / 65535).astype(np.float32)),
    }


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """The file that Pillow writes; of a copy, since it leaves encoder settings on what it saves."""
    stream = io.BytesIO()
    image.copy().save(stream, form, **options)
    return stream.getvalue()


def two_frames(image: Image.Image, form: str) -> bytes:
    return saved(image, form, save_all=True, append_images=[image.rotate(180)])


def metadata() -> dict[str, bytes]:
    """An orientation and a colour profile."""
    exif = Image.Exif()
    exif[274] = 6
    exif[271] = "a maker"
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # the time at which it was made
    profile[24:36] = bytes(12)
    return {"exif": exif.tobytes(), "icc_profile": bytes(profile)}


def png(
    shape: tuple[int, int], depth: int, colour: int, data: bytes, interlaced: bool = False
) -> bytes:
    """A PNG of these filtered rows (PNG, section 11)."""
    header = struct.pack(">IIBBBBB", shape[1], shape[0], depth, colour, 0, 0, int(interlaced))
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk with its length and checksum."""
    length = struct.pack(">I", len(content))
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return length + kind + content + checksum


def interlaced(pixels: np.ndarray) -> bytes:
    """An Adam7 PNG of (H, W) uint8; Pillow reads but does not write it."""
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in ADAM7 for row in pixels[y::dy, x::dx]]
    return png(pixels.shape, 8, 0, b"".join(rows), interlaced=True)


def rle_bmp(pixels: np.ndarray) -> bytes:
    """A BMP of (H, W) uint8 with runs (BI_RLE8), which Pillow reads but does not write."""
    height, width = pixels.shape
    data = bytearray()
    for row in pixels[::-1]:
        edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), width]
        for begin, end in pairwise(edges):
            data += bytes([end - begin, int(row[begin])])
        data += b"\0\0"
    data += b"\0\1"
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 2835, 2835, 256, 0)
    begin = 14 + len(info) + len(palette)
    head = struct.pack("<2sIHHI", b"BM", begin + len(data), 0, 0, begin)
    return head + info + palette + bytes(data)


def pillow_seeds() -> dict[str, bytes]:
    """The formats that Pillow reads, in the modes that each has."""
    modes = pictures()
    extra = metadata()
    seeds = {f"jpeg {mode}": saved(modes[mode], "JPEG") for mode in ("L", "RGB", "CMYK", "YCbCr")}
    seeds |= {
        "jpeg progressive": saved(modes["RGB"], "JPEG", progressive=True, **extra),
        "jpeg 4:4:4": saved(modes["RGB"], "JPEG", subsampling=0, quality=95),
        "jpeg restart": saved(modes["L"], "JPEG", restart_marker_blocks=2),
        "jpeg multi": two_frames(modes["L"], "MPO"),
    }
    for mode in ("1", "L", "LA", "RGB", "RGBA", "P", "I;16"):
        options = extra if mode == "RGB" else {}
        seeds[f"png {mode}"] = saved(modes[mode], "PNG", **options)
        if mode not in ("LA", "I;16"):
            seeds[f"bmp {mode}"] = saved(modes[mode], "BMP")
    seeds |= {
        "png transparent": saved(modes["P"], "PNG", transparency=3),
        "png animated": two_frames(modes["L"], "PNG"),
        "png interlaced": interlaced(np.asarray(modes["L"])),
        "bmp rle": rle_bmp(np.asarray(modes["L"]) // 64),
        "webp lossy": saved(modes["RGB"], "WEBP", **extra),
        "webp lossless": saved(modes["RGB"], "WEBP", lossless=True),
        "webp alpha": saved(modes["RGBA"], "WEBP"),
        "webp animated": two_frames(modes["L"], "WEBP"),
        "tiff big": saved(modes["L"], "TIFF", big_tiff=True),
        "tiff pages": two_frames(modes["L"], "TIFF"),
        "tiff metadata": saved(modes["RGB"], "TIFF", **extra),
    }
    for mode, compressions in TIFF_COMPRESSIONS.items():
        for name in compressions:
            compression = None if name == "raw" else name
            seeds[f"tiff {mode} {name}"] = saved(modes[mode], "TIFF", compression=compression)
    return seeds


def dicom_seeds() -> dict[str, bytes]:
    """DICOM images of every transfer syntax and kind of pixels that kneeedge reads."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
    )

    from tests.dicom_files import GDCM_SYNTAXES, dataset, stored

    grey = np.asarray(pictures()["L"])
    rgb = np.asarray(pictures()["RGB"])
    twelve = grey.astype(np.uint16) * 16
    window = {
        "WindowCenter": [1000, 3000],
        "WindowWidth": [501, 1001],
        "RescaleSlope": 2,
        "RescaleIntercept": -10,
    }
    plain = (
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    )
    seeds = {
        f"dicom {syntax.name}": stored(dataset(twelve, 12, **window), syntax) for syntax in plain
    }
    seeds["dicom rgb"] = stored(dataset(rgb, 8, "RGB"))
    seeds["dicom ybr"] = stored(dataset(rgb, 8, "YBR_FULL"))
    signed = twelve.astype(np.int16) - 2048
    seeds["dicom signed"] = stored(dataset(signed, 12, "MONOCHROME1", PixelPaddingValue=5))
    baseline = dataset(grey)
    baseline.PixelData = encapsulate([saved(pictures()["L"], "JPEG")])
    baseline["PixelData"].is_undefined_length = True
    seeds["dicom jpeg"] = stored(baseline, JPEGBaseline8Bit)
    for syntax in GDCM_SYNTAXES:
        seeds[f"dicom {syntax.name}"] = by_gdcm(dataset(twelve, 12), syntax)
    seeds["dicom J2K rgb"] = by_gdcm(dataset(rgb, 8, "RGB"), JPEG2000Lossless)
    whole = seeds["dicom Explicit VR Little Endian"]
    seeds["dicom bare"] = whole[bare_begin(whole) :]
    seeds["dicom palette"] = stored(palette_image(grey))
    return seeds


def by_gdcm(image: "Dataset", syntax: str) -> bytes:
    """The image with the frame that GDCM compresses.

    Its own file is not taken, since something in it differs from day to day.
    """
    import pydicom

    from tests.dicom_files import compressed, stored

    with tempfile.TemporaryDirectory() as folder:
        packed = pydicom.dcmread(io.BytesIO(compressed(image, syntax, Path(folder))))
    image.PixelData = packed.PixelData
    image.PhotometricInterpretation = packed.PhotometricInterpretation
    image["PixelData"].is_undefined_length = True
    return stored(image, syntax)


def palette_image(grey: np.ndarray) -> "Dataset":
    """A DICOM image of 16 colours, with a VOI LUT that it does not use."""
    from tests.dicom_files import dataset

    tags: dict[str, object] = {}
    for i, name in enumerate(("Red", "Green", "Blue")):
        entries = np.arange(16, dtype=np.uint16) * (4000 - i)
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [16, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    return dataset(grey // 16, 8, "PALETTE COLOR", **tags)


def bare_begin(data: bytes) -> int:
    """Where the data set begins, behind the meta information, whose first element is its length."""
    return 132 + 12 + int(struct.unpack_from("<I", data, 132 + 8)[0])


def large_seeds(side: int) -> dict[str, bytes]:
    """Sound images of side² pixels, each of a layout whose pixels take much memory."""
    from tests.dicom_files import dataset, stored

    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (side, side, 4), dtype=np.uint8))
    wide = rng.integers(0, 4096, (side, side), dtype=np.uint16)
    window = {
        "WindowCenter": 2000,
        "WindowWidth": 3000,
        "RescaleSlope": 2,
        "RescaleIntercept": 0,
        "PixelPaddingValue": 0,
    }
    return {
        "jpeg RGB": saved(rgba.convert("RGB"), "JPEG"),
        "png RGBA": saved(rgba, "PNG", compress_level=0),
        "png I;16": saved(Image.fromarray(wide), "PNG", compress_level=0),
        "tiff F": saved(Image.fromarray((wide / 4095).astype(np.float32)), "TIFF"),
        "bmp RGB": saved(rgba.convert("RGB"), "BMP"),
        "webp RGBA": saved(rgba, "WEBP", quality=50, method=0),
        "dicom 12 bit": stored(dataset(wide, 12)),
        "dicom 12 bit, window": stored(dataset(wide, 12, **window)),
        "dicom RGB": stored(dataset(np.asarray(rgba)[..., :3], 8, "RGB")),
    }


@cache
def all_seeds() -> dict[str, bytes]:
    """Every seed by its name, which begins with the format."""
    return pillow_seeds() | dicom_seeds()
