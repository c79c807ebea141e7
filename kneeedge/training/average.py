"""The exponential moving average of the weights, which is what is validated and kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from kneeedge.training.model import KneeVGG


class WeightAverage:
    """Averaged copies of the trainable weights; with a decay of 0 the weights stand for themselves.

    The decay rises to its value over the first steps as (1 + step) / (10 + step), so that the first
    weights do not weigh on a short run (the schedule of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: KneeVGG, decay: float) -> None:
        self.decay = decay
        self.step = 0
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average: dict[str, Tensor] = {}
        if decay:
            self._average = {name: p.detach().clone() for name, p in self._weights.items()}

    def update(self) -> None:
        """Take one optimiser step into the average."""
        self.step += 1
        share = 1.0 - min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, average in self._average.items():
                average.lerp_(self._weights[name], share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model answers with the averaged weights, behind it with its own."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state(self) -> dict[str, Tensor]:
        """The averaged weights, by name."""
        return self._average

    def load(self, state: dict[str, Tensor], step: int) -> None:
        """Take up the averages and the step count of a stopped run."""
        self.step = step
        for name, average in self._average.items():
            average.copy_(state[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, average in self._average.items():
            weights = self._weights[name]
            before = weights.detach().clone()
            weights.copy_(average)
            average.copy_(before)
