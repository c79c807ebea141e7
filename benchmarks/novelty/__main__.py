"""Which distance best tells the images that a network should not answer, chosen on val alone.

    python -m benchmarks.novelty --run RUN [--model FILE] [--dicom FOLDER] [--other FOLDER]
        [--cache FOLDER] [--test] [--json FILE]

RUN is a trained run whose data is there, FILE one of its exported files; without it PyTorch answers
for the run, on a GPU where there is one. Each score is fitted to
training images, gets the limit that `train` would give it (1 % of val, split conformal) and meets
val images that were changed by kind and severity, and images that are no knees. The kinds
in HELD_OUT and the test split choose nothing: they are for the last figures. OTHER is a folder of
knees from another source. Caches are of one file and one `--n`.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.novelty.features import (
    ExportedNetwork,
    Features,
    Network,
    OriginalNetwork,
    Pixels,
    cached,
)
from benchmarks.novelty.kinds import BEFORE, CHOSEN, HELD_OUT
from benchmarks.novelty.scores import Score, Training, all_scores
from benchmarks.refusals import blanks, cut, dicoms, noises, pages, photographs
from kneeedge.data.dataset import Dataset, Sample
from kneeedge.model.spec import ModelSpec, Novelty, softmax
from kneeedge.pixels.corruptions import KINDS, corrupt, seed_of
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.picture import read_grey
from kneeedge.pixels.pixel_path import load_input, to_input
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import open_run
from kneeedge.statistics.auroc import auroc
from kneeedge.system.machine import environment
from kneeedge.system.strict_json import to_json
from kneeedge.training.checkpoint import load_original
from kneeedge.training.data import sample_view
from kneeedge.training.novelty import REFUSED, quantile_limit
from kneeedge.training.views import load_view

SEVERITIES = (1, 3, 5)
N_OTHERS = 120
"knees of another source, evenly from all of them"
VIEWS = (0, 3)
"of each training image: itself, and mirrored and turned"
GAMMAS = (0.6, 1.6)
HARM = 0.05
"a cell is harmed where accuracy falls by more than this, and should be refused"
SOUND = 0.02
"a cell is sound where it falls by no more than this, and should be answered"
SHARE = 0.95
"of genuine images accepted, at which the share of others accepted is taken"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One set of images under one score."""

    kind: str
    severity: int
    "0 where the kind has none"
    n: int
    accuracy: float | None
    "of all its images, refused or not; absent for what is no knee"
    refused: float
    "share beyond the limit"
    safe: float | None
    "share refused or right"
    lost: float | None
    "share refused although it would have been right"
    auroc: float
    "of the score, against genuine images"
    false_accepts: float
    "share accepted where 95 % of genuine images are"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A score on the kinds that choose."""

    score: str
    false_refusals: float
    "share of the genuine images of the split that are refused"
    harmed: float
    "mean share refused of cells whose accuracy fell by more than 5 points"
    sound: float
    "mean share refused of cells whose accuracy fell by at most 2 points"
    wrong: float
    "mean share of images that are answered wrongly"
    inverted_safe: float
    "least share of inverted knees that are refused or right"
    auroc_harmed: float
    far: float
    "mean share refused of what is no knee"
    auroc_far: float


@dataclass(frozen=True, kw_only=True)
class Images:
    """One set: its features, and its labels where it is of knees."""

    kind: str
    severity: int
    features: Features
    labels: NDArray[np.int64] | None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A run and where its features are kept."""

    spec: ModelSpec
    network: Network
    weight: NDArray[np.float32]
    "(K, C) of the head"
    bias: NDArray[np.float32]
    config: TrainConfig
    dataset: Dataset
    cache: Path
    n: int
    "images of each cell"

    def features(self, name: str, draw: Callable[[], Iterable[Pixels]]) -> Features:
        return cached(self.cache, name.replace(" ", "-"), self.network, draw)

    def input(self, grey: Pixels) -> Pixels:
        return to_input(np.ascontiguousarray(grey), self.spec.pixel_path)

    def load(self, path: Path) -> Pixels:
        return load_input(path, self.spec.pixel_path)

    def grey(self, sample: Sample) -> Pixels:
        path = self.spec.pixel_path
        return read_grey(sample.path, path.size, path.dicom_window, path.grey_bits)


def training(study: Study) -> Training:
    """The features of the training views."""
    samples = study.dataset.split("train")

    def views(toned: bool) -> Iterator[Pixels]:
        rng = np.random.default_rng(0)
        for k in VIEWS:
            for sample in samples:
                view = sample_view(sample, study.config, k)
                image = load_view(sample, view, study.spec.pixel_path)
                gamma = np.exp(rng.uniform(*np.log(GAMMAS))) if toned else 1.0
                yield np.round(255.0 * (image / 255.0) ** gamma).astype(np.uint8)

    return Training(
        views=study.features("train", lambda: views(False)),
        toned=study.features("train toned", lambda: views(True)),
        weight=study.weight,
        bias=study.bias,
    )


def clean(study: Study, split: str) -> Images:
    """All images of a held-out split."""
    samples = study.dataset.split(split)
    features = study.features(split, lambda: map(study.load, (s.path for s in samples)))
    labels = np.array([sample.label for sample in samples])
    return Images(kind="clean", severity=0, features=features, labels=labels)


def chosen(study: Study, split: str) -> NDArray[np.int64]:
    """Which images of a split are changed."""
    n = len(study.dataset.split(split))
    return np.sort(np.random.default_rng(0).permutation(n)[: study.n])


def changed(study: Study, split: str) -> Iterator[Images]:
    """The same images of a split, changed by every kind and severity."""
    samples = [study.dataset.split(split)[i] for i in chosen(study, split)]
    labels = np.array([sample.label for sample in samples])

    def draw(kind: str, severity: int) -> Iterator[Pixels]:
        for sample in samples:
            seed = seed_of(sample.sha256)
            yield study.input(corrupt(study.grey(sample), kind, severity, seed))

    for kind in KINDS:
        for severity in kind.severities:
            if severity in SEVERITIES:
                name = f"{split} {kind.name} {severity}"
                features = study.features(name, partial(draw, kind.name, severity))
                yield Images(kind=kind.name, severity=severity, features=features, labels=labels)


def far(study: Study, dicom: Path | None) -> Iterator[Images]:
    """What is no knee: drawn, photographed, and of other parts of the body."""
    side = study.spec.pixel_path.size
    sets: dict[str, Callable[[], Iterable[Pixels]]] = {
        "blank and ramps": lambda: blanks(side, np.random.default_rng(0)),
        "grains of noise": lambda: noises(side, np.random.default_rng(0)),
        "pages of text": lambda: pages(side, np.random.default_rng(0)),
        "photographs": lambda: cut(photographs(), np.random.default_rng(0)),
        "phantoms": lambda: (phantom(i, i % 2, side) for i in range(60)),
    }
    for name, picture in dicoms(dicom).items() if dicom else ():
        sets[name] = partial(cut, [picture], np.random.default_rng(0))
    for name, draw in sets.items():
        features = study.features(name, partial(inputs, study, draw))
        yield Images(kind=name, severity=0, features=features, labels=None)


def inputs(study: Study, draw: Callable[[], Iterable[Pixels]]) -> Iterator[Pixels]:
    return map(study.input, draw())


def near(study: Study, other: Path | None) -> Iterator[Images]:
    """Two knees of one patient in one picture, and knees of another source."""
    pairs: dict[str, list[Sample]] = {}
    for sample in study.dataset.split("val"):
        pairs.setdefault(sample.group, []).append(sample)
    both = [samples for samples in pairs.values() if len(samples) == 2]

    def side_by_side() -> Iterator[Pixels]:
        for samples in both:
            greys = [study.grey(sample) for sample in samples]
            height = min(len(grey) for grey in greys)
            yield study.input(np.concatenate([grey[:height] for grey in greys], axis=1))

    features = study.features("two knees", side_by_side)
    yield Images(kind="two knees", severity=0, features=features, labels=None)
    if other is None:
        return
    paths = sorted(path for path in other.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg"))
    paths = paths[:: max(1, len(paths) // N_OTHERS)]
    features = study.features("another source", lambda: map(study.load, paths))
    yield Images(kind="another source", severity=0, features=features, labels=None)


def cell(images: Images, score: Score, genuine: NDArray[np.float64], spec: ModelSpec) -> Cell:
    """How one set fares; `genuine` (N,) are the scores of clean images of the same split."""
    distances = score(images.features)
    limit = spec.novelty.limit if spec.novelty else np.inf
    refused = distances > limit
    labels = np.repeat([0, 1], [len(genuine), len(distances)])
    values = np.concatenate([genuine, distances])
    right = lost = safe = None
    if images.labels is not None:
        answers = spec.decide(softmax(images.features.logits, spec.temperature))
        right = answers == images.labels
        safe = float((refused | right).mean())
        lost = float((refused & right).mean())
    return Cell(
        kind=images.kind,
        severity=images.severity,
        n=len(distances),
        accuracy=None if right is None else float(right.mean()),
        refused=float(refused.mean()),
        safe=safe,
        lost=lost,
        auroc=float(auroc(labels == 1, values)),
        false_accepts=float((distances <= np.quantile(genuine, SHARE)).mean()),
    )


def cells(
    sets: Sequence[Images], score: Score, val: Images, genuine: Images, spec: ModelSpec
) -> list[Cell]:
    """Every set under a score whose limit val sets; the first is the genuine images."""
    limit, method = quantile_limit(score(val.features))
    novelty = Novelty(
        limit=limit, refused=REFUSED, split="val", n=len(val.features.logits), method=method
    )
    spec = replace(spec, novelty=novelty)
    own = score(genuine.features)
    return [cell(images, score, own, spec) for images in (genuine, *sets)]


def summary(name: str, rows: Sequence[Cell], held_out: bool = False) -> Summary:
    """Of the kinds that choose, or of those held out."""
    genuine = rows[0]
    usual = genuine.accuracy or 0.0
    kept = [row for row in rows[1:] if (row.kind in HELD_OUT) == held_out]
    knees = [row for row in kept if row.accuracy is not None]
    harmed = [row for row in knees if usual - (row.accuracy or 0.0) > HARM]
    sound = [row for row in knees if usual - (row.accuracy or 0.0) <= SOUND]
    others = [row for row in rows if row.accuracy is None and row.kind != "another source"]
    inverted = [row.safe or 0.0 for row in rows if row.kind == "inverted"]
    return Summary(
        score=name,
        false_refusals=genuine.refused,
        harmed=mean(row.refused for row in harmed),
        sound=mean(row.refused for row in sound),
        wrong=mean(1.0 - (row.safe or 0.0) for row in knees),
        inverted_safe=min(inverted, default=float("nan")),
        auroc_harmed=mean(row.auroc for row in harmed),
        far=mean(row.refused for row in others),
        auroc_far=mean(row.auroc for row in others),
    )


def mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values) or [np.nan])), 4)


def lines(summaries: Sequence[Summary]) -> list[str]:
    """One line a score."""
    heads = ("genuine", "harmed", "sound", "wrong", "inv safe", "AUROC", "far", "AUROC far")
    texts = [f"{'score':34}" + "".join(f"{head:>10}" for head in heads)]
    for row in summaries:
        figures = (
            row.false_refusals, row.harmed, row.sound, row.wrong, row.inverted_safe,
            row.auroc_harmed, row.far, row.auroc_far,
        )  # fmt: skip
        texts.append(f"{row.score:34}" + "".join(f"{figure:10.3f}" for figure in figures))
    return texts


def open_study(run_folder: Path, file: Path | None, cache: Path, n: int) -> Study:
    run = open_run(run_folder)
    model, spec = load_original(run)
    record = run.read_config()
    dataset = run.read_dataset(Path(record.data_root), spec.classes)
    linear = model.classifier[-1]
    return Study(
        spec=spec,
        network=ExportedNetwork(file, spec.polarity) if file else OriginalNetwork(model),
        weight=linear.weight.detach().cpu().numpy(),
        bias=linear.bias.detach().cpu().numpy(),
        config=record.config,
        dataset=dataset,
        cache=cache / (file.stem if file else run.name),
        n=n,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--dicom", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "novelty")
    parser.add_argument("--n", type=int, default=120, help="knees that are changed in each way")
    parser.add_argument("--test", action="store_true", help="the last figures, on the test split")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    study = open_study(arguments.run, arguments.model, arguments.cache, arguments.n)
    split = "test" if arguments.test else "val"
    val = clean(study, "val")
    genuine = clean(study, split)
    sets = [*changed(study, split), *far(study, arguments.dicom), *near(study, arguments.other)]
    scores = all_scores(training(study), val.features)
    tables = {name: cells(sets, score, val, genuine, study.spec) for name, score in scores.items()}
    chosen_by = [summary(name, rows) for name, rows in tables.items()]
    apart = [summary(name, rows, held_out=True) for name, rows in tables.items()]
    print("kinds that choose", *lines(chosen_by), "", "held-out kinds", *lines(apart), sep="\n")
    if arguments.json:
        record = {
            "model": arguments.model.name if arguments.model else study.spec.name,
            "split": split,
            "environment": environment(),
            "summaries": chosen_by,
            "held_out": apart,
            "cells": {name: tables[name] for name in (BEFORE, CHOSEN)},
        }
        arguments.json.write_text(to_json(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
