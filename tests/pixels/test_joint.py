"""The joint of a centred knee: what is taken out leaves no trace, and class maps are weighed."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kneeedge.pixels.joint import (
    BOTTOM,
    MIN_AUROC,
    TOP,
    VIEWS,
    WITHOUT_JOINT,
    border_mask,
    border_only,
    is_beside,
    joint_mask,
    joint_masked,
    joint_only,
    mass_in_joint,
    seems_centred,
)
from kneeedge.pixels.phantom import phantom

Pixels = NDArray[np.uint8]


@pytest.fixture
def knee() -> Pixels:
    return phantom(3, 0.5, 96)


def changed_where(grey: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """The picture with other pixels where the mask is set."""
    noise = np.random.default_rng(0).integers(0, 256, grey.shape, dtype=np.uint8)
    return np.where(mask, noise, grey)


def test_a_masked_picture_holds_nothing_of_its_joint(knee):
    other = changed_where(knee, joint_mask(knee.shape))
    np.testing.assert_array_equal(joint_masked(other), joint_masked(knee))
    np.testing.assert_array_equal(border_only(other), border_only(knee))


def test_a_joint_alone_holds_nothing_of_what_surrounds_it(knee):
    other = changed_where(knee, ~joint_mask(knee.shape))
    np.testing.assert_array_equal(joint_only(other), joint_only(knee))


def test_a_border_holds_nothing_of_the_middle(knee):
    other = changed_where(knee, ~border_mask(knee.shape))
    np.testing.assert_array_equal(border_only(other), border_only(knee))


@pytest.mark.parametrize("view", list(VIEWS))
def test_a_view_keeps_shape_and_depth_and_does_not_write_into_the_picture(knee, view):
    before = knee.copy()
    shown = VIEWS[view](knee)
    assert (shown.shape, shown.dtype) == (knee.shape, np.uint8)
    np.testing.assert_array_equal(knee, before)


def test_what_is_masked_and_what_is_left_alone_make_the_whole(knee):
    mask = joint_mask(knee.shape)
    np.testing.assert_array_equal(np.where(mask, joint_only(knee), joint_masked(knee)), knee)


def test_phantoms_seem_centred_and_do_not_once_they_are_moved_up():
    knees = [phantom(seed, 0.5, 128) for seed in range(12)]
    assert sum(map(seems_centred, knees)) >= 11
    assert sum(seems_centred(np.roll(knee, -40, axis=0)) for knee in knees) <= 1


def test_a_map_without_aim_has_the_bands_share_in_the_joint():
    assert mass_in_joint(np.ones((7, 7))) == pytest.approx(BOTTOM - TOP)


def test_evidence_in_the_middle_row_is_in_the_joint_and_evidence_against_does_not_count():
    evidence = np.full((7, 7), -5.0)
    evidence[3] = 2.0
    assert mass_in_joint(evidence) == pytest.approx(1.0)
    assert mass_in_joint(-np.ones((7, 7))) is None


@pytest.mark.parametrize(
    ("view", "auroc", "low", "expected"),
    [
        (WITHOUT_JOINT[0], MIN_AUROC, 0.6, True),
        (WITHOUT_JOINT[0], MIN_AUROC - 0.01, 0.6, False),
        (WITHOUT_JOINT[1], 0.9, 0.5, False),
        ("joint alone", 0.99, 0.98, False),
    ],
)
def test_a_warning_takes_a_view_without_joint_that_is_surely_and_clearly_above_chance(
    view, auroc, low, expected
):
    assert is_beside(view, auroc, low) is expected
