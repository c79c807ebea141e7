"""The class activation map over the radiograph, as a picture."""

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

OPACITY = 0.45
RAMP = np.array([[0, 0, 0], [60, 10, 110], [190, 50, 80], [250, 140, 10], [255, 240, 150]], dtype=np.float64)
"dark to bright, rising in lightness, readable without colour vision"


def overlay(image: NDArray[np.uint8], cam: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S, 3) uint8: the input (S, S) uint8 with the map (h, w) over it.

    Only evidence for the class (positive values) is shown, relative to the image's own largest; a map without any
    leaves the radiograph as it is.
    """
    evidence = np.maximum(cam, 0.0)
    peak = float(evidence.max())
    grey = np.repeat(image[:, :, None], 3, axis=2).astype(np.float64)
    if peak == 0.0:
        return grey.astype(np.uint8)
    scaled = Image.fromarray((evidence / peak).astype(np.float32)).resize(image.shape[::-1], Image.Resampling.BILINEAR)
    strength = np.clip(np.asarray(scaled, dtype=np.float64), 0.0, 1.0)
    stops = np.linspace(0.0, 1.0, len(RAMP))
    colour = np.stack([np.interp(strength, stops, RAMP[:, channel]) for channel in range(3)], axis=2)
    weight = OPACITY * strength[:, :, None] ** 0.5
    return np.round(grey * (1.0 - weight) + colour * weight).astype(np.uint8)


def heatmap_path(folder: Path, name: str) -> Path:
    """Where the heat map of the image `name` goes: below `folder`, under its whole name, never outside."""
    parts = ["_" if part == ".." else part for part in PurePosixPath(name).parts if part != "/"]
    return folder.joinpath(*parts[:-1], parts[-1] + ".png")


def write_heatmap(folder: Path, name: str, image: NDArray[np.uint8], cam: NDArray[np.float32]) -> None:
    """Write one overlay as PNG."""
    path = heatmap_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(overlay(image, cam)).save(path, "PNG")
