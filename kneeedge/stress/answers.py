"""Labelled images → corrupted in every way, each read once → the answers of several models."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.errors import DataError
from kneeedge.model.spec import ModelSpec, PixelPath
from kneeedge.pixels.corruptions import seed_of
from kneeedge.pixels.picture import MAX_PIXELS, decode_picture, read_bytes
from kneeedge.pixels.pixel_path import to_input
from kneeedge.pixels.prefetch import READING, RUNNING, StageClock
from kneeedge.runtime.batches import joined
from kneeedge.runtime.session import Outputs
from kneeedge.stress.cells import Cell
from kneeedge.system import machine
from kneeedge.system.progress import Progress
from kneeedge.system.threads import in_order

BATCH = 16
Inputs = dict[PixelPath, NDArray[np.uint8]]
"of one image, for each pixel path that a model asks for: (C, 1, S, S), a row for each cell"


@dataclass(frozen=True)
class Subject:
    """What is asked: a session, or a network that is none yet."""

    spec: ModelSpec
    run: Callable[[NDArray[np.uint8]], Outputs]
    "answers for (N, 1, S, S) uint8"


@dataclass(frozen=True)
class CellAnswers:
    """One model's answers to N images in C cells."""

    spec: ModelSpec
    probabilities: NDArray[np.floating]
    "(C, N, K)"
    logits: NDArray[np.floating]
    "(C, N, K)"
    distances: NDArray[np.floating] | None
    "(C, N); None where the model has no limit to abstain by"

    @property
    def refused(self) -> NDArray[np.bool_]:
        """(C, N): whether `infer` leaves the image without an answer."""
        if self.spec.novelty is None or self.distances is None:
            return np.zeros(self.probabilities.shape[:2], dtype=bool)
        return self.spec.novelty.refuses(self.distances)

    def decisions(self, cell: int) -> NDArray[np.intp]:
        """Class indices (N,), refused ones included."""
        return self.spec.decide(self.probabilities[cell])


def answer_cells(
    subjects: Sequence[Subject],
    samples: Sequence[Sample],
    cells: Sequence[Cell],
    progress: Progress,
    batch_size: int = BATCH,
    clock: StageClock | None = None,
) -> list[CellAnswers]:
    """Each subject's answers to the samples in every cell.

    A file is read and decoded once; its C corrupted inputs go through every model before the next
    one's, so that only some images are held. Raises ImageError where a sample cannot be read, and
    DataError where it has changed meanwhile.
    """
    clock = clock or StageClock()
    paths = list(dict.fromkeys(subject.spec.pixel_path for subject in subjects))
    n_threads = machine.available_cpus()

    def prepare(sample: Sample) -> Inputs:
        return inputs_of(sample, paths, cells)

    parts: list[list[Outputs]] = [[] for _ in subjects]
    prepared = in_order(prepare, samples, n_threads, 2 * n_threads)
    with closing(prepared), progress.stage("stress", len(samples) * len(cells)) as stage:
        for _ in samples:
            with clock.measure(READING):
                inputs = next(prepared)
            for i, subject in enumerate(subjects):
                with clock.measure(RUNNING):
                    parts[i].append(_run(subject, inputs[subject.spec.pixel_path], batch_size))
            stage.advance(len(cells))
    return [_gathered(subjects[i].spec, outputs) for i, outputs in enumerate(parts)]


def inputs_of(sample: Sample, paths: Sequence[PixelPath], cells: Sequence[Cell]) -> Inputs:
    """The network's inputs for one file in every cell; all paths get the same corrupted pixels."""
    content = read_bytes(sample.path)
    if content.stamp().sha256 != sample.sha256:
        problem = "the image has changed meanwhile"
        raise DataError(sample.path, problem, "run again when nothing writes to the folder")
    seed = seed_of(sample.sha256)
    squares: dict[PixelPath, list[NDArray[np.uint8]]] = {path: [] for path in paths}
    for size, window, grey_bits in dict.fromkeys(map(_decoding, paths)):
        picture = decode_picture(
            content.data, sample.path, size, window, MAX_PIXELS, grey_bits=grey_bits
        )
        alike = [path for path in paths if _decoding(path) == (size, window, grey_bits)]
        for cell in cells:
            corrupted = cell.corrupted(picture.grey, seed)
            for path in alike:
                squares[path].append(to_input(corrupted, path))
    return {path: np.stack(of_cells)[:, None] for path, of_cells in squares.items()}


def _decoding(path: PixelPath) -> tuple[int, int, int]:
    """What of a pixel path the decoder is told."""
    return path.size, path.dicom_window, path.grey_bits


def _run(subject: Subject, images: NDArray[np.uint8], batch_size: int) -> Outputs:
    """Answers for (C, 1, S, S), a batch at a time, without class activation maps."""
    outputs = []
    for begin in range(0, len(images), batch_size):
        batch = subject.run(images[begin : begin + batch_size])
        outputs.append(dataclasses.replace(batch, cam=None))
    return joined(outputs)


def _gathered(spec: ModelSpec, images: Sequence[Outputs]) -> CellAnswers:
    """The answers of one model, by image and cell, as by cell and image."""
    distances = [outputs.distance for outputs in images if outputs.distance is not None]
    return CellAnswers(
        spec=spec,
        probabilities=np.stack([outputs.probabilities for outputs in images], axis=1),
        logits=np.stack([outputs.logits for outputs in images], axis=1),
        distances=np.stack(distances, axis=1) if distances else None,
    )
