"""Who is measured when: rounds in which every model has a turn at every scenario, so that drift
hits all alike.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from kneeedge.bench.crew import Crew
from kneeedge.bench.messages import Command, FileRun, FileTurn, Started, Turn, Window
from kneeedge.bench.windows import LEAST_A_ROUND, Scenario
from kneeedge.runtime.providers import CPU_PROVIDERS
from kneeedge.system.nvidia import gpu_memory_mb
from kneeedge.system.progress import Progress, duration

N_COLD_STARTS = 3
FILE_RUNS_A_ROUND = 3


@dataclass(frozen=True)
class Plan:
    """How the time is shared out."""

    scenarios: tuple[Scenario, ...]
    n_rounds: int
    seconds: float
    "for each scenario of each model, over all rounds"


@dataclass(kw_only=True)
class Found:
    """What the turns of one model brought."""

    starts: list[Started] = field(default_factory=list)
    windows: dict[Scenario, list[Window]] = field(default_factory=dict)
    gpu_memory_mb: dict[Scenario, float] = field(default_factory=dict)
    "the most after a turn of the scenario, where the driver tells"
    file_runs: list[FileRun] = field(default_factory=list)
    placement: str | None = None
    "where its nodes ran; absent on the CPU"

    @property
    def provider(self) -> str:
        """The one that runs it."""
        return self.starts[-1].provider


def start_all(crew: Crew, found: Sequence[Found], progress: Progress) -> None:
    """Cold starts in turn, each in a process of its own; the last of each model stays."""
    for k in range(N_COLD_STARTS):
        progress(f"bench: cold start {k + 1} of {N_COLD_STARTS}, {len(found)} models")
        for i in sorted(range(len(found)), key=lambda i: crew.requests[i].is_original):
            if crew.requests[i].is_original:  # last, since the files settle what `auto` is
                settled = next(
                    (one.starts[0].provider for one in found if one.starts),
                    crew.requests[i].provider,
                )
                crew.requests[i] = dataclasses.replace(crew.requests[i], provider=settled)
            found[i].starts.append(crew.start(i, keep=k == N_COLD_STARTS - 1))


def locate_all(crew: Crew, found: Sequence[Found]) -> None:
    """Let each model that does not run on the CPU show where its nodes run."""
    for i, one in enumerate(found):
        if one.provider != "cpu":
            one.placement = crew.ask(i, Command(placement=True))[0].placement


def take_turns(crew: Crew, plan: Plan, found: Sequence[Found], progress: Progress) -> None:
    """All rounds. No bar is drawn while they run: redrawing it would take time from the models."""
    began = time.monotonic()
    for k in range(plan.n_rounds):
        order = turn_order(len(found), k)
        for scenario in plan.scenarios:
            for i in order:
                take_turn(crew, i, scenario, plan, found[i])
        for i in order:
            command = Command(
                file_turn=FileTurn(plan.seconds / plan.n_rounds / 2, FILE_RUNS_A_ROUND)
            )
            found[i].file_runs += crew.ask(i, command)[0].file_runs or ()
        left = (time.monotonic() - began) / (k + 1) * (plan.n_rounds - k - 1)
        progress(f"bench: round {k + 1} of {plan.n_rounds}; {duration(left)} left of the timing")


def turn_order(n: int, k: int) -> list[int]:
    """Models in the order of round `k`: there and back again, so that a steady drift cancels over
    two rounds.
    """
    return list(range(n)) if k % 2 == 0 else list(range(n))[::-1]


def take_turn(crew: Crew, i: int, scenario: Scenario, plan: Plan, found: Found) -> None:
    """One turn of one model, added to what it found."""
    turn = Turn(scenario.batch_size, plan.seconds / plan.n_rounds, LEAST_A_ROUND[scenario.name])
    reply, pid = crew.ask(i, Command(turn=turn))
    if reply.window is not None:
        found.windows.setdefault(scenario, []).append(reply.window)
    if found.provider not in CPU_PROVIDERS and (used := gpu_memory_mb(pid)) is not None:
        found.gpu_memory_mb[scenario] = max(used, found.gpu_memory_mb.get(scenario, 0.0))
