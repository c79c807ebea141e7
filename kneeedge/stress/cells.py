"""Which corruptions images are given: one cell for each kind and severity, and one for none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import ConfigError
from kneeedge.pixels.corruptions import SEVERITIES, Kind, corrupt, kind_named, kinds_named


@dataclass(frozen=True)
class Cell:
    """One way to corrupt every image."""

    kind: str
    "a kind's name, or `clean`"
    severity: int
    "1 to 5; 0: not at all"

    @property
    def level(self) -> float | None:
        """The parameter of the corruption; None where there is none."""
        return None if self == CLEAN else kind_named(self.kind).levels[self.severity - 1]

    def corrupted(self, grey: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Grey pixels (H', W') of (H, W), by this cell."""
        return grey if self == CLEAN else corrupt(grey, self.kind, self.severity, seed)


CLEAN = Cell("clean", 0)


def cells_of(kinds: Sequence[str] = (), severities: Sequence[int] = ()) -> tuple[Cell, ...]:
    """CLEAN, and each kind at each severity, all where none is named, in the order of the table.

    A kind that is there or is not has its one cell whatever the severities. Raises ConfigError for
    an unknown kind or severity.
    """
    for severity in severities:
        if severity not in SEVERITIES:
            raise ConfigError(f"severity {severity} is unknown", "give some of 1,2,3,4,5")
    cells = [CLEAN]
    for kind in kinds_named(kinds):
        cells += [Cell(kind.name, severity) for severity in _severities(kind, severities)]
    return tuple(cells)


def _severities(kind: Kind, wanted: Sequence[int]) -> tuple[int, ...]:
    if len(kind.levels) == 1 or not wanted:
        return kind.severities
    return tuple(sorted(set(wanted)))
