"""Golden pictures: small encoded files inside a model file, with what they must become.

They hold the way from a file's bytes to the network's input: the decoder, and the resize. PNG is
lossless, so both must be right to the bit. A JPEG's decoder is the system's, and decoders may round
otherwise: it is held to a stated number of grey levels.
"""

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.picture import MAX_PIXELS, decode_picture
from kneeedge.pixels.pixel_path import to_input

DECODING, RESIZING, RESIZING_INSIDE = "decoding", "resizing", "the resize inside the file"
"the steps from bytes to the network's input"
JPEG_LEVELS = 2
"grey levels by which the network's input of a JPEG may differ between decoders"
SIZES = (  # name, height, width
    ("grey", 180, 180),
    ("tall", 420, 90),
    ("wide", 90, 420),
    ("odd", 223, 227),
    ("small", 41, 57),
)


@dataclass(frozen=True, kw_only=True)
class GoldenPicture:
    """One encoded file, and what it becomes."""

    name: str
    content: str
    "the file, base64"
    grey_sha256: str
    "of the grey levels (H, W) uint8, in rows from the top, that it decodes to"
    input_sha256: str
    "of the network's input (S, S) uint8"
    input_png: str = ""
    "that input as PNG, base64, where it may differ by `levels`"
    levels: int = 0
    "grey levels by which a pixel of the input may differ"


@dataclass(frozen=True, kw_only=True)
class PictureResult:
    """What this device made of a golden picture."""

    name: str
    passed: bool
    step: str = ""
    "where it first differs: decoding or resizing; empty where it does not"
    largest_change: int | None = None
    "grey levels, of a pixel of the network's input; absent where that is not known"
    share_changed: float | None = None
    "of the input's pixels, 0 to 1; absent where that is not known"
    error: str = ""
    "why it cannot be read here"


def golden_pictures(pixel_path: PixelPath) -> tuple[GoldenPicture, ...]:
    """Phantoms of many sizes as PNG of 8 and 16 bits, and as JPEG at full and at reduced scale."""
    files = []
    for i, (name, height, width) in enumerate(SIZES):
        files.append((f"{name}.png", _png(_scene(i, height, width)), 0))
    files.append(("deep.png", _png(_scene(7, 150, 130).astype(np.uint16) * 257), 0))
    jpeg_side = 4 * pixel_path.size + 10  # beyond which the decoder may halve it
    files.append(("full.jpg", _jpeg(_scene(8, 190, 170)), JPEG_LEVELS))
    files.append(("reduced.jpg", _jpeg(_scene(9, jpeg_side, jpeg_side)), JPEG_LEVELS))
    return tuple(_golden(name, content, levels, pixel_path) for name, content, levels in files)


def check_picture(golden: GoldenPicture, pixel_path: PixelPath) -> PictureResult:
    """Decode and resize a golden picture here, by the one pixel path."""
    try:
        grey, square = decoded(golden, pixel_path)
    except ImageError as error:
        return PictureResult(name=golden.name, passed=False, step=DECODING, error=error.reason)
    if _sha256(square) == golden.input_sha256:
        return PictureResult(name=golden.name, passed=True, largest_change=0, share_changed=0.0)
    step = RESIZING if _sha256(grey) == golden.grey_sha256 else DECODING
    if not golden.input_png:
        return PictureResult(name=golden.name, passed=False, step=step)
    changes = np.abs(square.astype(int) - decode_png(golden.input_png, pixel_path.size))
    return PictureResult(
        name=golden.name,
        passed=int(changes.max()) <= golden.levels,
        step=step,
        largest_change=int(changes.max()),
        share_changed=float((changes > 0).mean()),
    )


def decoded(
    golden: GoldenPicture, pixel_path: PixelPath
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Grey levels (H, W) and the network's input (S, S) that a golden picture becomes here.

    Raises ImageError where it cannot be read, and another ValueError where it is no base64.
    """
    return _decode(golden.name, base64.b64decode(golden.content, validate=True), pixel_path)


def encode_png(pixels: NDArray[np.uint8]) -> str:
    """A (S, S) uint8 image as base64 PNG text."""
    return base64.b64encode(_png(pixels)).decode("ascii")


def decode_png(text: str, size: int) -> NDArray[np.uint8]:
    """The (size, size) uint8 image in base64 PNG text; ValueError or OSError where it is none."""
    try:
        content = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            # The header tells, before a pixel is decoded.
            if image.size != (size, size):
                pixels = f"{image.width} × {image.height} pixels"
                raise ValueError(f"one has {pixels}, not {size} × {size}")
            return np.asarray(image.convert("L"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from error


def _golden(name: str, content: bytes, levels: int, pixel_path: PixelPath) -> GoldenPicture:
    grey, square = _decode(name, content, pixel_path)
    return GoldenPicture(
        name=name,
        content=base64.b64encode(content).decode("ascii"),
        grey_sha256=_sha256(grey),
        input_sha256=_sha256(square),
        input_png=encode_png(square) if levels else "",
        levels=levels,
    )


def _decode(
    name: str, content: bytes, pixel_path: PixelPath
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Grey levels (H, W) and the network's input (S, S)."""
    picture = decode_picture(content, Path(name), pixel_path.size, 0, MAX_PIXELS)
    return picture.grey, to_input(picture.grey, pixel_path)


def _scene(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """The middle (height, width) of a phantom, with a gradient of all grey levels along an edge."""
    side = max(height, width)
    image = phantom(900 + seed, seed / 10, side)
    top = (side - height) // 2
    left = (side - width) // 2
    scene = image[top : top + height, left : left + width].copy()
    scene[:6] = np.linspace(0, 255, width).astype(np.uint8)
    return scene


def _png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def _sha256(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
