"""Which width each layer gets: the least loss within a latency, exact along the chain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Loss = Callable[[int, int], float]
"(layer, channels) → what the answers lose"
Time = Callable[[int, int, int], float]
"(layer, input channels, output channels) → milliseconds"

N_HALVINGS = 50


@dataclass(frozen=True)
class Allotment:
    """Widths that no others beat at their latency."""

    widths: tuple[int, ...]
    loss: float
    milliseconds: float


def allot(
    choices: Sequence[Sequence[int]], loss: Loss, time: Time, milliseconds: float
) -> Allotment:
    """The widths of least loss among those within `milliseconds`.

    Raises ValueError where even the narrowest take longer. For a price λ of a millisecond the chain
    of least loss + λ · time is found by dynamic programming, since a layer's time hangs on its own
    width and the one before it alone; the price is bisected until the time is allowed (Lagrange
    multiplier: each chain so found is optimal for the time that it takes).
    """
    cheapest = solve(choices, loss, time, np.inf)
    if cheapest.milliseconds > milliseconds:
        least = f"{cheapest.milliseconds:.3g} ms"
        raise ValueError(f"the narrowest network takes {least}, more than {milliseconds:.3g} ms")
    best = solve(choices, loss, time, 0.0)
    if best.milliseconds <= milliseconds:
        return best
    best = cheapest
    low = 1e-9
    high = 1e9
    for _ in range(N_HALVINGS):
        price = float(np.sqrt(low * high))
        allotment = solve(choices, loss, time, price)
        if allotment.milliseconds <= milliseconds:
            best = min(best, allotment, key=lambda a: a.loss)
            high = price
        else:
            low = price
    return best


def solve(choices: Sequence[Sequence[int]], loss: Loss, time: Time, price: float) -> Allotment:
    """The chain of least loss + price · time; with an infinite price that of least time."""
    loss_weight = 1.0
    time_weight = price
    if np.isinf(price):
        loss_weight = 0.0
        time_weight = 1.0
    cost = np.zeros(1)
    input_widths: Sequence[int] = (0,)
    origins_of_layers = []
    for layer, widths in enumerate(choices):
        times = np.array([[time(layer, a, b) for b in widths] for a in input_widths])
        losses = np.array([loss(layer, b) for b in widths])
        total = cost[:, None] + time_weight * times + loss_weight * losses[None, :]
        origins_of_layers.append(total.argmin(axis=0))
        cost = total.min(axis=0)
        input_widths = widths
    path = [int(cost.argmin())]
    for origins in reversed(origins_of_layers[1:]):
        path.append(int(origins[path[-1]]))
    chosen = tuple(widths[i] for widths, i in zip(choices, reversed(path), strict=True))
    inputs = (0, *chosen[:-1])
    return Allotment(
        widths=chosen,
        loss=sum(loss(i, b) for i, b in enumerate(chosen)),
        milliseconds=sum(time(i, inputs[i], b) for i, b in enumerate(chosen)),
    )
