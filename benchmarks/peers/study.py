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
from benchmarks.peers.rows import Material, Measured, Row, make_rows
from benchmarks.peers.subjects import SUBJECTS, Place, Subject
from benchmarks.peers.turn import Turn, TurnRequest
from export.calibration import choose_images, draw
from kneeedge.bench.accuracy import truth_of
from kneeedge.bench.ceiling import macs
from kneeedge.data.dataset import Sample, check_unchanged, read_split
from kneeedge.errors import ConfigError
from kneeedge.inference.evaluation import count_seen, input_batches
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
        if unknown := sorted(set(self.only) - set(known)):
            raise ConfigError(
                f"--only names the unknown {unknown[0]}", f"choose from {','.join(known)}"
            )
        if min(self.threads, self.rounds, self.n_single, *self.batch_sizes) < 1:
            raise ConfigError(
                "threads, rounds, single images and batch sizes must be 1 or more", "raise them"
            )
        if list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise ConfigError(
                "batch sizes must ascend, since memory is read as it grows", "sort them"
            )

    def subjects(self) -> list[Subject]:
        """Those to measure."""
        return [
            subject
            for subject in SUBJECTS
            if subject.name in (self.only or [s.name for s in SUBJECTS])
        ]


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
    material = gather(options, place, progress)
    measured = [Measured(subject) for subject in options.subjects()]
    prepare_files(measured, place, progress)
    probes = [
        take_round(number, measured, place, options, progress) for number in range(options.rounds)
    ]
    ceiling = best_of(probes)
    spec = material.spec
    cost = macs(spec.architecture, spec.pixel_path.size, len(spec.classes)) / 1e9
    return Study(
        environment=facts,
        peer_versions=peer_versions(),
        model=spec.name,
        n_images=len(material.truth.labels),
        n_seen=material.n_seen,
        threads=options.threads,
        giga_macs_an_image=round(cost, 3),
        ceiling=ceiling,
        rows=make_rows(measured, place, material, ceiling, cost),
    )


def peer_versions() -> dict[str, str]:
    """Versions of what is installed for the study alone, and so is not among the environment's."""
    found = {}
    for name in ("openvino", "nncf"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def gather(options: Options, place: Place, progress: Progress) -> Material:
    """Put the pixels of the run's splits where the subjects read them, and give the test images'
    labels.
    """
    spec = place.spec()
    dataset = read_split(Path(options.run, "split.csv"), Path(options.data), spec.classes)
    test = dataset.split("test")
    if options.n_accuracy is not None:
        test = draw(test, len(spec.classes), options.n_accuracy, 0)
    # mixed, so that each round's share and any first images hold all classes
    chosen = {
        "test": mixed(test),
        "train": mixed(choose_images(dataset, N_NNCF, 0, 0).samples),
        "val": mixed(dataset.split("val")),
    }
    for split, samples in chosen.items():
        check_unchanged(samples)
        batches = input_batches(samples, spec.pixel_path, 64, progress)
        np.save(place.images(split), np.concatenate(list(batches)))
    seen = frozenset(sample.short_hash for sample in dataset.samples if sample.split != "test")
    return Material(spec, truth_of(chosen["test"], "test"), count_seen(chosen["test"], seen))


def mixed(samples: Sequence[Sample]) -> list[Sample]:
    """The samples in an order of chance, the same each time."""
    return [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]


def prepare_files(measured: Sequence[Measured], place: Place, progress: Progress) -> None:
    """Make the files that the subjects need, and those that these are made from."""
    wanted = {one.subject.file for one in measured}
    needed = wanted | {source for file, source in MADE_FROM.items() if file in wanted}
    for file in (name for name in MAKERS if name in needed):
        progress(f"making {file}")
        try:
            note = run_job("prepare", PrepareRequest(file, place), Prepared, Path(place.work)).note
            failure = None
        except JobError as error:
            note = ""
            failure = f"making it: {without_paths(error, run=place.run, work=place.work)}"
            progress(f"{file}: {failure}")
        for one in measured:
            if one.subject.file == file:
                one.note = note
                one.failure = failure


def take_round(
    number: int, measured: Sequence[Measured], place: Place, options: Options, progress: Progress
) -> Ceiling:
    """One turn of every subject that has not failed, and of the probe."""
    work = Path(place.work)
    for one in measured:
        if one.failure is None:
            progress(f"round {number + 1}/{options.rounds}: {one.subject.name}")
            request = TurnRequest(
                subject=one.subject.name,
                place=place,
                first=number,
                step=options.rounds,
                n_single=options.n_single,
                batch_sizes=options.batch_sizes,
            )
            try:
                one.turns.append(run_job("turn", request, Turn, work))
            except JobError as error:
                one.failure = without_paths(error, run=place.run, work=place.work)
                progress(f"{one.subject.name}: {one.failure}")
    return run_job("probe", ProbeRequest(options.threads), Ceiling, work)
