"""Speed beside accuracy: the PyTorch original and each model file, in processes that take turns."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kneeedge.bench.accuracy import make_accuracy
from kneeedge.bench.advice import machine_cautions, row_cautions
from kneeedge.bench.ceiling import fastest, measure_ceilings
from kneeedge.bench.crew import Crew
from kneeedge.bench.messages import AnswerImages, Command
from kneeedge.bench.meters import free_memory_mb
from kneeedge.bench.rows import make_rows
from kneeedge.bench.subjects import (
    Material,
    Subject,
    check_classes,
    choose_material,
    memory_needed_mb,
    open_file,
    open_original,
    work_request,
)
from kneeedge.bench.turns import (
    Measurement,
    Plan,
    answer_jobs,
    locate_all,
    start_all,
    take_turns,
)
from kneeedge.bench.windows import scenarios
from kneeedge.errors import ConfigError, MissingExtraError, ModelFileError
from kneeedge.inference.evaluation import count_seen
from kneeedge.runs.answers import ORIGINAL
from kneeedge.runs.benchmark import FORMAT, BenchResult, Ceiling, Row
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.system import machine
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress, duration

INSTALL = "pip install 'kneeedge[train,cpu]'"
N_ROUNDS = 6
"the fewest windows whose extremes are a 95 % interval of the median (percentiles.runs_needed)"
MEMORY_SHARE = 0.8
"of the free memory that models loaded together may need"
MAX_PROBE_SECONDS = 0.5
"for each product that is tried for the ceiling"


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What to measure."""

    models: tuple[str, ...] = ()
    "paths of .onnx files"
    run: str | None = None
    "a run folder: its PyTorch original (a slim run's is another run's) is the first row"
    provider: str = "auto"
    "one, or several separated by commas: each file is then measured on each"
    threads: int | None = None
    "None: the physical cores this process may use"
    batch_sizes: tuple[int, ...] = (8, 32)
    "of Offline; SingleStream (1 image) and MultiStream (8) are always measured"
    seconds: float = 12.0
    "for each scenario of each model, over all rounds"
    n_rounds: int = N_ROUNDS
    timeout: float = 600.0
    "seconds for any one answer of a worker"
    images: tuple[str, ...] = ()
    "image files to time on; none: those of `data`, else phantoms"
    data: str | None = None
    "a labelled folder: accuracy and flips beside speed"
    group_regex: str | None = None
    "finds the patient in a path of `data` below the class folder, for the intervals"
    seed: int = 0
    "draws the images to time on, and the phantoms"
    gpu: GpuOptions = field(default_factory=GpuOptions)
    ceiling: bool = True
    "measure this machine's matrix product before and after the rounds"
    public_key: str | None = None
    "the key that must have signed each file; None: no signature is asked for"

    def __post_init__(self) -> None:
        if not self.models and self.run is None:
            raise ConfigError("there is nothing to measure", "name a model file or a run folder")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ConfigError("batch sizes must be 1 or more", "give for example 8,32")
        times_are_sound = 0 < self.seconds < math.inf and 0 < self.timeout < math.inf
        if not times_are_sound or self.n_rounds < 1:
            problem = "a scenario needs time and a round at least"
            raise ConfigError(problem, "give --seconds and --rounds above 0")
        if self.threads is not None and self.threads < 1:
            problem = f"{self.threads} threads cannot run anything"
            raise ConfigError(problem, "give --threads 1 or more")
        if self.group_regex is not None and self.data is None:
            raise ConfigError("--group-regex is about images", "name their folder with --data")
        if not all(self.providers):
            problem = f"--provider {self.provider} has an empty name"
            raise ConfigError(problem, "give for example cpu,cuda")

    @property
    def providers(self) -> tuple[str, ...]:
        """Each name once, in the order given."""
        return tuple(dict.fromkeys(self.provider.split(",")))


def bench(request: BenchRequest, progress: Progress) -> BenchResult:
    """Measure the original and each file of the request on each provider.

    Raises what a worker refuses as it is (ProviderError, ModelFileError, …), WorkerError where one
    dies or hangs, and ConfigError where the models' classes differ.
    """
    measured = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    environment = machine.environment()
    before = machine.conditions()
    threads = request.threads or machine.available_cpus()
    plan = Plan(scenarios(request.batch_sizes), request.n_rounds, request.seconds)
    subjects = open_subjects(request)
    classes = check_classes(subjects)
    with tempfile.TemporaryDirectory() as scratch:
        material = choose_material(
            request.data,
            request.images,
            classes,
            request.seed,
            Path(scratch),
            request.group_regex,
        )
        ceilings_before = measure_ceilings_if_asked(request, threads)
        measurements = [
            Measurement(
                subject=subject,
                request=work_request(subject, threads, material, request.gpu, request.public_key),
            )
            for subject in subjects
        ]
        processes = measure_all(measurements, plan, material, request.timeout, progress)
        check_files_unchanged(subjects)
        ceilings_after = measure_ceilings_if_asked(request, threads)
        after = machine.conditions()
    judge_all(measurements, material)
    ceilings = fastest([*ceilings_before, *ceilings_after])
    speed_ratio = ceilings_after[0].gops / ceilings_before[0].gops if ceilings_before else None
    rows: list[Row] = []
    cautions = machine_cautions(environment, before, after, speed_ratio)
    cautions += request_cautions(request, measurements)
    for measurement in measurements:
        model_rows = make_rows(measurement, threads, ceilings, material.description)
        cautions += row_cautions(model_rows, measurement.idle_cpu, measurement.notice)
        rows += model_rows
    return BenchResult(
        format=FORMAT,
        environment=environment,
        before=before,
        after=after,
        processes=processes,
        ceilings=ceilings,
        results=tuple(rows),
        warnings=tuple(cautions),
        measured=measured,
    )


def open_subjects(request: BenchRequest) -> list[Subject]:
    """The original, then each file on each provider."""
    key = Path(request.public_key) if request.public_key else None
    subjects = open_original(request.run, request.providers[0])
    for provider in request.providers:
        for path in dict.fromkeys(request.models):
            subjects.append(open_file(path, provider, key))
    if not subjects:
        raise MissingExtraError("measuring a run's original", "PyTorch", INSTALL)
    return subjects


def measure_ceilings_if_asked(request: BenchRequest, threads: int) -> tuple[Ceiling, ...]:
    """The ceilings of this machine as they are now; none where they are not asked for."""
    if not request.ceiling:
        return ()
    return measure_ceilings(threads, min(MAX_PROBE_SECONDS, request.seconds))


def measure_all(
    measurements: Sequence[Measurement],
    plan: Plan,
    material: Material,
    timeout: float,
    progress: Progress,
) -> str:
    """Fill the measurements with what all turns bring; how the models shared the machine."""
    subjects = [measurement.subject for measurement in measurements]
    fresh, processes = share_memory(subjects, plan)
    with Crew(timeout, fresh) as crew:
        start_all(crew, measurements, progress)
        locate_all(crew, measurements)
        n_images = len(material.samples)
        take_turns(crew, plan, measurements, n_images, progress)
        answer_all(crew, plan, measurements, n_images, progress)
    return processes


def share_memory(subjects: Sequence[Subject], plan: Plan) -> tuple[bool, str]:
    """Whether every turn needs a fresh process, and why, in words.

    It does where the models do not fit in memory together.
    """
    largest = max(scenario.batch_size for scenario in plan.scenarios)
    needed = sum(memory_needed_mb(subject, largest) for subject in subjects)
    free = free_memory_mb()
    if needed > MEMORY_SHARE * free:
        why = (
            f"{len(subjects)} models need about {needed / 1e3:.1f} GB together, "
            f"and {free / 1e3:.1f} GB are free"
        )
        return True, f"a fresh process for each turn, since {why}; {plan.rounds}"
    return False, f"one process a model, all loaded, taking turns; {plan.rounds}"


def answer_all(
    crew: Crew,
    plan: Plan,
    measurements: Sequence[Measurement],
    n_images: int,
    progress: Progress,
) -> None:
    """Let each model answer the labelled images, if there are any, at each of the batch sizes."""
    jobs = answer_jobs(plan, measurements, n_images)
    for i, job in enumerate(jobs):
        measurement = job.measurement
        left = duration(sum(other.seconds for other in jobs[i:]))
        images = f"images {job.first + 1:,} to {job.end:,}, batch {job.batch_size}"
        progress(f"bench: answers of {measurement.subject.path} to {images}; about {left} left")
        asked = AnswerImages(job.batch_size, job.first, job.end)
        reply, _ = crew.ask(measurement.request, Command(answer=asked))
        measurement.logits.setdefault(job.batch_size, []).extend(reply.logits or ())


def check_files_unchanged(subjects: Sequence[Subject]) -> None:
    """Raise ModelFileError where a file is no longer the one whose hash its rows are to carry."""
    for subject in subjects:
        if not subject.is_original and file_sha256(Path(subject.path)) != subject.sha256:
            problem = "it was replaced while it was measured"
            raise ModelFileError(subject.path, problem, "measure again")


def judge_all(measurements: Sequence[Measurement], material: Material) -> None:
    """Note how accurate each model is, paired with the reference at the same batch size."""
    reference = reference_of(measurements)
    truth = material.truth
    for measurement in measurements:
        seen = measurement.subject.seen
        n_seen = None if seen is None else count_seen(material.samples, seen)
        for size, answers in measurement.answers.items():
            reference_answers = None
            if reference is not None and reference is not measurement:
                reference_answers = reference.answers.get(size)
            accuracy = make_accuracy(answers, truth, n_seen, reference_answers)
            measurement.accuracies[size] = accuracy


def reference_of(measurements: Sequence[Measurement]) -> Measurement | None:
    """Whose answers the others' are held against: the original's, else the first fp32 file's."""
    for precision in (ORIGINAL, "fp32"):
        for measurement in measurements:
            if measurement.subject.precision == precision:
                return measurement
    return None


def request_cautions(request: BenchRequest, measurements: Sequence[Measurement]) -> list[str]:
    """What was asked for and has no row as expected, and whether the rows compare at all."""
    subjects = [measurement.subject for measurement in measurements]
    cautions = [subject.notice for subject in subjects if subject.notice]
    if request.run is not None and not any(subject.is_original for subject in subjects):
        cautions.append(f"PyTorch is not installed, so the original has no row; {INSTALL}")
    if len({measurement.provider for measurement in measurements}) > 1:
        cautions.append("the rows ran on different devices; compare models within a device")
    return cautions
