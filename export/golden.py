"""What a file carries to be held against on a device: phantoms, hard inputs, and encoded pictures.

Phantoms lie far from the threshold, where nothing flips. The hard inputs lie as near to it, and to
the limit beyond which the model abstains, as two machines may differ: a device that flips one of
them differs by more than that. They are phantoms too, with pixels moved along the network's
gradient until the answer changes, and then mixed with what they were made from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.to_onnx import ExportGraph
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.phantom import phantoms
from kneeedge.runtime.golden import (
    AT_LIMIT,
    AT_THRESHOLD,
    PHANTOM,
    GoldenCase,
    GoldenSet,
)
from kneeedge.runtime.golden_pictures import encode_png, golden_pictures
from kneeedge.runtime.session import Session
from kneeedge.system import machine
from kneeedge.training.checkpoint import predict_logits
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import Gaussians

Image = NDArray[np.uint8]
Margin = Callable[[Any], Any]
"of logits (K,): above 0 for one answer, below 0 for the other"
N_PHANTOMS = 8
N_STARTS = 3
"phantoms from which hard inputs are made: two of each, one on either side"
DEVICE_FLOOR = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.1}
"logit change between two machines that run the same file: other kernels round otherwise"
DISTANCE_FLOOR = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.02}
"change of the distance between two machines, as a share of the limit"
N_HALVINGS = 12
CLEARANCE = 1.25
"how far beyond what machines may differ a hard input is aimed"
STEP = 3.0
"grey levels by which a pixel moves in one step"
MAX_STEPS = 24


@dataclass(frozen=True)
class GoldenInput:
    """A synthetic input of the network."""

    image: Image
    "(1, S, S)"
    kind: str
    "PHANTOM, AT_THRESHOLD or AT_LIMIT"


@dataclass(frozen=True)
class Crossing:
    """Two inputs (1, S, S) between which a value changes its sign: what is said of them differs."""

    low: Image
    "its value is below 0"
    high: Image
    "above 0"
    kind: str
    "AT_THRESHOLD or AT_LIMIT"


def golden_set(
    session: Session, model: KneeVGG, crossings: Sequence[Crossing], precision: str
) -> GoldenSet:
    """Phantoms from healthy to diseased, and hard inputs, with the answers to them.

    The hard inputs are at the threshold and the limit of this very file; the answers are the
    original's and the file's.
    """
    easy = phantoms(N_PHANTOMS, session.spec.pixel_path.size)
    inputs = [GoldenInput(image, PHANTOM) for image in easy]
    inputs += hard_inputs(session, crossings, precision)
    images = np.stack([item.image for item in inputs])
    original_logits = predict_logits(model, images)
    outputs = [session.run(image[None]) for image in images]
    file_logits = np.concatenate([output.logits for output in outputs])
    cases = tuple(
        GoldenCase(
            png=encode_png(item.image[0]),
            kind=item.kind,
            original_logits=tuple(map(float, before)),
            file_logits=tuple(map(float, output.logits[0])),
            file_distance=None if output.distance is None else float(output.distance[0]),
        )
        for item, before, output in zip(inputs, original_logits, outputs, strict=True)
    )
    floor = DEVICE_FLOOR[precision]
    # What the precision costs was measured here; another machine may add its own rounding to it.
    largest_change = float(np.abs(file_logits - original_logits).max())
    novelty = session.spec.novelty
    return GoldenSet(
        cases=cases,
        pictures=golden_pictures(session.spec.pixel_path),
        device_tolerance=floor,
        original_tolerance=largest_change + floor,
        distance_tolerance=DISTANCE_FLOOR[precision] * novelty.limit if novelty else None,
        cpu=machine.cpu_model(),
        isa=machine.isa_flags(),
    )


def find_crossings(
    model: KneeVGG, spec: ModelSpec, gaussians: Gaussians | None
) -> tuple[Crossing, ...]:
    """Pairs of synthetic inputs between which the original's answer changes, or its refusal.

    They serve every variant: what lies between them is found for each.
    """
    graph = ExportGraph(model, spec.temperature, gaussians).eval()
    starts = phantoms(N_STARTS, spec.pixel_path.size, seed=100)
    found = []
    for start in starts:
        margin = margin_of(spec, predict_logits(model, start[None])[0])
        reach = CLEARANCE * 2 * max(DEVICE_FLOOR.values())

        def margin_there(pixels: Tensor, margin: Margin = margin) -> Tensor:
            value: Tensor = margin(graph(pixels)[1][0])
            return value

        found.append(crossing(start, margin_there, reach, AT_THRESHOLD))
    if spec.novelty is not None:
        limit = spec.novelty.limit

        def excess_there(pixels: Tensor) -> Tensor:
            distance: Tensor = graph(pixels)[-1][0]
            return distance - limit

        reach = CLEARANCE * max(DISTANCE_FLOOR.values()) * limit
        found.append(crossing(starts[0], excess_there, reach, AT_LIMIT))
    return tuple(pair for pair in found if pair is not None)


def hard_inputs(
    session: Session, crossings: Sequence[Crossing], precision: str
) -> list[GoldenInput]:
    """Inputs on both sides of the session's threshold, and of its limit where it has one."""
    spec = session.spec
    inputs = []
    for pair in crossings:
        margin = margin_of(spec, session.run(pair.low[None]).logits[0])

        def measure(image: Image, kind: str = pair.kind, margin: Margin = margin) -> float:
            outputs = session.run(image[None])
            if kind == AT_THRESHOLD:
                return float(margin(outputs.logits[0]))
            if outputs.distance is None or spec.novelty is None:
                return math.nan
            return float(outputs.distance[0]) - spec.novelty.limit

        gap = 2 * DEVICE_FLOOR[precision]  # both logits of a margin may move
        if pair.kind == AT_LIMIT and spec.novelty is not None:
            gap = DISTANCE_FLOOR[precision] * spec.novelty.limit
        inputs += [GoldenInput(image, pair.kind) for image in both_sides(pair, measure, gap)]
    return inputs


def margin_of(spec: ModelSpec, logits: NDArray[np.floating]) -> Margin:
    """A function of logits (K,): above 0 for one answer, below 0 for the other, in logits.

    Of two classes, how far the positive one is above its threshold t: its probability is at least t
    where the difference of the logits is at least T · log(t / (1 − t)). Of more, how far the first
    of these logits' order is above the second.
    """
    if len(spec.classes) == 2:
        first = spec.positive_index
        second = 1 - first
        level = spec.temperature * math.log(spec.threshold / (1.0 - spec.threshold))
    else:
        second, first = np.argsort(logits)[-2:].tolist()
        level = 0.0
    return lambda logits: logits[first] - logits[second] - level


def crossing(
    start: Image, value_of: Callable[[Tensor], Tensor], reach: float, kind: str
) -> Crossing | None:
    """The image, and one made of it whose value is at least `reach` beyond 0 on the other side.

    `value_of` is of (1, 1, S, S) float grey levels, in PyTorch. None where MAX_STEPS of the pixels
    along its gradient do not suffice, or where the image lies nearer to 0 than `reach` itself.
    """
    pixels = torch.from_numpy(start[None].astype(np.float32))
    value, gradient = slope(value_of, pixels)
    if abs(value) < reach:
        return None
    side = math.copysign(1.0, value)
    for _ in range(MAX_STEPS):
        pixels = (pixels - side * STEP * gradient.sign()).clamp(0.0, 255.0).round()
        value, gradient = slope(value_of, pixels)
        if -side * value >= reach:
            end: Image = pixels.numpy().astype(np.uint8)[0]
            return Crossing(end, start, kind) if side > 0 else Crossing(start, end, kind)
    return None


def slope(value_of: Callable[[Tensor], Tensor], pixels: Tensor) -> tuple[float, Tensor]:
    """The value of the pixels, and its gradient."""
    pixels = pixels.detach().requires_grad_()
    value = value_of(pixels)
    (gradient,) = torch.autograd.grad(value, pixels)
    return float(value.detach()), gradient


def both_sides(pair: Crossing, measure: Callable[[Image], float], gap: float) -> list[Image]:
    """Mixtures of the pair (1, S, S) whose measured value lies just beyond −gap and +gap.

    Empty where the pair is not that far apart.
    """
    reach = CLEARANCE * gap
    if measure(pair.low) > -reach or measure(pair.high) < reach:
        return []
    return [mixture_at(pair.low, pair.high, measure, aim) for aim in (-reach, reach)]


def mixture_at(low: Image, high: Image, measure: Callable[[Image], float], aim: float) -> Image:
    """A mixture of two images whose value is about `aim`, and no nearer to 0 than aim / CLEARANCE.

    Found by halving the share of the pixels, drawn at random, that are those of `high`, which has a
    value above `aim`; the others are those of `low`, which has one below.
    """
    order = np.random.default_rng(0).permutation(low.size).reshape(low.shape) / low.size
    share_low = 0.0
    share_high = 1.0
    best = low if aim < 0 else high
    nearest = math.inf
    for _ in range(N_HALVINGS):
        share = (share_low + share_high) / 2
        mixture: Image = np.where(order < share, high, low)
        value = measure(mixture)
        if value * aim >= aim * aim / CLEARANCE and abs(value) < nearest:
            best = mixture
            nearest = abs(value)
        if value < aim:
            share_low = share
        else:
            share_high = share
    return best
