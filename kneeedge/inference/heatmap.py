"""The class activation map over the radiograph, as a picture."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.system.files import replacing

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
MAX_WAITING = 32
"overlays that wait to be written, so that a slow disk cannot fill the memory"


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
    """Where a file about the image `name` goes: under its whole name, never outside `folder`."""
    parts = ["_" if part == ".." else part for part in PurePosixPath(name).parts if part != "/"]
    return folder.joinpath(*parts[:-1], parts[-1] + suffix)


def write_heatmap(
    folder: Path, name: str, image: NDArray[np.uint8], cam: NDArray[np.float32]
) -> None:
    """Write the overlay of one image (S, S) uint8 and its map (h, w) as PNG."""
    path = heatmap_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        Image.fromarray(overlay(image, cam)).save(new, "PNG", compress_level=1)


class HeatmapWriter:
    """Draws and writes overlays on a thread of its own.

    What fails there is raised by a later `write`, or when the context is left.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def write(self, name: str, image: NDArray[np.uint8], cam: NDArray[np.float32]) -> None:
        """Queue the overlay of one image (S, S) uint8 and its map (h, w)."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(write_heatmap, self.folder, name, image, cam))

    def __enter__(self) -> "HeatmapWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=error is not None)
        if error is None:
            for future in self._waiting:
                future.result()
