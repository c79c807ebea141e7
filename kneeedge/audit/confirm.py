"""Whether two images show one radiograph: an affine map from their marks, made exact on the pixels,
then correlation.

Marks with like surroundings are matched; RANSAC (Fischler and Bolles, CACM 1981) finds the affine
map most of them agree with; Gauss–Newton steps on the fine detail refine it (Lucas and Kanade,
IJCAI 1981). Knees look alike in outline and differ in fine detail, so that the detail of the
overlap must agree, in most parts of it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kneeedge.audit.features import MIRROR, Features, Floats, unit
from kneeedge.audit.fingerprint import SIDE

Map = NDArray[np.float64]
"(2, 3): pixels (x, y, 1) of the first thumbnail to (x, y) of the second, or of its mirror image"

MIN_MATCHES = 8
_MIN_COSINE = 0.75
_N_TRIALS, _NEAR_PIXELS = 160, 4.0
_N_STEPS, _HOPELESS = (
    5,
    0.7,
)  # correlation after one step: copies have 0.82 and more, other knees 0.67 in the median
_MIN_OVERLAP = 0.35  # of the thumbnail
_OUTLIER = 0.5  # deviations of the detail
_PART, _MIN_PARTS = (
    16,
    10,
)  # pixels of a side of the parts of which three in four must agree; there are 64
_TEXTURE = 0.4  # grey levels; a part with less is blank or clipped


@dataclass(frozen=True)
class Match:
    """How the second image lies on the first."""

    mapping: Map
    mirrored: bool
    similarity: float
    "lower quartile over the parts of the overlap of the correlation of the finest detail, 0 to 1"
    n_matches: int


@dataclass(frozen=True)
class Picture:
    """What is compared of one image."""

    features: Features
    band: Floats
    """(SIDE, SIDE) detail from fine grain up to the width of a cortex, which lays one image on
    another
    """
    grain: Floats
    "(SIDE, SIDE) the finest detail in grey levels, which tells two knees apart"


def confirm(first: Picture, second: Picture, mirrored: bool) -> Match | None:
    """Lay `second`, or its mirror image, on `first`; None where they have no map in common."""
    here, there = _matches(first.features, second.features, mirrored)
    if len(here) < MIN_MATCHES:
        return None
    start, n_near = _affine(here, there)
    if n_near < MIN_MATCHES or not _plausible(start):
        return None
    band, grain = ((image[:, ::-1] if mirrored else image) for image in (second.band, second.grain))
    mapping = _refined(first.band, band, start)
    if mapping is None:
        return None
    return Match(mapping, mirrored, _similarity(first.grain, grain, mapping), n_near)


def inverse(match: Match) -> Match:
    """Lay the first image of a match on the second."""
    whole = np.linalg.inv(np.concatenate([match.mapping, [[0.0, 0.0, 1.0]]]))
    if match.mirrored:
        flip = np.array([[-1.0, 0.0, SIDE - 1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        whole = flip @ whole @ flip
    return replace(match, mapping=whole[:2])


def _matches(first: Features, second: Features, mirrored: bool) -> tuple[Map, Map]:
    """Positions (M, 2) of the marks that are each other's likest, in the first and in the second
    image.
    """
    positions = second.positions.astype(np.float64)
    turned = unit(second.descriptors)
    if mirrored:
        positions = np.stack([SIDE - 1 - positions[:, 0], positions[:, 1]], axis=1)
        turned = turned * MIRROR
    cosine = (turned @ unit(first.descriptors[0]).T).max(axis=0)  # (second, first)
    if not cosine.size:
        return np.empty((0, 2)), np.empty((0, 2))
    likest = cosine.argmax(axis=0)
    own = np.arange(cosine.shape[1])
    kept = (cosine.argmax(axis=1)[likest] == own) & (cosine[likest, own] > _MIN_COSINE)
    return first.positions[kept].astype(np.float64), positions[likest[kept]]


def _affine(here: Map, there: Map) -> tuple[Map, int]:
    """Give the affine map that most of (M, 2) matches agree with, and how many."""
    points = np.concatenate([here, np.ones((len(here), 1))], axis=1)
    draws = np.random.default_rng(0).random((_N_TRIALS, len(here))).argpartition(2, axis=1)[:, :3]
    corners = points[draws]
    sound = (
        np.abs(np.linalg.det(corners)) > 180
    )  # twice the triangle's area: slim ones give wild maps
    if not sound.any():
        return np.eye(2, 3), 0
    maps = np.linalg.solve(corners[sound], there[draws[sound]])
    near = np.linalg.norm(points @ maps - there, axis=2) < _NEAR_PIXELS
    best = near[near.sum(axis=1).argmax()]
    for _ in range(3):
        fit = np.linalg.lstsq(points[best], there[best], rcond=None)[0]
        best = np.linalg.norm(points @ fit - there, axis=1) < _NEAR_PIXELS
        if best.sum() < 3:
            break
    return fit.T, int(best.sum())


def _plausible(mapping: Map) -> bool:
    """Whether a map keeps the way round and stretches each direction by no more than 2."""
    stretch = np.linalg.svd(mapping[:, :2], compute_uv=False)
    return bool(np.linalg.det(mapping[:, :2]) > 0 and stretch[0] < 2 and stretch[1] > 0.5)


def _refined(first: Floats, second: Floats, mapping: Map) -> Map | None:
    """Gauss–Newton on every fourth pixel of every fourth row, with a gain between the images; None
    if hopeless.

    Cauchy weights leave out what only one image has: a marker, a white bar, the black corners of a
    rotation.
    """
    grid = np.arange(1, SIDE, 4)
    y, x = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))
    points = np.stack([x, y, np.ones_like(x)]).astype(np.float64)
    target = first[y, x]
    (slope_y, slope_x) = np.gradient(second)
    for step in range(_N_STEPS):
        u, v = mapping @ points
        inside = _inside(u, v)
        if inside.mean() < _MIN_OVERLAP:
            return None
        seen, gx, gy = (
            ndimage.map_coordinates(image, [v[inside], u[inside]], order=1)
            for image in (second, slope_x, slope_y)
        )
        want = target[inside]
        where = points[:, inside]
        if step == 1 and np.corrcoef(seen, want)[0, 1] < _HOPELESS:
            return None
        jacobian = np.concatenate([gx * where, gy * where, seen[None]]).T
        weighted = jacobian / (1 + ((want - seen) / _OUTLIER) ** 2)[:, None]
        normal = weighted.T @ jacobian
        change = np.linalg.solve(
            normal + 1e-6 * np.trace(normal) * np.eye(7), weighted.T @ (want - seen)
        )
        mapping = mapping + change[:6].reshape(2, 3)
    return mapping


def _similarity(first: Floats, second: Floats, mapping: Map) -> float:
    """Lower quartile over the parts of the overlap with texture of their correlation, 0 where they
    are too few.
    """
    y, x = np.mgrid[:SIDE, :SIDE]
    u, v = np.tensordot(mapping[:, :2], np.stack([x, y]), 1) + mapping[:, 2, None, None]
    seen = _parts(ndimage.map_coordinates(second, [v, u], order=1))
    want = _parts(first)
    seen, want = (part - part.mean(axis=1, keepdims=True) for part in (seen, want))
    spread = seen.std(axis=1)
    wanted = want.std(axis=1)
    usable = (_parts(_inside(u, v)).mean(axis=1) > 0.7) & (spread > _TEXTURE) & (wanted > _TEXTURE)
    if usable.sum() < _MIN_PARTS:
        return 0.0
    correlation = (seen * want).mean(axis=1)[usable] / (spread * wanted)[usable]
    return max(0.0, float(np.quantile(correlation, 0.25)))


def _inside(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (u > 1) & (u < SIDE - 2) & (v > 1) & (v < SIDE - 2)


def _parts(image: NDArray[Any]) -> NDArray[Any]:
    """(parts, pixels) of a (SIDE, SIDE) array."""
    n = SIDE // _PART
    return image.reshape(n, _PART, n, _PART).swapaxes(1, 2).reshape(n * n, _PART * _PART)
