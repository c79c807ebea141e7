"""Writes pixels.npz: what an antialiased triangle-filter resize must give, in slow float64 without
Pillow's resize.

The definition: output pixel i lies at c = (i + 0.5) · n_in / n_out on the input; it is the mean of
the input pixels j weighted by max(0, 1 − |j + 0.5 − c| / s), where s = max(1, n_in / n_out), over
those inside the image.

Run `python tests/golden/make_pixels.py` after a change of the cases.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).with_name("pixels.npz")
SHAPES = {  # case: height, width, side of the network's input
    "shrink": (71, 103, 32),
    "enlarge": (11, 19, 64),
    "mixed": (20, 90, 32),
    "wide": (3, 400, 32),
    "tall": (401, 5, 64),
    "same": (32, 32, 32),
}


def triangle_weights(n_in: int, n_out: int) -> NDArray[np.float64]:
    """Weights (n_out, n_in); each row sums to 1."""
    weights = np.zeros((n_out, n_in))
    scale = n_in / n_out
    support = max(1.0, scale)
    for i in range(n_out):
        centre = (i + 0.5) * scale
        for j in range(n_in):
            weights[i, j] = max(0.0, 1.0 - abs(j + 0.5 - centre) / support)
        weights[i] /= weights[i].sum()
    return weights


def stretch(grey: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(H, W) uint8 → (height, width) uint8."""
    down, across = triangle_weights(grey.shape[0], height), triangle_weights(grey.shape[1], width)
    return np.floor(down @ grey.astype(np.float64) @ across.T + 0.5).astype(np.uint8)


def pad(grey: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W) uint8 → (side, side) uint8: aspect kept, centred on black."""
    longer = max(grey.shape)
    height, width = (max(1, round(n * side / longer)) for n in grey.shape)
    square = np.zeros((side, side), dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = stretch(grey, height, width)
    return square


def scene(height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Waves, an edge and noise over the full range (H, W) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    waves = 90 + 60 * np.sin(x / 4.0) + 50 * np.cos(y / 3.0)
    edge = np.where(x + y > (height + width) / 2, 60, 0)
    return np.clip(waves + edge + rng.normal(0, 40, (height, width)), 0, 255).astype(np.uint8)


def main() -> None:
    rng = np.random.default_rng(20240501)
    arrays: dict[str, NDArray[np.uint8]] = {}
    for case, (height, width, side) in SHAPES.items():
        grey = scene(height, width, rng)
        arrays[f"{case}.input"] = grey
        arrays[f"{case}.stretch"] = stretch(grey, side, side)
        arrays[f"{case}.pad"] = pad(grey, side)
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main()
