"""What the search for copies keeps of an image: hashes for exact, a thumbnail for near copies."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128
"side of the thumbnail; every image is squeezed to a square, which takes a change of aspect away"
_DARK = 0.2
"of the range of grey levels; up to there is background"
_MIN_BRIGHT = 0.08
"share of bright pixels that makes a row more than background"


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What is known of one image, about 17 KB."""

    name: str
    "POSIX path relative to the data folder"
    sha256: str
    "of the file's bytes"
    pixel_sha256: str
    "of the full-size grey pixels and their shape, which another format leaves as they are"
    size: tuple[int, int]
    "width and height in pixels"
    box: tuple[int, int, int, int]
    "left, top, right and bottom of what is not dark background; the thumbnail shows this part"
    thumbnail: bytes
    "SIDE × SIDE grey pixels, row by row"


def fingerprint(name: str, sha256: str, grey: NDArray[np.uint8]) -> Fingerprint:
    """Take the fingerprint of (H, W) uint8 grey pixels at full size."""
    pixels = np.ascontiguousarray(grey)
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.data)
    image = Image.fromarray(pixels)
    box = content_box(pixels)
    small = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return Fingerprint(
        name=name,
        sha256=sha256,
        pixel_sha256=digest.hexdigest(),
        size=image.size,
        box=box,
        thumbnail=small.tobytes(),
    )


def content_box(grey: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Give left, top, right and bottom of (H, W) uint8 grey pixels without dark rows at the edges.

    A leg on a wide black background would have few pixels of the thumbnail, and each crop of it
    another aspect. A few bright pixels do not save a row or a column.
    """
    height, width = grey.shape
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX))
    low, high = np.percentile(small, (2, 98))
    bright = small > low + _DARK * (high - low)
    top, bottom = _ends(bright.mean(axis=1) > _MIN_BRIGHT, height)
    left, right = _ends(bright.mean(axis=0) > _MIN_BRIGHT, width)
    return left, top, right, bottom


def _ends(kept: NDArray[np.bool_], length: int) -> tuple[int, int]:
    """Where the kept ones of SIDE stripes begin and end, in pixels; the whole side if few are."""
    places = np.flatnonzero(kept)
    if len(places) < SIDE // 4:
        return 0, length
    first = int(places[0]) * length // SIDE
    last = -(-(int(places[-1]) + 1) * length // SIDE)
    return first, last
