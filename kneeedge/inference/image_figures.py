"""The figures of an image by which a night is compared with what came before."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kneeedge.inference.predictions import PredictedImage
from kneeedge.model.reference import MOST_IMAGES, ImageFigures, Reference, Sample, rounded
from kneeedge.model.spec import ModelSpec, softmax
from kneeedge.pixels.dicom_facts import DicomStudy
from kneeedge.pixels.grey_figures import grey_figures
from kneeedge.pixels.pixel_path import Input


def figures_of(answer: PredictedImage, spec: ModelSpec) -> ImageFigures | None:
    """The figures of an answered image, refused or not; None for one that could not be read."""
    if answer.image is None or answer.logits is None:
        return None
    distance = answer.prediction.distance
    return image_figures(answer.image, answer.logits, distance, answer.n_pixels, answer.study, spec)


def image_figures(
    pixels: NDArray[np.uint8],
    logits: NDArray[np.float32],
    distance: float | None,
    n_pixels: int,
    study: DicomStudy | None,
    spec: ModelSpec,
) -> ImageFigures:
    """The figures of a network's input (S, S) with its logits (K,), of a file of `n_pixels`."""
    probabilities = softmax(logits[None], spec.temperature)
    grey = grey_figures(pixels)
    is_refused = False
    if distance is not None and spec.novelty is not None:
        is_refused = bool(spec.novelty.refuses(np.array([distance]))[0])
    return ImageFigures(
        answer=int(spec.decide(probabilities)[0]),
        device=study.device if study else "",
        probability=rounded(float(probabilities[0, spec.positive_index])),
        refused=float(is_refused),
        distance=None if distance is None else rounded(distance),
        brightness=rounded(grey.brightness),
        contrast=rounded(grey.contrast),
        tone=rounded(grey.tone),
        sharpness=rounded(grey.sharpness),
        side=rounded(n_pixels**0.5),
        tube_kv=study.tube_kv if study else None,
    )


def reference_of(
    inputs: Sequence[Input],
    keys: Sequence[str],
    logits: NDArray[np.float32],
    distances: NDArray[np.floating] | None,
    spec: ModelSpec,
    split: str,
) -> Reference:
    """What the images of a split look like to a file that gave them logits (N, K), distances (N,).

    `keys` are hashes of the files: they order the images, so that nothing is told by their order,
    and the first MOST_IMAGES are kept.
    """
    order = sorted(range(len(inputs)), key=lambda i: keys[i])
    images = [
        image_figures(
            inputs[i].pixels,
            logits[i],
            None if distances is None else float(distances[i]),
            inputs[i].n_pixels,
            inputs[i].study,
            spec,
        )
        for i in order[:MOST_IMAGES]
    ]
    return Reference(split=split, n=len(inputs), images=Sample.of(images))
