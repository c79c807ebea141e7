"""Laying one image on another by its marks, before any of its pixels are looked at."""

import numpy as np
import pytest
from scipy import ndimage

from kneeedge.audit.confirm import rough_map
from kneeedge.audit.features import N_VALUES, TURNS, Features
from kneeedge.audit.features import _blurred as blurred
from kneeedge.audit.fingerprint import SIDE

N_MARKS = 60
MAP = np.array([[0.9, 0.05, 4.0], [-0.05, 0.95, 6.0]])


def marks_of(positions: np.ndarray, descriptors: np.ndarray) -> Features:
    unit = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    whole = np.rint(127 * unit).astype(np.int8)
    return Features(positions.astype(np.float32), np.stack([whole] * len(TURNS)))


def pair(share: float, on_a_line: bool = False) -> tuple[Features, Features]:
    """Marks that look alike, of which `share` lie as MAP says, and the others anywhere."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(5, SIDE - 5, (N_MARKS, 2))
    if on_a_line:
        positions[:, 1] = positions[:, 0]
    targets = np.c_[positions, np.ones(N_MARKS)] @ MAP.T
    n_astray = N_MARKS - round(share * N_MARKS)
    targets[:n_astray] = rng.uniform(5, SIDE - 5, (n_astray, 2))
    descriptors = rng.standard_normal((N_MARKS, N_VALUES))
    return marks_of(positions, descriptors), marks_of(targets, descriptors)


@pytest.mark.parametrize("share", [1.0, 0.85, 0.72])
def test_a_map_that_most_marks_agree_on_is_found(share):
    rough = rough_map(*pair(share), mirrored=False)
    np.testing.assert_allclose(rough.mapping, MAP, rtol=0.02, atol=0.02)
    assert rough.n_matches >= round(share * N_MARKS)


@pytest.mark.parametrize("share", [0.55, 0.3, 0.0])
def test_half_of_the_marks_are_not_enough(share):
    assert rough_map(*pair(share), mirrored=False) is None


def test_marks_on_one_line_have_no_map():
    assert rough_map(*pair(1.0, on_a_line=True), mirrored=False) is None


def test_an_image_without_marks_has_no_map():
    none = marks_of(np.empty((0, 2)), np.empty((0, N_VALUES)))
    assert rough_map(none, pair(1.0)[1], mirrored=False) is None


@pytest.mark.parametrize("sigma", [0.7, 2.1, 8.0])
def test_an_image_is_blurred_as_by_scipy_up_to_its_edges(sigma):
    image = np.random.default_rng(0).uniform(0, 255, (SIDE, SIDE)).astype(np.float32)
    expected = ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="nearest", truncate=3)
    assert blurred(image, sigma).dtype == np.float32
    np.testing.assert_allclose(blurred(image, sigma), expected, atol=2e-4)
