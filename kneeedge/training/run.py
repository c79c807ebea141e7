"""A data folder → a finished run folder: `kneeedge train`."""

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from kneeedge.data.dataset import Dataset, check_unchanged
from kneeedge.data.splits import check_splits
from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.inference.metrics import Evaluation
from kneeedge.model.certify import check_enough, check_two_classes, parse_promise
from kneeedge.model.decision import check_rule
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.spec import Architecture, default_positive
from kneeedge.report.card import write_card
from kneeedge.runs.config import TrainConfig, check_batch
from kneeedge.runs.folder import STEPS, Run, check_latest, link_latest
from kneeedge.runs.record import RunRecord
from kneeedge.system import machine
from kneeedge.system.progress import Progress, duration
from kneeedge.training.cache import (
    ActivationStore,
    cache_activations,
    drop_cache,
    plan_cache,
    seconds_an_image,
    views_wanted,
)
from kneeedge.training.checkpoint import read_weights, save_weights
from kneeedge.training.data import Batches, FileBatches
from kneeedge.training.loop import fit
from kneeedge.training.model import KneeVGG
from kneeedge.training.prepare import check_folders, gather_images, say_splits, split_data
from kneeedge.training.score import score
from kneeedge.training.team import ALONE, Team
from kneeedge.training.weights import check_weights, load_pretrained

FASTER = 1.2
"bf16 is taken on a CPU where it is measured to be at least this much faster"


@dataclass(frozen=True)
class TrainResult:
    """What a finished training run came to."""

    run: Run
    evaluations: dict[str, Evaluation]
    "of the kept weights in fp32 on val and, where there is one, test"
    training: TrainingRecord
    "as the spec carries it, with its protocol and what leaked"

    @property
    def leaked(self) -> int:
        """Held-out images that, or whose copy or patient, also stand in another split."""
        return self.training.leaked


@dataclass(frozen=True)
class Size:
    """How many images a run trains on and how many it only looks at."""

    n_train: int
    n_val: int


@dataclass(frozen=True)
class Begun:
    """What training needs of a run whose folder says all of it."""

    record: RunRecord
    dataset: Dataset
    model: KneeVGG
    "with the weights that training begins with"


def train(
    config: TrainConfig,
    folder: Path,
    command: Sequence[str],
    progress: Progress,
    team: Team = ALONE,
) -> TrainResult:
    """Train a new run in `folder`, which must not be there yet.

    Of several processes, which all call this, the first begins and scores the run; all return the
    same result.
    """
    check_team(config, team)
    run = Run(folder)
    if team.is_first:
        begun = begin(config, run, command, progress, team)
    team.wait()
    if not team.is_first:
        begun = read_begun(run)
    result = finish_run(run, begun.record, begun.dataset, begun.model, progress, team=team)
    if team.is_first:
        link_latest(run)
    return result


def begin(
    config: TrainConfig, run: Run, command: Sequence[str], progress: Progress, team: Team
) -> Begun:
    """Look at the data, decide on all that is open, and write the folder of the run."""
    check_new(run.folder)
    check_folders(config)
    check_weights(config, progress)
    gathered = gather_images(config, progress)
    dataset, protocol = split_data(gathered.dataset, config)
    check_splits(dataset)
    say_splits(gathered, dataset, config, progress)
    size = Size(len(dataset.split("train")), len(dataset.split("val")))
    model, record = plan_run(config, dataset, size, command, progress, team)
    record = replace(
        record,
        protocol=protocol,
        data_report=gathered.report_on(dataset),
        dropped_labels=gathered.dropped_labels,
    )
    run.folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, run.start)
    begin_run(run, record, dataset)
    return Begun(record, dataset, model)


def read_begun(run: Run) -> Begun:
    """What `begin` wrote."""
    record = run.read_config()
    dataset = run.read_dataset(Path(record.data_root), record.classes)
    return Begun(record, dataset, start_model(run, record))


def resume(folder: Path, progress: Progress, team: Team = ALONE) -> TrainResult:
    """Go on with a stopped run; the result equals that of an unbroken one."""
    run = Run(folder)
    record = run.read_config()
    if run.spec.is_file():
        raise ConfigError(f"{folder} is finished", "train a new run with `kneeedge train DATA`")
    check_trained_here(folder, record)
    check_resumed_by(folder, record, team)
    begun = read_begun(run)
    if team.is_first:
        check_unchanged(begun.dataset.samples)
    team.wait()
    result = finish_run(run, record, begun.dataset, begun.model, progress, team=team)
    if team.is_first and not record.protocol.startswith("fold "):
        link_latest(run)
    return result


def check_team(config: TrainConfig, team: Team) -> None:
    """Raise ConfigError where others train than the config asks for, or too many for a batch."""
    if config.devices not in (1, team.size):
        problem = f"the config asks for {config.devices} devices, and {team.size} is training"
        raise ConfigError(problem, "start it with `kneeedge train DATA --devices N`")
    check_batch(config.batch_size, team.size)


def check_resumed_by(folder: Path, record: RunRecord, team: Team) -> None:
    """Raise ConfigError where more or fewer processes go on with a run than began it."""
    if record.n_processes != team.size:
        problem = f"{folder} was begun by {record.n_processes} processes, not by {team.size}"
        remedy = f"go on with `kneeedge train --resume {folder}`, which starts as many"
        raise ConfigError(problem, remedy)


def check_new(folder: Path, remedy: str = "") -> None:
    """Raise OutputExistsError where `folder` holds anything, or the link to it cannot be made."""
    if folder.exists() and any(folder.iterdir()):
        go_on = f"give another --name, or go on with `kneeedge train --resume {folder}`"
        raise OutputExistsError(folder, remedy or go_on)
    check_latest(folder)


def check_trained_here(folder: Path, record: RunRecord) -> None:
    """Raise ConfigError for a run of `kneeedge slim`, which learns from more than the labels."""
    if record.slimmed is not None:
        path = folder.resolve()
        begun = path.parent.parent if path.parent.name == STEPS else folder
        problem = f"{folder} is slimmed from {record.slimmed.original}, not trained"
        raise ConfigError(problem, f"go on with `kneeedge slim --resume {begun}`")


def plan_run(
    config: TrainConfig,
    dataset: Dataset,
    size: Size,
    command: Sequence[str],
    progress: Progress,
    team: Team = ALONE,
) -> tuple[KneeVGG, RunRecord]:
    """The network that training begins with, and the record of all choices, each `auto` decided."""
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
    bf16 = choose_bf16(model, config, progress)
    record = RunRecord(
        config=config,
        command=tuple(command),
        data_root=str(dataset.root),
        classes=dataset.classes,
        positive=positive,
        weights_origin=origin,
        n_frozen_blocks=n_frozen,
        bf16=bf16,
        n_views=choose_views(model, size, config, bf16, progress),
        device="cuda" if torch.cuda.is_available() else "cpu",
        environment=machine.environment(),
        n_processes=team.size,
    )
    say_team(record, progress)
    return model, record


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


def begin_run(run: Run, record: RunRecord, dataset: Dataset) -> None:
    """Write what a run is trained from; `run.start` must be there already."""
    run.write_dataset(dataset)
    run.write_config(record)


def start_model(run: Run, record: RunRecord) -> KneeVGG:
    """The network of a begun run with the weights that its training begins with."""
    n_classes = len(record.classes)
    model = build_model(record.architecture, record.config, n_classes, record.n_frozen_blocks)
    model.load_state_dict(read_weights(run.start, model))
    return model


def finish_run(
    run: Run,
    record: RunRecord,
    dataset: Dataset,
    model: KneeVGG,
    progress: Progress,
    store: ActivationStore | None = None,
    team: Team = ALONE,
) -> TrainResult:
    """Train a begun run to its end and score it; `store` is a cache that several runs share."""
    # torch does not know of a container's share of the CPUs.
    n_threads = min(torch.get_num_threads(), machine.available_cpus())
    torch.set_num_threads(max(1, min(n_threads, machine.available_cpus() // team.size)))
    if record.n_views and store is None:
        wanted = views_wanted(dataset.split("train"), dataset.split("val"), record.n_views)
        cache = run.cache
        store = cache_activations(
            model.eval(), wanted, record.config, cache, record.bf16, progress, team
        )
    fabric = make_fabric(record.device, record.bf16, team)
    batches = _batches(record, dataset, store, team)
    state = fit(model, batches, record.config, run, fabric, progress)
    team.wait()
    if team.is_first:
        torch.set_num_threads(n_threads)  # the others wait
        whole = _batches(record, dataset, store, ALONE)
        evaluations = score(run, record, dataset, state, whole, progress)
        drop_cache(run.cache)
        for leftover in (run.start, run.last):
            leftover.unlink(missing_ok=True)
        write_card(run)
    team.wait()
    if not team.is_first:
        evaluations = run.read_evaluations()
    return TrainResult(run, evaluations, run.read_spec().training)


def make_fabric(device: str, bf16: bool, team: Team = ALONE) -> Fabric:
    """One device for each process, in bf16 or fp32; several take the mean of their gradients."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces each precision
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if bf16 else "32-true"
    if team.size == 1:
        return Fabric(accelerator=device, devices=1, precision=precision)
    # A buffer here is constant, or shared once an epoch. torch has renamed the option.
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {name: False}
    strategy = DDPStrategy(**options)
    fabric = Fabric(accelerator=device, devices=team.size, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def build_model(
    architecture: Architecture, config: TrainConfig, n_classes: int, n_frozen: int
) -> KneeVGG:
    """The network to train, with the config's dropout, channels-last."""
    model = KneeVGG(architecture, n_classes, config.dropout, n_frozen)
    return model.to(memory_format=torch.channels_last)


def choose_frozen(config: TrainConfig) -> int:
    """The lower blocks to freeze: as asked for, else four of pretrained weights on a CPU."""
    if config.freeze_blocks is not None:
        return config.freeze_blocks
    return 4 if config.weights != "none" and not torch.cuda.is_available() else 0


def choose_bf16(model: KneeVGG, config: TrainConfig, progress: Progress) -> bool:
    """Whether to run in bfloat16: as asked for; else on a GPU that has it, or a CPU faster in it.

    What the CPU is faster in is measured.
    """
    if config.precision != "auto":
        return config.precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    model.eval()
    fp32_seconds = seconds_an_image(model, config.size, bf16=False)
    speedup = fp32_seconds / seconds_an_image(model, config.size, bf16=True)
    is_taken = speedup >= FASTER
    decision = "taken" if is_taken else "left"
    progress(f"bf16 runs this network {speedup:.1f}× as fast as fp32 here: {decision}")
    return is_taken


def choose_views(
    model: KneeVGG, size: Size, config: TrainConfig, bf16: bool, progress: Progress
) -> int:
    """How many views' frozen activations to cache.

    None (0) where nothing is frozen, a GPU is there or not one view fits the disk that is allowed.
    """
    n_frozen = choose_frozen(config)
    if n_frozen == 0 or torch.cuda.is_available():
        return 0
    plan = plan_cache(model.eval(), size.n_train, size.n_val, config, bf16)
    frozen = "block 1 keeps its" if n_frozen == 1 else f"blocks 1 to {n_frozen} keep their"
    if plan.n_views == 0:
        progress(
            f"{frozen} weights; not one view fits --cache-gb {config.cache_gb:g}, "
            "so each epoch computes them anew"
        )
        return 0
    n_images = size.n_train * plan.n_views + size.n_val
    left = duration(n_images * seconds_an_image(model, config.size, bf16))
    fewer = f", fewer than the {config.views} asked for" if plan.n_views < config.views else ""
    progress(
        f"{frozen} weights: their activations for {plan.n_views} views an image{fewer} "
        f"are computed once, in about {left}, and take {plan.gigabytes:.1f} GB of disk "
        f"while training runs (--cache-gb {config.cache_gb:g})"
    )
    return plan.n_views


def _batches(
    record: RunRecord, dataset: Dataset, store: ActivationStore | None, team: Team
) -> Batches:
    """What the process trains on: of the cache, or where there is none of the files."""
    train = dataset.split("train")
    val = dataset.split("val")
    config = record.config
    if store is None:
        return FileBatches(train, val, config, config.pixel_path, team)
    return store.batches(train, val, config, team)
