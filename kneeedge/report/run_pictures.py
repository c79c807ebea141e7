"""Pictures of patients for a run's page: samples, and wrong answers with their class maps."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.data.dataset import Dataset, Sample, some_of_each_class
from kneeedge.errors import ImageError
from kneeedge.inference.heatmap import overlay
from kneeedge.inference.predictions import READ_INVERSE
from kneeedge.inference.predictor import Predictor
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.pixel_path import picture_box
from kneeedge.pixels.reader import ReadOptions, read_input
from kneeedge.report.page import jpeg_tag, words
from kneeedge.report.run_facts import RunFacts
from kneeedge.runs.folder import Run
from kneeedge.system.stamps import FileStamp

SIDE = 320
"longest side of a picture, pixels"
N_SAMPLES = 5
"of each class"
QUALITY = 85
GONE = "the file is gone, or is another one since the training"


def sample_figures(dataset: Dataset, spec: ModelSpec) -> Iterator[str]:
    """Some training images of each class, the same as in samples.png, at their own aspect."""
    options = ReadOptions(spec.pixel_path, shown_side=SIDE // 2)
    for name, samples in zip(
        dataset.classes, some_of_each_class(dataset, spec.training.seed, N_SAMPLES), strict=True
    ):
        frames = [
            frame(shown_of(sample, options), f"a training image of {name}") for sample in samples
        ]
        yield f'<p>{words(name)}</p><div class="row">{"".join(frames)}</div>'


def wrong_figures(
    facts: RunFacts, samples: Sequence[Sample], rows: Sequence[Sequence[str]]
) -> Iterator[str]:
    """Each sample as it is and with the class map of the answer; `rows` say what stands below.

    The maps are those of an exported file of the run, which may answer otherwise than the PyTorch
    network did: the caption says so.
    """
    model = mapped_model(facts.run)
    predictor = Predictor(model, "cpu") if model else None
    figures = []
    for sample, (name, truth, answer, probability, _) in zip(samples, rows, strict=True):
        picture, mapped, remark = _pictures(sample, predictor, answer, facts.card.spec)
        pair = frame(picture, f"radiograph {name}") + frame(mapped, f"class map for {name}")
        caption = f"{name}: {answer} {probability}, truth {truth}{remark}"
        below = f"<figcaption>{words(caption)}</figcaption>"
        figures.append(f'<figure><div class="two">{pair}</div>{below}</figure>')
    shown = "Nothing is exported, so that there are no class maps"
    if model:
        shown = f"Left the radiograph, right the evidence for the answer, by {model.name}"
    yield f'<p class="soft">{words(shown)}.</p>'
    yield f'<div class="cases">{"".join(figures)}</div>'


def mapped_model(run: Run) -> Path | None:
    """The exported file whose class maps are shown: fp32 if there is one, else the first."""
    if not run.export_report.is_file():
        return None
    files = run.read_export_report().files
    paths = {file.report.precision: run.models / file.path for file in files}
    there = {precision: path for precision, path in paths.items() if path.is_file()}
    return there.get("fp32") or next(iter(there.values()), None)


def _pictures(
    sample: Sample, predictor: Predictor | None, answer: str, spec: ModelSpec
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None, str]:
    """The radiograph, the same with its class map, and what is to be said of them."""
    options = ReadOptions(spec.pixel_path, shown_side=SIDE)
    read = read_input(sample.path, options)
    result = read.result
    if isinstance(result, ImageError) or not _is_same(sample, read.stamp) or result.shown is None:
        return None, None, f"; {GONE}"
    if predictor is None or spec.architecture.head != "gap":
        return result.shown, None, ""
    outputs = predictor.session.run(result.pixels[None, None])
    if outputs.cam is None:
        return result.shown, None, ""
    decided = int(predictor.spec.decide(outputs.probabilities)[0])
    said = predictor.spec.classes[decided]
    cam = outputs.cam[0, decided]
    remark = "" if said == answer else f"; the file answers {said}"
    picture = result.shown
    inverted = predictor.spec.inverted(result.pixels[None, None])
    if inverted is not None and inverted[0]:
        picture = 255 - picture
        remark += f"; {READ_INVERSE}"
    mapped = overlay(picture, cam, picture_box(picture.shape, spec.pixel_path))
    return result.shown, mapped, remark


def _is_same(sample: Sample, stamp: FileStamp | None) -> bool:
    return stamp is not None and stamp.sha256 == sample.sha256


def shown_of(sample: Sample, options: ReadOptions) -> NDArray[np.uint8] | None:
    """The picture of a sample; None where the file is gone or is another one."""
    read = read_input(sample.path, options)
    if isinstance(read.result, ImageError) or not _is_same(sample, read.stamp):
        return None
    return read.result.shown


def frame(pixels: NDArray[np.uint8] | None, alt: str) -> str:
    """A picture (H, W) or (H, W, 3) in its frame; an empty frame without one."""
    if pixels is None:
        return '<div class="frame">no picture</div>'
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return f'<div class="frame">{jpeg_tag(buffer.getvalue(), alt)}</div>'
