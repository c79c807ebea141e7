"""Which training images set the int8 ranges, and which others tell how well a recipe does."""

import hashlib
from dataclasses import dataclass

import numpy as np

from kneeedge.data.dataset import Dataset, Sample
from kneeedge.errors import DataError
from kneeedge.model.file_record import Calibration, Trial

N_IMAGES = 256
N_SCORED = 64
"images on which the recipes of the search are compared"


@dataclass(frozen=True)
class CalibrationSet:
    """Training images whose activations set the ranges."""

    samples: tuple[Sample, ...]
    "in the order of their names"
    scored: tuple[Sample, ...]
    "training images on which recipes are compared: others than `samples` where there are any"

    def record(
        self,
        method: str,
        float_layers: tuple[str, ...],
        trials: tuple[Trial, ...],
        untried: tuple[str, ...],
    ) -> Calibration:
        """What the file says of the calibration images, and of the recipe that was chosen."""
        hashes = sorted(sample.sha256 for sample in self.samples)
        return Calibration(
            n_images=len(self.samples),
            sha256=hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
            method=method,
            float_layers=float_layers,
            trials=trials,
            untried=untried,
        )


def choose_images(
    dataset: Dataset, n_images: int, seed: int, n_scored: int = N_SCORED
) -> CalibrationSet:
    """At most `n_images` and `n_scored` of the training split, as many of each class as there are.

    Raises DataError where one of them, by its bytes, also stands in val or test. The paper's
    protocol is leaky by design: most of its test images are trained on, and stand in the dataset
    twice. There only training images that are held out nowhere are drawn from.
    """
    train = dataset.split("train")
    names = {sample.name for sample in dataset.samples}
    if len(names) < len(dataset.samples):
        held_out = hashes_held_out(dataset)
        train = tuple(sample for sample in train if sample.sha256 not in held_out)
    n_classes = len(dataset.classes)
    chosen = draw(train, n_classes, n_images, seed)
    if not chosen:
        problem = "it has no training images to calibrate on"
        raise DataError(dataset.root, problem, "give the run's data with --data")
    used = {sample.name for sample in chosen}
    others = tuple(sample for sample in train if sample.name not in used)
    scored = draw(others or chosen, n_classes, n_scored, seed)
    check_not_held_out(dataset, chosen + scored)
    return CalibrationSet(chosen, scored)


def draw(
    samples: tuple[Sample, ...], n_classes: int, n_images: int, seed: int
) -> tuple[Sample, ...]:
    """At most `n_images`, stratified by class, by chance, in the order of their names."""
    rng = np.random.default_rng([seed, 3])
    chosen: list[Sample] = []
    by_class = [[s for s in samples if s.label == k] for k in range(n_classes)]
    for rank, members in enumerate(sorted(by_class, key=len)):
        share = (n_images - len(chosen)) // (n_classes - rank)
        order = rng.permutation(len(members))
        chosen += [members[i] for i in order[:share]]
    return tuple(sorted(chosen, key=lambda s: s.name))


def check_not_held_out(dataset: Dataset, samples: tuple[Sample, ...]) -> None:
    """Raise DataError where one of `samples` has the bytes of an image in val or test."""
    held_out = hashes_held_out(dataset)
    for sample in samples:
        if sample.sha256 in held_out:
            problem = "this calibration image also stands in val or test"
            remedy = "remove the duplicate and train again, or leave out int8"
            raise DataError(sample.path, problem, remedy)


def hashes_held_out(dataset: Dataset) -> set[str]:
    """The hashes of the images of val and test."""
    return {sample.sha256 for sample in dataset.samples if sample.split != "train"}
