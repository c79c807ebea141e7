"""Whether two images show one radiograph: an affine map, made exact on the pixels, and correlation.

Marks with like surroundings are matched; RANSAC (Fischler and Bolles, CACM 1981) finds the affine
map most of them agree with; Gauss–Newton steps on the fine detail refine it (Lucas and Kanade,
IJCAI 1981). Knees look alike in outline and differ in fine detail, so that the detail of the
overlap must agree, in most parts of it.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.audit.features import MIRROR, Features, Floats, band, grain, unit
from kneeedge.audit.fingerprint import SIDE, Fingerprint

Map = NDArray[np.float64]
"(2, 3): pixels (x, y, 1) of the first thumbnail to (x, y) of the second, or of its mirror image"

MIN_MATCHES = 8
_MIN_COSINE = 0.75
_N_TRIALS = 48
"of three matches: where _MIN_SHARE of all are right, all trials miss once in five million"
_MIN_SHARE = 0.65
"of the matches must agree on a map: of other knees 0.6 do in the median; 0.7 loses some copies"
_MIN_AREA = 90.0
"pixels² of the triangle of a trial: slim ones give wild maps"
_NEAR_PIXELS = 4.0
_N_STEPS = 5
_HOPELESS = 0.7
"correlation by the rough map, or after one step: copies have 0.78 and more, other knees 0.65"
_MIN_OVERLAP = 0.35
"of the thumbnail"
_OUTLIER = 0.5
"deviations of the detail"
_PART_SIDE = 16
"pixels; of the 64 parts of a thumbnail three in four must agree"
_MIN_PARTS = 10
_TEXTURE = 0.4
"grey levels; a part with less is blank or clipped"
_Y, _X = np.mgrid[:SIDE, :SIDE]
_GRID = np.stack([_X, _Y, np.ones_like(_X)])[:, 1::4, 1::4].reshape(3, -1).astype(np.float64)
"(3, M): x, y, 1 of every fourth pixel either way"


@dataclass(frozen=True)
class Match:
    """How the second image lies on the first."""

    mapping: Map
    mirrored: bool
    similarity: float
    "lower quartile over the parts of the overlap of the correlation of the finest detail, 0 to 1"
    n_matches: int


@dataclass(frozen=True)
class RoughMap:
    """How the second image may lie on the first, by their marks alone."""

    mapping: Map
    mirrored: bool
    n_matches: int


@dataclass(frozen=True)
class Detail:
    """What is compared of the pixels of one image, each part of it computed when it is needed."""

    image: Fingerprint

    @cached_property
    def band(self) -> Floats:
        """(3, SIDE, SIDE) from fine grain up to the width of a cortex, with slopes along x and y.

        It lays one image on another.
        """
        shown = band(self.image)
        slope_y, slope_x = np.gradient(shown)
        return np.stack([shown, slope_x, slope_y])

    @cached_property
    def grain(self) -> Floats:
        """(SIDE, SIDE): the finest detail in grey levels; it tells two knees apart."""
        return grain(self.image)

    @cached_property
    def parts(self) -> Floats:
        """(parts, pixels) of the grain, each of mean 0."""
        return _centred(_parts(self.grain))


def rough_map(first: Features, second: Features, mirrored: bool) -> RoughMap | None:
    """Lay `second`, or its mirror image, on `first` by the marks that are alike.

    None where most of these have no map in common.
    """
    points, targets = _matches(first, second, mirrored)
    if len(points) < MIN_MATCHES:
        return None
    mapping, n_near = _affine(points, targets)
    if n_near < max(MIN_MATCHES, _MIN_SHARE * len(points)) or not _plausible(mapping):
        return None
    return RoughMap(mapping, mirrored, n_near)


def confirm(first: Detail, second: Detail, rough: RoughMap, min_similarity: float) -> Match | None:
    """Make a rough map exact on the pixels.

    None where it does not fit them, or their similarity is less than `min_similarity`.
    """
    lying = _mirror_band(second.band) if rough.mirrored else second.band
    mapping = _refined(first.band[0], lying, rough.mapping)
    if mapping is None:
        return None
    fine = np.ascontiguousarray(second.grain[:, ::-1]) if rough.mirrored else second.grain
    similarity = _similarity(first.parts, fine, mapping, min_similarity)
    if similarity < min_similarity:
        return None
    return Match(mapping, rough.mirrored, similarity, rough.n_matches)


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
    draws = _draws(len(points))
    corners = rows[draws]
    # the determinant is twice the triangle's area
    sound = np.abs(np.linalg.det(corners)) > 2 * _MIN_AREA
    if not sound.any():
        return np.eye(2, 3), 0
    maps = np.linalg.solve(corners[sound], targets[draws[sound]])
    missed = rows @ maps - targets
    near = missed[..., 0] ** 2 + missed[..., 1] ** 2 < _NEAR_PIXELS**2
    best = near[near.sum(axis=1).argmax()]
    for _ in range(3):
        fit = _least_squares(rows[best], rows[best], targets[best], 1e-12)
        best = np.linalg.norm(rows @ fit - targets, axis=1) < _NEAR_PIXELS
        if best.sum() < 3:
            break
    return fit.T, int(best.sum())


@lru_cache
def _draws(n: int) -> NDArray[np.intp]:
    """Three different ones of `n` matches for each trial, (_N_TRIALS, 3)."""
    return np.random.default_rng(0).random((_N_TRIALS, n)).argpartition(2, axis=1)[:, :3]


def _plausible(mapping: Map) -> bool:
    """Whether a map keeps the way round and stretches each direction by no more than 2."""
    stretch = np.linalg.svd(mapping[:, :2], compute_uv=False)
    return bool(np.linalg.det(mapping[:, :2]) > 0 and stretch[0] < 2 and stretch[1] > 0.5)


def _refined(first: Floats, second: Floats, mapping: Map) -> Map | None:
    """The map after Gauss–Newton steps on every fourth pixel either way; None if hopeless.

    The second is a band with its slopes.
    """
    target = first[1::4, 1::4].ravel()
    for step in range(_N_STEPS):
        u, v = mapping @ _GRID
        inside = _inside(u, v)
        if inside.mean() < _MIN_OVERLAP:
            return None
        sampled, gx, gy = sample(second, u[inside], v[inside])
        if step < 2 and np.corrcoef(sampled, target[inside])[0, 1] < _HOPELESS:
            return None
        mapping = mapping + _newton_step(_GRID[:, inside], target[inside], sampled, gx, gy)
    return mapping


def _newton_step(points: Map, target: Floats, sampled: Floats, gx: Floats, gy: Floats) -> Map:
    """Change (2, 3) of a map that brings samples at (3, M) points nearer to their target.

    A gain between the images is solved for beside it. Cauchy weights leave out what only one image
    has: a marker, a white bar, the black corners of a rotation.
    """
    residual = target - sampled
    jacobian = np.concatenate([gx * points, gy * points, sampled[None]]).T
    weighted = jacobian / (1 + (residual / _OUTLIER) ** 2)[:, None]
    return _least_squares(weighted, jacobian, residual, 1e-6)[:6].reshape(2, 3)


def _least_squares(weighted: Map, rows: Map, targets: NDArray[Any], damping: float) -> Map:
    """Solve the normal equations; a share `damping` of the trace gives them a solution always."""
    normal = weighted.T @ rows
    ridge = damping * np.trace(normal) * np.eye(len(normal))
    solution: Map = np.linalg.solve(normal + ridge, weighted.T @ targets)
    return solution


def _similarity(first: Floats, second: Floats, mapping: Map, least: float) -> float:
    """Lower quartile of the correlation in the parts with texture; 0 where they are too few.

    The first are the parts, the second the grain. A third of the parts is looked at before the
    others: 0 as well where so many are below `least` that the quartile cannot reach it.
    """
    correlations: list[NDArray[np.float64]] = []
    for chosen, pixels in _TURNS_OF_PARTS:
        u, v = mapping @ pixels
        n_pixels = _PART_SIDE**2
        first_parts = first[chosen]
        second_parts = _centred(sample(second[None], u, v).reshape(-1, n_pixels))
        first_spread = first_parts.std(axis=1)
        second_spread = second_parts.std(axis=1)
        covered = _inside(u, v).reshape(-1, n_pixels).mean(axis=1) > 0.7
        usable = covered & (second_spread > _TEXTURE) & (first_spread > _TEXTURE)
        covariance = (second_parts * first_parts).mean(axis=1)
        correlations.append(covariance[usable] / (second_spread * first_spread)[usable])
        if sum(int((known < least).sum()) for known in correlations) > len(first) // 4:
            return 0.0
    correlation = np.concatenate(correlations)
    if len(correlation) < _MIN_PARTS:
        return 0.0
    return max(0.0, float(np.quantile(correlation, 0.25)))


def sample(images: Floats, u: NDArray[np.float64], v: NDArray[np.float64]) -> Floats:
    """Bilinear samples (N, M) of (N, SIDE, SIDE) images at x = `u`, y = `v`; 0 outside of them.

    In place wherever it can be: SciPy takes four times as long for a few samples of three images.
    """
    left = np.clip(u, 0, SIDE - 2).astype(np.intp)
    top = np.clip(v, 0, SIDE - 2).astype(np.intp)
    right_share = (u - left).astype(np.float32)
    low_share = (v - top).astype(np.float32)
    pixels = images.reshape(len(images), -1)
    corner = top * SIDE + left
    upper = pixels.take(corner, axis=1)
    across = pixels.take(corner + 1, axis=1)
    across -= upper
    across *= right_share
    upper += across
    lower = pixels.take(corner + SIDE, axis=1)
    across = pixels.take(corner + SIDE + 1, axis=1)
    across -= lower
    across *= right_share
    lower += across
    lower -= upper
    lower *= low_share
    upper += lower
    upper *= (u >= 0) & (u <= SIDE - 1) & (v >= 0) & (v <= SIDE - 1)
    return upper


def _mirror_band(band: Floats) -> Floats:
    """The band (3, SIDE, SIDE) of the mirror image, whose slope along x has the other sign."""
    mirrored = np.ascontiguousarray(band[:, :, ::-1])
    mirrored[1] *= -1
    return mirrored


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


def _turn_of_parts(chosen: NDArray[np.intp]) -> tuple[NDArray[np.intp], Map]:
    """Some of the parts, and x, y, 1 of their pixels, (3, N)."""
    x, y = _parts(_X)[chosen].ravel(), _parts(_Y)[chosen].ravel()
    return chosen, np.stack([x, y, np.ones_like(x)]).astype(np.float64)


_N_PARTS = (SIDE // _PART_SIDE) ** 2
_TURNS_OF_PARTS = tuple(
    _turn_of_parts(np.flatnonzero((np.arange(_N_PARTS) % 3 == 0) == is_first))
    for is_first in (True, False)
)
"a third of the parts, from all over the picture, and the others"
