"""The one pixel path against the definition of its filter, and what it promises of shapes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.picture import read_grey
from kneeedge.pixels.pixel_path import load_input, to_input
from tests.pixels.pinned_resize import differing_sizes

# by tests/golden/make_pixels.py, without Pillow's resize
GOLDEN = Path(__file__).parents[1] / "golden" / "pixels.npz"
CASES = ("shrink", "enlarge", "mixed", "wide", "tall", "same")
# Pillow rounds to whole grey levels after each of its two passes: 0.5 + 0.5, and 0.5 of the golden
# file's own rounding, are less than two levels apart.
TOLERANCE = 1


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("case", CASES)
def test_pixels_are_those_of_the_filters_definition(case: str, fit: str) -> None:
    with np.load(GOLDEN, allow_pickle=False) as golden:
        grey = golden[f"{case}.input"]
        expected = golden[f"{case}.{fit}"]
    square = to_input(grey, PixelPath(size=len(expected), fit=fit))
    assert square.shape == expected.shape
    assert np.abs(square.astype(int) - expected).max() <= TOLERANCE


def test_golden_file_holds_the_cases_and_no_other() -> None:
    expected = {f"{case}.{part}" for case in CASES for part in ("input", "stretch", "pad")}
    with np.load(GOLDEN, allow_pickle=False) as golden:
        assert set(golden) == expected


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (224, 223), (640, 480)])
def test_every_shape_becomes_the_square(shape: tuple[int, int], fit: str) -> None:
    square = to_input(noise(*shape), PixelPath(size=224, fit=fit))
    assert square.shape == (224, 224)
    assert square.dtype == np.uint8


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_an_image_of_the_right_size_comes_back_unchanged(fit: str) -> None:
    grey = noise(64, 64)
    assert np.array_equal(to_input(grey, PixelPath(size=64, fit=fit)), grey)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_the_image_given_is_left_alone(fit: str) -> None:
    grey = noise(64, 50)
    before = grey.copy()
    to_input(grey, PixelPath(size=64, fit=fit))[:] = 0
    assert np.array_equal(grey, before)


def test_result_is_writable_so_that_torch_takes_it_without_a_warning() -> None:
    assert to_input(noise(32, 32), PixelPath(size=32)).flags.writeable


def test_pad_keeps_the_aspect_and_centres_on_black() -> None:
    square = to_input(np.full((50, 100), 200, np.uint8), PixelPath(size=64, fit="pad"))
    assert (square[16:48] == 200).all()
    assert not square[:16].any()
    assert not square[48:].any()


def test_stretch_fills_the_square() -> None:
    assert (to_input(np.full((50, 100), 200, np.uint8), PixelPath(size=64)) == 200).all()


def test_shrinking_averages_rather_than_picks() -> None:
    lines = np.zeros((512, 512), np.uint8)
    lines[::2] = 255
    square = to_input(lines, PixelPath(size=64))
    assert np.abs(square.astype(int) - 128).max() <= 10


def test_a_view_gives_the_same_as_its_copy() -> None:
    grey = noise(90, 70)
    view = grey[::-1, ::2]
    of_copy = to_input(view.copy(), PixelPath(size=32))
    assert np.array_equal(to_input(view, PixelPath(size=32)), of_copy)


def test_load_input_is_read_and_resize(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    pixel_path = PixelPath(size=32, fit="pad")
    Image.fromarray(noise(300, 200)).save(path)
    assert np.array_equal(load_input(path, pixel_path), to_input(read_grey(path, 32), pixel_path))


def test_load_input_refuses_a_file_without_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("no image")
    with pytest.raises(ImageError):
        load_input(path, PixelPath())


def test_the_resize_is_its_definition_to_the_bit() -> None:
    """Under the Pillow that is installed; `make test-pillow` runs the same under older ones."""
    assert differing_sizes() == []


def test_a_spec_of_another_resize_is_refused() -> None:
    with pytest.raises(ValueError, match="resize must be triangle-22bit-across-then-down"):
        PixelPath(resize="bilinear")
