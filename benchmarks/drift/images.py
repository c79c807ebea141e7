"""The figures of labelled images, changed or not, and the streams that are drawn from them."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.data.dataset import Sample
from kneeedge.inference.drift import CountedImage
from kneeedge.inference.image_figures import image_figures
from kneeedge.model.reference import ImageFigures
from kneeedge.pixels.pixel_path import Input, load_with_facts
from kneeedge.runtime.session import Session

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels], Pixels]
Rng = np.random.Generator
BATCH = 8
NIGHT = 100
"images"


@dataclass(frozen=True)
class StreamImage:
    """One image's figures, its true class and its patient."""

    figures: ImageFigures
    is_positive: bool
    patient: str


def gamma(value: float) -> Change:
    levels = np.rint(255 * (np.arange(256) / 255) ** value).astype(np.uint8)
    return lambda pixels: levels[pixels]


def coarser(factor: float) -> Change:
    """Down to so many times the resolution, and up again."""

    def change(pixels: Pixels) -> Pixels:
        side = round(len(pixels) * factor)
        small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(small.resize(pixels.shape[::-1], Image.Resampling.BILINEAR))

    return change


def noisy(spread: float) -> Change:
    def change(pixels: Pixels) -> Pixels:
        rng = np.random.default_rng(int(pixels.sum()))
        return np.clip(pixels + rng.normal(0, spread, pixels.shape), 0, 255).astype(np.uint8)

    return change


def toned(contrast: float) -> Change:
    return lambda pixels: np.clip(128 + contrast * (pixels - 128.0), 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "gamma 1.3": gamma(1.3),
    "gamma 0.77": gamma(1 / 1.3),
    "gamma 1.1": gamma(1.1),
    "half resolution": coarser(0.5),
    "three quarters of the resolution": coarser(0.75),
    "contrast 0.8": toned(0.8),
    "noise of 3 levels": noisy(3.0),
    "inverted": lambda pixels: 255 - pixels,
}


def inputs_of(session: Session, samples: Sequence[Sample]) -> list[Input]:
    """The files as the network gets them."""
    return [load_with_facts(sample.path, session.spec.pixel_path) for sample in samples]


def stream_images(
    session: Session,
    inputs: Sequence[Input],
    samples: Sequence[Sample],
    change: Change | None = None,
) -> list[StreamImage]:
    """The figures of all inputs, changed or not, as the model answers them."""
    if change is not None:
        inputs = [replace(item, pixels=change(item.pixels)) for item in inputs]
    spec = session.spec
    found = []
    for i in range(0, len(inputs), BATCH):
        part = inputs[i : i + BATCH]
        outputs = session.run(np.stack([item.pixels for item in part])[:, None])
        for j, item in enumerate(part):
            distance = None if outputs.distance is None else float(outputs.distance[j])
            figures = image_figures(
                item.pixels, outputs.logits[j], distance, item.n_pixels, item.study, spec
            )
            sample = samples[i + j]
            patient = re.sub(r"[LR]$", "", Path(sample.name).stem)
            found.append(StreamImage(figures, sample.label == spec.positive_index, patient))
    return found


def drawn(images: Sequence[StreamImage], n: int, rng: Rng) -> list[StreamImage]:
    """So many images, drawn with replacement."""
    return [images[i] for i in rng.integers(0, len(images), n)]


def of_prevalence(
    images: Sequence[StreamImage], share: float, n: int, rng: Rng
) -> list[StreamImage]:
    """So many images, of which this share is truly positive on average."""
    healthy = [image for image in images if not image.is_positive]
    diseased = [image for image in images if image.is_positive]
    chosen = [diseased if is_positive else healthy for is_positive in rng.random(n) < share]
    return [kind[rng.integers(len(kind))] for kind in chosen]


def of_patients(images: Sequence[StreamImage], n: int, rng: Rng) -> list[StreamImage]:
    """So many images in nights of patients, each with all knees; each night in random order."""
    knees: dict[str, list[StreamImage]] = {}
    for image in images:
        knees.setdefault(image.patient, []).append(image)
    patients = list(knees.values())
    stream: list[StreamImage] = []
    while len(stream) < n:
        night: list[StreamImage] = []
        while len(night) < NIGHT:
            night += patients[rng.integers(len(patients))]
        order = rng.permutation(NIGHT)
        stream += [night[i] for i in order]
    return stream[:n]


def counted(images: Sequence[StreamImage], trial: str) -> Iterator[CountedImage]:
    """The images of a stream, each with a hash of its own."""
    for i, image in enumerate(images):
        yield CountedImage(hashlib.sha256(f"{trial} {i}".encode()).hexdigest(), image.figures)
