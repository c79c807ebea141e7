"""Where the thumbnail of an image has marks, and what the surroundings of each look like.

Blobs of three sizes on the locally normalised band between fine grain and anatomy; a mark is
described by the low frequencies of an 8 × 8 patch around it. No patch is turned upright: a copy is
hardly rotated, and a search turns its own patches by 7° each way instead. Mirroring a patch changes
the sign of its odd horizontal frequencies.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from kneeedge.audit.fingerprint import SIDE, Fingerprint

Floats = NDArray[np.float32]

N_MARKS = 40
"marks of each size"
TURNS = (0.0, -7.0, 7.0)
"degrees; the first is the patch as it lies, under which an image is found"
_SIGMAS = (2.1, 2.8, 3.7)
"of the blobs, a third of an octave apart: a crop to 75 % moves a blob by one size"
_PATCH = 8
"samples a side"
_SPACING = 1.5
"of the samples, in sigmas"
_X, _Y = np.meshgrid(np.arange(_PATCH), np.arange(_PATCH))
_USED = (_X + _Y > 0) & (_X + _Y <= 6)
"the 27 lowest frequencies but the mean"
_WHITEN = np.exp((_X**2 + _Y**2) / 20)[_USED].astype(np.float32)
"evens out the fall of the spectrum, which is that of knees and phantoms alike"
MIRROR = np.where(_X % 2, -1, 1)[_USED].astype(np.float32)
"signs that a mirror image gives to the values of a descriptor"
N_VALUES = int(_USED.sum())


@dataclass(frozen=True)
class Features:
    """The marks of one image, about 10 KB."""

    positions: NDArray[np.float32]
    "(K, 2): x, y in pixels of the thumbnail"
    descriptors: NDArray[np.int8]
    "(len(TURNS), K, N_VALUES): unit vectors times 127"


def band(image: Fingerprint) -> Floats:
    """Give the thumbnail's detail, (SIDE, SIDE) with local deviation about 1."""
    grey = _grey(image)
    detail = _blurred(grey, 0.9) - _blurred(grey, 8.0)
    deviation = np.sqrt(_blurred(detail * detail, 8.0))
    # half a grey level keeps a blank image blank
    normalised: Floats = detail / (deviation + 0.25 * deviation.mean() + 0.5)
    return normalised


def grain(image: Fingerprint) -> Floats:
    """Give the finest detail, (SIDE, SIDE): deviation about 1 in texture, 0 where it is blank."""
    grey = _grey(image)
    detail = _blurred(grey, 0.7) - _blurred(grey, 2.0)
    # evens out edges, which all knees have
    normalised: Floats = detail / np.sqrt(_blurred(detail * detail, 3.0) + 0.25)
    return normalised


def features(image: Fingerprint) -> Features:
    """Describe the strongest marks of an image; a blank one has none."""
    detail = band(image)
    left, top, right, bottom = image.box
    aspect = float(np.clip((bottom - top) / (right - left), 1 / 3, 3))
    by_size = [_marks(detail, sigma, aspect) for sigma in _SIGMAS]
    positions, descriptors = zip(*by_size, strict=True)
    return Features(np.concatenate(positions), np.concatenate(descriptors, axis=1))


def unit(descriptors: NDArray[np.int8]) -> Floats:
    """Give (…, N_VALUES) unit vectors."""
    return descriptors.astype(np.float32) / np.float32(127)


def _marks(detail: Floats, sigma: float, aspect: float) -> tuple[Floats, NDArray[np.int8]]:
    """Positions (K, 2) and descriptors (len(TURNS), K, N_VALUES) of the blobs of one size."""
    smooth = _blurred(detail, sigma)
    strength = np.abs(smooth - _blurred(detail, 1.6 * sigma))
    peak = (ndimage.maximum_filter(strength, 7, mode="nearest") == strength) & (strength > 0.02)
    peak[:4] = False
    peak[-4:] = False
    peak[:, :4] = False
    peak[:, -4:] = False
    y, x = np.nonzero(peak)
    strongest = np.argsort(-strength[y, x], kind="stable")[:N_MARKS]
    positions = np.stack([x, y], axis=1)[strongest].astype(np.float32)
    turned = [_describe(smooth, positions, sigma, _turn(degrees, aspect)) for degrees in TURNS]
    return positions, np.stack(turned)


def _turn(degrees: float, aspect: float) -> NDArray[np.float64]:
    """Give the rotation (2, 2) of an image as the square thumbnail shows it.

    The image's height is `aspect` times its width.
    """
    cos = np.cos(np.deg2rad(degrees))
    sin = np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin * aspect], [sin / aspect, cos]])


def _describe(
    smooth: Floats, positions: Floats, sigma: float, turn: NDArray[np.float64]
) -> NDArray[np.int8]:
    """Descriptors (K, N_VALUES) of the patches around (K, 2) positions, their grid turned."""
    step = (np.arange(_PATCH) - (_PATCH - 1) / 2) * _SPACING * sigma
    dx, dy = (grid.ravel() for grid in np.meshgrid(step, step))
    x = positions[:, :1] + (turn[0, 0] * dx + turn[0, 1] * dy)
    y = positions[:, 1:] + (turn[1, 0] * dx + turn[1, 1] * dy)
    samples = ndimage.map_coordinates(smooth, [y, x], order=1, mode="nearest")
    patches = samples.reshape(-1, _PATCH, _PATCH)
    values = fft.dctn(patches, axes=(1, 2), norm="ortho")[:, _USED] * _WHITEN
    length = np.linalg.norm(values, axis=1, keepdims=True)
    descriptors: NDArray[np.int8] = np.rint(127 * values / np.maximum(length, 1e-6)).astype(np.int8)
    return descriptors


def _grey(image: Fingerprint) -> Floats:
    return np.frombuffer(image.thumbnail, np.uint8).reshape(SIDE, SIDE).astype(np.float32)


def _blurred(image: Floats, sigma: float) -> Floats:
    """A (SIDE, SIDE) image by SciPy's Gaussian filter, as two products of matrices: 3 × as fast."""
    blur = _blur(sigma)
    return (blur @ image @ blur.T).astype(np.float32, copy=False)


@lru_cache
def _blur(sigma: float) -> Floats:
    """The matrix (SIDE, SIDE) that blurs each column of what it multiplies."""
    one_each = np.eye(SIDE, dtype=np.float32)
    blur: Floats = ndimage.gaussian_filter1d(one_each, sigma, 0, mode="nearest", truncate=3.0)
    return blur
