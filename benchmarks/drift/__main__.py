"""After how many images a change is noticed, and how often there is an alarm without one.

    python -m benchmarks.drift --model MODEL.onnx --data DATA [--other FOLDER] [--json FILE]

DATA is the folder that the model was trained from: its val images are what a stream is compared
with at first, and its test images play the stream, drawn anew for each trial. `--other` is a folder
of another source, with classes. Changes are made on the network's input. With `--design` one half
of val's patients is the reference and the other half plays the stream: so constants were chosen.
Nothing is written but the JSON.
"""

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.drift.images import (
    CHANGES,
    Rng,
    StreamImage,
    counted,
    drawn,
    inputs_of,
    of_patients,
    of_prevalence,
    stream_images,
)
from kneeedge.data.dataset import Sample as LabelledSample
from kneeedge.inference.drift import BASELINE, RUN_LENGTH, CountedImage, Monitor
from kneeedge.inference.drift_history import Alarm, DriftHistory
from kneeedge.inference.evaluation import evaluation_samples
from kneeedge.inference.image_figures import image_figures
from kneeedge.model.reference import Sample
from kneeedge.runtime.session import Session
from kneeedge.statistics.sequential import shortest_delay
from kneeedge.system.machine import environment

QUIET = 200
"images of a site, behind its baseline, before something changes"
MOST_DELAY = 1000
"images after which a change counts as not noticed"
PREVALENCES = ((0.42, 0.84), (0.3, 0.6), (0.2, 0.4), (0.42, 0.21))
N_REFERENCE = 315
"images of a reference, in trials of its own false alarms"
MODEL, SITE = "model", "site"
Draw = Callable[[int, Rng], list[StreamImage]]


@dataclass(frozen=True, kw_only=True)
class Delay:
    """How soon one kind of change is noticed."""

    kind: str
    against: str
    "model: from the first image on; site: behind its baseline and a quiet time"
    n: int
    "trials without an alarm before the change"
    n_early: int
    "trials with one, which are left out"
    noticed: int
    "within MOST_DELAY images, or within the time that the model's reference is used"
    median: float | None
    "images; none where fewer are noticed"
    most: float | None
    "images within which 95 % are noticed"
    within_50: float
    "share of the trials"
    figures: dict[str, int]
    "trials by the figure of the first alarm"
    kinds: dict[str, int]
    "trials by the kind of the first alarm"
    least: float | None = None
    "images that no test with this rate of false alarms does without, about"


@dataclass(frozen=True, kw_only=True)
class FalseAlarms:
    """Alarms where nothing has changed."""

    kind: str
    n_images: int
    alarms: int
    per_year: float
    "365 nights of 100 images"
    low: float
    "of alarms a year, 95 %, exact Poisson (Garwood 1936)"
    high: float
    figures: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a watch for drift takes of an image's time, in ms on one core."""

    network: float
    "the median of single images, with all threads"
    figures: float
    "the median"
    comparison: float
    "the mean"
    share: float
    "of both in the network's time"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A stream before and behind a change."""

    kind: str
    before: Draw
    after: Draw
    least: float | None = None


def new_monitor(reference: Sample | None, positive: int) -> Monitor:
    return Monitor(DriftHistory(model_sha256=""), reference, positive)


def delay_of(trial: Trial, reference: Sample | None, n_trials: int, positive: int) -> Delay:
    """How soon the change is noticed; against the reference where there is one, else a site's."""
    waits: list[float] = []
    first: list[Alarm] = []
    for number in range(n_trials):
        rng = np.random.default_rng(number)
        monitor = new_monitor(reference, positive)
        if reference is None:
            monitor.count(counted(trial.before(BASELINE + QUIET, rng), f"{number} before"))
            if monitor.moved:
                continue
        start = monitor.n
        most = MOST_DELAY if reference is None else BASELINE - 1
        alarm = first_alarm(monitor, list(counted(trial.after(most, rng), f"{number} after")))
        waits.append(math.inf if alarm is None else alarm.n - start)
        first += [] if alarm is None else [alarm]
    ordered = sorted(waits)
    return Delay(
        kind=trial.kind,
        against=SITE if reference is None else MODEL,
        n=len(waits),
        n_early=n_trials - len(waits),
        noticed=len(first),
        median=quantile(ordered, 0.5),
        most=quantile(ordered, 0.95),
        within_50=sum(wait <= 50 for wait in waits) / len(waits),
        figures=dict(Counter(alarm.figure for alarm in first).most_common()),
        kinds=dict(Counter(alarm.kind for alarm in first).most_common()),
        least=trial.least,
    )


def first_alarm(monitor: Monitor, images: Sequence[CountedImage]) -> Alarm | None:
    for image in images:
        _, alarms = monitor.count([image])
        if alarms:
            return alarms[0]
    return None


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The least value that this share of the ordered ones is not above; None where infinite."""
    value = ordered[math.ceil(share * len(ordered)) - 1]
    return value if math.isfinite(value) else None


def trials_of(
    session: Session,
    samples: Sequence[LabelledSample],
    other: Sequence[StreamImage],
    kinds: Sequence[str],
) -> tuple[list[StreamImage], list[Trial]]:
    """The unchanged images, and these kinds of change of them, or all."""
    inputs = inputs_of(session, samples)
    genuine = stream_images(session, inputs, samples)
    before = partial(drawn, genuine)
    trials = []
    for kind, change in CHANGES.items():
        if kinds and kind not in kinds:
            continue
        changed = stream_images(session, inputs, samples, change)
        trials.append(Trial(kind=kind, before=before, after=partial(drawn, changed)))
    if other:
        trials.append(Trial(kind="another source", before=before, after=partial(drawn, other)))
    for low, high in PREVALENCES:
        trials.append(
            Trial(
                kind=f"prevalence {low} to {high}",
                before=partial(of_prevalence, genuine, low),
                after=partial(of_prevalence, genuine, high),
                least=shortest_delay(RUN_LENGTH, low, high),
            )
        )
    return genuine, trials


def site_years(images: Sequence[StreamImage], kind: str, n: int, positive: int) -> FalseAlarms:
    """False alarms of so many years behind a site's baseline, all from the same images."""
    draw = of_patients if kind == "patients" else drawn
    found: list[Alarm] = []
    for year in range(n):
        rng = np.random.default_rng(10_000 + year)
        monitor = new_monitor(None, positive)
        stream = draw(images, BASELINE + RUN_LENGTH, rng)
        _, alarms = monitor.count(counted(stream, f"{kind} {year}"))
        found += [alarm for alarm in alarms if alarm.against == SITE]
    return false_alarms(f"a site's year, by {kind}", found, n * RUN_LENGTH)


def first_nights(images: Sequence[StreamImage], n: int, positive: int) -> FalseAlarms:
    """False alarms of first nights, against a reference of other patients of the same source."""
    patients = sorted({image.patient for image in images})
    found: list[Alarm] = []
    for trial in range(n):
        rng = np.random.default_rng(20_000 + trial)
        place = {patient: i for i, patient in enumerate(rng.permutation(patients))}
        ordered = sorted(images, key=lambda image: place[image.patient])
        reference = Sample.of(image.figures for image in ordered[:N_REFERENCE])
        rest = [ordered[i] for i in N_REFERENCE + rng.permutation(len(ordered) - N_REFERENCE)]
        monitor = new_monitor(reference, positive)
        _, alarms = monitor.count(counted(rest[: BASELINE - 1], f"first {trial}"))
        found += alarms
    return false_alarms("first nights, against a model's reference", found, n * (BASELINE - 1))


def false_alarms(kind: str, alarms: Sequence[Alarm], n_images: int) -> FalseAlarms:
    from scipy.stats import chi2

    n = len(alarms)
    years = n_images / RUN_LENGTH
    return FalseAlarms(
        kind=kind,
        n_images=n_images,
        alarms=n,
        per_year=n / years,
        low=float(chi2.ppf(0.025, 2 * n)) / 2 / years if n else 0.0,
        high=float(chi2.ppf(0.975, 2 * n + 2)) / 2 / years,
        figures=dict(Counter(alarm.figure for alarm in alarms).most_common()),
    )


def cost_of(session: Session, samples: Sequence[LabelledSample], positive: int) -> Cost:
    """What the figures and the comparison take beside the network."""
    inputs = inputs_of(session, samples)
    network = []
    figures = []
    images = []
    for i, item in enumerate(inputs):
        start = time.perf_counter()
        outputs = session.run(item.pixels[None, None])
        answered = time.perf_counter()
        found = image_figures(
            item.pixels, outputs.logits[0], 30.0, item.n_pixels, item.study, session.spec
        )
        figures.append(time.perf_counter() - answered)
        network.append(answered - start)
        images.append(StreamImage(found, samples[i].label == positive, str(i)))
    stream = list(counted(drawn(images, 3000, np.random.default_rng(0)), "cost"))
    monitor = new_monitor(None, positive)
    start = time.perf_counter()
    monitor.count(stream)
    comparison = (time.perf_counter() - start) / len(stream)
    whole = float(np.median(network))
    of_figures = float(np.median(figures))
    return Cost(
        network=1e3 * whole,
        figures=1e3 * of_figures,
        comparison=1e3 * comparison,
        share=(of_figures + comparison) / whole,
    )


def halves(
    samples: Sequence[LabelledSample],
) -> tuple[list[LabelledSample], list[LabelledSample]]:
    """Two halves of the samples, each patient in one."""
    groups = sorted({sample.group for sample in samples})
    chosen = set(np.random.default_rng(0).permutation(groups)[: len(groups) // 2])
    first = [sample for sample in samples if sample.group in chosen]
    return first, [sample for sample in samples if sample.group not in chosen]


def run(options: argparse.Namespace) -> dict[str, object]:
    session = Session(options.model, "cpu", 1)
    spec = session.spec
    regex = r"([0-9]+)[LR]"
    _, reference_samples = evaluation_samples(options.data, spec.classes, "val", regex)
    if options.design:
        reference_samples, samples = halves(reference_samples)
    else:
        _, samples = evaluation_samples(options.data, spec.classes, "test", regex)
    positive = spec.positive_index
    cost = cost_of(session, samples, positive)
    print(cost, flush=True)
    known = stream_images(session, inputs_of(session, reference_samples), reference_samples)
    reference = Sample.of(image.figures for image in known)
    other: list[StreamImage] = []
    if options.other:
        other = other_source(session, options.other)
    genuine, trials = trials_of(session, samples, other, options.change or ())
    rows = []
    for trial in trials:
        for against in (reference, None):
            if against is None or not trial.kind.startswith("prevalence"):
                rows.append(delay_of(trial, against, options.trials, positive))
                print(rows[-1], flush=True)
    quiet = []
    if options.years:
        quiet.append(first_nights([*known, *genuine], options.trials, positive))
        print(quiet[-1], flush=True)
    for kind in ("images", "patients") if options.years else ():
        quiet.append(site_years([*known, *genuine], kind, options.years, positive))
        print(quiet[-1], flush=True)
    return {
        "command": "python -m benchmarks.drift",
        "environment": asdict(environment()),
        "model": str(options.model.name),
        "model_sha256": session.file.sha256,
        "n_reference": len(reference),
        "n_stream": len(genuine),
        "quiet": QUIET,
        "cost": asdict(cost),
        "delays": [asdict(row) for row in rows],
        "false_alarms": [asdict(row) for row in quiet],
    }


def other_source(session: Session, folder: Path) -> list[StreamImage]:
    """Images of another source, whose classes need not be the model's."""
    from kneeedge.pixels.listing import find_images

    images = find_images([folder]).images
    samples = [
        LabelledSample(
            path=image.path, name=image.name, sha256="", split="", label=0, group=image.name
        )
        for image in images
    ]
    return stream_images(session, inputs_of(session, samples), samples)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--change", action="append", choices=list(CHANGES))
    parser.add_argument("--design", action="store_true")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--years", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    result = run(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
