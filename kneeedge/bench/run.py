"""Speed beside accuracy: the PyTorch original and each model file, in processes that take turns."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kneeedge.bench.accuracy import describe
from kneeedge.bench.advice import machine_cautions, row_cautions
from kneeedge.bench.ceiling import fastest, measure_ceilings
from kneeedge.bench.crew import Crew
from kneeedge.bench.messages import Answer, Command
from kneeedge.bench.meters import free_memory_mb
from kneeedge.bench.rows import make_rows
from kneeedge.bench.subjects import (
    Material,
    Subject,
    check_classes,
    gather,
    memory_needed_mb,
    open_file,
    open_original,
    work_request,
)
from kneeedge.bench.turns import Found, Plan, locate_all, start_all, take_turns
from kneeedge.bench.windows import scenarios
from kneeedge.errors import ConfigError, MissingExtraError, ModelFileError
from kneeedge.inference.evaluation import count_seen
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runs.benchmark import FORMAT, Accuracy, BenchResult, Ceiling, Row
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.system import machine
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress

INSTALL = "pip install 'kneeedge[train,cpu]'"
N_ROUNDS = 6
"""the fewest windows whose extremes are a 95 % interval of the median window (see
percentiles.runs_needed)
"""
MEMORY_SHARE = 0.8
"of the free memory that models loaded together may need"
MAX_PROBE_SECONDS = 0.5
Accuracies = dict[int, Accuracy]
"by batch size"


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What to measure."""

    models: tuple[str, ...] = ()
    "paths of .onnx files"
    run: str | None = None
    """a run folder, whose PyTorch original is the first row where PyTorch is installed; a slim
    run's is another run's
    """
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
        if (
            not (0 < self.seconds < float("inf") and 0 < self.timeout < float("inf"))
            or self.n_rounds < 1
        ):
            raise ConfigError(
                "a scenario needs time and a round at least", "give --seconds and --rounds above 0"
            )
        if self.threads is not None and self.threads < 1:
            raise ConfigError(
                f"{self.threads} threads cannot run anything", "give --threads 1 or more"
            )
        if not all(self.providers):
            raise ConfigError(
                f"--provider {self.provider} has an empty name", "give for example cpu,cuda"
            )

    @property
    def providers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.provider.split(",")))


def bench(request: BenchRequest, progress: Progress) -> BenchResult:
    """Measure the original and each file of the request on each provider.

    Raises what a worker refuses as it is (ProviderError, ModelFileError, …), WorkerError where one
    dies or hangs, and ConfigError where the models' classes differ.
    """
    environment = machine.environment()
    before = machine.conditions()
    subjects = open_subjects(request)
    classes = check_classes(subjects)
    threads = request.threads or machine.available_cpus()
    plan = Plan(scenarios(request.batch_sizes), request.n_rounds, request.seconds)
    with tempfile.TemporaryDirectory() as scratch:
        material = gather(request.data, request.images, classes, request.seed, Path(scratch))
        first = probe(request, threads)
        fresh, processes = share_memory(subjects, plan)
        requests = [
            work_request(subject, threads, material, request.gpu, request.public_key)
            for subject in subjects
        ]
        found = [Found() for _ in subjects]
        with Crew(requests, request.timeout, fresh) as crew:
            start_all(crew, found, progress)
            locate_all(crew, found)
            take_turns(crew, plan, found, progress)
            answers = answer_all(crew, subjects, plan, material, progress)
        check_same(subjects)
        second = probe(request, threads)
        after = machine.conditions()
    ceilings = fastest([*first, *second])
    worth = judge_all(subjects, answers, material)
    rows = [
        make_rows(subject, one, worth[i], threads, ceilings, material.description)
        for i, (subject, one) in enumerate(zip(subjects, found, strict=True))
    ]
    cautions = machine_cautions(
        environment, before, after, second[0].gops / first[0].gops if first else None
    )
    cautions += missing_rows(request, subjects, found)
    for one, of_one in zip(found, rows, strict=True):
        cautions += row_cautions(of_one, idle_cpu(one), one.starts[-1].notice)
    flat: list[Row] = [row for of_one in rows for row in of_one]
    return BenchResult(
        format=FORMAT,
        environment=environment,
        before=before,
        after=after,
        processes=processes,
        ceilings=ceilings,
        results=tuple(flat),
        warnings=tuple(cautions),
    )


def open_subjects(request: BenchRequest) -> list[Subject]:
    """The original, then each file on each provider."""
    key = Path(request.public_key) if request.public_key else None
    files = [
        open_file(path, name, key)
        for name in request.providers
        for path in dict.fromkeys(request.models)
    ]
    subjects = [*open_original(request.run, request.providers[0]), *files]
    if not subjects:
        raise MissingExtraError("measuring a run's original", "PyTorch", INSTALL)
    return subjects


def check_same(subjects: Sequence[Subject]) -> None:
    """Raise ModelFileError where a file is no longer the one whose hash its rows are to carry."""
    for subject in subjects:
        if not subject.is_original and file_sha256(Path(subject.path)) != subject.sha256:
            raise ModelFileError(
                subject.path, "it was replaced while it was measured", "measure again"
            )


def probe(request: BenchRequest, threads: int) -> tuple[Ceiling, ...]:
    """The ceilings of this machine as they are now; none where they are not asked for."""
    return (
        measure_ceilings(threads, min(MAX_PROBE_SECONDS, request.seconds))
        if request.ceiling
        else ()
    )


def share_memory(subjects: Sequence[Subject], plan: Plan) -> tuple[bool, str]:
    """Whether every turn needs a fresh process, since the models do not fit in memory together; and
    that in words.
    """
    largest = max(scenario.batch_size for scenario in plan.scenarios)
    needed = sum(memory_needed_mb(subject, largest) for subject in subjects)
    free = free_memory_mb()
    if needed > MEMORY_SHARE * free:
        why = f"{len(subjects)} models need about {needed / 1e3:.1f} GB together, and {free / 1e3:.1f} GB are free"
        return True, f"a fresh process for each turn, since {why}; {plan.n_rounds} rounds"
    return False, f"one process a model, all loaded, taking turns; {plan.n_rounds} rounds"


def answer_all(
    crew: Crew, subjects: Sequence[Subject], plan: Plan, material: Material, progress: Progress
) -> list[dict[int, Answers]]:
    """Each subject's answers to the labelled images at each batch size of the plan; none without
    such images.
    """
    sizes = sorted({scenario.batch_size for scenario in plan.scenarios}) if material.samples else []
    found: list[dict[int, Answers]] = []
    for i, subject in enumerate(subjects):
        of_one = {}
        for size in sizes:
            progress(
                f"bench: answers of {subject.path} to {len(material.samples)} images, batch {size}"
            )
            logits = np.array(crew.ask(i, Command(answer=Answer(size)))[0].logits, dtype=np.float64)
            of_one[size] = Answers(subject.precision, subject.spec, logits, subject.sha256)
        found.append(of_one)
    return found


def judge_all(
    subjects: Sequence[Subject], answers: Sequence[dict[int, Answers]], material: Material
) -> list[Accuracies]:
    """Each subject's accuracy by batch size, against the reference's answers at the same batch
    size.
    """
    base = reference_index(subjects)
    truth = material.truth
    found = []
    for i, (subject, of_one) in enumerate(zip(subjects, answers, strict=True)):
        n_seen = None if subject.seen is None else count_seen(material.samples, subject.seen)
        of_base = answers[base] if base is not None and base != i else {}
        found.append(
            {
                size: describe(mine, truth, n_seen, of_base.get(size))
                for size, mine in of_one.items()
            }
        )
    return found


def reference_index(subjects: Sequence[Subject]) -> int | None:
    """The subject that the others' answers are held against: the original, else the first fp32
    file.
    """
    names = [subject.precision for subject in subjects]
    return next((names.index(name) for name in (ORIGINAL, "fp32") if name in names), None)


def missing_rows(
    request: BenchRequest, subjects: Sequence[Subject], found: Sequence[Found]
) -> list[str]:
    """What was asked for and is not among the rows as expected, and whether the rows compare at
    all.
    """
    said = [subject.notice for subject in subjects if subject.notice]
    if request.run is not None and not any(subject.is_original for subject in subjects):
        said.append(f"PyTorch is not installed, so the original has no row; {INSTALL}")
    if len({one.provider for one in found}) > 1:
        said.append("the rows ran on different devices; compare models within a device")
    return said


def idle_cpu(found: Found) -> float:
    """The most that the model's process was busy while it waited for a turn of the later rounds."""
    return max(
        (window.idle_cpu for windows in found.windows.values() for window in windows[1:]),
        default=0.0,
    )
