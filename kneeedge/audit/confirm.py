"""Whether two images show one radiograph: an affine map, made exact on the pixels, and correlation.

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
_N_TRIALS = 160
_MIN_AREA = 90.0
"pixels² of the triangle of a trial: slim ones give wild maps"
_NEAR_PIXELS = 4.0
_N_STEPS = 5
_HOPELESS = 0.7
"correlation after one step: copies have 0.82 and more, other knees 0.67 in the median"
_MIN_OVERLAP = 0.35
"of the thumbnail"
_OUTLIER = 0.5
"deviations of the detail"
_PART_SIDE = 16
"pixels; of the 64 parts of a thumbnail three in four must agree"
_MIN_PARTS = 10
_TEXTURE = 0.4
"grey levels; a part with less is blank or clipped"


@dataclass(frozen=True)
class Match:
    """How the second image lies on the first."""

    mapping: Map
    mirrored: bool
    similarity: float
    "lower quartile over the parts of the overlap of the correlation of the finest detail, 0 to 1"
    n_matches: int


@dataclass(frozen=True)
class Detail:
    """What is compared of one image."""

    features: Features
    band: Floats
    "(SIDE, SIDE) from fine grain up to the width of a cortex; it lays one image on another"
    grain: Floats
    "(SIDE, SIDE) the finest detail in grey levels; it tells two knees apart"


def confirm(first: Detail, second: Detail, mirrored: bool) -> Match | None:
    """Lay `second`, or its mirror image, on `first`; None where they have no map in common."""
    points, targets = _matches(first.features, second.features, mirrored)
    if len(points) < MIN_MATCHES:
        return None
    start, n_near = _affine(points, targets)
    if n_near < MIN_MATCHES or not _plausible(start):
        return None
    band = second.band[:, ::-1] if mirrored else second.band
    grain = second.grain[:, ::-1] if mirrored else second.grain
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
    """Positions (M, 2), in the first and in the second image, of marks most like each other."""
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


def _affine(points: Map, targets: Map) -> tuple[Map, int]:
    """Give the affine map that most of (M, 2) matches agree with, and how many."""
    rows = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    draws = np.random.default_rng(0).random((_N_TRIALS, len(points))).argpartition(2, axis=1)[:, :3]
    corners = rows[draws]
    # the determinant is twice the triangle's area
    sound = np.abs(np.linalg.det(corners)) > 2 * _MIN_AREA
    if not sound.any():
        return np.eye(2, 3), 0
    maps = np.linalg.solve(corners[sound], targets[draws[sound]])
    near = np.linalg.norm(rows @ maps - targets, axis=2) < _NEAR_PIXELS
    best = near[near.sum(axis=1).argmax()]
    for _ in range(3):
        fit = np.linalg.lstsq(rows[best], targets[best], rcond=None)[0]
        best = np.linalg.norm(rows @ fit - targets, axis=1) < _NEAR_PIXELS
        if best.sum() < 3:
            break
    return fit.T, int(best.sum())


def _plausible(mapping: Map) -> bool:
    """Whether a map keeps the way round and stretches each direction by no more than 2."""
    stretch = np.linalg.svd(mapping[:, :2], compute_uv=False)
    return bool(np.linalg.det(mapping[:, :2]) > 0 and stretch[0] < 2 and stretch[1] > 0.5)


def _refined(first: Floats, second: Floats, mapping: Map) -> Map | None:
    """The map after Gauss–Newton steps on every fourth pixel either way; None if hopeless."""
    grid = np.arange(1, SIDE, 4)
    y, x = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))
    points = np.stack([x, y, np.ones_like(x)]).astype(np.float64)
    target = first[y, x]
    slope_y, slope_x = np.gradient(second)
    for step in range(_N_STEPS):
        u, v = mapping @ points
        inside = _inside(u, v)
        if inside.mean() < _MIN_OVERLAP:
            return None
        places = [v[inside], u[inside]]
        sampled = ndimage.map_coordinates(second, places, order=1)
        if step == 1 and np.corrcoef(sampled, target[inside])[0, 1] < _HOPELESS:
            return None
        gx = ndimage.map_coordinates(slope_x, places, order=1)
        gy = ndimage.map_coordinates(slope_y, places, order=1)
        mapping = mapping + _newton_step(points[:, inside], target[inside], sampled, gx, gy)
    return mapping


def _newton_step(points: Map, target: Floats, sampled: Floats, gx: Floats, gy: Floats) -> Map:
    """Change (2, 3) of a map that brings samples at (3, M) points nearer to their target.

    A gain between the images is solved for beside it. Cauchy weights leave out what only one image
    has: a marker, a white bar, the black corners of a rotation.
    """
    residual = target - sampled
    jacobian = np.concatenate([gx * points, gy * points, sampled[None]]).T
    weighted = jacobian / (1 + (residual / _OUTLIER) ** 2)[:, None]
    normal = weighted.T @ jacobian
    damping = 1e-6 * np.trace(normal) * np.eye(7)
    change = np.linalg.solve(normal + damping, weighted.T @ residual)
    return change[:6].reshape(2, 3)


def _similarity(first: Floats, second: Floats, mapping: Map) -> float:
    """Lower quartile of the correlation in the parts with texture; 0 where they are too few."""
    y, x = np.mgrid[:SIDE, :SIDE]
    u, v = np.tensordot(mapping[:, :2], np.stack([x, y]), 1) + mapping[:, 2, None, None]
    first_parts = _centred(_parts(first))
    second_parts = _centred(_parts(ndimage.map_coordinates(second, [v, u], order=1)))
    first_spread = first_parts.std(axis=1)
    second_spread = second_parts.std(axis=1)
    covered = _parts(_inside(u, v)).mean(axis=1) > 0.7
    usable = covered & (second_spread > _TEXTURE) & (first_spread > _TEXTURE)
    if usable.sum() < _MIN_PARTS:
        return 0.0
    covariance = (second_parts * first_parts).mean(axis=1)
    correlation = covariance[usable] / (second_spread * first_spread)[usable]
    return max(0.0, float(np.quantile(correlation, 0.25)))


def _centred(parts: NDArray[Any]) -> NDArray[Any]:
    """Parts (parts, pixels) of mean 0."""
    centred: NDArray[Any] = parts - parts.mean(axis=1, keepdims=True)
    return centred


def _inside(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where positions lie in the thumbnail, a pixel from its edge at least."""
    return (u > 1) & (u < SIDE - 2) & (v > 1) & (v < SIDE - 2)


def _parts(image: NDArray[Any]) -> NDArray[Any]:
    """(parts, pixels) of a (SIDE, SIDE) array."""
    side = _PART_SIDE
    n = SIDE // side
    return image.reshape(n, side, n, side).swapaxes(1, 2).reshape(n * n, side * side)
