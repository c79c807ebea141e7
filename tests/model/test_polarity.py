"""What a spec says of inverted images, told of their pixels by numpy alone."""

from dataclasses import replace

import numpy as np
import pytest

from kneeedge.model.polarity import LEAST_SPREAD, Polarity, levels, normalised
from kneeedge.pixels.phantom import phantom
from kneeedge.system.strict_json import from_json, to_json
from tests.inverting_models import BLANK_RANGE, phantom_polarity

SIDE = 64


def knees(n: int) -> np.ndarray:
    return np.stack([phantom(500 + i, i % 2, SIDE) for i in range(n)])


def with_bars(images: np.ndarray, level: int, wide: int) -> np.ndarray:
    """The images with a bar of one level along both sides."""
    barred = images.copy()
    barred[:, :, :wide] = level
    barred[:, :, -wide:] = level
    return barred


def test_cells_are_means_centred_and_over_their_deviation() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    cells = images.reshape(3, 8, 8, 8, 8).mean(axis=(2, 4))
    np.testing.assert_allclose(levels(images, None), cells, rtol=1e-12)
    np.testing.assert_array_equal(levels(images, BLANK_RANGE), levels(images, None))
    flat = cells.reshape(3, 64)
    centred = flat - flat.mean(axis=1, keepdims=True)
    expected = centred / (flat.std(axis=1, keepdims=True) + LEAST_SPREAD)
    np.testing.assert_allclose(normalised(cells), expected, rtol=1e-9, atol=1e-12)


def test_an_inverse_has_the_opposite_sign() -> None:
    images = with_bars(knees(4), 255, 5)
    upright, inverse = (normalised(levels(x, BLANK_RANGE)) for x in (images, 255 - images))
    np.testing.assert_allclose(inverse, -upright, atol=1e-9)


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("wide", [3, 8, 13])
def test_blank_bars_of_any_level_count_as_the_mean_of_the_rest(level: int, wide: int) -> None:
    images = knees(4)
    barred = with_bars(images, level, wide)
    inner = images[:, :, wide:-wide].astype(float)
    # a phantom's own blank columns are left out too
    seen = np.ptp(inner, axis=1) > BLANK_RANGE
    for image, columns, cells in zip(inner, seen, levels(barred, BLANK_RANGE), strict=True):
        filled = np.full((SIDE, SIDE), image[:, columns].mean())
        filled[:, wide:-wide][:, columns] = image[:, columns]
        np.testing.assert_allclose(cells, filled.reshape(8, 8, 8, 8).mean(axis=(1, 3)), rtol=1e-9)


def test_blank_rows_count_as_blank_columns_do() -> None:
    images = with_bars(knees(4), 255, 9)
    lying = images.transpose(0, 2, 1).copy()
    expected = levels(images, BLANK_RANGE).transpose(0, 2, 1)
    np.testing.assert_allclose(levels(lying, BLANK_RANGE), expected, rtol=1e-12)


@pytest.mark.parametrize("blank_range", [None, BLANK_RANGE])
def test_a_blank_image_is_not_inverted(blank_range: int | None) -> None:
    polarity = replace(phantom_polarity(), blank_range=blank_range)
    blank = np.stack([np.full((SIDE, SIDE), grey, dtype=np.uint8) for grey in (0, 128, 255)])
    assert not polarity.inverted(blank).any()


def test_a_spec_of_before_counts_every_row_and_column() -> None:
    """Its file says nothing of blank ones, and its graph knows none."""
    polarity = phantom_polarity()
    earlier = replace(polarity, blank_range=None)
    assert "blank_range" not in to_json(earlier)
    for spec in (polarity, earlier):
        assert from_json(Polarity, to_json(spec)) == spec
    white = with_bars(knees(20), 255, 13)
    assert earlier.inverted(white).any()
    assert not polarity.inverted(white).any()


@pytest.mark.parametrize("change", [{"weights": (0.0,) * 63}, {"blank_range": 256}])
def test_what_no_graph_can_hold_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"polarity has 64 weights|blank_range must be"):
        replace(phantom_polarity(), **change)
