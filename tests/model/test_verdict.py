"""The reason of a verdict says what decided it: answers lost and gained, and how many images."""

import numpy as np
import pytest

from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS, judge_loss
from kneeedge.statistics.paired import PairedChange, paired_change


def change(n: int, lost: int, gained: int) -> PairedChange:
    """So many of n answers became wrong, and so many right."""
    labels = np.zeros(n, dtype=int)
    original = np.array([0] * lost + [1] * gained + [0] * (n - lost - gained))
    variant = np.array([1] * lost + [0] * gained + [0] * (n - lost - gained))
    return paired_change(labels, original, variant)


def test_few_images_without_a_flip_are_too_few_and_the_reason_says_so():
    verdict, reason = judge_loss(change(200, 0, 0), 0.01)
    assert verdict == INCONCLUSIVE
    assert reason == (
        "200 images are too few: no answer flipped, yet up to 1.33% of accuracy may be lost "
        "(95 % confidence, tolerance 1.00%)"
    )


def test_two_answers_gained_pass_where_none_flipped_cannot_and_the_reason_says_so():
    verdict, reason = judge_loss(change(200, 0, 2), 0.01)
    assert verdict == PASS
    assert reason.endswith(": 2 of 200 answers flipped, 0 right to wrong, 2 wrong to right")


def test_a_certain_gain_is_no_negative_loss():
    verdict, reason = judge_loss(change(60, 0, 30), 0.01)
    assert verdict == PASS
    assert reason.startswith("no accuracy lost (95 % confidence, tolerance 1.00%): 30 of 60")


def test_a_loss_that_is_certain_says_how_large_it_is_at_least():
    verdict, reason = judge_loss(change(300, 40, 1), 0.01)
    assert verdict == FAIL
    least = -change(300, 40, 1).interval.high
    assert reason.startswith(f"at least {least:.2%} of accuracy lost")
    assert reason.endswith("41 of 300 answers flipped, 40 right to wrong, 1 wrong to right")


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (4, 0), (2, 3)])
def test_no_reason_speaks_of_a_negative_loss(lost, gained):
    assert "-" not in judge_loss(change(100, lost, gained), 0.01)[1]
