"""`slim.json`: what was asked for, which widths were tried, what the gate said of each, and which was taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.gate import FAIL, INCONCLUSIVE, PASS, TOLERANCE
from kneeedge.records import from_json, to_json
from kneeedge.spec import Slimmed
from kneeedge.training.checkpoint import write_atomically
from kneeedge.training.slim.config import SlimConfig

REPORT = "slim.json"


@dataclass(frozen=True)
class Step:
    """One width that was tried."""

    name: str
    "of its run folder below steps/"
    asked_ms: float
    "latency that its widths were chosen for"
    expected_ms: float
    "by the table of layer times, what a call costs included"
    expected_speedup: float
    "against the original's int8 file, by the same table"
    measured_ms: float
    "median of single images in this process, when the file was made"
    channels: tuple[tuple[int, ...], ...]
    size_mb: float
    "of the int8 file"
    verdict: str
    "of the gate: the int8 file against the original on val"
    reason: str
    flips: int
    n: int
    "images of val"
    accuracy_change: float
    "on val, the int8 file less the original"
    model: str
    "the int8 file, below the slim run's folder"


@dataclass(frozen=True)
class SlimReport:
    """`slim.json`: what was asked for, what was tried, and what was taken."""

    config: SlimConfig
    original: Slimmed
    steps: tuple[Step, ...] = ()
    chosen: str | None = None
    "name of the step whose network stands in the run folder"

    @property
    def failed(self) -> bool:
        """Whether the network that was taken failed the gate."""
        return any(step.verdict == FAIL for step in self.steps if step.name == self.chosen)


def choose(steps: Sequence[Step], tolerance: float) -> Step:
    """The fastest that passes; else the fastest of those that seem to lose no more than the tolerance and do not fail.

    Where there is none of these either, the one that lost least.
    """
    likely = [step for step in steps if step.verdict == INCONCLUSIVE and -step.accuracy_change <= tolerance]
    fitting = [step for step in steps if step.verdict == PASS] or likely
    if fitting:
        return min(fitting, key=lambda step: step.expected_ms)
    return max(steps, key=lambda step: step.accuracy_change)


def tolerance_of(config: SlimConfig) -> float:
    """The accuracy that may be lost."""
    return TOLERANCE["int8"] if config.tolerance is None else config.tolerance


def read_slim(folder: Path) -> SlimReport:
    """`slim.json`; raises NotFoundError where nothing was begun."""
    path = folder / REPORT
    if not path.is_file():
        raise NotFoundError(f"{folder}: no slim run was begun here", "begin one with `kneeedge slim RUN`")
    try:
        return from_json(SlimReport, path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(path, f"not a report of this kneeedge ({error})", "slim the original again") from error


def write_slim(folder: Path, report: SlimReport) -> None:
    """Write `slim.json`."""
    write_atomically(folder / REPORT, to_json(report))
