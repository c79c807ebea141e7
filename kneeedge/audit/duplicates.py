"""Copies among images: the same bytes, the same pixels, or one radiograph changed."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from kneeedge.audit.candidates import Candidate, candidates
from kneeedge.audit.confirm import Match, Picture, confirm, inverse
from kneeedge.audit.features import band, features, grain
from kneeedge.audit.fingerprint import Fingerprint
from kneeedge.audit.wording import describe
from kneeedge.data.groups import BYTES, NEAR, PIXELS, Pair, groups
from kneeedge.system.machine import available_cpus
from kneeedge.system.progress import Progress

MIN_SIMILARITY = 0.62
"of the finest detail: one patient's two knees reach 0.61, other knees 0.3, copies 0.7 to 1"
MANY = 32
"identical images, from more than which not every two are a pair: 5,000 would make 12 million"
_CHUNK, _N_PICTURES = 256, 1024  # at a time in a pool; kept for further comparisons, 128 KB each
__all__ = ["BYTES", "MIN_SIMILARITY", "NEAR", "PIXELS", "Pair", "find_pairs", "groups"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def find_pairs(
    fingerprints: Sequence[Fingerprint], progress: Progress, min_similarity: float = MIN_SIMILARITY
) -> tuple[Pair, ...]:
    """Give every pair of copies found once, in order of names, each with its strongest kind.

    Of more than MANY identical images each is paired with the first and with the one before it, not
    with all others. Near copies have fine detail that agrees to `min_similarity` or better. The
    answer does not depend on the order of the fingerprints.
    """
    ordered = sorted(fingerprints, key=lambda one: one.name)
    same = _same_pixels(ordered)
    pairs = _exact(same) + _near(same, progress, min_similarity)
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def _same_pixels(ordered: Sequence[Fingerprint]) -> list[list[Fingerprint]]:
    """Put pixel-identical images together, in order of names."""
    by_pixels: dict[str, list[Fingerprint]] = {}
    for one in ordered:
        by_pixels.setdefault(one.pixel_sha256, []).append(one)
    return list(by_pixels.values())


def _exact(same: list[list[Fingerprint]]) -> list[Pair]:
    pairs = []
    for members in same:
        for i, one in enumerate(members):
            few = len(members) <= MANY or i == 0
            for other in members[i + 1 :] if few else members[i + 1 : i + 2]:
                kind = BYTES if one.sha256 == other.sha256 else PIXELS
                pairs.append(
                    Pair(
                        first=one.name,
                        second=other.name,
                        kind=kind,
                        similarity=1.0,
                        how=f"same {kind}",
                    )
                )
    return pairs


def _near(same: list[list[Fingerprint]], progress: Progress, min_similarity: float) -> list[Pair]:
    """Search one of each set of pixel-identical images; what holds for it holds for the set."""
    prints = [members[0] for members in same]
    found = _in_threads(features, prints, progress, "marks")
    possible = candidates(found, progress)

    @lru_cache(_N_PICTURES)
    def picture(i: int) -> Picture:
        return Picture(found[i], band(prints[i]), grain(prints[i]))

    def look(candidate: Candidate) -> Match | None:
        return confirm(picture(candidate.first), picture(candidate.second), candidate.mirrored)

    best: dict[tuple[int, int], Match] = {}
    for candidate, match in zip(
        possible, _in_threads(look, possible, progress, "comparisons"), strict=True
    ):
        key = (candidate.first, candidate.second)
        least = best[key].similarity if key in best else min_similarity
        if match is not None and match.similarity >= least:
            best[key] = match
    return [pair for (i, j), match in best.items() for pair in _each(same[i], same[j], match)]


def _each(ones: list[Fingerprint], others: list[Fingerprint], match: Match) -> list[Pair]:
    """Give the pairs between two sets of pixel-identical images, of which the first ones match."""
    pairs = []
    few = len(ones) <= MANY and len(others) <= MANY
    for i, one in enumerate(ones):
        for other in others if few or i == 0 else others[:1]:
            first, second, way = (
                (one, other, match) if one.name < other.name else (other, one, inverse(match))
            )
            similarity = round(match.similarity, 4)
            pairs.append(
                Pair(
                    first=first.name,
                    second=second.name,
                    kind=NEAR,
                    similarity=similarity,
                    how=describe(first, second, way),
                )
            )
    return pairs


def _in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], progress: Progress, name: str
) -> list[Result]:
    """Give the result of each item in order; SciPy's filters let threads run side by side."""
    results: list[Result] = []
    with progress.stage(name, len(items)) as stage, ThreadPoolExecutor(available_cpus()) as pool:
        for start in range(0, len(items), _CHUNK):
            part = items[start : start + _CHUNK]
            results += pool.map(work, part)
            stage.advance(len(part))
    return results
