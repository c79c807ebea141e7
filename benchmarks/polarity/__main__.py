"""Which test tells inverted knees, and upright ones from them, whatever else is wrong with both.

    python -m benchmarks.polarity --data DATA [--other FOLDER] [--json FILE]

Every kind and severity of `kneeedge stress` of the images of DATA, a folder of splits: upright,
inverted and then changed, and changed and then inverted. Each test is learnt from the training
images as they are. Train (each fourth image) and val choose; test is counted once, for the test
before and the one chosen. An image that the test before calls inverted is taken for inverted.
FOLDER is another source of knees, with classes: its own test, and DATA's. Then: what the test costs
in a graph and beside it.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.polarity.cost import cost
from benchmarks.polarity.names import BEFORE, CHOSEN
from benchmarks.polarity.tests import (
    TESTS,
    Cells,
    Learnt,
    cells_of,
    joined,
)
from kneeedge.data.dataset import Sample, scan
from kneeedge.errors import ConfigError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.corruptions import KINDS, Kind, corrupt, seed_of
from kneeedge.pixels.picture import MAX_PIXELS, decode_picture, read_bytes
from kneeedge.pixels.pixel_path import load_input, to_input
from kneeedge.system.files import write_text
from kneeedge.system.machine import environment
from kneeedge.system.strict_json import plain, to_json
from kneeedge.training.polarity import fit_polarity

PATH = PixelPath()
CLEAN = "clean"
EVERY = {"train": 4, "val": 1, "test": 1}
"one image of so many is changed in every way"
EVERY_OTHER = 3
OTHER_KINDS = ("bars", "padding", "collimation", "crop", "gradient", "text")
"of another source, whose pictures are large"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one test makes of one kind and severity."""

    test: str
    images: str
    kind: str
    severity: int
    "0 of images as they are"
    n: int
    turned: int
    "upright images that are called inverted"
    missed: int
    "inverted images, of twice as many, that are not: inverted before and after they were changed"


@dataclass(frozen=True)
class Changed:
    """One kind and severity of N images."""

    kind: str
    severity: int
    upright: Cells
    inverted: Cells
    "of their inverses, changed likewise"


def ways(kinds: Sequence[Kind]) -> Iterator[tuple[str, int]]:
    """Each kind and severity, first the images as they are."""
    yield CLEAN, 0
    for kind in kinds:
        if kind.name != "inverted":
            yield from ((kind.name, severity) for severity in kind.severities)


def grey_of(sample: Sample) -> NDArray[np.uint8]:
    """The picture (H, W) uint8 of a sample."""
    content = read_bytes(sample.path).data
    return decode_picture(content, sample.path, PATH.size, 0, MAX_PIXELS).grey


def changed(
    samples: Sequence[Sample], inverted: NDArray[np.bool_], kinds: Sequence[Kind]
) -> list[Changed]:
    """The samples in every way; those that are inverted (N,) are turned first."""
    pairs: dict[tuple[str, int], list[tuple[Cells, Cells]]] = {way: [] for way in ways(kinds)}
    for sample, is_inverted in zip(samples, inverted, strict=True):
        grey = grey_of(sample)
        upright = 255 - grey if is_inverted else grey
        seed = seed_of(sample.sha256)
        for way, found in pairs.items():
            inputs = []
            for picture in (upright, 255 - upright):
                worse = picture if way[0] == CLEAN else corrupt(picture, *way, seed)
                inputs.append(to_input(np.ascontiguousarray(worse), PATH))
            both = cells_of(inputs)
            one, other = both.rows(slice(1)), both.rows(slice(1, 2))
            found.append((one, other))
    return [
        Changed(*way, joined([u for u, _ in found]), joined([i for _, i in found]))
        for way, found in pairs.items()
    ]


def count(learnt: Learnt, images: str, part: Changed) -> Row:
    """What a test makes of one kind and severity."""
    kept_after = ~learnt.turns(part.upright.inverse())
    kept_before = ~learnt.turns(part.inverted)
    return Row(
        test=learnt.name,
        images=images,
        kind=part.kind,
        severity=part.severity,
        n=len(part.upright.whole),
        turned=int(learnt.turns(part.upright).sum()),
        missed=int(kept_before.sum() + kept_after.sum()),
    )


def shares(rows: Sequence[Row]) -> dict[str, float]:
    """Mean shares over kinds and severities, and of bars and of images as they are alone."""

    def mean(key: str, wanted: Callable[[Row], bool]) -> float:
        times = 2 if key == "missed" else 1
        chosen = [getattr(row, key) / (times * row.n) for row in rows if wanted(row)]
        return round(float(np.mean(chosen)), 5)

    parts: dict[str, Callable[[Row], bool]] = {
        "all": lambda row: row.severity > 0,
        "usual": lambda row: 0 < row.severity <= 3,
        "bars": lambda row: row.kind == "bars",
        "clean": lambda row: row.kind == CLEAN,
    }
    return {
        f"{key}_{name}": mean(key, wanted)
        for name, wanted in parts.items()
        for key in ("turned", "missed")
    }


def study(data: Path, other: Path | None) -> dict[str, Any]:
    """All counts."""
    dataset = scan(data)
    inputs = {split: [load_input(s.path, PATH) for s in dataset.split(split)] for split in EVERY}
    clean = {split: cells_of(images) for split, images in inputs.items()}
    learnt = {test.name: test.learn(clean["train"]) for test in TESTS}
    check_chosen(learnt[CHOSEN], inputs["train"])
    inverted = {split: learnt[BEFORE].turns(cells) for split, cells in clean.items()}
    rows: list[Row] = []
    for split, every in EVERY.items():
        samples = dataset.split(split)[::every]
        parts = changed(samples, inverted[split][::every], KINDS)
        names = (BEFORE, CHOSEN) if split == "test" else tuple(learnt)
        rows += [count(learnt[name], split, part) for name in names for part in parts]
        print(f"{split}: {len(samples)} images", flush=True)
    record = {
        "inverted": {
            split: {
                "n": int(truth.sum()),
                "found": {
                    name: int((test.turns(clean[split]) & truth).sum())
                    for name, test in learnt.items()
                    if split != "test" or name in (BEFORE, CHOSEN)
                },
            }
            for split, truth in inverted.items()
        },
        "tests": [
            {"test": name} | shares(pooled([row for row in rows if row.test == name]))
            for name in learnt
        ],
        "cells": [plain(row) for row in rows if row.images == "test"],
    }
    if other:
        record["other"] = other_source(other, learnt)
    return record


def pooled(rows: Sequence[Row]) -> list[Row]:
    """The rows of train and val, those of one kind and severity together."""
    choosing = [row for row in rows if row.images != "test"]
    together = {}
    for row in choosing:
        same = [r for r in choosing if (r.kind, r.severity) == (row.kind, row.severity)]
        sums = {key: sum(getattr(r, key) for r in same) for key in ("n", "turned", "missed")}
        together[row.kind, row.severity] = Row(
            test=row.test, images="train and val", kind=row.kind, severity=row.severity, **sums
        )
    return list(together.values())


def check_chosen(learnt: Learnt, images: Sequence[NDArray[np.uint8]]) -> None:
    """Raise ConfigError where the test of the study is not the one that `train` learns."""
    polarity = fit_polarity(images)
    (part,) = learnt.parts
    if polarity is None or not np.allclose(polarity.weights, part.weights, atol=1e-6):
        remedy = "bring benchmarks/polarity/tests.py up to kneeedge/training/polarity.py"
        raise ConfigError("the chosen test is not the one that train learns", remedy)


def other_source(folder: Path, learnt: dict[str, Learnt]) -> list[dict[str, Any]]:
    """The test before and the one chosen on another source: its own test, and the given one."""
    dataset = scan(folder)
    samples = [sample for split in ("train", "val", "test") for sample in dataset.split(split)]
    clean = cells_of([load_input(sample.path, PATH) for sample in samples])
    tests = {test.name: test for test in TESTS if test.name in (BEFORE, CHOSEN)}
    upright = np.zeros(len(samples), dtype=bool)
    kinds = [kind for kind in KINDS if kind.name in OTHER_KINDS]
    parts = changed(samples[::EVERY_OTHER], upright[::EVERY_OTHER], kinds)
    whole = Changed(CLEAN, 0, clean, clean.inverse())
    found = []
    for name, test in tests.items():
        for source, asked in (("its own", test.learn(clean)), ("another's", learnt[name])):
            rows = [count(asked, source, part) for part in (whole, *parts[1:])]
            found.append({"test": name, "learnt_from": source, "n": len(samples)} | shares(rows))
    return found


def table(record: dict[str, Any]) -> str:
    """One line a test."""
    keys = ("turned_all", "turned_bars", "missed_all", "missed_bars", "missed_clean")
    lines = [f"{'test':48}" + "".join(f"{key:>14}" for key in keys)]
    lines += [
        f"{row['test']:48}" + "".join(f"{row[key]:14.2%}" for key in keys)
        for row in record["tests"]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    record = study(asked.data, asked.other)
    print(table(record))
    record["cost"] = cost(PATH.size)
    record["environment"] = plain(environment())
    if asked.json:
        write_text(asked.json, to_json(record) + "\n")


if __name__ == "__main__":
    main()
