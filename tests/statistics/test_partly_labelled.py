"""What images without labels prove: bounds that hold whatever their labels are."""

import itertools

import numpy as np
import pytest

from kneeedge.model.verdict import judge_loss, judge_share
from kneeedge.statistics.paired import changed_share, paired_change
from kneeedge.statistics.partly_labelled import NO_LABEL, partly_labelled_change
from kneeedge.statistics.settling import images_to_settle


def random_answers(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels, before = rng.integers(0, 3, (2, n))
    after = np.where(rng.random(n) < 0.1, rng.integers(0, 3, n), before)
    return labels, before, after


@pytest.mark.parametrize("seed", range(20))
def test_the_bounds_hold_whatever_the_labels_are(seed: int) -> None:
    labels, before, after = random_answers(seed)
    hidden = labels.copy()
    hidden[-20:] = NO_LABEL
    change = partly_labelled_change(hidden, before, after)
    flipped = [i for i in range(40, 60) if before[i] != after[i]]
    for truths in itertools.islice(itertools.product(range(3), repeat=len(flipped)), 81):
        known = labels.copy()
        known[flipped] = truths
        whole = paired_change(known, before, after)
        assert whole.worst_loss <= change.worst_loss + 1e-9
        assert change.interval.low - 1e-9 <= whole.interval.low
        assert whole.interval.high <= change.interval.high + 1e-9
        assert (change.n, change.flips) == (whole.n, whole.flips)


def test_labelled_images_keep_their_say() -> None:
    labels, before, after = random_answers(1)
    labelled = paired_change(labels[:40], before[:40], after[:40])
    labels[-20:] = NO_LABEL
    change = partly_labelled_change(labels, before, after)
    assert (change.lost, change.gained) == (labelled.lost, labelled.gained)
    assert (change.n_unlabelled, change.unlabelled_flips) == (20, change.flips - labelled.flips)


@pytest.mark.parametrize("n_flips", [0, 1, 2, 5, 40])
def test_without_any_label_the_verdict_is_that_on_the_share_of_changed_answers(
    n_flips: int,
) -> None:
    """A pass is one, since accuracy lost is at most that share; a fail cannot be shown."""
    labels = np.full(800, NO_LABEL)
    before = np.zeros(800, int)
    after = (np.arange(800) < n_flips).astype(int)
    change = partly_labelled_change(labels, before, after)
    share = changed_share(before != after)
    assert change.worst_loss == pytest.approx(share.most, abs=1e-9)
    verdict = judge_loss(change, 0.01)[0]
    of_share = judge_share(share, 0.01)[0]
    assert verdict == (of_share if of_share != "fail" else "inconclusive")


def test_labels_alone_would_settle_what_hangs_on_them() -> None:
    labels = np.full(800, NO_LABEL)
    before = np.zeros(800, int)
    after = (np.arange(800) < 40).astype(int)
    assert images_to_settle(partly_labelled_change(labels, before, after), 0.01) is None
    few = (np.arange(800) < 4).astype(int)
    assert images_to_settle(partly_labelled_change(labels, before, few), 0.01) > 800
