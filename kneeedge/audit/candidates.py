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
from kneeedge.system.progress import Progress

Codes = NDArray[np.uint32]
Counts = NDArray[np.int64]

MIN_VOTES = 32
MAX_CANDIDATES = 6
"of an image, in either way round"
_N_TABLES = 8
_N_BITS = 22
_MAX_BUCKET = 128
"marks; what many images share says nothing of two"
_MAX_CELLS = 2**22
"of the table of votes that is held at a time, 32 MB"
_N_PLANES = _N_TABLES * _N_BITS
_PLANES = np.random.default_rng(0).standard_normal((N_VALUES, _N_PLANES)).astype(np.float32)


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


def candidates(images: Sequence[Features], progress: Progress) -> list[Candidate]:
    """Give the pairs of images with the most votes, first < second."""
    if not any(len(image.positions) for image in images):
        return []
    tables = _tables(images)
    most_votes: dict[tuple[int, int, bool], int] = {}
    n_rows = max(1, _MAX_CELLS // len(images))
    with progress.stage("candidates", len(images)) as stage:
        for start in range(0, len(images), n_rows):
            block = images[start : start + n_rows]
            for mirrored in (False, True):
                votes = _votes(block, tables, mirrored, len(images))
                for image, other, count in _strongest(votes, start):
                    pair = (min(image, other), max(image, other), mirrored)
                    most_votes[pair] = max(count, most_votes.get(pair, 0))
            stage.advance(len(block))
    return [Candidate(*pair, count) for pair, count in sorted(most_votes.items())]


def _tables(images: Sequence[Features]) -> list[_Table]:
    codes = np.concatenate([_codes(unit(image.descriptors[0])) for image in images])
    n_marks = [len(image.positions) for image in images]
    owners = np.repeat(np.arange(len(images), dtype=np.int32), n_marks)
    tables = []
    for column in codes.T:
        order = np.argsort(column, kind="stable")
        tables.append(_Table(column[order], owners[order]))
    return tables


def _codes(descriptors: NDArray[np.float32]) -> Codes:
    """Give the bucket of each of (K, N_VALUES) descriptors in each table, (K, N_TABLES)."""
    signs = (descriptors @ _PLANES > 0).reshape(-1, _N_TABLES, _N_BITS)
    powers = np.left_shift(np.uint32(1), np.arange(_N_BITS, dtype=np.uint32))
    codes: Codes = (signs * powers).sum(axis=2, dtype=np.uint32)
    return codes


def _votes(block: Sequence[Features], tables: list[_Table], mirrored: bool, n: int) -> Counts:
    """Give the votes of `n` images for each in a block of them, (len(block), n)."""
    sign = MIRROR if mirrored else np.ones(N_VALUES, np.float32)
    by_image = [_codes(unit(image.descriptors).reshape(-1, N_VALUES) * sign) for image in block]
    codes = np.concatenate(by_image)
    rows = np.repeat(np.arange(len(block)), [len(image_codes) for image_codes in by_image])
    votes = np.zeros(len(block) * n, np.int64)
    for table, column in zip(tables, codes.T, strict=True):
        low = np.searchsorted(table.codes, column, "left")
        high = np.searchsorted(table.codes, column, "right")
        size = np.where(high - low > _MAX_BUCKET, 0, high - low)
        ends = np.cumsum(size)
        inside = np.arange(size.sum()) - np.repeat(ends - size, size)
        others = table.images[np.repeat(low, size) + inside]
        votes += np.bincount(np.repeat(rows * n, size) + others, minlength=len(votes))
    return votes.reshape(len(block), n)


def _strongest(votes: Counts, start: int) -> list[tuple[int, int, int]]:
    """Give (image, other, votes) of the others with most votes for each row.

    Row 0 is image `start`. The votes of an image for itself are set to 0.
    """
    n_rows = len(votes)
    votes[np.arange(n_rows), start + np.arange(n_rows)] = 0
    strongest = []
    for image, row in enumerate(votes, start):
        enough = np.flatnonzero(row >= MIN_VOTES)
        kept = enough[np.argsort(-row[enough], kind="stable")[:MAX_CANDIDATES]]
        strongest += [(image, int(other), int(row[other])) for other in kept]
    return strongest
