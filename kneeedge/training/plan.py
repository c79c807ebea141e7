"""What a training decides before it begins: each `auto`, measured where a measurement says it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kneeedge.data.dataset import Dataset
from kneeedge.errors import ConfigError
from kneeedge.model.certify import check_enough, check_two_classes, parse_promise
from kneeedge.model.decision import check_rule
from kneeedge.model.spec import Architecture, default_positive
from kneeedge.runs.config import AUTO, TrainConfig
from kneeedge.runs.record import RunRecord
from kneeedge.system import machine
from kneeedge.system.progress import Progress, duration
from kneeedge.training.cache import plan_cache
from kneeedge.training.lower import (
    BF16,
    INT8,
    LowerBlocks,
    MakeInt8,
    TorchBlocks,
    open_int8,
    seconds_a_view,
    seconds_an_image,
)
from kneeedge.training.model import KneeVGG
from kneeedge.training.team import ALONE, Team
from kneeedge.training.weights import load_pretrained

N_FROZEN = 4
"blocks of pretrained weights that a CPU freezes by default"
FASTER = 1.2
"a precision of fewer bits is taken on a CPU where it is measured to be at least this much faster"
HOPELESS = 4.0
"times as slow as the other one a precision may be in its first runs before it is not timed further"
WORTH_INT8 = 120.0
"seconds that the frozen blocks take in float, below which their ranges for int8 cost too much"


@dataclass(frozen=True)
class Size:
    """How many images a run trains on and how many it only looks at."""

    n_train: int
    n_val: int

    def n_images(self, n_views: int) -> int:
        """That go through the frozen blocks, with `n_views` views of each training image."""
        return self.n_train * n_views + self.n_val


@dataclass(frozen=True)
class Plan:
    """What a training begins with."""

    model: KneeVGG
    "with the weights that training begins with"
    record: RunRecord
    "of all choices, each `auto` decided"
    lower: LowerBlocks
    "what computes the frozen blocks' activations, where they are kept"


def plan_run(
    config: TrainConfig,
    dataset: Dataset,
    size: Size,
    command: Sequence[str],
    progress: Progress,
    team: Team = ALONE,
    make_int8: MakeInt8 | None = None,
) -> Plan:
    """Decide on all that is open; without `make_int8` the frozen blocks are computed in float."""
    positive = config.positive or default_positive(dataset.classes)
    if positive not in dataset.classes:
        problem = f"--positive {positive} is no class of the data"
        raise ConfigError(problem, f"choose one of {', '.join(dataset.classes)}")
    progress(f"positive class: {positive}")
    labels = np.array([sample.label for sample in dataset.split("val")])
    check_rule(config.threshold, len(dataset.classes), labels == dataset.classes.index(positive))
    if config.certify is not None:
        check_promise(config.certify, dataset, dataset.classes.index(positive))
    torch.manual_seed(config.seed)
    n_frozen = choose_frozen(config)
    model = build_model(config.architecture, config, len(dataset.classes), n_frozen)
    origin = load_pretrained(model, config.weights)
    bf16 = choose_bf16(model, config.precision, config.size, progress)
    lower = choose_lower(model, dataset, size, config, bf16, make_int8, progress)
    n_views = choose_views(model, lower, size, config, progress)
    record = RunRecord(
        config=config,
        command=tuple(command),
        data_root=str(dataset.root),
        classes=dataset.classes,
        positive=positive,
        weights_origin=origin,
        n_frozen_blocks=n_frozen,
        bf16=bf16,
        n_views=n_views,
        frozen_precision=lower.precision if n_views else None,
        device=training_device(),
        environment=machine.environment(),
        n_processes=team.size,
    )
    say_team(record, progress)
    return Plan(model, record, lower)


def check_promise(text: str, dataset: Dataset, positive: int) -> None:
    """Raise PromiseError where val cannot carry the promise, whatever the network learns."""
    check_two_classes(dataset.classes)
    val = dataset.split("val")
    n_positive = len({sample.group for sample in val if sample.label == positive})
    n_negative = len({sample.group for sample in val if sample.label != positive})
    check_enough(parse_promise(text), n_positive, n_negative, "val")


def say_team(record: RunRecord, progress: Progress) -> None:
    """Say who trains, where they are several, and what they do otherwise than one would."""
    n = record.n_processes
    if n == 1:
        return
    where = "each on a GPU" if record.device == "cuda" else "on this CPU"
    progress(f"{n} processes train together, {where}; --batch-size is that of all together")
    if record.architecture.batch_norm:
        progress("batch norm: each process normalises by its own part of a batch")


def build_model(
    architecture: Architecture, config: TrainConfig, n_classes: int, n_frozen: int
) -> KneeVGG:
    """The network to train, with the config's dropout, channels-last."""
    model = KneeVGG(architecture, n_classes, config.dropout, n_frozen)
    return model.to(memory_format=torch.channels_last)


def training_device() -> str:
    """Where networks are trained: `cuda` where PyTorch finds a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_frozen(config: TrainConfig) -> int:
    """The lower blocks to freeze: as asked for, else four of pretrained weights on a CPU."""
    if config.freeze_blocks is not None:
        return config.freeze_blocks
    return N_FROZEN if config.weights != "none" and not torch.cuda.is_available() else 0


def choose_bf16(model: KneeVGG, precision: str, size: int, progress: Progress) -> bool:
    """Whether to run in bfloat16: as asked for; else on a GPU that has it, or a CPU faster in it.

    What the CPU is faster in is measured, on images of side `size`.
    """
    if precision != AUTO:
        return precision == BF16
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    model.eval()
    fp32_seconds = seconds_an_image(forward(model, bf16=False), size)
    longest = HOPELESS * fp32_seconds  # what a CPU without bf16 only emulates takes a minute
    speedup = fp32_seconds / seconds_an_image(forward(model, bf16=True), size, longest)
    is_taken = speedup >= FASTER
    decision = "taken" if is_taken else "left"
    progress(f"bf16 runs this network {speedup:.1f}× as fast as fp32 here: {decision}")
    return is_taken


def choose_lower(
    model: KneeVGG,
    dataset: Dataset,
    size: Size,
    config: TrainConfig,
    bf16: bool,
    make_int8: MakeInt8 | None,
    progress: Progress,
) -> LowerBlocks:
    """In what the frozen blocks are computed: as asked for, else in int8 where that is faster.

    That is measured against what PyTorch takes, where it takes so long that the ranges which int8
    needs are worth their time.
    """
    asked = config.frozen_precision
    if asked != AUTO and not caches(config):
        problem = f"--frozen-precision {asked} is for activations that are kept, and none are here"
        raise ConfigError(problem, "leave it out; only a CPU keeps those of --freeze-blocks")
    in_float = TorchBlocks(model.eval(), bf16 if asked in (AUTO, INT8) else asked == BF16)
    if asked == INT8:
        if make_int8 is None:
            problem = "--frozen-precision int8 needs ONNX Runtime"
            raise ConfigError(problem, "pip install 'kneeedge[cpu]'")
        return open_int8(make_int8(model, dataset, config, progress))
    if asked != AUTO or config.precision != AUTO or make_int8 is None or not caches(config):
        return in_float
    seconds = seconds_a_view(in_float, config.size)
    if seconds * size.n_images(config.views) < WORTH_INT8:
        return in_float
    in_int8 = open_int8(make_int8(model, dataset, config, progress))
    speedup = seconds / seconds_a_view(in_int8, config.size)
    is_taken = speedup >= FASTER
    progress(
        f"int8 runs the frozen blocks {speedup:.1f}× as fast as {in_float.precision} here: "
        f"{'taken' if is_taken else 'left'}"
    )
    return in_int8 if is_taken else in_float


def caches(config: TrainConfig) -> bool:
    """Whether the frozen blocks' activations are computed once and kept."""
    return choose_frozen(config) > 0 and not torch.cuda.is_available()


def choose_views(
    model: KneeVGG, lower: LowerBlocks, size: Size, config: TrainConfig, progress: Progress
) -> int:
    """How many views' frozen activations to cache.

    None (0) where nothing is frozen, a GPU is there or not one view fits the disk that is allowed.
    """
    n_frozen = choose_frozen(config)
    if n_frozen == 0:
        return 0
    frozen = "block 1 keeps its" if n_frozen == 1 else f"blocks 1 to {n_frozen} keep their"
    if not caches(config):
        progress(f"{frozen} weights")
        return 0
    plan = plan_cache(model.eval(), size.n_train, size.n_val, config, lower.precision)
    if plan.n_views == 0:
        progress(
            f"{frozen} weights; not one view fits --cache-gb {config.cache_gb:g}, "
            "so each epoch computes them anew"
        )
        return 0
    left = duration(size.n_images(plan.n_views) * seconds_a_view(lower, config.size))
    fewer = f", fewer than the {config.views} asked for" if plan.n_views < config.views else ""
    progress(
        f"{frozen} weights: their activations for {plan.n_views} views an image{fewer} "
        f"are computed once, in {lower.precision}, in about {left}, and take "
        f"{plan.gigabytes:.1f} GB of disk while training runs (--cache-gb {config.cache_gb:g})"
    )
    return plan.n_views


def forward(model: KneeVGG, bf16: bool) -> Callable[[torch.Tensor], object]:
    """What answers images (N, 1, S, S) uint8 by the network on this CPU, in bf16 or fp32."""

    def answer(images: torch.Tensor) -> object:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return model(images)

    return answer
