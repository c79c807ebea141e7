"""Streams of made-up figures, for the tests of what is said of drift."""

import hashlib
from dataclasses import replace

import numpy as np

from kneeedge.inference.drift import CountedImage
from kneeedge.model.reference import ImageFigures


def images(n: int, seed: int, positive: float = 0.4, **moved: float) -> list[CountedImage]:
    """`n` images, of which about `positive` are positive; `moved` shifts figures, in deviations."""
    rng = np.random.default_rng(seed)
    return [image(rng, f"{seed} {i}", positive, moved) for i in range(n)]


def image(
    rng: np.random.Generator, name: str, positive: float, moved: dict[str, float]
) -> CountedImage:
    is_positive = bool(rng.random() < positive)
    probability = rng.uniform(0.6, 1.0) if is_positive else rng.uniform(0.0, 0.4)

    def value(figure: str, mean: float, deviation: float) -> float:
        return float(mean + deviation * (rng.normal() + moved.get(figure, 0.0)))

    figures = ImageFigures(
        answer=int(is_positive),
        probability=float(probability),
        refused=float(rng.random() < 0.01),
        distance=value("distance", 30.0, 3.0),
        brightness=value("brightness", 150.0, 15.0),
        contrast=value("contrast", 45.0, 5.0),
        tone=value("tone", 0.6, 0.05),
        sharpness=value("sharpness", 0.55, 0.1),
        side=224.0,
    )
    return CountedImage(hashlib.sha256(name.encode()).hexdigest(), figures)


def of_device(stream: list[CountedImage], device: str) -> list[CountedImage]:
    """The images, as a DICOM device names itself in them."""
    return [replace(each, figures=replace(each.figures, device=device)) for each in stream]
