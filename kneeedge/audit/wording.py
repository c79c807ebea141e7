"""What was done to one image to make its copy, in words."""

import numpy as np
from scipy import ndimage

from kneeedge.audit.confirm import Map, Match
from kneeedge.audit.fingerprint import SIDE, Fingerprint

_NEARLY_ALL = 0.87
"share of an image's area; a rotation by 10° takes 8 % away at the corners"
_MIN_SHIFT = 6
"grey levels, median over the overlap, from which they are said to be others"


def describe(first: Fingerprint, second: Fingerprint, match: Match) -> str:
    """Say how `second` differs from `first`, as in: mirrored, rotated 3°, scale 0.92."""
    whole = _in_pixels(first, second, match)
    linear = whole[:2, :2] * np.array([[-1.0 if match.mirrored else 1.0], [1.0]])
    angle = np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    words = ["mirrored"] if match.mirrored else []
    if abs(angle) >= 1:
        words.append(f"rotated {abs(angle):.0f}°")
    words += _scale(*np.linalg.norm(linear, axis=0).tolist())
    back: Map = np.linalg.inv(whole).astype(np.float64)
    words += _crop(_share_inside(whole, first, second), _share_inside(back, second, first))
    if _grey_difference(first, second, match) > _MIN_SHIFT:
        words.append("other grey levels")
    return ", ".join(words) or "re-encoded"


def _in_pixels(first: Fingerprint, second: Fingerprint, match: Match) -> Map:
    """Give the (3, 3) map from the first image to the second, in their own pixels, not mirrored."""
    whole = np.concatenate([match.mapping, [[0.0, 0.0, 1.0]]])
    if match.mirrored:
        flip = np.array([[-1.0, 0.0, SIDE - 1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        whole = flip @ whole
    to_thumbnail = np.linalg.inv(_thumbnail_to_image(first))
    in_pixels: Map = _thumbnail_to_image(second) @ whole @ to_thumbnail
    return in_pixels


def _thumbnail_to_image(image: Fingerprint) -> Map:
    """Give the (3, 3) map from pixels of the thumbnail to those of the image."""
    left, top, right, bottom = image.box
    x = (right - left) / SIDE
    y = (bottom - top) / SIDE
    return np.array([[x, 0.0, left + x / 2 - 0.5], [0.0, y, top + y / 2 - 0.5], [0.0, 0.0, 1.0]])


def _scale(x: float, y: float) -> list[str]:
    """Name the size of the second's pixels over the first's along each side."""
    if abs(x / y - 1) > 0.04:
        return [f"scale {x:.2f} × {y:.2f}"]
    scale = (x * y) ** 0.5
    return [f"scale {scale:.2f}"] if abs(scale - 1) > 0.02 else []


def _crop(of_first: float, of_second: float) -> list[str]:
    """Name the share of each image's area that the other shows, where it is not nearly all."""
    if min(of_first, of_second) > _NEARLY_ALL:
        return []
    if max(of_first, of_second) <= _NEARLY_ALL:
        return [f"another crop with {of_first:.0%} of the first"]
    if of_first < of_second:
        return [f"cropped to {of_first:.0%}"]
    return [f"the first is cropped to {of_second:.0%}"]


def _share_inside(whole: Map, image: Fingerprint, other: Fingerprint) -> float:
    """Give the share of an image's area that a (3, 3) map takes into the other image."""
    width, height = image.size
    other_width, other_height = other.size
    steps = (np.arange(100) + 0.5) / 100
    grid = np.meshgrid(steps * width - 0.5, steps * height - 0.5)
    x, y = (axis.ravel() for axis in grid)
    u, v, _ = whole @ np.stack([x, y, np.ones_like(x)])
    inside_x = (u > -0.5) & (u < other_width - 0.5)
    inside_y = (v > -0.5) & (v < other_height - 0.5)
    return float((inside_x & inside_y).mean())


def _grey_difference(first: Fingerprint, second: Fingerprint, match: Match) -> float:
    """Give the median absolute difference of grey levels where the images overlap."""
    first_grey = np.frombuffer(first.thumbnail, np.uint8).reshape(SIDE, SIDE)
    second_grey = np.frombuffer(second.thumbnail, np.uint8).reshape(SIDE, SIDE)
    if match.mirrored:
        second_grey = second_grey[:, ::-1]
    y, x = np.mgrid[:SIDE, :SIDE]
    u, v = np.tensordot(match.mapping[:, :2], np.stack([x, y]), 1) + match.mapping[:, 2, None, None]
    overlaid = ndimage.map_coordinates(second_grey.astype(np.float32), [v, u], order=1, cval=np.nan)
    return float(np.nanmedian(np.abs(overlaid - first_grey)))
