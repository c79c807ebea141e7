"""Which training images set the int8 ranges, and the ranges themselves, measured in bounded memory."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator

from export.graph import convolutions
from kneeedge.dataset import Dataset, Sample
from kneeedge.errors import DataError
from kneeedge.preprocess import load_input
from kneeedge.progress import Progress
from kneeedge.spec import Calibration, PixelPath

N_IMAGES = 256
QUANTISED = ("Conv", "Relu", "MaxPool", "Gemm")
METHOD = "minmax"


@dataclass(frozen=True)
class CalibrationSet:
    """Training images whose activations set the ranges."""

    samples: tuple[Sample, ...]

    def record(self) -> Calibration:
        hashes = "\n".join(sorted(sample.sha256 for sample in self.samples))
        return Calibration(len(self.samples), hashlib.sha256(hashes.encode()).hexdigest(), METHOD)


def choose_images(dataset: Dataset, n_images: int, seed: int) -> CalibrationSet:
    """At most `n_images` of the training split, as many of each class as there are, in the order of their names.

    Raises DataError where one of them, by its bytes, also stands in val or test.
    """
    held_out = {sample.sha256 for sample in dataset.samples if sample.split != "train"}
    rng = np.random.default_rng([seed, 3])
    chosen: list[Sample] = []
    by_class = [[s for s in dataset.split("train") if s.label == k] for k in range(len(dataset.classes))]
    for rank, members in enumerate(sorted(by_class, key=len)):
        share = (n_images - len(chosen)) // (len(by_class) - rank)
        chosen += [members[i] for i in rng.permutation(len(members))[:share]]
    if not chosen:
        raise DataError(dataset.root, "it has no training images to calibrate on", "give the run's data with --data")
    for sample in chosen:
        if sample.sha256 in held_out:
            problem = "this calibration image also stands in val or test"
            raise DataError(sample.path, problem, "remove the duplicate and train again, or leave out int8")
    return CalibrationSet(tuple(sorted(chosen, key=lambda s: s.name)))


def measure_ranges(
    model: onnx.ModelProto, samples: Sequence[Sample], pixel_path: PixelPath, progress: Progress
) -> TensorsData:
    """Smallest and largest value of every tensor to quantise, over all samples.

    ONNX Runtime's min-max calibrator is fed one image at a time and merged at once, so memory does not grow with
    the number of images, and no grouping of them changes the result.
    """
    with TemporaryDirectory() as folder, quiet_quantiser():
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(path, QUANTISED, str(Path(folder) / "augmented.onnx"), CalibrationMethod.MinMax)
        calibrator.set_execution_providers(["CPUExecutionProvider"])
        with progress.stage("int8 ranges", len(samples)) as stage:
            for sample in samples:
                calibrator.collect_data(_OneImage(load_input(sample.path, pixel_path)[None, None]))
                stage.advance()
        return calibrator.compute_data()


class _OneImage(CalibrationDataReader):  # type: ignore[misc]
    """Gives one input, then ends."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self._inputs: Iterator[dict[str, NDArray[np.uint8]]] = iter([{"image": image}])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._inputs, None)


@contextmanager
def quiet_quantiser() -> Iterator[None]:
    """Without the advice that ONNX Runtime's quantiser logs about graphs other than ours."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def nodes_to_quantise(model: onnx.ModelProto) -> list[str]:
    """The heavy nodes and what stands between them, so that activations stay 8-bit from layer to layer."""
    heavy = set(convolutions(model))
    return [node.name for node in model.graph.node if node.name in heavy or node.op_type in ("Relu", "MaxPool")]
