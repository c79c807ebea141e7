"""A data folder → a finished run folder: `kneeedge train`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from kneeedge.data.dataset import Dataset, check_unchanged
from kneeedge.data.splits import check_splits
from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.inference.metrics import Evaluation
from kneeedge.model.decision import check_rule
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.spec import Architecture, default_positive
from kneeedge.report.card import write_card
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import STEPS, Run, check_latest, link_latest
from kneeedge.runs.record import RunRecord
from kneeedge.system import machine
from kneeedge.system.progress import Progress, duration
from kneeedge.training.checkpoint import read_weights, save_weights
from kneeedge.training.data import (
    ActivationStore,
    Batches,
    FileBatches,
    cache_activations,
    drop_cache,
    plan_cache,
    seconds_an_image,
    views_wanted,
)
from kneeedge.training.loop import fit
from kneeedge.training.model import KneeVGG
from kneeedge.training.prepare import check_folders, gather_images, say_splits, split_data
from kneeedge.training.score import score
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


def train(
    config: TrainConfig, folder: Path, command: Sequence[str], progress: Progress
) -> TrainResult:
    """Train a new run in `folder`, which must not be there yet."""
    check_new(folder)
    check_folders(config)
    check_weights(config, progress)
    gathered = gather_images(config, progress)
    dataset, protocol = split_data(gathered.dataset, config)
    check_splits(dataset)
    say_splits(gathered, dataset, config, progress)
    size = Size(len(dataset.split("train")), len(dataset.split("val")))
    model, record = plan_run(config, dataset, size, command, progress)
    record = replace(record, protocol=protocol, data_report=gathered.report_on(dataset))
    run = Run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, run.start)
    begin_run(run, record, dataset)
    result = finish_run(run, record, dataset, model, progress)
    link_latest(run)
    return result


def resume(folder: Path, progress: Progress) -> TrainResult:
    """Go on with a stopped run; the result equals that of an unbroken one."""
    run = Run(folder)
    record = run.read_config()
    if run.spec.is_file():
        raise ConfigError(f"{folder} is finished", "train a new run with `kneeedge train DATA`")
    check_trained_here(folder, record)
    dataset = run.read_dataset(Path(record.data_root), record.classes)
    check_unchanged(dataset.samples)
    result = finish_run(run, record, dataset, start_model(run, record), progress)
    if not record.protocol.startswith("fold "):
        link_latest(run)
    return result


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
    config: TrainConfig, dataset: Dataset, size: Size, command: Sequence[str], progress: Progress
) -> tuple[KneeVGG, RunRecord]:
    """The network that training begins with, and the record of all choices, each `auto` decided."""
    positive = config.positive or default_positive(dataset.classes)
    if positive not in dataset.classes:
        problem = f"--positive {positive} is no class of the data"
        raise ConfigError(problem, f"choose one of {', '.join(dataset.classes)}")
    progress(f"positive class: {positive}")
    labels = np.array([sample.label for sample in dataset.split("val")])
    check_rule(config.threshold, len(dataset.classes), labels == dataset.classes.index(positive))
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
    )
    return model, record


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
) -> TrainResult:
    """Train a begun run to its end and score it; `store` is a cache that several runs share."""
    config = record.config
    # torch does not know of a container's share of the CPUs.
    torch.set_num_threads(min(torch.get_num_threads(), machine.available_cpus()))
    batches = _batches(run, record, dataset, model, progress, store)
    fabric = make_fabric(record.device, record.bf16)
    state = fit(model, batches, config, run, fabric, progress)
    evaluations = score(run, record, dataset, state, batches, progress)
    drop_cache(run.cache)
    for leftover in (run.start, run.last):
        leftover.unlink(missing_ok=True)
    write_card(run)
    return TrainResult(run, evaluations, run.read_spec().training)


def make_fabric(device: str, bf16: bool) -> Fabric:
    """One device, in bf16 or fp32."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces each precision
    return Fabric(accelerator=device, devices=1, precision="bf16-mixed" if bf16 else "32-true")


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
    run: Run,
    record: RunRecord,
    dataset: Dataset,
    model: KneeVGG,
    progress: Progress,
    store: ActivationStore | None,
) -> Batches:
    train = dataset.split("train")
    val = dataset.split("val")
    config = record.config
    if not record.n_views:
        return FileBatches(train, val, config, config.pixel_path)
    if store is None:
        wanted = views_wanted(train, val, record.n_views)
        store = cache_activations(model.eval(), wanted, config, run.cache, record.bf16, progress)
    return store.batches(train, val, config)
