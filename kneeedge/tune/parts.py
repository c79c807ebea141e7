"""The images of a study, the test left out: a part to confirm on, and folds to search by."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kneeedge.data.dataset import Dataset, Sample
from kneeedge.data.layout import read_layout
from kneeedge.data.splits import assign_splits, draw_by_group
from kneeedge.data.table import read_labels
from kneeedge.errors import ConfigError, DataError
from kneeedge.runs.config import AUTO, TrainConfig
from kneeedge.runs.tuning import CONFIRM, TuneConfig
from kneeedge.system.progress import Progress
from kneeedge.training.prepare import GatheredImages, gather_images, split_data

POOL = ("train", "val")
"splits that a study looks into"


def gather_pool(config: TrainConfig, progress: Progress) -> GatheredImages:
    """The images that may be searched on.

    Where folders or a table have splits, those of train and val: no other file is opened. Else the
    test is drawn as `kneeedge train` draws it with the same options, which needs all files for
    their copies, and left alone from then on.
    """
    if config.split == AUTO and has_splits(config):
        return gather_images(config, progress, POOL)
    gathered = gather_images(config, progress)
    dataset, _ = split_data(gathered.dataset, config)
    pool = [sample for sample in dataset.samples if sample.split != "test"]
    n_test = len(dataset.samples) - len(pool)
    progress(
        f"no split folders are used: {n_test:,} test images are drawn as `kneeedge train` draws "
        f"them with --seed {config.seed}; all files were looked at for copies, and these are left "
        "alone from now on"
    )
    return replace(gathered, dataset=replace(dataset, samples=tuple(pool)))


def has_splits(config: TrainConfig) -> bool:
    """Whether the data says which images are the test; no image is opened."""
    root = Path(config.data)
    if root.is_file():
        return "" not in read_labels(root, config.group_regex).by_split()
    return bool(read_layout(root).splits)


def cut(pool: Dataset, config: TuneConfig) -> Dataset:
    """The pool with each image's part in place of its split, drawn by group and seed.

    Raises DataError where a part lacks a class.
    """
    shares = {CONFIRM: config.confirm}
    shares |= dict.fromkeys(fold_names(config.folds), (1 - config.confirm) / config.folds)
    rng = np.random.default_rng([config.train.seed, 11])
    part_of = draw_by_group(pool.samples, shares, rng)
    samples = tuple(replace(sample, split=part_of[sample.group]) for sample in pool.samples)
    parts = replace(pool, samples=samples)
    for part in shares:
        labels = {sample.label for sample in parts.split(part)}
        for label, name in enumerate(pool.classes):
            if label not in labels:
                remedy = "lower --folds, change --confirm, or add images"
                raise DataError(pool.root, f"{part} has no image of {name!r}", remedy)
    return parts


def fold_names(n: int) -> list[str]:
    return [f"fold-{k + 1}" for k in range(n)]


def search_part(parts: Dataset) -> tuple[Sample, ...]:
    """The images that the search sees."""
    return tuple(sample for sample in parts.samples if sample.split != CONFIRM)


def fold_splits(parts: Dataset, fold: str) -> Dataset:
    """What the search sees as train and val, of which val is one fold."""
    samples = [
        replace(sample, split="val" if sample.split == fold else "train")
        for sample in search_part(parts)
    ]
    return replace(parts, samples=tuple(samples))


def confirmation_splits(parts: Dataset, config: TrainConfig) -> Dataset:
    """What the search sees as train and val, drawn by group and the config's seed."""
    samples = tuple(replace(sample, split="train") for sample in search_part(parts))
    return assign_splits(replace(parts, samples=samples), config.val_fraction, 0.0, config.seed)


def sizes(parts: Dataset) -> dict[str, dict[str, int]]:
    """Images and groups of each part."""
    names = sorted({sample.split for sample in parts.samples})
    return {name: size_of(parts.split(name)) for name in names}


def size_of(samples: Sequence[Sample]) -> dict[str, int]:
    return {"images": len(samples), "groups": len({sample.group for sample in samples})}


def check_split(config: TrainConfig) -> None:
    """Raise ConfigError for a protocol that keeps no test apart."""
    if config.split not in (AUTO, "grouped"):
        problem = f"--split {config.split} trains on its test images"
        raise ConfigError(problem, "search with --split auto or grouped")
