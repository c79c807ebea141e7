"""The bytes of a PNG of RGB pixels: readers give the pixels back, and it says who made it."""

import io

import numpy as np
import pytest
from PIL import Image

from kneeedge.pixels.png import read_chunks
from kneeedge.pixels.rgb_png import rgb_png
from kneeedge.system.own import PNG_TEXT, is_own_picture


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (64, 48), (301, 1023)])
def test_a_picture_comes_back_as_it_was(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    content = rgb_png(pixels, {})
    read_chunks(content)  # which asks the checksums
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        assert image.mode == "RGB"
        assert (np.asarray(image) == pixels).all()


def test_pixels_that_lie_apart_in_memory_come_back_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 6), dtype=np.uint8)[::2, ::-1, ::2]
    with Image.open(io.BytesIO(rgb_png(pixels, {}))) as image:
        assert (np.asarray(image) == pixels).all()


def test_the_texts_stand_in_the_head_of_the_file() -> None:
    content = rgb_png(np.zeros((2, 2, 3), dtype=np.uint8), {**PNG_TEXT, "Comment": "é"})
    assert is_own_picture(content)
    with Image.open(io.BytesIO(content)) as image:
        assert image.text == {**PNG_TEXT, "Comment": "é"}
