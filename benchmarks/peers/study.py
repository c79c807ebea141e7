"""All subjects in interleaved rounds → one row each, those that lose or fail among them."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.peers.jobs import JobError, run_job, without_paths
from benchmarks.peers.prepare import MADE_FROM, MAKERS, N_NNCF, Prepared, PrepareRequest
from benchmarks.peers.probe import Ceiling, ProbeRequest, best_of
from benchmarks.peers.rows import Material, Measurement, Row, make_rows
from benchmarks.peers.subjects import SUBJECTS, Place, Subject
from benchmarks.peers.turn import Turn, TurnRequest
from export.calibration import choose_images, draw
from kneeedge.bench.accuracy import truth_of
from kneeedge.bench.ceiling import macs
from kneeedge.data.dataset import Sample, check_unchanged
from kneeedge.errors import ConfigError
from kneeedge.inference.evaluation import count_seen, input_batches
from kneeedge.runs.folder import Run
from kneeedge.system.machine import Environment, environment
from kneeedge.system.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    run: str
    data: str
    threads: int
    only: tuple[str, ...] = ()
    "names of subjects; none: all"
    rounds: int = 3
    n_single: int = 34
    "timed single images a round; with 3 rounds they support a p90"
    batch_sizes: tuple[int, ...] = (8, 32)
    "ascending"
    n_accuracy: int | None = None
    "test images, for a trial; None: all"

    def __post_init__(self) -> None:
        known = [subject.name for subject in SUBJECTS]
        unknown = sorted(set(self.only) - set(known))
        if unknown:
            problem = f"--only names the unknown {unknown[0]}"
            raise ConfigError(problem, f"choose from {','.join(known)}")
        if min(self.threads, self.rounds, self.n_single, *self.batch_sizes) < 1:
            problem = "threads, rounds, single images and batch sizes must be 1 or more"
            raise ConfigError(problem, "raise them")
        if list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            problem = "batch sizes must ascend, since memory is read as it grows"
            raise ConfigError(problem, "sort them")

    def subjects(self) -> list[Subject]:
        """Those to measure."""
        return [subject for subject in SUBJECTS if not self.only or subject.name in self.only]


@dataclass(frozen=True, kw_only=True)
class Study:
    """The study as it is written."""

    environment: Environment
    peer_versions: dict[str, str]
    model: str
    n_images: int
    "of the test split"
    n_seen: int
    "of them, images that the model was trained or chosen on"
    threads: int
    giga_macs_an_image: float
    ceiling: Ceiling
    "the best of all rounds"
    rows: tuple[Row, ...]


def study(options: Options, work: Path, progress: Progress) -> Study:
    """Prepare, measure in rounds, and put together."""
    facts = environment()
    place = Place(options.run, str(work), options.threads)
    material = prepare_material(options, place, progress)
    measurements = [Measurement(subject) for subject in options.subjects()]
    prepare_files(measurements, place, progress)
    probes = [
        take_round(number, measurements, place, options, progress)
        for number in range(options.rounds)
    ]
    ceiling = best_of(probes)
    spec = material.spec
    giga_macs = macs(spec.architecture, spec.pixel_path.size, len(spec.classes)) / 1e9
    return Study(
        environment=facts,
        peer_versions=peer_versions(),
        model=spec.name,
        n_images=len(material.truth.labels),
        n_seen=material.n_seen,
        threads=options.threads,
        giga_macs_an_image=round(giga_macs, 3),
        ceiling=ceiling,
        rows=make_rows(measurements, place, material, ceiling, giga_macs),
    )


def peer_versions() -> dict[str, str]:
    """Versions of what is installed for the study alone, and so is not among the environment's."""
    versions = {}
    for name in ("openvino", "nncf"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def prepare_material(options: Options, place: Place, progress: Progress) -> Material:
    """Put the splits' pixels where the subjects read them; what the test images show."""
    spec = place.spec()
    dataset = Run(Path(options.run)).read_dataset(Path(options.data), spec.classes)
    test = dataset.split("test")
    if options.n_accuracy is not None:
        test = draw(test, len(spec.classes), options.n_accuracy, 0)
    # mixed, so that each round's share and any first images hold all classes
    samples_of = {
        "test": mixed(test),
        "train": mixed(choose_images(dataset, N_NNCF, 0, 0).samples),
        "val": mixed(dataset.split("val")),
    }
    for split, samples in samples_of.items():
        check_unchanged(samples)
        batches = input_batches(samples, spec.pixel_path, 64, progress)
        np.save(place.images(split), np.concatenate(list(batches)))
    seen = frozenset(sample.short_hash for sample in dataset.samples if sample.split != "test")
    answered = samples_of["test"]
    return Material(spec, truth_of(answered, "test"), count_seen(answered, seen))


def mixed(samples: Sequence[Sample]) -> list[Sample]:
    """The samples in an order of chance, the same each time."""
    return [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]


def prepare_files(measurements: Sequence[Measurement], place: Place, progress: Progress) -> None:
    """Make the files that the subjects need, and those that these are made from."""
    wanted = {measurement.subject.file for measurement in measurements}
    sources = {source for file, source in MADE_FROM.items() if file in wanted}
    for file in MAKERS:
        if file not in wanted | sources:
            continue
        progress(f"making {file}")
        note = ""
        failure = None
        try:
            note = run_job("prepare", PrepareRequest(file, place), Prepared, Path(place.work)).note
        except JobError as error:
            failure = f"making it: {without_paths(error, run=place.run, work=place.work)}"
            progress(f"{file}: {failure}")
        for measurement in measurements:
            if measurement.subject.file == file:
                measurement.note = note
                measurement.failure = failure


def take_round(
    number: int,
    measurements: Sequence[Measurement],
    place: Place,
    options: Options,
    progress: Progress,
) -> Ceiling:
    """One turn of every subject that has not failed, and of the probe."""
    work = Path(place.work)
    for measurement in measurements:
        if measurement.failure is not None:
            continue
        name = measurement.subject.name
        progress(f"round {number + 1}/{options.rounds}: {name}")
        request = TurnRequest(
            subject=name,
            place=place,
            first=number,
            step=options.rounds,
            n_single=options.n_single,
            batch_sizes=options.batch_sizes,
        )
        try:
            measurement.turns.append(run_job("turn", request, Turn, work))
        except JobError as error:
            measurement.failure = without_paths(error, run=place.run, work=place.work)
            progress(f"{name}: {measurement.failure}")
    return run_job("probe", ProbeRequest(options.threads), Ceiling, work)
