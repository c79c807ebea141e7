"""What was done to one image to make its copy, in words."""

import numpy as np
from scipy import ndimage

from kneeedge.audit.confirm import Map, Match
from kneeedge.audit.fingerprint import SIDE, Fingerprint

_NEARLY_ALL = 0.87  # a rotation by 10° takes 8 % away at the corners


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
    if _grey_difference(first, second, match) > 6:
        words.append("other grey levels")
    return ", ".join(words) or "re-encoded"


def _in_pixels(first: Fingerprint, second: Fingerprint, match: Match) -> Map:
    """Give the (3, 3) map from pixels of the first image to those of the second, at full size and
    not mirrored.
    """
    whole = np.concatenate([match.mapping, [[0.0, 0.0, 1.0]]])
    if match.mirrored:
        whole = np.array([[-1.0, 0.0, SIDE - 1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ whole
    out: Map = _thumbnail_to_image(second) @ whole @ np.linalg.inv(_thumbnail_to_image(first))
    return out


def _thumbnail_to_image(one: Fingerprint) -> Map:
    left, top, right, bottom = one.box
    x = (right - left) / SIDE
    y = (bottom - top) / SIDE
    return np.array([[x, 0.0, left + x / 2 - 0.5], [0.0, y, top + y / 2 - 0.5], [0.0, 0.0, 1.0]])


def _scale(x: float, y: float) -> list[str]:
    """Name the size of the second's pixels over the first's along each side."""
    if abs(x / y - 1) > 0.04:
        return [f"scale {x:.2f} × {y:.2f}"]
    return [f"scale {(x * y) ** 0.5:.2f}"] if abs((x * y) ** 0.5 - 1) > 0.02 else []


def _crop(of_first: float, of_second: float) -> list[str]:
    """Name the share of each picture's area that the other shows, where it is not nearly all."""
    if min(of_first, of_second) > _NEARLY_ALL:
        return []
    if max(of_first, of_second) <= _NEARLY_ALL:
        return [f"another crop with {of_first:.0%} of the first"]
    return (
        [f"cropped to {of_first:.0%}"]
        if of_first < of_second
        else [f"the first is cropped to {of_second:.0%}"]
    )


def _share_inside(whole: Map, of: Fingerprint, other: Fingerprint) -> float:
    """Give the share of an image's area that a (3, 3) map takes into the other image."""
    steps = (np.arange(100) + 0.5) / 100
    x, y = (
        axis.ravel() for axis in np.meshgrid(steps * of.size[0] - 0.5, steps * of.size[1] - 0.5)
    )
    u, v, _ = whole @ np.stack([x, y, np.ones_like(x)])
    return float(
        ((u > -0.5) & (u < other.size[0] - 0.5) & (v > -0.5) & (v < other.size[1] - 0.5)).mean()
    )


def _grey_difference(first: Fingerprint, second: Fingerprint, match: Match) -> float:
    """Give the median absolute difference of grey levels where the pictures overlap."""
    here, there = (
        np.frombuffer(one.thumbnail, np.uint8).reshape(SIDE, SIDE) for one in (first, second)
    )
    if match.mirrored:
        there = there[:, ::-1]
    y, x = np.mgrid[:SIDE, :SIDE]
    u, v = np.tensordot(match.mapping[:, :2], np.stack([x, y]), 1) + match.mapping[:, 2, None, None]
    seen = ndimage.map_coordinates(there.astype(np.float32), [v, u], order=1, cval=np.nan)
    return float(np.nanmedian(np.abs(seen - here)))
