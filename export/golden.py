"""What a file carries to be held against on a device: phantoms, hard inputs, and encoded pictures.

Phantoms lie far from the threshold, where nothing flips. The hard inputs lie as near to it, and to
the limit beyond which the model abstains, as two machines may differ: a device that flips one of
them differs by more than that. They are phantoms too, with pixels moved along the network's
gradient until the answer changes, and then mixed with what they were made from.
"""

import math
from collections.abc import Callable
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
    encode_png,
)
from kneeedge.runtime.golden_pictures import golden_pictures
from kneeedge.runtime.session import Session
from kneeedge.system import machine
from kneeedge.training.checkpoint import predict_logits
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import FeatureGaussian

Image = NDArray[np.uint8]
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
STEP = 2.0
"grey levels by which a pixel moves in one step"
MAX_STEPS = 64


@dataclass(frozen=True)
class GoldenInput:
    """A synthetic input of the network."""

    image: Image
    "(1, S, S)"
    kind: str
    "PHANTOM, AT_THRESHOLD or AT_LIMIT"


def golden_set(
    session: Session, model: KneeVGG, gaussian: FeatureGaussian | None, precision: str
) -> GoldenSet:
    """Phantoms from healthy to diseased, and hard inputs, with the answers to them.

    The hard inputs are at the threshold and the limit of this very file; the answers are the
    original's and the file's.
    """
    easy = phantoms(N_PHANTOMS, session.spec.pixel_path.size)
    inputs = [GoldenInput(image, PHANTOM) for image in easy]
    inputs += hard_inputs(session, model, gaussian, precision)
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


def hard_inputs(
    session: Session, model: KneeVGG, gaussian: FeatureGaussian | None, precision: str
) -> list[GoldenInput]:
    """Inputs on both sides of the threshold, and of the limit where the model has one."""
    graph = ExportGraph(model, session.spec.temperature, gaussian).eval()
    starts = phantoms(N_STARTS, session.spec.pixel_path.size, seed=100)
    inputs = []
    for start in starts:
        inputs += at_threshold(start, session, graph, 2 * DEVICE_FLOOR[precision])
    novelty = session.spec.novelty
    if novelty is not None:
        gap = DISTANCE_FLOOR[precision] * novelty.limit
        inputs += at_limit(starts[0], session, graph, novelty.limit, gap)
    return inputs


def at_threshold(
    start: Image, session: Session, graph: ExportGraph, gap: float
) -> list[GoldenInput]:
    """Inputs made of `start` whose logits lie `gap` above and below where the answer changes."""
    margin = margin_of(session.spec, session.run(start[None]).logits[0])

    def value_of(pixels: Tensor) -> Tensor:
        value: Tensor = margin(graph(pixels)[1][0])
        return value

    def measure(image: Image) -> float:
        return float(margin(session.run(image[None]).logits[0]))

    images = both_sides(start, value_of, measure, gap)
    return [GoldenInput(image, AT_THRESHOLD) for image in images]


def at_limit(
    start: Image, session: Session, graph: ExportGraph, limit: float, gap: float
) -> list[GoldenInput]:
    """Inputs made of `start` whose distance is `gap` above and below the limit to abstain."""

    def value_of(pixels: Tensor) -> Tensor:
        distance: Tensor = graph(pixels)[-1][0]
        return distance - limit

    def measure(image: Image) -> float:
        distance = session.run(image[None]).distance
        return math.nan if distance is None else float(distance[0]) - limit

    images = both_sides(start, value_of, measure, gap)
    return [GoldenInput(image, AT_LIMIT) for image in images]


def margin_of(spec: ModelSpec, logits: NDArray[np.floating]) -> Callable[[Any], Any]:
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


def both_sides(
    start: Image,
    value_of: Callable[[Tensor], Tensor],
    measure: Callable[[Image], float],
    gap: float,
) -> list[Image]:
    """Images (1, S, S) whose measured value lies just beyond +gap and −gap.

    `value_of` is the same in PyTorch, of (1, 1, S, S) float grey levels, and leads the way. Empty
    where the value keeps its sign however the pixels are moved.
    """
    value = measure(start)
    if abs(value) < CLEARANCE * gap:
        return []
    end = beyond(start, value_of, measure, -math.copysign(CLEARANCE * gap, value))
    if end is None:
        return []
    low, high = (start, end) if value < 0 else (end, start)
    return [mixture_at(low, high, measure, aim * CLEARANCE * gap) for aim in (-1.0, 1.0)]


def beyond(
    start: Image,
    value_of: Callable[[Tensor], Tensor],
    measure: Callable[[Image], float],
    aim: float,
) -> Image | None:
    """The image, its pixels moved until its value is beyond `aim`, which is above or below 0.

    None where MAX_STEPS do not suffice.
    """
    pixels = torch.from_numpy(start[None].astype(np.float32))
    for _ in range(MAX_STEPS):
        pixels = moved(pixels, value_of, math.copysign(STEP, aim))
        image: Image = np.rint(pixels.numpy()).astype(np.uint8)[0]
        if measure(image) * math.copysign(1.0, aim) > abs(aim):
            return image
    return None


def moved(pixels: Tensor, value_of: Callable[[Tensor], Tensor], step: float) -> Tensor:
    """The pixels, each by `step` grey levels along the sign of the value's gradient."""
    pixels = pixels.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(value_of(pixels), pixels)
    return (pixels.detach() + step * gradient.sign()).clamp(0.0, 255.0)


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
