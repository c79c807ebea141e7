"""Threads: results in order, errors that come through, and a stage that counts them."""

import threading

import pytest

from kneeedge.system.progress import Progress
from kneeedge.system.threads import in_order, in_threads


def test_work_done_out_of_order_is_given_in_order():
    first_may_end = threading.Event()

    def work(i):
        if i == 0:
            assert first_may_end.wait(10)
        else:
            first_may_end.set()
        return i

    assert list(in_order(work, range(6), 2, 3)) == list(range(6))


def test_what_the_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda i: 1 // i, [1, 0, 1], 2, 2))


def test_a_stage_gives_every_result_in_the_order_of_its_items():
    squares = in_threads(lambda i: i * i, range(1000), "squares", Progress(quiet=True))
    assert squares == [i * i for i in range(1000)]
