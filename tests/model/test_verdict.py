"""The reason of a verdict says what decided it: answers lost and gained, and how many images."""

import numpy as np
import pytest

from kneeedge.model.verdict import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    judge_kinds,
    judge_loss,
    judge_refusals,
    worst,
)
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


@pytest.mark.parametrize(
    ("n", "more", "fewer", "verdict", "verdict_where_equal"),
    [
        (400, 10, 0, FAIL, FAIL),
        (400, 1, 0, INCONCLUSIVE, PASS),
        (400, 2, 2, INCONCLUSIVE, PASS),
        (400, 0, 0, PASS, PASS),
        (60, 0, 0, PASS, PASS),
        (60, 0, 3, PASS, PASS),
        (4000, 10, 2, PASS, PASS),
    ],
)
def test_genuine_images_may_not_be_refused_more(n, more, fewer, verdict, verdict_where_equal):
    of_answered = change(n, more, fewer)
    assert judge_refusals(of_answered, 0.01, is_equal=False)[0] == verdict
    assert judge_refusals(of_answered, 0.01, is_equal=True)[0] == verdict_where_equal


def test_refusals_are_judged_by_the_bounds_of_a_loss():
    for more in (1, 3, 10, 40):
        of_answered = change(400, more, 1)
        judged = judge_refusals(of_answered, 0.01, is_equal=False)
        assert judged[0] == judge_loss(of_answered, 0.01)[0]
        assert f"{more} of 400 refused by it alone, 1 by the original alone" in judged[1]


def test_of_several_verdicts_the_worst_counts_and_of_equal_ones_the_first():
    passed, open_, failed = (PASS, "a"), (INCONCLUSIVE, "b"), (FAIL, "c")
    assert worst(passed, failed, open_) == failed
    assert worst(passed, open_) == open_
    assert worst(passed, (PASS, "d")) == passed


def test_one_kind_alone_is_judged_as_a_loss_is():
    for lost in (0, 3, 40):
        verdict, _ = judge_kinds({"blur": change(300, lost, 0)}, 0.01)
        assert verdict == judge_loss(change(300, lost, 0), 0.01)[0]


def test_the_kind_that_fails_is_named_first_and_those_that_fail_too_behind():
    changes = {
        "noise": change(300, 25, 0),
        "blur": change(300, 40, 1),
        "jpeg": change(300, 0, 0),
    }
    verdict, reason = judge_kinds(changes, 0.01)
    assert verdict == FAIL
    assert reason.startswith("blur: at least ")
    assert reason.endswith("; so under noise")


def test_more_kinds_ask_for_more_evidence_of_a_failure():
    bad = change(400, 10, 0)
    good = {f"kind {i}": change(400, 0, 0) for i in range(17)}
    assert judge_kinds({"blur": bad}, 0.01)[0] == FAIL
    assert judge_kinds({"blur": bad, **good}, 0.01)[0] == INCONCLUSIVE


def test_all_kinds_must_be_surely_within_the_tolerance_to_pass():
    within = {"noise": change(400, 0, 0), "blur": change(400, 0, 2)}
    assert judge_kinds(within, 0.01)[0] == PASS
    verdict, reason = judge_kinds({**within, "jpeg": change(400, 3, 0)}, 0.01)
    assert verdict == INCONCLUSIVE
    assert "under jpeg 3 of 400 answers flipped" in reason
