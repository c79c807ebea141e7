"""Augmented views: the image, its mirror, and rotations that the seed draws."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

from kneeedge.runs.config import TrainConfig
from kneeedge.training.views import View, apply_view, view_of


def test_view_0_is_the_image_and_view_1_its_mirror():
    config = TrainConfig(data="")
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(apply_view(grey, view_of(config, 7, 0)), grey)
    np.testing.assert_array_equal(apply_view(grey, view_of(config, 7, 1)), grey[:, ::-1])


def test_views_are_drawn_within_the_rotation():
    config = TrainConfig(data="", rotation=5.0)
    angles = [view_of(config, image, k).angle for image in range(20) for k in range(2, 8)]
    assert len(set(angles)) == len(angles)
    assert 4.0 < max(map(abs, angles)) <= 5.0
    unmirrored = dataclasses.replace(config, flip=False)
    assert not any(view_of(unmirrored, 0, k).mirrored for k in range(8))


def test_a_view_keeps_shape_and_type():
    turned = apply_view(np.full((40, 60), 200, dtype=np.uint8), View(30.0, True))
    assert (turned.shape, turned.dtype) == ((40, 60), np.uint8)
    assert (turned[0, 0], turned[20, 30]) == (0, 200)
