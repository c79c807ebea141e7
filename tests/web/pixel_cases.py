"""Files for the page's own decoders, by name: sound ones, damaged ones and those that it leaves."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    RLELossless,
)

from benchmarks.fuzz.seeds import interlaced
from kneeedge.pixels.picture import MAX_PIXELS
from tests.dicom_files import (
    EIGHT,
    RGB,
    SIGNED,
    TWELVE,
    dataset,
    encapsulated,
    lut,
    stored,
    with_element,
)
from tests.image_files import encode, png, png_chunk, png_header
from tests.jpeg_frames import flat_blocks, lossless

RNG = np.random.default_rng(20)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file, and how it is read."""

    data: bytes
    size: int = 32
    fit: str = "stretch"
    window: int = 0
    grey_bits: int = 0
    max_pixels: int = MAX_PIXELS


def resizes() -> Iterator[tuple[str, Case]]:
    """Noise of any size, 1 pixel to some hundreds, to networks of several sizes."""
    for i in range(240):
        height, width = np.exp(RNG.uniform(0, np.log(450), 2)).astype(int).tolist()
        grey = RNG.integers(0, 256, (height, width), dtype=np.uint8)
        size = (32, 64, 224)[i % 3]
        fit = ("stretch", "pad")[i % 2]
        data = encode(Image.fromarray(grey), "PNG", compress_level=1)
        yield f"{width} × {height} to {size}, {fit}", Case(data=data, size=size, fit=fit)
    flat = np.full((300, 9000), 255, np.uint8)
    yield "white, very wide", Case(data=encode(Image.fromarray(flat), "PNG"))


def pngs() -> Iterator[tuple[str, Case]]:
    """Every colour type and depth, with and without transparency and interlacing."""
    for name, data in {**_plain_pngs(), **_transparent_pngs(), **_odd_pngs()}.items():
        yield name, Case(data=data)
    wide = RNG.integers(0, 4096, (9, 13)).astype(">u2")
    twelve = png(png_header(13, 9, 16), _stream(wide))
    yield "16-bit grey of 12 bits", Case(data=twelve)
    yield "16-bit grey told to have 12 bits", Case(data=twelve, grey_bits=12)


def _plain_pngs() -> dict[str, bytes]:
    kinds = {}
    for colour, channels, depths in (
        (0, 1, (1, 2, 4, 8, 16)),
        (2, 3, (8, 16)),
        (3, 1, (1, 2, 4, 8)),
        (4, 2, (8, 16)),
        (6, 4, (8, 16)),
    ):
        for bits in depths:
            rows = RNG.integers(0, 256, (11, (13 * channels * bits + 7) // 8), dtype=np.uint8)
            chunks = [(b"PLTE", RNG.bytes(3 * 2**bits))] if colour == 3 else []
            kinds[f"colour type {colour} of {bits} bits"] = png(
                png_header(13, 11, bits, colour), *chunks, _stream(rows)
            )
    return kinds


def _transparent_pngs() -> dict[str, bytes]:
    grey = RNG.integers(0, 256, (8, 16), dtype=np.uint8)
    rgb = RNG.integers(0, 256, (8, 16, 3), dtype=np.uint8)
    wide = RNG.integers(0, 65536, (8, 16)).astype(">u2")
    alpha = (b"tRNS", RNG.bytes(200))
    colours = (b"PLTE", RNG.bytes(768))
    return {
        "a transparent level": png(
            png_header(16, 8), (b"tRNS", bytes([9, int(grey[0, 0])])), _stream(grey)
        ),
        "a transparent level of 4 bits": png(
            png_header(16, 8, 4), (b"tRNS", b"\1\x15"), _stream(grey[:, ::2])
        ),
        "a transparent level of 16 bits": png(
            png_header(16, 8, 16), (b"tRNS", wide[0, 0].tobytes()), _stream(wide)
        ),
        "a transparent colour": png(
            png_header(16, 8, 8, 2), (b"tRNS", struct.pack(">3H", *rgb[0, 0])), _stream(rgb)
        ),
        "a palette with alpha": png(png_header(16, 8, 8, 3), colours, alpha, _stream(grey)),
    }


def _odd_pngs() -> dict[str, bytes]:
    noise = RNG.integers(0, 256, (21, 37), dtype=np.uint8)
    smooth = np.add.outer(np.arange(90), np.arange(70)).astype(np.uint8)
    sound = encode(Image.fromarray(noise), "PNG")
    kinds = {
        "interlaced": interlaced(noise),
        "all filters": encode(Image.fromarray(smooth), "PNG"),
        "trailing bytes": sound + b"what follows the end",
        "a comment whose checksum is wrong behind the pixels": (
            sound[:-12] + png_chunk(b"tEXt", b"a\0b")[:-1] + b"?" + sound[-12:]
        ),
    }
    for turn in range(1, 10):
        exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, turn, 0, 0)
        kinds[f"EXIF orientation {turn}"] = sound[:33] + png_chunk(b"eXIf", exif) + sound[33:]
    return kinds


def _stream(rows: np.ndarray) -> tuple[bytes, bytes]:
    return b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))


def jpegs() -> Iterator[tuple[str, Case]]:
    """Sequential and progressive, grey and colour, at full and at reduced scale."""
    y, x = np.mgrid[:530, :523]
    levels = 120 + 70 * np.sin(x / 9) + 50 * np.cos(y / 23) + RNG.normal(0, 30, y.shape)
    grey = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    shift = RNG.normal(0, 30, (*y.shape, 3))
    rgb = Image.fromarray((levels[..., None] + shift).clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    for name, picture, options in (
        ("sequential", grey, {"quality": 90}),
        ("coarse", grey, {"quality": 3}),
        ("fine", grey, {"quality": 100, "optimize": True}),
        ("progressive", grey, {"progressive": True}),
        ("restarts", grey, {"restart_marker_blocks": 13}),
        ("turned", grey, {"exif": exif}),
        ("4:4:4", rgb, {"subsampling": 0}),
        ("4:2:2", rgb, {"subsampling": 1, "progressive": True}),
        ("4:2:0", rgb, {"subsampling": 2, "restart_marker_rows": 1}),
        ("stored as RGB", rgb, {"keep_rgb": True, "subsampling": 0}),
    ):
        data = encode(picture, "JPEG", **options)
        for size, scale in ((224, 1), (128, 2), (64, 4), (32, 8)):
            yield f"{name}, 1/{scale}", Case(data=data, size=size)
    for size in ((1, 1), (8, 9), (17, 3)):
        yield f"{size[0]} × {size[1]}", Case(data=encode(grey.resize(size), "JPEG"))
    yield "without its end marker", Case(data=encode(grey, "JPEG")[:-2])


def dicoms() -> Iterator[tuple[str, Case]]:
    """Every transfer syntax that needs no package, and every part of the grey scale."""
    for name, image in _grey_scales().items():
        yield name, Case(data=stored(image))
        yield f"{name}, implicit", Case(data=stored(image, ImplicitVRLittleEndian))
    two = dataset(TWELVE, 12, WindowCenter=[900, 3000], WindowWidth=[500, 901])
    yield "the second window", Case(data=stored(two), window=1)
    yield "big endian", Case(data=stored(dataset(TWELVE, 12), ExplicitVRBigEndian))
    eight = stored(dataset(EIGHT), ExplicitVRBigEndian)
    yield "bytes, big endian", Case(data=eight)
    yield (
        "bytes in words, big endian",
        Case(data=eight.replace(b"\x7f\xe0\0\x10OB", b"\x7f\xe0\0\x10OW")),
    )
    yield "deflated", Case(data=stored(dataset(TWELVE, 12), DeflatedExplicitVRLittleEndian))
    for name, data in _bare().items():
        yield name, Case(data=data)
    for name, data in _compressed().items():
        yield name, Case(data=data)


def _bare() -> dict[str, bytes]:
    """Data sets alone, as old archives hold them."""
    kinds = {}
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        whole = stored(dataset(TWELVE, 12), syntax)
        (length,) = struct.unpack_from("<I", whole, 140)
        kinds[f"no preamble, {syntax.name}"] = whole[144 + length :]
    return kinds


def _grey_scales() -> dict[str, Dataset]:
    window = {"WindowCenter": "-710.5", "WindowWidth": "900"}
    rescale = {"RescaleSlope": "-0.37", "RescaleIntercept": "12.25"}
    dark = lut(0, [i // 8 for i in range(4096)], 16)
    group = Dataset()
    group.FrameVOILUTSequence = Sequence([_item(**window)])
    group.PixelValueTransformationSequence = Sequence([_item(**rescale)])
    images = {
        "full range": dataset(TWELVE, 12),
        "of 8 bits": dataset(EIGHT),
        "signed": dataset(SIGNED, 12),
        "bits above the stored ones": dataset(TWELVE | 0xA000, 12),
        "inverted": dataset(TWELVE, 12, "MONOCHROME1"),
        "rescaled": dataset(SIGNED, 12, **rescale),
        "a modality table": dataset(TWELVE, 12, ModalityLUTSequence=Sequence([dark])),
        "a VOI table": dataset(TWELVE, 12, VOILUTSequence=Sequence([dark])),
        "a table of bytes": dataset(EIGHT, VOILUTSequence=Sequence([lut(0, [*range(256)], 8)])),
        "functional groups": dataset(TWELVE, 12, SharedFunctionalGroupsSequence=Sequence([group])),
        "padding": dataset(TWELVE, 12, "MONOCHROME1", PixelPaddingValue=4000,
                           PixelPaddingRangeLimit=4095),
        "padding of the other sign": with_element(
            dataset(SIGNED, 12), "PixelPaddingValue", "US", 63536
        ),
        "RGB": dataset(RGB, 8, "RGB"),
        "RGB of 16 bits": dataset(RGB.astype(np.uint16) * 16, 12, "RGB"),
        "palette": _palette(),
    }  # fmt: skip
    images["RGB by planes"] = dataset(RGB, 8, "RGB", PlanarConfiguration=1)
    images["RGB by planes"].PixelData = RGB.transpose(2, 0, 1).tobytes()
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        images[function] = dataset(TWELVE, 12, **window, **rescale, VOILUTFunction=function)
        step = {"WindowCenter": 2000, "WindowWidth": 1}
        images[f"{function}, a step"] = dataset(TWELVE, 12, **step, VOILUTFunction=function)
    return images


def _item(**elements: object) -> Dataset:
    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def _palette() -> Dataset:
    image = dataset(EIGHT, photometric="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        keyword = f"{colour}PaletteColorLookupTable"
        with_element(image, f"{keyword}Descriptor", "US", [256, 0, 16])
        with_element(image, f"{keyword}Data", "OW", RNG.bytes(512))
    return image


def _compressed() -> dict[str, bytes]:
    smooth = np.add.outer(np.arange(64) * 2, np.arange(80)).astype(np.uint8)
    frame = encode(Image.fromarray(smooth), "JPEG", quality=90)
    levels = RNG.integers(0, 4096, (5, 6))
    blocks = np.kron(levels, np.ones((8, 8), dtype=int)).astype(np.uint16)
    twelve_bits = flat_blocks(levels, 12, 4)
    kinds = {
        "JPEG of 8 bits": encapsulated(dataset(smooth), frame, JPEGBaseline8Bit),
        "JPEG of 12 bits": encapsulated(dataset(blocks, 12), twelve_bits, JPEGExtended12Bit),
        "RLE": _rle(dataset(TWELVE, 12)),
        "RLE of 8 bits": _rle(dataset(EIGHT)),
    }
    for predictor in range(1, 8):
        coded = lossless(TWELVE, 12, predictor, rows_per_restart=7)
        kinds[f"lossless JPEG by predictor {predictor}"] = encapsulated(
            dataset(TWELVE, 12), coded, JPEGLossless
        )
    signed = lossless(SIGNED.view(np.uint16), 16, shift=0)
    kinds["signed lossless JPEG"] = encapsulated(dataset(SIGNED, 12), signed, JPEGLossless)
    shifted = lossless(TWELVE, 12, shift=3)
    kinds["a point transform"] = encapsulated(dataset(TWELVE, 12), shifted, JPEGLossless)
    return kinds


def _rle(image: Dataset) -> bytes:
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.compress(RLELossless, generate_instance_uid=False)
    return stored(image, RLELossless)


def damaged(sound: dict[str, Case]) -> Iterator[tuple[str, Case]]:
    """Sound files cut short, or with bytes of noise, zeros or ones in them."""
    for name, case in sound.items():
        for i in range(3):
            data = bytearray(case.data)
            at = int(RNG.integers(len(data)))
            if i == 0:
                del data[at:]
            elif i == 1:
                del data[at : at + int(RNG.integers(1, 200))]
            else:
                n = int(RNG.integers(1, 9))
                noise = RNG.bytes(n)
                data[at : at + n] = (noise, bytes(n), b"\xff" * n)[int(RNG.integers(3))]
            if data:
                yield f"{name}, damaged {i} at {at}", Case(data=bytes(data), size=case.size)


def refused() -> Iterator[tuple[str, Case]]:
    """What neither reads, whatever it claims."""
    image = Image.fromarray(EIGHT)
    vast = png(png_header(60_000, 60_000), (b"IDAT", zlib.compress(b"\0" * 99)))
    huge = png(png_header(8_000, 8_000), (b"IDAT", zlib.compress(b"\0" * 99)))
    endless = png(png_header(16, 8), (b"IDAT", zlib.compress(bytes(2**26), 9)))
    jpeg = bytearray(encode(image, "JPEG"))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 8_000, 8_000)
    for name, data in {
        "vast PNG": vast,
        "huge PNG of no pixels": huge,
        "PNG that unpacks without end": endless,
        "huge JPEG of no pixels": bytes(jpeg),
        "animation": encode(image, "PNG", save_all=True, append_images=[image.rotate(90)]),
        "two frames": stored(_frames(2)),
        "no image": stored(dataset(TWELVE, 12)).replace(b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x11\0OW"),
        "Presentation LUT": stored(
            dataset(TWELVE, 12, PresentationLUTSequence=Sequence([lut(0, [*range(256)], 8)]))
        ),
        "both polarities": stored(
            dataset(TWELVE, 12, "MONOCHROME1", PresentationLUTShape="IDENTITY")
        ),
        "a window of no width": stored(dataset(TWELVE, 12, WindowCenter=5, WindowWidth=0)),
        "a window beside all values": stored(dataset(TWELVE, 12, WindowCenter=-9e4, WindowWidth=9)),
        "padding alone": stored(
            dataset(TWELVE, 12, PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
        ),
        "too many pixels": stored(dataset(TWELVE, 12, Rows=39)),
        "too few pixels": stored(dataset(TWELVE, 12, Rows=41)),
        "32 bits": stored(dataset(TWELVE.astype(np.uint32), 32)),
        "text": b"no picture at all",
    }.items():
        yield name, Case(data=data)
    bomb = dataset(TWELVE, 12)
    bomb.PixelData += bytes(2**23)
    data = stored(bomb, DeflatedExplicitVRLittleEndian)
    yield "DICOM that unpacks without end", Case(data=data, max_pixels=2**16)


def _frames(n: int) -> Dataset:
    image = dataset(TWELVE, 12, NumberOfFrames=n)
    image.PixelData = image.PixelData * n
    return image


def left_out() -> Iterator[tuple[str, Case]]:
    """What kneeedge reads and the page refuses, rather than guess."""
    smooth = np.zeros((16, 24, 3), np.uint8)
    colour = Image.fromarray(smooth + np.arange(24, dtype=np.uint8)[:, None])
    for kind in ("TIFF", "BMP", "WebP"):
        yield kind, Case(data=encode(colour, kind))
    yield "CMYK", Case(data=encode(colour.convert("CMYK"), "JPEG"))
    frame = encode(colour, "JPEG")
    ybr = dataset(np.asarray(colour), 8, "YBR_FULL_422")
    yield "colour JPEG in DICOM", Case(data=encapsulated(ybr, frame, JPEGBaseline8Bit))


def encoded_j2k(pixels: np.ndarray, **options: object) -> bytes:
    """A JPEG 2000 codestream as Pillow writes it."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True, **options)
    return stream.getvalue()
