"""A data folder → a finished run folder: `kneeedge train`."""

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from kneeedge.data.dataset import Dataset, check_unchanged
from kneeedge.data.splits import check_splits
from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.inference.metrics import Evaluation
from kneeedge.model.provenance import TrainingRecord
from kneeedge.report.card import write_card
from kneeedge.runs.config import TrainConfig, check_batch
from kneeedge.runs.folder import STEPS, Run
from kneeedge.runs.latest import check_latest, link_latest
from kneeedge.runs.recipe import tuned_by
from kneeedge.runs.record import RunRecord
from kneeedge.system import machine
from kneeedge.system.files import write_bytes
from kneeedge.system.progress import Progress
from kneeedge.training.cache import (
    ActivationStore,
    cache_activations,
    drop_cache,
    views_wanted,
)
from kneeedge.training.checkpoint import read_weights, save_weights
from kneeedge.training.cpu import use_cpu
from kneeedge.training.data import Batches, FileBatches
from kneeedge.training.loop import fit
from kneeedge.training.lower import (
    BF16,
    FP32,
    INT8,
    Int8Blocks,
    LowerBlocks,
    MakeInt8,
    TorchBlocks,
    read_int8,
)
from kneeedge.training.model import KneeVGG
from kneeedge.training.plan import Plan, Size, build_model, plan_run
from kneeedge.training.prepare import check_folders, gather_images, say_splits, split_data
from kneeedge.training.score import FIRST_STEP, score
from kneeedge.training.team import ALONE, Team
from kneeedge.training.weights import check_weights


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
    make_int8: MakeInt8 | None = None,
) -> TrainResult:
    """Train a new run in `folder`, which must not be there yet.

    Of several processes, which all call this, the first begins and scores the run; all return the
    same result.
    """
    check_team(config, team)
    run = Run(folder)
    if team.is_first:
        begun = begin(config, run, command, progress, team, make_int8)
    team.wait()
    if not team.is_first:
        begun = read_begun(run)
    result = finish_run(run, begun.record, begun.dataset, begun.model, progress, team=team)
    if team.is_first:
        link_latest(run)
    return result


def begin(
    config: TrainConfig,
    run: Run,
    command: Sequence[str],
    progress: Progress,
    team: Team,
    make_int8: MakeInt8 | None,
) -> Begun:
    """Look at the data, decide on all that is open, and write the folder of the run."""
    check_new(run.folder)
    check_folders(config)
    check_weights(config, progress)
    with progress.timed(FIRST_STEP):
        gathered = gather_images(config, progress)
    dataset, protocol = split_data(gathered.dataset, config)
    check_splits(dataset)
    say_splits(gathered, dataset, config, progress)
    size = Size(len(dataset.split("train")), len(dataset.split("val")))
    use_cpu()
    with progress.timed("choices"):
        plan = plan_run(config, dataset, size, command, progress, team, make_int8)
    record = replace(
        plan.record,
        protocol=protocol,
        data_report=gathered.report_on(dataset),
        dropped_labels=gathered.dropped_labels,
        tuned=tuned_by(config, dataset),
    )
    if record.tuned:
        progress(record.tuned.line)
    run.folder.mkdir(parents=True, exist_ok=True)
    save_start(plan, run)
    begin_run(run, record, dataset)
    return Begun(record, dataset, plan.model)


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


def save_start(plan: Plan, run: Run) -> None:
    """Write the weights that training begins with, and the frozen blocks' file in int8."""
    save_weights(plan.model, run.start)
    if isinstance(plan.lower, Int8Blocks):
        write_bytes(run.lower, plan.lower.file)


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


def lower_blocks(run: Run, record: RunRecord, model: KneeVGG, team: Team = ALONE) -> LowerBlocks:
    """What computes the frozen blocks of a begun run, as its record says."""
    if record.frozen_precision == INT8:
        return read_int8(run.lower, max(1, machine.available_cpus() // team.size))
    precision = record.frozen_precision or (BF16 if record.bf16 else FP32)
    return TorchBlocks(model.eval(), precision == BF16)


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
    use_cpu()
    n_threads = torch.get_num_threads()
    torch.set_num_threads(max(1, min(n_threads, machine.available_cpus() // team.size)))
    if record.n_views and store is None:
        wanted = views_wanted(dataset.split("train"), dataset.split("val"), record.n_views)
        lower = lower_blocks(run, record, model, team)
        store = cache_activations(model, lower, wanted, record.config, run.cache, progress, team)
    fabric = make_fabric(record.device, record.bf16, team)
    batches = _batches(record, dataset, store, team)
    state = fit(model, batches, record.config, run, fabric, progress)
    team.wait()
    if team.is_first:
        torch.set_num_threads(n_threads)  # the others wait
        whole = _batches(record, dataset, store, ALONE)
        evaluations = score(run, record, dataset, state, whole, progress)
        drop_cache(run.cache)
        for leftover in (run.start, run.lower, run.last):
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
