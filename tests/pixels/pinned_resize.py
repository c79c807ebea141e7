"""Holds the resize of whatever Pillow is installed against its definition, with numpy alone.

`python -m tests.pixels.pinned_resize` exits 1, and says for which sizes, where one pixel differs.
"""

import sys

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.spec import PixelPath
from kneeedge.pixels.pixel_path import to_input

BITS = 22
N_RANDOM = 150
TALL_AND_WIDE = (
    (900, 31),
    (31, 900),
    (2000, 20),
    (640, 480),
    (480, 640),
    (33, 32),
    (32, 33),
    (1, 9),
)


def weights(n_in: int, n_out: int) -> NDArray[np.int64]:
    """Fixed-point weights (n_out, n_in), in multiples of 2^-22, of `kneeedge.model.spec.RESIZE`."""
    scale = n_in / n_out
    support = max(1.0, scale)
    rows = np.zeros((n_out, n_in), dtype=np.int64)
    for i in range(n_out):
        centre = (i + 0.5) * scale
        first = max(0, int(centre - support + 0.5))
        last = min(n_in, int(centre + support + 0.5))
        row = [max(0.0, 1.0 - abs((j - centre + 0.5) / support)) for j in range(first, last)]
        total = 0.0
        for weight in row:  # one after the other: a sum in another order may round otherwise
            total += weight
        rows[i, first:last] = [int(0.5 + weight / total * 2**BITS) for weight in row]
    return rows


def resized(grey: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(H, W) uint8 → (height, width) uint8, across and then down."""
    if grey.shape[1] != width:
        grey = _rounded(grey.astype(np.int64) @ weights(grey.shape[1], width).T)
    if grey.shape[0] != height:
        grey = _rounded(weights(grey.shape[0], height) @ grey.astype(np.int64))
    return grey


def _rounded(sums: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.clip((sums + 2 ** (BITS - 1)) >> BITS, 0, 255).astype(np.uint8)


def sizes() -> list[tuple[int, int]]:
    """Heights and widths: odd ones, and random ones."""
    rng = np.random.default_rng(0)
    return [*TALL_AND_WIDE, *map(tuple, rng.integers(1, 400, (N_RANDOM, 2)).tolist())]


def differing_sizes(side: int = 64) -> list[tuple[int, int]]:
    """The sizes (H, W) of which `to_input` gives other pixels than the definition."""
    rng = np.random.default_rng(1)
    differing = []
    for height, width in sizes():
        grey = rng.integers(0, 256, (height, width), dtype=np.uint8)
        if not np.array_equal(to_input(grey, PixelPath(side)), resized(grey, side, side)):
            differing.append((height, width))
    return differing


if __name__ == "__main__":
    from PIL import __version__

    differing = differing_sizes()
    summary = f"{len(differing)} of {len(sizes())} sizes differ {differing}"
    sys.stdout.write(f"Pillow {__version__}: {summary}\n")
    sys.exit(bool(differing))
