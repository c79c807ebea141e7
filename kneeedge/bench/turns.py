"""Who is measured when: in each round every model has its turn, so that drift hits all alike."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

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
from kneeedge.system.progress import Progress, duration

N_COLD_STARTS = 3
FILE_RUNS_A_ROUND = 3
"least runs of a turn over single files, however long they take"
Model = TypeVar("Model")


@dataclass(frozen=True)
class Plan:
    """How the time is shared out."""

    scenarios: tuple[Scenario, ...]
    n_rounds: int
    seconds: float
    "for each scenario of each model, over all rounds"


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
    answers: dict[int, Answers] = field(default_factory=dict)
    "to the labelled images, by batch size"
    accuracies: dict[int, Accuracy] = field(default_factory=dict)
    "of those answers, by batch size"

    @property
    def provider(self) -> str:
        """The one that runs it."""
        return self.starts[-1].provider

    @property
    def notice(self) -> str:
        """What the user should know of the provider, or empty."""
        return self.starts[-1].notice

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
        progress(f"bench: cold start {k + 1} of {N_COLD_STARTS}, {n_models} models")
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
    crew: Crew, plan: Plan, measurements: Sequence[Measurement], progress: Progress
) -> None:
    """All rounds. No bar is drawn while they run: redrawing it would take time from the models."""
    began = time.monotonic()
    for k in range(plan.n_rounds):
        ordered = in_turn(measurements, k)
        for scenario in plan.scenarios:
            for measurement in ordered:
                take_turn(crew, plan, measurement, scenario)
        for measurement in ordered:
            take_file_turn(crew, plan, measurement)
        seconds_a_round = (time.monotonic() - began) / (k + 1)
        left = duration(seconds_a_round * (plan.n_rounds - k - 1))
        progress(f"bench: round {k + 1} of {plan.n_rounds}; {left} left of the timing")


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
