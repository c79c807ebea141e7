"""Augmented views of a radiograph. They act on the file's own pixels, before the one pixel path."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.data.dataset import Sample
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.picture import read_grey
from kneeedge.pixels.pixel_path import to_input
from kneeedge.runs.config import TrainConfig


@dataclass(frozen=True)
class View:
    """One way to look at an image."""

    angle: float = 0.0
    "degrees, counter-clockwise"
    mirrored: bool = False


def view_of(config: TrainConfig, image: int, k: int) -> View:
    """View `k` of image number `image`: 0 is the image itself, 1 its mirror, others by the seed."""
    mirrored = config.flip and k % 2 == 1
    if k < 2:
        return View(0.0, mirrored)
    rng = np.random.default_rng([config.seed, image, k])
    angle = rng.uniform(-config.rotation, config.rotation)
    return View(float(angle), mirrored)


def apply_view(grey: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """The (H, W) uint8 image, mirrored and rotated about its centre; corners come in black."""
    if view == View():
        return grey
    image = Image.fromarray(grey)
    if view.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if view.angle:
        image = image.rotate(view.angle, Image.Resampling.BILINEAR)
    return np.asarray(image)


def load_view(sample: Sample, view: View, pixel_path: PixelPath) -> NDArray[np.uint8]:
    """The network's input (S, S) uint8 for one view of a sample."""
    grey = read_grey(sample.path, pixel_path.size, pixel_path.dicom_window, pixel_path.grey_bits)
    return to_input(apply_view(grey, view), pixel_path)
