"""Who is measured when: in each round every model has its turn, so that drift hits all alike."""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import TypeVar

import numpy as np

from kneeedge.bench.crew import Crew
from kneeedge.bench.messages import (
    Command,
    FileRun,
    FileTurn,
    Started,
    Turn,
    Window,
    WorkRequest,
)
from kneeedge.bench.subjects import Subject
from kneeedge.bench.windows import LEAST_A_ROUND, Scenario
from kneeedge.runs.answers import Answers
from kneeedge.runs.benchmark import Accuracy
from kneeedge.runtime.providers import CPU_PROVIDERS
from kneeedge.system.nvidia import gpu_memory_mb
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress, duration

N_COLD_STARTS = 3
FILE_RUNS_A_ROUND = 3
"least runs of a turn over single files, however long they take"
IMAGES_AT_ONCE = 256
"that a worker answers before it is heard of again"
Model = TypeVar("Model")


@dataclass(frozen=True)
class Plan:
    """How the time is shared out."""

    scenarios: tuple[Scenario, ...]
    n_rounds: int
    seconds: float
    "for each scenario of each model, over all rounds"

    @property
    def rounds(self) -> str:
        """How many there are, in words."""
        return "1 round" if self.n_rounds == 1 else f"{self.n_rounds} rounds"


@dataclass(kw_only=True)
class Measurement:
    """One model on its way through the benchmark: what it is, and what its turns bring."""

    subject: Subject
    request: WorkRequest
    "what its worker is told"
    starts: list[Started] = field(default_factory=list)
    windows: dict[Scenario, list[Window]] = field(default_factory=dict)
    gpu_memory_mb: dict[Scenario, float] = field(default_factory=dict)
    "the most after a turn of the scenario, where the driver tells"
    file_runs: list[FileRun] = field(default_factory=list)
    placement: str | None = None
    "where its nodes ran; absent on the CPU"
    logits: dict[int, list[tuple[float, ...]]] = field(default_factory=dict)
    "for the labelled images so far, by batch size"
    accuracies: dict[int, Accuracy] = field(default_factory=dict)
    "of those answers, by batch size"

    @property
    def provider(self) -> str:
        """The one that runs it."""
        return self.starts[-1].provider

    @property
    def answers(self) -> dict[int, Answers]:
        """To the labelled images, by batch size."""
        subject = self.subject
        return {
            size: Answers(subject.precision, subject.spec, np.array(rows), subject.sha256)
            for size, rows in self.logits.items()
        }

    @property
    def notice(self) -> str:
        """What the user should know of the provider, or empty."""
        return self.starts[-1].notice

    def seconds_an_image(self, batch_size: int) -> float:
        """From the file to the answer in batches of this size, by the turns so far."""
        milliseconds = [
            sample
            for scenario, windows in self.windows.items()
            if scenario.batch_size == batch_size
            for window in windows
            for sample in window.samples
        ]
        reading = [run.read + run.preprocess for run in self.file_runs]
        return (mean(milliseconds) / batch_size + mean(reading)) / 1e3

    @property
    def idle_cpu(self) -> float:
        """The most that its process was busy while it waited for a turn of the later rounds."""
        later = [window for windows in self.windows.values() for window in windows[1:]]
        return max((window.idle_cpu for window in later), default=0.0)


def start_all(crew: Crew, measurements: Sequence[Measurement], progress: Progress) -> None:
    """Cold starts in turn, each in a process of its own; the last of each model stays."""
    files_first = sorted(measurements, key=lambda measurement: measurement.request.is_original)
    for k in range(N_COLD_STARTS):
        n_models = len(measurements)
        progress(f"bench: cold start {k + 1} of {N_COLD_STARTS}, {counted(n_models, 'model')}")
        for measurement in files_first:
            if measurement.request.is_original:
                settle_provider(measurement, measurements)
            started = crew.start(measurement.request, keep=k == N_COLD_STARTS - 1)
            measurement.starts.append(started)


def settle_provider(original: Measurement, measurements: Sequence[Measurement]) -> None:
    """Let the original run where the first file does, which settles what `auto` is."""
    for measurement in measurements:
        if measurement.starts:
            provider = measurement.starts[0].provider
            original.request = dataclasses.replace(original.request, provider=provider)
            return


def locate_all(crew: Crew, measurements: Sequence[Measurement]) -> None:
    """Let each model that does not run on the CPU show where its nodes run."""
    for measurement in measurements:
        if measurement.provider != "cpu":
            reply, _ = crew.ask(measurement.request, Command(placement=True))
            measurement.placement = reply.placement


def take_turns(
    crew: Crew,
    plan: Plan,
    measurements: Sequence[Measurement],
    n_images: int,
    progress: Progress,
) -> None:
    """All rounds. No bar is drawn while they run: redrawing it would take time from the models.

    The time left includes that of the answers to `n_images` at each batch size, which come behind.
    """
    answers = f", the answers to {counted(n_images, 'image')} included" if n_images else ""
    began = time.monotonic()
    for k in range(plan.n_rounds):
        ordered = in_turn(measurements, k)
        for scenario in plan.scenarios:
            for measurement in ordered:
                take_turn(crew, plan, measurement, scenario)
        for measurement in ordered:
            take_file_turn(crew, plan, measurement)
        seconds_a_round = (time.monotonic() - began) / (k + 1)
        seconds_left = seconds_a_round * (plan.n_rounds - k - 1)
        seconds_left += sum(job.seconds for job in answer_jobs(plan, measurements, n_images))
        left = f"; about {duration(seconds_left)} left{answers}" if seconds_left else ""
        progress(f"bench: round {k + 1} of {plan.n_rounds}{left}")


@dataclass(frozen=True)
class AnswerJob:
    """A part of the labelled images that one model is to answer at one batch size."""

    measurement: Measurement
    batch_size: int
    first: int
    end: int
    "the image behind the last"
    seconds: float
    "that it is going to take, by what the turns measured"


def answer_jobs(plan: Plan, measurements: Sequence[Measurement], n_images: int) -> list[AnswerJob]:
    """All answers, in parts of whole batches: none is so long that its worker seems to hang."""
    jobs = []
    for measurement in measurements:
        for size in sorted({scenario.batch_size for scenario in plan.scenarios}):
            seconds_an_image = measurement.seconds_an_image(size)
            step = math.ceil(IMAGES_AT_ONCE / size) * size
            for first in range(0, n_images, step):
                end = min(first + step, n_images)
                seconds = (end - first) * seconds_an_image
                jobs.append(AnswerJob(measurement, size, first, end, seconds))
    return jobs


def in_turn(models: Sequence[Model], k: int) -> list[Model]:
    """The models in the order of round `k`.

    There and back again, so that a steady drift cancels over two rounds.
    """
    return list(models) if k % 2 == 0 else list(models)[::-1]


def take_turn(crew: Crew, plan: Plan, measurement: Measurement, scenario: Scenario) -> None:
    """One turn of one model at one scenario."""
    turn = Turn(scenario.batch_size, plan.seconds / plan.n_rounds, LEAST_A_ROUND[scenario.name])
    reply, pid = crew.ask(measurement.request, Command(turn=turn))
    if reply.window is not None:
        measurement.windows.setdefault(scenario, []).append(reply.window)
    if measurement.provider in CPU_PROVIDERS:
        return
    used = gpu_memory_mb(pid)
    if used is not None:
        most = measurement.gpu_memory_mb.get(scenario, 0.0)
        measurement.gpu_memory_mb[scenario] = max(used, most)


def take_file_turn(crew: Crew, plan: Plan, measurement: Measurement) -> None:
    """One turn of one model over single files, half as long as a turn at a scenario."""
    turn = FileTurn(plan.seconds / plan.n_rounds / 2, FILE_RUNS_A_ROUND)
    reply, _ = crew.ask(measurement.request, Command(file_turn=turn))
    measurement.file_runs += reply.file_runs or ()
