"""Speed beside accuracy: the PyTorch original and each model file, each measured in a fresh process."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from kneeedge import errors, machine
from kneeedge.bench_worker import N_PHANTOMS, Reply, Timing, WorkRequest, WorkResult
from kneeedge.dataset import Sample, read_split
from kneeedge.errors import ConfigError, KneeEdgeError, MissingExtraError, NotFoundError, WorkerError
from kneeedge.evaluation import Accuracy, Reference, count_seen, describe, evaluation_samples, seen_hashes
from kneeedge.gpu import INT8_ON_CUDA
from kneeedge.progress import Progress
from kneeedge.records import from_json, to_json
from kneeedge.report import ORIGINAL, STEADY, BenchResult, Row, advice, label, summarise, window_spread
from kneeedge.session import Session
from kneeedge.spec import ModelSpec

__all__ = ["BenchRequest", "BenchResult", "Row", "advice", "bench"]

ORIGINAL_NEEDS = ("torch", "torchvision", "safetensors")
INSTALL = "pip install 'kneeedge[train,cpu]'"
MAX_INPUTS = 64
BUSY = 0.5  # runnable processes a core before the start, from which on the machine is not quiet


@dataclass(frozen=True)
class BenchRequest:
    """What to measure."""

    models: tuple[str, ...] = ()
    "paths of .onnx files"
    run: str | None = None
    "a run folder, whose PyTorch original is the first row where PyTorch is installed"
    provider: str = "auto"
    threads: int | None = None
    "None: the physical cores this process may use"
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    "of the offline scenario; the single-image scenario is always measured"
    seconds: float = 6.0
    "for each scenario of each model"
    min_runs: int = 30
    "of the single-image scenario, even where they take longer"
    images: tuple[str, ...] = ()
    "image files to time on; none: those of `data`, else phantoms"
    data: str | None = None
    "a labelled folder: accuracy and flips beside speed"
    seed: int = 0
    "draws the images to time on, and the phantoms"

    def __post_init__(self) -> None:
        if not self.models and self.run is None:
            raise ConfigError("there is nothing to measure", "name a model file or a run folder")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ConfigError("batch sizes must be 1 or more", "give for example 1,8,32")
        if not 0 < self.seconds < float("inf") or self.min_runs < 1:
            raise ConfigError("a scenario needs time and one run at least", "give --seconds above 0")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"{self.threads} threads cannot run anything", "give --threads 1 or more")


@dataclass(frozen=True)
class Subject:
    """One model to measure."""

    path: str
    spec: ModelSpec
    precision: str
    size_mb: float
    seen: frozenset[str] | None
    "short hashes of the images it was trained or chosen on"

    @property
    def is_original(self) -> bool:
        return self.precision == ORIGINAL


@dataclass(frozen=True)
class Measured:
    """One model and what its worker found."""

    subject: Subject
    result: WorkResult


@dataclass(frozen=True)
class Material:
    """The images that every subject gets."""

    description: str
    inputs: tuple[str, ...]
    "files to time on; none: phantoms"
    split: str = ""
    samples: tuple[Sample, ...] = ()
    "labelled"


def bench(request: BenchRequest, progress: Progress) -> BenchResult:
    """Measure the original and each file of the request in turn, each in a process of its own.

    Raises what a worker refuses as it is (ProviderError, ModelFileError, …), WorkerError where one dies, and
    ConfigError where the models' classes differ.
    """
    environment = machine.environment()
    subjects = [*open_original(request), *map(open_file, dict.fromkeys(request.models))]
    if not subjects:
        raise MissingExtraError("measuring a run's original", "PyTorch", INSTALL)
    material = gather(request, check_classes(subjects))
    measured = run_workers(subjects, request, material, progress)
    reference = choose_reference(measured, material)
    rows = [row for one in measured for row in make_rows(one, reference, request, material)]
    return BenchResult(environment, tuple(rows), tuple(warnings(request, environment, measured, rows)))


def run_workers(
    subjects: Sequence[Subject], request: BenchRequest, material: Material, progress: Progress
) -> list[Measured]:
    """Each subject with its result, in the order given; the files run first, to settle what `auto` is."""
    results: dict[str, WorkResult] = {}
    with progress.stage("bench", len(subjects)) as stage:
        for subject in sorted(subjects, key=lambda s: s.is_original):
            progress(f"bench: {subject.path} ({subject.precision})")
            provider = next((result.provider for result in results.values()), request.provider)
            asked = provider if subject.is_original else request.provider
            results[subject.path] = run_worker(subject, request, asked, material)
            stage.advance()
    return [Measured(subject, results[subject.path]) for subject in subjects]


def open_file(path: str) -> Subject:
    """What a model file says of itself; raises where it is missing or breaks the contract."""
    session = Session(path, "cpu", threads=1)
    precision = session.spec.file.precision if session.spec.file else "unknown"
    return Subject(path, session.spec, precision, _size_mb(Path(path)), seen_hashes(session.metadata, path))


def open_original(request: BenchRequest) -> list[Subject]:
    """The run's PyTorch model; empty where no run is named or PyTorch is not installed."""
    if request.run is None or not torch_is_here():
        return []
    folder = Path(request.run)
    spec_path, weights, split = (folder / name for name in ("spec.json", "model.safetensors", "split.csv"))
    if not spec_path.is_file() or not weights.is_file():
        raise NotFoundError(f"{folder}: no finished training run here", "name a run folder, or leave out --run")
    spec, seen = ModelSpec.from_json(spec_path.read_text(encoding="utf-8"), str(spec_path)), None
    if split.is_file():
        samples = read_split(split, folder, spec.classes).samples
        seen = frozenset(sample.short_hash for sample in samples if sample.split != "test")
    return [Subject(request.run, spec, ORIGINAL, _size_mb(weights), seen)]


def torch_is_here() -> bool:
    """Whether the original could run, found out without importing it."""
    return all(find_spec(name) is not None for name in ORIGINAL_NEEDS)


def check_classes(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """The classes that all subjects share; raises ConfigError where they differ."""
    first = subjects[0]
    for other in subjects[1:]:
        if other.spec.classes != first.spec.classes:
            problem = f"the classes of {first.path} ({', '.join(first.spec.classes)}) are not those of {other.path}"
            raise ConfigError(problem, "bench models of the same classes together")
    return first.spec.classes


def gather(request: BenchRequest, classes: Sequence[str]) -> Material:
    """The images to time on, 64 at most drawn by the seed, and the labelled ones."""
    split, samples = evaluation_samples(Path(request.data), classes) if request.data else ("", [])
    paths = request.images or tuple(str(sample.path) for sample in samples)
    if not paths:
        return Material(f"{N_PHANTOMS} phantoms, seed {request.seed}", ())
    n = min(len(paths), MAX_INPUTS)
    drawn = np.sort(np.random.default_rng(request.seed).choice(len(paths), n, replace=False))
    source = "the images given" if request.images else f"{request.data} ({split})"
    return Material(f"{n} of {source}, seed {request.seed}", tuple(paths[i] for i in drawn), split, tuple(samples))


def run_worker(subject: Subject, request: BenchRequest, provider: str, material: Material) -> WorkResult:
    """Measure one subject in a fresh process, which finds the modules that this one found."""
    work = WorkRequest(
        model=subject.path, is_original=subject.is_original, provider=provider,
        threads=request.threads or machine.available_cpus(), batch_sizes=request.batch_sizes,
        seconds=request.seconds, min_runs=request.min_runs, pixel_path=subject.spec.pixel_path,
        inputs=material.inputs, seed=request.seed, labelled=tuple(str(sample.path) for sample in material.samples),
        labels=tuple(sample.label for sample in material.samples),
    )  # fmt: skip
    modules = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    command, text = [sys.executable, "-P", "-m", "kneeedge.bench_worker"], to_json(work, indent=None)
    done = subprocess.run(
        command, input=text.encode("utf-8", "surrogateescape"), capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": modules},
    )  # fmt: skip
    if done.returncode != 0:
        raise WorkerError(f"the benchmark of {subject.path}", _last_words(done.returncode, done.stderr))
    return read_reply(done.stdout, f"the benchmark of {subject.path}")


def read_reply(output: bytes, what: str) -> WorkResult:
    """The worker's result; raises the KneeEdgeError that it met, or WorkerError where the reply is damaged."""
    try:
        reply = from_json(Reply, output.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise WorkerError(what, f"its reply is damaged ({error})") from error
    if reply.result is not None:
        return reply.result
    if reply.failure is None:
        raise WorkerError(what, "its reply is empty")
    raise as_raised(reply.failure.kind, reply.failure.message)


def as_raised(kind: str, message: str) -> KneeEdgeError:
    """The error of class `kind` in kneeedge.errors with the message that it already made of its arguments."""
    found: type[KneeEdgeError] = getattr(errors, kind, KneeEdgeError)
    error = found.__new__(found)
    Exception.__init__(error, message)
    return error


def choose_reference(measured: Sequence[Measured], material: Material) -> Reference | None:
    """The answers that flips are counted against: the original's, else those of the first fp32 file."""
    for precision in (ORIGINAL, "fp32"):
        for one in measured:
            if one.subject.precision == precision and one.result.answers is not None:
                labels = np.array([sample.label for sample in material.samples])
                return Reference(one.subject.path, precision, labels, np.array(one.result.answers.predictions))
    return None


def make_rows(one: Measured, reference: Reference | None, request: BenchRequest, material: Material) -> list[Row]:
    """One row for each scenario of one subject."""
    subject, answers, accuracy = one.subject, one.result.answers, None
    if answers is not None:
        n_seen = None if subject.seen is None else count_seen(material.samples, subject.seen)
        other = reference if reference and reference.model != subject.path else None
        accuracy = describe(answers, material.split, n_seen, other)
    return [make_row(one, timing, accuracy, request, material) for timing in one.result.timings]


def make_row(
    one: Measured, timing: Timing, accuracy: Accuracy | None, request: BenchRequest, material: Material
) -> Row:
    """The statistics of one scenario beside its raw samples."""
    cold, spread, n_runs = one.result.cold_start, window_spread(timing.samples), len(timing.samples)
    return Row(
        model=one.subject.path, precision=one.subject.precision, provider=one.result.provider,
        batch_size=timing.batch_size, threads=request.threads or machine.available_cpus(),
        scenario=timing.scenario, latency_ms=summarise(timing.samples), n_runs=n_runs, n_warmup=timing.n_warmup,
        images_per_second=round(n_runs * timing.batch_size / max(sum(timing.samples) / 1e3, 1e-9), 2),
        cold_start_ms=round(cold.import_ms + cold.load_ms + cold.first_run_ms, 3), cold_start=cold,
        peak_memory_mb=timing.peak_memory_mb, size_mb=one.subject.size_mb, accuracy=accuracy,
        unstable=None if spread is None else spread > STEADY, window_spread=spread,
        inputs=material.description, samples=timing.samples,
    )  # fmt: skip


def warnings(
    request: BenchRequest, environment: machine.Environment, measured: Sequence[Measured], rows: Sequence[Row]
) -> list[str]:
    """What to bear in mind with the figures, the machine's part first."""
    found, load = [], environment.load_average
    if load is not None and load > BUSY * environment.n_cpus:
        found.append(f"the machine was busy before the start (load {load:g} on {environment.n_cpus} cores)")
    if request.run is not None and not any(one.subject.is_original for one in measured):
        found.append(f"PyTorch is not installed, so the original has no row; {INSTALL}")
    if len({one.result.provider for one in measured}) > 1:
        found.append("the rows ran on different devices; their speeds do not compare the models")
    for one in measured:
        found += model_warnings(one, [row for row in rows if row.model == one.subject.path])
    return found


def model_warnings(one: Measured, rows: Sequence[Row]) -> list[str]:
    """What to bear in mind with one model's rows."""
    name, notice = label(one.subject.path), one.result.notice
    found = [notice] if notice and notice != INT8_ON_CUDA else []
    if one.subject.precision == "int8" and one.result.provider == "cuda":
        found.append(f"{name}: {INT8_ON_CUDA}")
    if (accuracy := rows[0].accuracy) is not None and accuracy.n_seen:
        found.append(f"{name}: LEAKY, the model was trained or chosen on {accuracy.n_seen} of {accuracy.n} images")
    for row in rows:
        if row.unstable:
            what = f"{name}, {row.scenario}, batch {row.batch_size}"
            found.append(f"{what}: unstable, the median moved by {row.window_spread:.0%}; quiet the machine, run again")
    return found


def _size_mb(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 2)


def _last_words(status: int, stderr: bytes) -> str:
    """Why a worker died: its last line, else its signal."""
    said = stderr.decode("utf-8", "replace").strip().splitlines()
    silent = f"signal {-status} ended it, as when memory runs out" if status < 0 else f"exit code {status}"
    return said[-1].strip() if said else silent
