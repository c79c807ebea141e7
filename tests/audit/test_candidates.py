"""Copies stay candidates among many images, which look alike in each single mark."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra audit is not installed")

from kneeedge.audit.candidates import Candidate, candidates
from kneeedge.audit.features import N_VALUES, TURNS, Features
from kneeedge.system.progress import Progress

N_MARKS = 20
N_ALIKE = 150
"images that have one of the marks too"


def features(marks: np.ndarray) -> Features:
    """An image of these marks (K, N_VALUES), which look the same however they are turned."""
    descriptors = np.repeat(np.round(127 * marks)[None].astype(np.int8), len(TURNS), axis=0)
    return Features(np.zeros((len(marks), 2), np.float32), descriptors)


def a_copy_among(n: int) -> list[Candidate]:
    """Candidates of two copies, as many as resemble them in a mark, and others."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(n, N_VALUES))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    marks = drawn[:N_MARKS]
    alike = [features(mark[None]) for mark in marks for _ in range(N_ALIKE)]
    others = [features(mark[None]) for mark in drawn[N_MARKS:]]
    images = [features(marks), features(marks), *alike, *others][:n]
    return candidates(images, Progress(quiet=True))


def test_what_many_images_have_says_nothing_of_two():
    assert a_copy_among(N_MARKS * N_ALIKE + 2) == []


def test_among_more_images_more_may_have_it():
    (found,) = a_copy_among(160 * 100)
    assert (found.first, found.second, found.mirrored) == (0, 1, False)
