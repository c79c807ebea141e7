"""The class activation map over the radiograph, as a picture."""

import hashlib
import os
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kneeedge.system.files import replacing
from kneeedge.system.outputs import HEATMAP, check_output
from kneeedge.system.own import PNG_TEXT, mark_folder

OPACITY = 0.45
STOPS = np.array(
    [[0, 0, 0], [60, 10, 110], [190, 50, 80], [250, 140, 10], [255, 240, 150]], dtype=np.float32
)
"dark to bright, rising in lightness, readable without colour vision"
LEVELS = np.linspace(0.0, 1.0, 256, dtype=np.float32)
WEIGHT = (OPACITY * np.sqrt(LEVELS))[:, None]
"share of the colour in a pixel, by the strength of its evidence, 0 to 255"
COLOUR = WEIGHT * np.stack(
    [np.interp(LEVELS, np.linspace(0, 1, len(STOPS)), channel) for channel in STOPS.T], axis=1
)
MAX_NAME = 240
"bytes of a file's name: file systems take 255, and a name is longer while it is written"


def overlay(image: NDArray[np.uint8], cam: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S, 3) uint8: the input (S, S) uint8 with the map (h, w) over it.

    Only evidence for the class (positive values) is shown, relative to the image's own largest; a
    map without any leaves the radiograph as it is.
    """
    evidence = np.maximum(cam, 0.0)
    peak = float(evidence.max())
    if peak == 0.0:
        return np.repeat(image[:, :, None], 3, axis=2)
    scaled = Image.fromarray(np.float32(255.0) * evidence / np.float32(peak))
    scaled = scaled.resize(image.shape[::-1], Image.Resampling.BILINEAR)
    level = np.rint(np.asarray(scaled)).astype(np.uint8)
    grey = image[:, :, None].astype(np.float32)
    return np.asarray(np.rint(grey * (1.0 - WEIGHT[level]) + COLOUR[level]), dtype=np.uint8)


def heatmap_path(folder: Path, name: str) -> Path:
    return place_below(folder, name, ".png")


def place_below(folder: Path, name: str, suffix: str) -> Path:
    """Where a file about the image `name` goes: under its whole name, never outside `folder`.

    A name that would be too long for a file is cut, and has a hash of the whole at its end.
    """
    parts = ["_" if part == ".." else part for part in PurePosixPath(name).parts if part != "/"]
    return folder.joinpath(*parts[:-1], _short_name(parts[-1] + suffix, suffix))


def _short_name(name: str, suffix: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= MAX_NAME:
        return name
    end = f"~{hashlib.sha256(encoded).hexdigest()[:16]}{suffix}"
    kept = encoded[: MAX_NAME - len(end)].decode("utf-8", "ignore")
    return kept + end


def write_heatmap(
    folder: Path, name: str, image: NDArray[np.uint8], cam: NDArray[np.float32]
) -> None:
    """Write the overlay of one image (S, S) uint8 and its map (h, w) as PNG.

    It is its owner's alone, as a picture of a patient, and says that kneeedge made it, so that it
    is never taken for a radiograph. Raises OutputExistsError where it would replace anything but an
    older heat map.
    """
    path = heatmap_path(folder, name)
    check_output(path, HEATMAP)
    mark_folder(folder)
    says = PngInfo()
    for keyword, text in PNG_TEXT.items():
        says.add_text(keyword, text)
    with replacing(path, private=True) as new:
        Image.fromarray(overlay(image, cam)).save(new, "PNG", compress_level=1, pnginfo=says)
