"""Pairs of copies, and the groups they make; needs no more than the standard library."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BYTES, PIXELS, NEAR = "bytes", "pixels", "near"


@dataclass(frozen=True)
class Pair:
    """Two files that show one radiograph."""

    first: str
    "name of the one that sorts first"
    second: str
    kind: str
    "bytes, pixels or near"
    similarity: float
    "correlation of the fine detail, 1 for exact copies"
    how: str
    "what was done to the first to make the second, such as same bytes, or mirrored, rotated 3°, scale 0.92"


def groups(names: Sequence[str], pairs: Iterable[Pair]) -> dict[str, str]:
    """Map each name to its group: the first name, in order, of those joined to it by pairs."""
    return connected(names, ((pair.first, pair.second) for pair in pairs))


def connected(names: Iterable[str], links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map each name to the first, in order, of all that links join to it, however many steps apart."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {name: root(name) for name in parent}
