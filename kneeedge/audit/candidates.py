"""Which images may show the same radiograph: those whose marks fall into the same buckets.

Locality-sensitive hashing with random hyperplanes (Charikar, Similarity estimation techniques from
rounding algorithms, STOC 2002): marks with an angle t between their descriptors share a bucket of b
bits with probability (1 − t/π)^b. No two images are compared; each mark of an image, mirrored and
turned as well, looks into its bucket in every table, and each image in there gets a vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.audit.features import MIRROR, N_VALUES, Features, unit
from kneeedge.system.progress import Progress, Stage

Codes = NDArray[np.int64]

MIN_VOTES = 32
MAX_CANDIDATES = 6
"of an image, in either way round"
_N_TABLES = 8
_N_BITS = 22
_MAX_BUCKET = 128
"marks; what many images share says nothing of two"
_MAX_SHARE = 0.01
"of the images, where that is more: of many, more look alike in each mark"
_N_AT_ONCE = 32
"images whose codes are computed in one go, 16 MB"
_N_PLANES = _N_TABLES * _N_BITS
_FIRST_BUCKETS = np.arange(_N_TABLES) * 2**_N_BITS
"of each table, when the buckets of all are numbered through"
_POWERS = np.float32(2) ** np.arange(_N_BITS, dtype=np.float32)
_PLANES = np.random.default_rng(0).standard_normal((N_VALUES, _N_PLANES)).astype(np.float32)


@dataclass(frozen=True)
class Candidate:
    """Two images to be looked at, by index."""

    first: int
    second: int
    mirrored: bool
    votes: int


@dataclass(frozen=True)
class _Buckets:
    """Which images have a mark in each bucket of every table."""

    starts: NDArray[np.int32]
    "(buckets + 1,) where each begins in `images`; the next one's start ends it"
    images: NDArray[np.int32]
    "the image of each mark, bucket by bucket"


def candidates(images: Sequence[Features], progress: Progress) -> list[Candidate]:
    """Give the pairs of images with the most votes, first < second."""
    if not any(len(image.positions) for image in images):
        return []
    most_votes: dict[tuple[int, int, bool], int] = {}
    with progress.stage("candidates", 2 * len(images)) as stage:
        buckets = _fill(images, stage)
        for start in range(0, len(images), _N_AT_ONCE):
            block = images[start : start + _N_AT_ONCE]
            for mirrored in (False, True):
                for i, codes in enumerate(_search_codes(block, mirrored), start):
                    for other, count in _strongest(codes, i, buckets, len(images)):
                        pair = (min(i, other), max(i, other), mirrored)
                        most_votes[pair] = max(count, most_votes.get(pair, 0))
            stage.advance(len(block))
    return [Candidate(*pair, count) for pair, count in sorted(most_votes.items())]


def _fill(images: Sequence[Features], stage: Stage) -> _Buckets:
    """Sort the marks of all images, as they lie, into the buckets."""
    n_marks = [len(image.positions) for image in images]
    owners = np.repeat(np.arange(len(images), dtype=np.int32), n_marks)
    codes = np.empty((_N_TABLES, len(owners)), np.int32)
    n_done = 0
    for start in range(0, len(images), _N_AT_ONCE):
        block = [image.descriptors[0] for image in images[start : start + _N_AT_ONCE]]
        own = _codes(unit(np.concatenate(block))).T
        codes[:, n_done : n_done + own.shape[1]] = own
        n_done += own.shape[1]
        stage.advance(len(block))
    starts = np.zeros(_N_TABLES * 2**_N_BITS + 1, np.int32)
    for table, first in zip(codes, _FIRST_BUCKETS, strict=True):
        places, n_there = np.unique(table, return_counts=True)
        starts[first + places + 1] = n_there
    np.cumsum(starts, out=starts)
    return _Buckets(starts, np.concatenate([owners[np.argsort(t, kind="stable")] for t in codes]))


def _codes(descriptors: NDArray[np.float32]) -> Codes:
    """Give the bucket of each of (K, N_VALUES) descriptors in each table, (K, N_TABLES)."""
    signs = (descriptors @ _PLANES > 0).reshape(-1, _N_TABLES, _N_BITS)
    # whole numbers below 2²², which 32 bits hold exactly
    return np.asarray((signs.astype(np.float32) @ _POWERS).astype(np.int64))


def _search_codes(block: Sequence[Features], mirrored: bool) -> list[Codes]:
    """The codes under which each image of a block is looked for, mirrored, and in all turns."""
    sign = MIRROR if mirrored else np.ones(N_VALUES, np.float32)
    turned = [image.descriptors.reshape(-1, N_VALUES) for image in block]
    codes = _codes(unit(np.concatenate(turned)) * sign)
    return np.split(codes, np.cumsum([len(own) for own in turned])[:-1])


def _strongest(codes: Codes, image: int, buckets: _Buckets, n: int) -> list[tuple[int, int]]:
    """Which of `n` others have the most votes of an image with these codes, and how many."""
    places = (codes + _FIRST_BUCKETS).ravel()
    low = buckets.starts[places]
    size = buckets.starts[places + 1] - low
    size[size > max(_MAX_BUCKET, _MAX_SHARE * n)] = 0
    ends = np.cumsum(size)
    inside = np.arange(size.sum()) + np.repeat(low - (ends - size), size)
    votes = np.bincount(buckets.images[inside], minlength=n)
    votes[image] = 0
    enough = np.flatnonzero(votes >= MIN_VOTES)
    kept = enough[np.argsort(-votes[enough], kind="stable")[:MAX_CANDIDATES]]
    return [(int(other), int(votes[other])) for other in kept]
