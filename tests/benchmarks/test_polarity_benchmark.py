"""The study of inverted knees weighs the test that `train` learns, and counts what it says."""

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

from benchmarks.polarity.__main__ import Changed, check_chosen, count
from benchmarks.polarity.names import BEFORE, CHOSEN
from benchmarks.polarity.tests import TESTS, cells_of
from kneeedge.errors import ConfigError
from kneeedge.pixels.phantom import phantom

KNEES = [phantom(600 + i, i % 2, 64) for i in range(60)]


@pytest.fixture(scope="module")
def learnt():
    cells = cells_of(KNEES)
    return {test.name: test.learn(cells) for test in TESTS}


def test_the_chosen_test_is_the_one_that_train_learns(learnt):
    check_chosen(learnt[CHOSEN], KNEES)
    with pytest.raises(ConfigError, match="not the one that train learns"):
        check_chosen(learnt[BEFORE], KNEES)


def test_every_test_tells_a_knee_from_its_inverse(learnt):
    cells = cells_of([phantom(900 + i, i % 2, 64) for i in range(20)])
    for test in learnt.values():
        assert not test.turns(cells).any(), test.name
        assert test.turns(cells.inverse()).mean() > 0.8, test.name


def test_both_inverses_of_an_image_are_counted(learnt):
    upright = cells_of(KNEES[:10])
    wrong = Changed("bars", 3, upright.inverse(), upright)
    row = count(learnt[CHOSEN], "val", wrong)
    assert (row.n, row.turned, row.missed) == (10, 10, 20)
    right = Changed("bars", 3, upright, upright.inverse())
    row = count(learnt[CHOSEN], "val", right)
    assert (row.n, row.turned, row.missed) == (10, 0, 0)


def test_what_is_blank_is_no_part_of_the_filled_cells():
    barred = np.stack(KNEES[:3])
    barred[:, :, :6] = 255
    black = barred.copy()
    black[:, :, :6] = 0
    white, dark = cells_of(list(barred)), cells_of(list(black))
    np.testing.assert_allclose(white.filled, dark.filled, rtol=1e-12)
    assert np.abs(white.whole - dark.whole).max() > 100
