"""After how many images a change is noticed, and how often there is an alarm without one.

    python -m benchmarks.drift --model MODEL.onnx --data DATA [--other FOLDER] [--json FILE]

DATA is the folder that the model was trained from: its val images are what the stream is compared
with at first, and its test images play the stream, drawn anew for each trial. `--other` is a folder
of another source. Changes are made on the network's input. `--design` takes half of val's patients
for the reference and the other half for the stream, as constants were chosen. Nothing is written
but the JSON.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.data.dataset import Sample as LabelledImage
from kneeedge.inference.drift import BASELINE, CountedImage, Monitor
from kneeedge.inference.drift_history import DriftHistory
from kneeedge.inference.image_figures import image_figures
from kneeedge.model.reference import ImageFigures, Sample
from kneeedge.pixels.pixel_path import load_with_facts
from kneeedge.runtime.session import Session

Pixels = NDArray[np.uint8]
NIGHT = 100
"images"
QUIET = 200
"images of a site, behind its baseline, before something changes"
MOST_DELAY = 1000
"images after which a change counts as not noticed"
BATCH = 8
N_TIMED = 300


@dataclass(frozen=True)
class Labelled:
    """One image's figures, its true class and its patient."""

    figures: ImageFigures
    is_positive: bool
    patient: str


@dataclass(frozen=True, kw_only=True)
class Delay:
    """How soon one kind of change is noticed."""

    kind: str
    against: str
    "model: from the first image on; site: after its baseline and a quiet time"
    n: int
    "trials"
    noticed: int
    "within MOST_DELAY images"
    before: int
    "trials with an alarm before the change, which are left out of the others"
    median: float
    "images"
    most: float
    "images within which 95 % are noticed"
    within_50: float
    "share of the trials"
    figures: dict[str, int]
    "trials by the figure that moved first"
    kinds: dict[str, int]
    "trials by the kind of the first alarm"
    least: float | None = None
    "images that any test with this rate of false alarms needs, about; of a change of prevalence"


@dataclass(frozen=True, kw_only=True)
class Years:
    """False alarms of simulated years."""

    kind: str
    n_years: float
    alarms: int
    per_year: float
    low: float
    "of alarms a year, 95 %, exact Poisson"
    high: float
    figures: dict[str, int]


def gamma(value: float) -> Callable[[Pixels], Pixels]:
    levels = np.rint(255 * (np.arange(256) / 255) ** value).astype(np.uint8)
    return lambda pixels: levels[pixels]


def coarser(factor: float) -> Callable[[Pixels], Pixels]:
    """Down to so many times the resolution and up again."""

    def change(pixels: Pixels) -> Pixels:
        side = round(len(pixels) * factor)
        small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(small.resize(pixels.shape[::-1], Image.Resampling.BILINEAR))

    return change


def noisy(spread: float) -> Callable[[Pixels], Pixels]:
    def change(pixels: Pixels) -> Pixels:
        rng = np.random.default_rng(int(pixels.sum()))
        return np.clip(pixels + rng.normal(0, spread, pixels.shape), 0, 255).astype(np.uint8)

    return change


def toned(contrast: float) -> Callable[[Pixels], Pixels]:
    return lambda x: np.clip(128 + contrast * (x - 128.0), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "gamma 1.3": gamma(1.3),
    "gamma 0.77": gamma(1 / 1.3),
    "gamma 1.1": gamma(1.1),
    "half resolution": coarser(0.5),
    "three quarters of the resolution": coarser(0.75),
    "contrast 0.8": toned(0.8),
    "noise of 3 levels": noisy(3.0),
    "inverted": lambda pixels: 255 - pixels,
}


class Source:
    """Labelled images of one split, and their figures under each change."""

    def __init__(self, session: Session, samples: Sequence[LabelledImage], positive: int) -> None:
        self._session = session
        self._samples = samples
        self._positive = positive
        pixel_path = session.spec.pixel_path
        self._inputs = [load_with_facts(sample.path, pixel_path) for sample in samples]

    def images(self, change: Callable[[Pixels], Pixels] | None = None) -> list[Labelled]:
        """The figures of all images, changed or not."""
        inputs = self._inputs
        if change is not None:
            inputs = [replace(item, pixels=change(item.pixels)) for item in inputs]
        found = []
        for i in range(0, len(inputs), BATCH):
            part = inputs[i : i + BATCH]
            outputs = self._session.run(np.stack([item.pixels for item in part])[:, None])
            for j, item in enumerate(part):
                distance = None if outputs.distance is None else float(outputs.distance[j])
                logits = outputs.logits[j]
                figures = image_figures(
                    item.pixels, logits, distance, item.n_pixels, item.study, self._session.spec
                )
                sample = self._samples[i + j]
                patient = re.sub(r"[LR]$", "", Path(sample.name).stem)
                found.append(Labelled(figures, sample.label == self._positive, patient))
        return found


def drawn(images: Sequence[Labelled], n: int, rng: np.random.Generator) -> list[Labelled]:
    return [images[i] for i in rng.integers(0, len(images), n)]


def of_prevalence(
    images: Sequence[Labelled], share: float, n: int, rng: np.random.Generator
) -> list[Labelled]:
    """So many images, of which this share is truly positive on average."""
    healthy = [image for image in images if not image.is_positive]
    diseased = [image for image in images if image.is_positive]
    chosen = [diseased if is_positive else healthy for is_positive in rng.random(n) < share]
    return [kind[rng.integers(len(kind))] for kind in chosen]


def counted(images: Sequence[Labelled], trial: str) -> Iterator[CountedImage]:
    """The images of a stream, each with a hash of its own."""
    for i, image in enumerate(images):
        yield CountedImage(hashlib.sha256(f"{trial} {i}".encode()).hexdigest(), image.figures)


Draw = Callable[[int, np.random.Generator], list[Labelled]]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A stream before and after a change."""

    kind: str
    before: Draw
    after: Draw
    least: float | None = None


def delays(trial: Trial, reference: Sample | None, n_trials: int, positive: int) -> Delay:
    """How soon the change is noticed; against the reference where there is one, else a site's."""
    waits: list[int] = []
    figures: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    n_before = 0
    for number in range(n_trials):
        rng = np.random.default_rng(number)
        name = f"{trial.kind} {number}"
        monitor = Monitor(DriftHistory(model_sha256=""), reference, positive)
        if reference is None:
            quiet = trial.before(BASELINE + QUIET, rng)
            _, alarms = monitor.count(counted(quiet, f"{name} before"))
            if monitor.moved:
                n_before += 1
                continue
        start = monitor.n
        most = BASELINE - 1 if reference is not None else MOST_DELAY
        for image in counted(trial.after(most, rng), name):
            _, alarms = monitor.count([image])
            if alarms:
                waits.append(monitor.n - start)
                figures[alarms[0].figure] += 1
                kinds[alarms[0].kind] += 1
                break
    all_waits = np.array(waits + [np.inf] * (n_trials - n_before - len(waits)))
    ordered = np.sort(all_waits)
    median, most_of_them = (
        float(ordered[min(len(ordered) - 1, int(np.ceil(q * len(ordered))) - 1)])
        for q in (0.5, 0.95)
    )
    return Delay(
        kind=trial.kind,
        against="site" if reference is None else "model",
        n=n_trials,
        noticed=len(waits),
        before=n_before,
        median=min(median, MOST_DELAY),
        most=min(most_of_them, MOST_DELAY),
        within_50=float(np.mean(all_waits <= 50)),
        figures=dict(figures.most_common()),
        kinds=dict(kinds.most_common()),
        least=trial.least,
    )
