"""Augmented views: the image, its mirror, and rotations that the seed draws."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

from kneeedge.errors import ConfigError
from kneeedge.pixels.corruptions import corrupt
from kneeedge.runs.config import TrainConfig
from kneeedge.training.views import MOST_SEVERE, Corruption, View, apply_view, view_of


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


def test_half_of_the_views_drawn_are_corrupted_and_the_first_two_never():
    plain = TrainConfig(data="", rotation=5.0)
    config = dataclasses.replace(plain, corruptions="blur, noise")
    drawn = [view_of(config, image, k) for image in range(50) for k in range(2, 10)]
    worse = [view.corruption for view in drawn if view.corruption]
    assert 0.4 < len(worse) / len(drawn) < 0.6
    assert {row.kind for row in worse} == {"blur", "noise"}
    assert {row.severity for row in worse} == set(range(1, MOST_SEVERE + 1))
    assert len({row.seed for row in worse}) == len(worse)
    assert all(view_of(config, image, k).corruption is None for image in range(50) for k in (0, 1))
    # Corruptions leave alone what else is drawn.
    angles = [view_of(plain, image, k).angle for image in range(50) for k in range(2, 10)]
    assert [view.angle for view in drawn] == angles


def test_a_view_is_turned_and_then_corrupted():
    grey = np.random.default_rng(0).integers(0, 256, (64, 48), dtype=np.uint8)
    view = View(7.0, True, Corruption("blur", 2, 5))
    turned = apply_view(grey, View(7.0, True))
    np.testing.assert_array_equal(apply_view(grey, view), corrupt(turned, "blur", 2, 5))


@pytest.mark.parametrize("text", [",", " ", " , ,"])
def test_corruptions_that_name_no_kind_are_one_line(text):
    with pytest.raises(ConfigError, match=r"--corruptions '.*' names no kind; give for example"):
        TrainConfig(data="", corruptions=text)


def test_an_unknown_corruption_is_one_line():
    with pytest.raises(ConfigError, match="'fog' of corruption is unknown"):
        TrainConfig(data="", corruptions="blur,fog")
