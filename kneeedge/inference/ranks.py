"""Where a value stands among those before it: sorted values of numbers, counts of devices."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from typing import Protocol

from kneeedge.inference.drift_figures import DEVICE, Figure
from kneeedge.model.reference import ImageFigures
from kneeedge.statistics.sequential import randomised_rank


class Ranks(Protocol):
    """The values of one figure in a baseline."""

    def rank(self, image: ImageFigures, coin: float) -> float | None:
        """The randomised rank of the image's value; None where it has none."""

    def add(self, image: ImageFigures) -> None:
        """Let the image join the baseline."""


class NumberRanks:
    """Ranks of a number, among images with the same answer where the figure asks for that."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        self._values: defaultdict[int, list[float]] = defaultdict(list)

    def rank(self, image: ImageFigures, coin: float) -> float | None:
        value = self._figure.value(image)
        if value is None:
            return None
        others = self._values[self._group(image)]
        below = bisect_left(others, value)
        equal = bisect_right(others, value, lo=below) - below
        return randomised_rank(below, equal, len(others), coin)

    def add(self, image: ImageFigures) -> None:
        value = self._figure.value(image)
        if value is not None:
            insort(self._values[self._group(image)], value)

    def _group(self, image: ImageFigures) -> int:
        return image.answer if self._figure.shows_pictures else 0


class DeviceRanks:
    """Ranks of devices by how rare they are: one that was never seen stands highest."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def rank(self, image: ImageFigures, coin: float) -> float | None:
        if not image.device:
            return None
        own = self._counts[image.device]
        # Of all with the image itself among them: its device has one more than the baseline says.
        others = [count for name, count in self._counts.items() if name != image.device]
        below = sum(count for count in others if count > own + 1)
        equal = own + sum(count for count in others if count == own + 1)
        return randomised_rank(below, equal, own + sum(others), coin)

    def add(self, image: ImageFigures) -> None:
        if image.device:
            self._counts[image.device] += 1


def empty_ranks(figure: Figure) -> Ranks:
    """Ranks of a figure, of no images yet."""
    return DeviceRanks() if figure.name == DEVICE else NumberRanks(figure)
