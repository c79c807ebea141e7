"""Broken files from sound ones: blindly, and by the format, so that the break is still reached."""

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping

from benchmarks.fuzz.seeds import chunk

Mutation = Callable[[bytearray, random.Random], None]

EXTREMES = (
    0, 1, 2, 7, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536,
    2**26, 2**31 - 1, 2**31, 2**32 - 1,
)  # fmt: skip
HEAD = 512
"bytes in which headers mostly are"
STRUCTURED = 0.6
"share of the mutations that know the format, where one does"
MOST = 3
"mutations of one file"
TIFF_NUMBERS = (
    *range(14),
    254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 339, 347,
)  # fmt: skip
"types, and tags that describe the pixels"
JPEG_MARKERS = (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC9, 0xDA, 0xDB, 0xDD, 0xE1, 0xEE)
DICOM_VALUES: tuple[object, ...] = (
    0, 1, 2, 3, 8, 16, 17, 65535, 65536, -1, 10**12, 1e300, float("nan"),
    "", "x", "1\\2\\3", "MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL_422", "SIGMOID",
    b"", b"\xff" * 7, [0, 0], [65536, 65535, 16], None,
)  # fmt: skip
DICOM_SYNTAXES = tuple(
    f"1.2.840.10008.1.2.{n}"
    for n in ("1", "1.99", "2", "4.50", "4.57", "4.70", "4.80", "4.90", "5")
)
DICOM_NAMES = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "SOPInstanceUID", "SOPClassUID", "Laterality",
    "ViewPosition", "VOILUTSequence", "ModalityLUTSequence", "SmallestImagePixelValue",
    "RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
)  # fmt: skip


def mutated(seeds: Mapping[str, bytes], seed: int, i: int) -> tuple[str, bytes]:
    """File `i` of the run with this seed, and how it came about."""
    rng = random.Random(f"{seed}:{i}")  # noqa: S311 - chance, not secrecy
    name = rng.choice(sorted(seeds))
    data = bytearray(seeds[name])
    steps = [name]
    for _ in range(rng.randint(1, MOST)):
        structured = BY_FORMAT.get(name.split()[0], ())
        is_structured = structured and rng.random() < STRUCTURED
        mutation = rng.choice(structured if is_structured else BLIND)
        if data:
            mutation(data, rng)
        steps.append(mutation.__name__)
    return ", ".join(steps), bytes(data)


def place(data: bytearray, rng: random.Random) -> int:
    """An offset, more often than not in the head."""
    end = len(data)
    if rng.random() < 0.6:
        end = min(end, HEAD)
    return rng.randrange(end)


def number(rng: random.Random) -> bytes:
    """An extreme value of 1, 2 or 4 bytes in either order."""
    kind = rng.choice(("B", "<H", ">H", "<I", ">I"))
    return struct.pack(kind, rng.choice(EXTREMES) % 256 ** struct.calcsize(kind))


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        data[place(data, rng)] ^= 1 << rng.randrange(8)


def write_extreme(data: bytearray, rng: random.Random) -> None:
    at = place(data, rng)
    value = number(rng)
    data[at : at + len(value)] = value


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def remove(data: bytearray, rng: random.Random) -> None:
    at = place(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 16, 100))]


def repeat(data: bytearray, rng: random.Random) -> None:
    at = place(data, rng)
    data[at:at] = data[at : at + rng.choice((1, 2, 4, 16, 100))] * rng.choice((1, 2, 50))


def insert_noise(data: bytearray, rng: random.Random) -> None:
    at = place(data, rng)
    data[at:at] = rng.randbytes(rng.choice((1, 3, 16, 200)))


def overwrite_noise(data: bytearray, rng: random.Random) -> None:
    at = place(data, rng)
    noise = rng.randbytes(rng.choice((1, 3, 16, 200)))
    data[at : at + len(noise)] = noise


def png_chunks(data: bytearray) -> list[tuple[bytes, bytes]]:
    """Kind and content of the chunks that are whole."""
    chunks = []
    at = 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if at + 12 + size > len(data):
            break
        kind = bytes(data[at + 4 : at + 8])
        content = bytes(data[at + 8 : at + 8 + size])
        chunks.append((kind, content))
        at += 12 + size
    return chunks


def change_png_chunk(data: bytearray, rng: random.Random) -> None:
    """Break, drop, repeat or move a chunk.

    The checksums are right, or libpng's check of them would be all that is met.
    """
    chunks = png_chunks(data)
    if not chunks:
        return
    i = rng.randrange(len(chunks))
    kind, content = chunks[i]
    change = rng.choice(("bits", "extreme", "pixels", "drop", "again", "move"))
    if change == "pixels" and kind == b"IDAT":
        chunks[i] = (kind, change_deflated(content, rng))
    elif change == "drop":
        del chunks[i]
    elif change == "again":
        chunks.insert(i, chunks[i])
    elif change == "move":
        chunks.insert(rng.randrange(len(chunks)), chunks.pop(i))
    elif content:
        broken = bytearray(content)
        mutation = flip_bits if change == "bits" else write_extreme
        mutation(broken, rng)
        chunks[i] = (kind, bytes(broken))
    data[8:] = b"".join(chunk(kind, content) for kind, content in chunks)


def change_deflated(content: bytes, rng: random.Random) -> bytes:
    """Break what is within a compressed stream, and compress it again."""
    try:
        pixels = bytearray(zlib.decompress(content))
    except zlib.error:
        return content
    if pixels:
        mutation = rng.choice((flip_bits, truncate, repeat))
        mutation(pixels, rng)
    return zlib.compress(bytes(pixels))


def change_tiff_tag(data: bytearray, rng: random.Random) -> None:
    """Another tag, type, count or value in an entry of the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        if big:
            (begin,) = struct.unpack_from(order + "Q", data, 8)
            (n,) = struct.unpack_from(order + "Q", data, begin)
        else:
            (begin,) = struct.unpack_from(order + "I", data, 4)
            (n,) = struct.unpack_from(order + "H", data, begin)
    except (struct.error, OverflowError):
        return
    size = 20 if big else 12
    first = begin + (8 if big else 2)
    at = first + size * rng.randrange(max(1, min(n, 40)))
    if at + size > len(data):
        return
    field = rng.choice(("tag", "type", "count", "value", "value", "value"))
    if field in ("tag", "type"):
        offset = at + 2 * (field == "type")
        struct.pack_into(order + "H", data, offset, rng.choice(TIFF_NUMBERS))
    else:
        offset = at + 4 + (size - 4) // 2 * (field == "value")
        struct.pack_into(order + rng.choice("HI"), data, offset, rng.choice(EXTREMES) % 65536)


def change_jpeg_segment(data: bytearray, rng: random.Random) -> None:
    """Break a marker's segment, its size included."""
    at = 2
    segments = []
    while at + 4 <= len(data) and data[at] == 0xFF:
        (size,) = struct.unpack_from(">H", data, at + 2)
        segments.append((at, min(size, len(data) - at - 2)))
        if data[at + 1] == 0xDA:
            break
        at += 2 + size
    if not segments:
        return
    begin, size = rng.choice(segments)
    segment = data[begin + 2 : begin + 2 + size]
    if segment:
        mutation = rng.choice((flip_bits, write_extreme))
        mutation(segment, rng)
        data[begin + 2 : begin + 2 + size] = segment
    if rng.random() < 0.1:
        data[begin + 1] = rng.choice(JPEG_MARKERS)


def change_webp_chunk(data: bytearray, rng: random.Random) -> None:
    """Break the content of a RIFF chunk, or its size; the file's own size is right."""
    at = 12
    chunks = []
    while at + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, at + 4)
        chunks.append((at, size))
        at += 8 + size + size % 2
    if not chunks:
        return
    begin, size = rng.choice(chunks)
    content = data[begin + 8 : begin + 8 + size]
    if rng.random() < 0.2:
        struct.pack_into("<I", data, begin + 4, rng.choice(EXTREMES))
    elif content:
        mutation = rng.choice((flip_bits, write_extreme, truncate))
        mutation(content, rng)
        data[begin + 8 : begin + 8 + size] = content
    struct.pack_into("<I", data, 4, max(0, len(data) - 8))


def change_dicom_element(data: bytearray, rng: random.Random) -> None:
    """Another value in an element that the pixel path reads, or none, or another syntax."""
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = pydicom.dcmread(io.BytesIO(data), force=True)
            name = rng.choice(DICOM_NAMES)
            if rng.random() < 0.1 and name in image:
                delattr(image, name)
            elif rng.random() < 0.1:
                image.file_meta.TransferSyntaxUID = rng.choice(DICOM_SYNTAXES)
            else:
                setattr(image, name, rng.choice(DICOM_VALUES))
            stream = io.BytesIO()
            pydicom.dcmwrite(stream, image)
    except Exception:  # noqa: BLE001 - what pydicom will not write is broken otherwise
        flip_bits(data, rng)
        return
    data[:] = stream.getvalue()


def change_dicom_frame(data: bytearray, rng: random.Random) -> None:
    """Break the pixels' own stream: its head, mostly, behind the last sign that pixels begin."""
    at = max(data.rfind(b"\xe0\x7f\x10\x00"), data.rfind(b"\x7f\xe0\x00\x10"), 0) + 12
    frame = data[at:]
    if frame:
        mutation = rng.choice((flip_bits, write_extreme, overwrite_noise))
        mutation(frame, rng)
        data[at:] = frame


BLIND: tuple[Mutation, ...] = (
    flip_bits,
    write_extreme,
    truncate,
    remove,
    repeat,
    insert_noise,
    overwrite_noise,
)
BY_FORMAT: dict[str, tuple[Mutation, ...]] = {
    "png": (change_png_chunk,), "tiff": (change_tiff_tag,), "jpeg": (change_jpeg_segment,),
    "webp": (change_webp_chunk,), "dicom": (change_dicom_element, change_dicom_frame),
}  # fmt: skip
