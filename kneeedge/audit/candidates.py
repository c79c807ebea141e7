"""Which images may show the same radiograph: those whose marks fall into the same buckets.

Locality-sensitive hashing with random hyperplanes (Charikar, Similarity estimation techniques from
rounding algorithms, STOC 2002): marks with an angle t between their descriptors share a bucket of b
bits with probability (1 − t/π)^b. No two images are compared; each mark of an image, mirrored and
turned as well, looks into its bucket in every table, and each image found there gets a vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.audit.features import MIRROR, N_VALUES, Features, unit
from kneeedge.system.progress import Progress

MIN_VOTES, MAX_CANDIDATES = 32, 6
_N_TABLES, _N_BITS = 8, 22
_MAX_BUCKET = 128  # what many images share says nothing of two
_CELLS = 2**22  # of the table of votes that is held at a time, 32 MB
_PLANES = (
    np.random.default_rng(0).standard_normal((N_VALUES, _N_TABLES * _N_BITS)).astype(np.float32)
)

Codes = NDArray[np.uint32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Candidate:
    """Two images to be looked at, by index."""

    first: int
    second: int
    mirrored: bool
    votes: int


@dataclass(frozen=True)
class _Table:
    """The buckets of one hash function."""

    codes: Codes
    "sorted"
    images: NDArray[np.int32]
    "the image of each code"


def candidates(found: Sequence[Features], progress: Progress) -> list[Candidate]:
    """Give the pairs of images with the most votes, at most MAX_CANDIDATES an image and way round,
    first < second.
    """
    if not any(len(one.positions) for one in found):
        return []
    tables = _tables(found)
    best: dict[tuple[int, int, bool], int] = {}
    block = max(1, _CELLS // len(found))
    with progress.stage("candidates", len(found)) as stage:
        for start in range(0, len(found), block):
            part = found[start : start + block]
            for mirrored in (False, True):
                votes = _votes(part, tables, mirrored, len(found))
                for row, other, count in _most(votes, start):
                    key = (min(row, other), max(row, other), mirrored)
                    best[key] = max(count, best.get(key, 0))
            stage.advance(len(part))
    return [Candidate(*key, votes) for key, votes in sorted(best.items())]


def _tables(found: Sequence[Features]) -> list[_Table]:
    codes = np.concatenate([_codes(unit(one.descriptors[0])) for one in found])
    images = np.repeat(np.arange(len(found), dtype=np.int32), [len(one.positions) for one in found])
    tables = []
    for column in codes.T:
        order = np.argsort(column, kind="stable")
        tables.append(_Table(column[order], images[order]))
    return tables


def _codes(descriptors: NDArray[np.float32]) -> Codes:
    """Give the bucket of each of (K, N_VALUES) descriptors in each table, (K, N_TABLES)."""
    signs = (descriptors @ _PLANES > 0).reshape(-1, _N_TABLES, _N_BITS)
    powers = np.left_shift(np.uint32(1), np.arange(_N_BITS, dtype=np.uint32))
    codes: Codes = (signs * powers).sum(axis=2, dtype=np.uint32)
    return codes


def _votes(part: Sequence[Features], tables: list[_Table], mirrored: bool, n: int) -> Counts:
    """Give the votes of `n` images for each of a part of them, (len(part), n)."""
    sign = MIRROR if mirrored else np.ones(N_VALUES, np.float32)
    codes = np.concatenate(
        [_codes(unit(one.descriptors).reshape(-1, N_VALUES) * sign) for one in part]
    )
    rows = np.repeat(
        np.arange(len(part)), [one.descriptors.shape[0] * one.descriptors.shape[1] for one in part]
    )
    votes = np.zeros(len(part) * n, np.int64)
    for table, column in zip(tables, codes.T, strict=True):
        low, high = (np.searchsorted(table.codes, column, side) for side in ("left", "right"))
        size = np.where(high - low > _MAX_BUCKET, 0, high - low)
        ends = np.cumsum(size)
        inside = np.arange(size.sum()) - np.repeat(ends - size, size)
        others = table.images[np.repeat(low, size) + inside]
        votes += np.bincount(np.repeat(rows * n, size) + others, minlength=len(votes))
    return votes.reshape(len(part), n)


def _most(votes: Counts, start: int) -> list[tuple[int, int, int]]:
    """Give (image, other, votes) of the others with most votes for each row; row 0 is image
    `start`.
    """
    n_rows = len(votes)
    votes[np.arange(n_rows), start + np.arange(n_rows)] = 0
    found = []
    for row, others in enumerate(votes):
        enough = np.flatnonzero(others >= MIN_VOTES)
        kept = enough[np.argsort(-others[enough], kind="stable")[:MAX_CANDIDATES]]
        found += [(start + row, int(other), int(others[other])) for other in kept]
    return found
