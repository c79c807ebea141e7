"""`slim.json`: what was asked for, the widths that were tried, their verdicts, and the choice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kneeedge.errors import CheckpointError, ConfigError, NotFoundError
from kneeedge.model.provenance import Slimmed
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS, TOLERANCE
from kneeedge.runs.config import SLIM, TrainConfig
from kneeedge.system.strict_json import from_json

LADDER = (4.4, 6.0, 8.5, 10.0)
"speedups that a search goes through, against the original's own int8 file, the curve's fifth point"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """How fast one network is to be; one of the three is given."""

    speedup: float | None = None
    max_latency_ms: float | None = None
    keep: float | None = None


@dataclass(frozen=True, kw_only=True)
class SlimConfig:
    """What `kneeedge slim` was asked to do."""

    original: str
    "the run folder"
    speedup: float | None = None
    "times as fast as the original's own int8 file on this machine"
    max_latency_ms: float | None = None
    "of the int8 file for one image on this machine"
    keep: float | None = None
    "0 to 1; as fast as a network with this share of every layer's channels"
    curve: bool = False
    "go through the whole ladder, whatever the gate says, and draw accuracy against latency"
    data: str | None = None
    "the data folder, where it is no longer where the original was trained"
    gate_data: str | None = None
    "images that the gate's verdicts rest on beside val's"
    tolerance: float | None = None
    "accuracy that may be lost, as a share; None: the gate's own for int8"
    stress: bool = False
    "hold every file against the original on corrupted images too"
    stress_tolerance: float | None = None
    "accuracy that may be lost there under any kind, as a share; None: the gate's own"
    threads: int | None = None
    "for the layer times; None: the cores this process may use"
    epochs: int = 10
    "of distillation for each width"
    views: int = 6
    "fixed augmented views of each training image, for which the original is asked once"
    lr: float = 1e-4
    "learning rate of all layers"
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        goals = {name: getattr(self, name) for name in ("speedup", "max_latency_ms", "keep")}
        given = {name: value for name, value in goals.items() if value is not None}
        if len(given) > 1:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ConfigError(f"{names} are two goals", "give one of them")
        if given and self.curve:
            problem = "--curve goes through widths of its own"
            raise ConfigError(problem, "leave out the goal, or --curve")
        if self.speedup is not None and self.speedup <= 1.0:
            raise ConfigError(f"--speedup {self.speedup:g} is no speedup", "give more than 1")
        if self.keep is not None and not 0.0 < self.keep < 1.0:
            problem = f"--keep {self.keep:g} is no share of the channels"
            raise ConfigError(problem, "give more than 0 and less than 1")
        if self.stress_tolerance is not None and not self.stress:
            problem = "--stress-tolerance is about corrupted images"
            raise ConfigError(problem, "ask for them with --stress")
        for name in ("max_latency_ms", "lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} must be above 0", "give a larger number")
        for name in ("epochs", "views", "batch_size"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} must be at least 1", "give a larger number")

    @property
    def has_goal(self) -> bool:
        """Whether one network is asked for, rather than a search."""
        return any(value is not None for value in (self.speedup, self.max_latency_ms, self.keep))

    def with_goal(self, goal: Goal) -> "SlimConfig":
        """The same with another goal, in place of a search too."""
        return replace(
            self,
            speedup=goal.speedup,
            max_latency_ms=goal.max_latency_ms,
            keep=goal.keep,
            curve=False,
        )

    def training(self, original: TrainConfig) -> TrainConfig:
        """How the narrowed network is trained: on the original's images, by a recipe of its own."""
        return replace(
            original,
            recipe=SLIM,
            recipe_file=None,
            data=self.data or original.data,
            epochs=self.epochs,
            batch_size=self.batch_size,
            views=self.views,
            lr=self.lr,
            head_lr=self.lr,
            lr_decay=1.0,
            optimizer="adamw",
            schedule="cosine",
            dropout=0.0,
            mixup=0.0,
            cutmix=0.0,
            freeze_blocks=0,
            patience=0,
            seed=self.seed,
            batch_norm=False,
            precision="auto",
            folds=0,
            ema=0.984,
            devices=1,
        )


@dataclass(frozen=True, kw_only=True)
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
    "of the gate: the int8 file against the original"
    reason: str
    flips: int
    n: int
    "images that the verdict rests on"
    accuracy_change: float
    "on those with labels, the int8 file less the original"
    model: str
    "the int8 file, below the slim run's folder"
    images: str = ""
    "which images the verdict rests on, in words"


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
    """The fastest that passes.

    Where none does, of the inconclusive ones that seem within the tolerance the one with the fewest
    flips, else of all the one that lost least; the fastest of equals. Raises ValueError without a
    step.
    """
    passed = [step for step in steps if step.verdict == PASS]
    if passed:
        return min(passed, key=lambda step: step.expected_ms)
    inconclusive = [step for step in steps if step.verdict == INCONCLUSIVE]
    likely = [step for step in inconclusive if -step.accuracy_change <= tolerance]
    if likely:
        return min(likely, key=lambda step: (step.flips, step.expected_ms))
    return min(steps, key=lambda step: (-step.accuracy_change, step.flips, step.expected_ms))


def tolerance_of(config: SlimConfig) -> float:
    """The accuracy that may be lost."""
    return TOLERANCE["int8"] if config.tolerance is None else config.tolerance


def read_slim(path: Path) -> SlimReport:
    """`slim.json`; raises NotFoundError where nothing was begun."""
    if not path.is_file():
        problem = f"{path.parent}: no slim run was begun here"
        raise NotFoundError(problem, "begin one with `kneeedge slim RUN`")
    try:
        return from_json(SlimReport, path.read_text(encoding="utf-8"))
    except ValueError as error:
        problem = f"not a report of this kneeedge ({error})"
        raise CheckpointError(path, problem, "slim the original again") from error
