"""Augmented views of a radiograph. They act on the file's own pixels, before the one pixel path."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.data.dataset import Sample
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.corruptions import corrupt, kind_named
from kneeedge.pixels.picture import read_grey
from kneeedge.pixels.pixel_path import to_input
from kneeedge.runs.config import TrainConfig

CORRUPTED = 0.5
"share of the views drawn that are corrupted, where kinds are given"
MOST_SEVERE = 3
"severity of a corrupted view at most; beyond it hardly a label can be read"


@dataclass(frozen=True)
class Corruption:
    """How a view is made worse."""

    kind: str
    severity: int
    seed: int
    "of what is drawn"


@dataclass(frozen=True)
class View:
    """One way to look at an image."""

    angle: float = 0.0
    "degrees, counter-clockwise"
    mirrored: bool = False
    corruption: Corruption | None = None


def view_of(config: TrainConfig, image: int, k: int) -> View:
    """View `k` of image number `image`: 0 is the image itself, 1 its mirror, others by the seed."""
    mirrored = config.flip and k % 2 == 1
    if k < 2:
        return View(0.0, mirrored)
    rng = np.random.default_rng([config.seed, image, k])
    angle = rng.uniform(-config.rotation, config.rotation)
    return View(float(angle), mirrored, draw_corruption(config, rng))


def draw_corruption(config: TrainConfig, rng: np.random.Generator) -> Corruption | None:
    """One of the config's kinds at a severity of MOST_SEVERE at most, or none."""
    kinds = config.corrupted_by
    if not kinds or rng.random() >= CORRUPTED:
        return None
    kind = kind_named(kinds[rng.integers(len(kinds))])
    severity = rng.choice(kind.severities[:MOST_SEVERE])
    return Corruption(kind.name, int(severity), int(rng.integers(2**32)))


def apply_view(grey: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """The (H, W) uint8 image, mirrored, rotated about its centre, and then corrupted.

    Corners come in black.
    """
    if view.mirrored or view.angle:
        image = Image.fromarray(grey)
        if view.mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if view.angle:
            image = image.rotate(view.angle, Image.Resampling.BILINEAR)
        grey = np.asarray(image)
    if view.corruption:
        worse = view.corruption
        grey = corrupt(grey, worse.kind, worse.severity, worse.seed)
    return grey


def load_view(sample: Sample, view: View, pixel_path: PixelPath) -> NDArray[np.uint8]:
    """The network's input (S, S) uint8 for one view of a sample."""
    (image,) = load_views([(sample, view)], pixel_path)
    return image


def load_views(
    jobs: Sequence[tuple[Sample, View]], pixel_path: PixelPath
) -> list[NDArray[np.uint8]]:
    """The network's inputs (S, S) uint8; views of one sample in a row share one reading of it."""
    images = []
    for sample, group in groupby(jobs, key=itemgetter(0)):
        size, window, bits = pixel_path.size, pixel_path.dicom_window, pixel_path.grey_bits
        grey = read_grey(sample.path, size, window, bits)
        images += [to_input(apply_view(grey, view), pixel_path) for _, view in group]
    return images
