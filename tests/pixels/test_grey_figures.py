"""Each figure moves with what it is for, and stays where that stays."""

import numpy as np
import pytest
from PIL import Image

from kneeedge.pixels.grey_figures import GreyFigures, grey_figures
from kneeedge.pixels.phantom import phantom


@pytest.fixture
def knee() -> np.ndarray:
    return phantom(0, 0.5, 128)


@pytest.fixture
def figures(knee: np.ndarray) -> GreyFigures:
    return grey_figures(knee)


def test_brightness_and_contrast_are_mean_and_deviation(
    knee: np.ndarray, figures: GreyFigures
) -> None:
    assert figures.brightness == pytest.approx(knee.mean())
    assert figures.contrast == pytest.approx(knee.std())


def test_half_the_resolution_is_less_sharp(knee: np.ndarray, figures: GreyFigures) -> None:
    half = Image.fromarray(knee).resize((64, 64), Image.Resampling.BILINEAR)
    coarse = np.asarray(half.resize((128, 128), Image.Resampling.BILINEAR))
    assert grey_figures(coarse).sharpness < figures.sharpness / 3


def test_a_gamma_moves_the_tone(knee: np.ndarray, figures: GreyFigures) -> None:
    darker = np.rint(255 * (knee / 255) ** 1.3).astype(np.uint8)
    assert grey_figures(darker).tone < figures.tone - 0.01


def test_a_window_moves_contrast_and_neither_tone_nor_sharpness(
    knee: np.ndarray, figures: GreyFigures
) -> None:
    window = grey_figures((knee // 2 + 40).astype(np.uint8))
    assert window.contrast == pytest.approx(figures.contrast / 2, rel=0.02)
    assert window.tone == pytest.approx(figures.tone, abs=0.02)
    assert window.sharpness == pytest.approx(figures.sharpness, rel=0.05)


def test_sharpness_is_the_energy_of_the_laplacian_over_the_variance() -> None:
    checks = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert grey_figures(checks).sharpness == pytest.approx((4 * 255) ** 2 / 127.5**2)


def test_a_blank_picture_has_figures_too() -> None:
    blank = grey_figures(np.full((8, 8), 7, dtype=np.uint8))
    assert (blank.contrast, blank.tone, blank.sharpness) == (0.0, 0.5, 0.0)
