"""The figures of an image by which a night is compared with what came before."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.inference.predictions import PredictedImage
from kneeedge.model.reference import ImageFigures, rounded
from kneeedge.model.spec import ModelSpec, softmax
from kneeedge.pixels.dicom_facts import DicomStudy
from kneeedge.pixels.grey_figures import GreyFigures, grey_figures


def figures_of(answer: PredictedImage, spec: ModelSpec) -> ImageFigures | None:
    """The figures of an answered image, refused or not; None for one that could not be read."""
    if answer.image is None or answer.logits is None:
        return None
    distance = answer.prediction.distance
    return image_figures(answer.image, answer.logits, distance, answer.n_pixels, answer.study, spec)


@dataclass(frozen=True, kw_only=True)
class PictureFigures:
    """What is compared of a picture before any model answers it; its pixels are not kept."""

    grey: GreyFigures
    "of the network's input"
    n_pixels: int
    "of the picture in its file"
    device: str
    "maker and model of what took it; empty where no DICOM file says so"
    tube_kv: float | None
    "peak voltage of the X-ray tube; None where no DICOM file says so"


def picture_figures(
    pixels: NDArray[np.uint8], n_pixels: int, study: DicomStudy | None
) -> PictureFigures:
    """The figures of a network's input (S, S), of a file of `n_pixels`."""
    return PictureFigures(
        grey=grey_figures(pixels),
        n_pixels=n_pixels,
        device=study.device if study else "",
        tube_kv=study.tube_kv if study else None,
    )


def image_figures(
    pixels: NDArray[np.uint8],
    logits: NDArray[np.float32],
    distance: float | None,
    n_pixels: int,
    study: DicomStudy | None,
    spec: ModelSpec,
) -> ImageFigures:
    """The figures of a network's input (S, S) with its logits (K,), of a file of `n_pixels`."""
    return answered_figures(picture_figures(pixels, n_pixels, study), logits, distance, spec)


def answered_figures(
    picture: PictureFigures,
    logits: NDArray[np.float32],
    distance: float | None,
    spec: ModelSpec,
) -> ImageFigures:
    """The figures of a picture to which a model gave logits (K,) and a distance."""
    probabilities = softmax(logits[None], spec.temperature)
    is_refused = False
    if distance is not None and spec.novelty is not None:
        is_refused = bool(spec.novelty.refuses(np.array([distance]))[0])
    return ImageFigures(
        answer=int(spec.decide(probabilities)[0]),
        device=picture.device,
        probability=rounded(float(probabilities[0, spec.positive_index])),
        refused=float(is_refused),
        distance=None if distance is None else rounded(distance),
        brightness=rounded(picture.grey.brightness),
        contrast=rounded(picture.grey.contrast),
        tone=rounded(picture.grey.tone),
        sharpness=rounded(picture.grey.sharpness),
        side=rounded(picture.n_pixels**0.5),
        tube_kv=picture.tube_kv,
    )
