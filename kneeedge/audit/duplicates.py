"""Copies among images: the same bytes, the same pixels, or one radiograph changed."""

from collections.abc import Sequence
from functools import lru_cache

from threadpoolctl import threadpool_limits

from kneeedge.audit.candidates import Candidate, candidates
from kneeedge.audit.confirm import Detail, Match, confirm, inverse, rough_map
from kneeedge.audit.features import features
from kneeedge.audit.fingerprint import Fingerprint
from kneeedge.audit.wording import describe
from kneeedge.data.groups import BYTES, NEAR, PIXELS, Pair
from kneeedge.system.progress import Progress
from kneeedge.system.threads import in_threads

MIN_SIMILARITY = 0.62
"of the finest detail: one patient's two knees reach 0.61, other knees 0.3, copies 0.7 to 1"
MAX_ALL_PAIRED = 32
"identical images, from more than which not every two are a pair: 5,000 would make 12 million"
_N_DETAILS = 512
"kept for further comparisons, 320 KB each"

Identical = list[Fingerprint]
"images of the same pixels, in order of names"


def find_pairs(
    fingerprints: Sequence[Fingerprint], progress: Progress, min_similarity: float = MIN_SIMILARITY
) -> tuple[Pair, ...]:
    """Give every pair of copies once, in order of names, each with its strongest kind.

    Of more than MAX_ALL_PAIRED identical images each is paired with the first and with the one
    before it, not with all others. Near copies have fine detail that agrees to `min_similarity` or
    better. The answer does not depend on the order of the fingerprints.
    """
    ordered = sorted(fingerprints, key=lambda image: image.name)
    sets = _identical_sets(ordered)
    with threadpool_limits(1, "blas"):  # its products are small, and our threads many enough
        near = _near_pairs(sets, progress, min_similarity)
    pairs = _exact_pairs(sets) + near
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def _identical_sets(ordered: Sequence[Fingerprint]) -> list[Identical]:
    by_pixels: dict[str, Identical] = {}
    for image in ordered:
        by_pixels.setdefault(image.pixel_sha256, []).append(image)
    return list(by_pixels.values())


def _exact_pairs(sets: list[Identical]) -> list[Pair]:
    pairs = []
    for members in sets:
        for i, image in enumerate(members):
            partners = members[i + 1 :]
            if len(members) > MAX_ALL_PAIRED and i > 0:
                partners = partners[:1]
            pairs += [_exact_pair(image, partner) for partner in partners]
    return pairs


def _exact_pair(first: Fingerprint, second: Fingerprint) -> Pair:
    kind = BYTES if first.sha256 == second.sha256 else PIXELS
    return Pair(first=first.name, second=second.name, kind=kind, similarity=1.0, how=f"same {kind}")


def _near_pairs(sets: list[Identical], progress: Progress, min_similarity: float) -> list[Pair]:
    """Compare one image of each set of identical ones; what holds for it holds for the set."""
    images = [members[0] for members in sets]
    marks = in_threads(features, images, "marks", progress)
    possible = candidates(marks, progress)

    @lru_cache(_N_DETAILS)
    def detail(i: int) -> Detail:
        return Detail(images[i])

    def look(candidate: Candidate) -> Match | None:
        first, second = candidate.first, candidate.second
        rough = rough_map(marks[first], marks[second], candidate.mirrored)
        if rough is None:
            return None
        return confirm(detail(first), detail(second), rough, min_similarity)

    best: dict[tuple[int, int], Match] = {}
    with progress.stage("comparisons", len(possible)) as stage:
        for candidate in possible:  # without threads, which would wait for the interpreter's lock
            match = look(candidate)
            key = (candidate.first, candidate.second)
            if match and (key not in best or match.similarity >= best[key].similarity):
                best[key] = match
            stage.advance()
    pairs = []
    for (i, j), match in best.items():
        pairs += _pairs_between(sets[i], sets[j], match)
    return pairs


def _pairs_between(images: Identical, others: Identical, match: Match) -> list[Pair]:
    """Give the pairs between two sets of identical images, of which the first ones match."""
    pairs = []
    many = len(images) > MAX_ALL_PAIRED or len(others) > MAX_ALL_PAIRED
    for i, image in enumerate(images):
        for partner in others[:1] if many and i > 0 else others:
            if image.name < partner.name:
                pairs.append(_near_pair(image, partner, match))
            else:
                pairs.append(_near_pair(partner, image, inverse(match)))
    return pairs


def _near_pair(first: Fingerprint, second: Fingerprint, match: Match) -> Pair:
    return Pair(
        first=first.name,
        second=second.name,
        kind=NEAR,
        similarity=round(match.similarity, 4),
        how=describe(first, second, match),
    )
