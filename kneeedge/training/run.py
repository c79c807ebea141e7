"""A data folder → a finished run folder: `kneeedge train`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from kneeedge import machine
from kneeedge.choose import LATEST
from kneeedge.dataset import (
    Dataset,
    assign_splits,
    check_splits,
    check_unchanged,
    read_split,
    scan,
    write_split,
)
from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.metrics import Evaluation
from kneeedge.progress import Progress, duration
from kneeedge.spec import Architecture, PixelPath, default_positive
from kneeedge.training.checkpoint import Run, RunRecord, read_record, read_weights, save_weights, write_record
from kneeedge.training.config import TrainConfig
from kneeedge.training.data import (
    Batches,
    FileBatches,
    cache_activations,
    drop_cache,
    plan_cache,
    seconds_an_image,
)
from kneeedge.training.loop import fit
from kneeedge.training.model import KneeVGG, load_pretrained
from kneeedge.training.score import score

FASTER = 1.2
"bf16 is taken on a CPU where it is measured to be at least this much faster"


@dataclass(frozen=True)
class TrainResult:
    """What a finished training run came to."""

    run: Run
    evaluations: dict[str, Evaluation]
    "of the kept weights in fp32 on val and, where there is one, test"
    leaked: int
    "held-out images that, or whose patient, also stand in another split"


def train(config: TrainConfig, folder: Path, command: Sequence[str], progress: Progress) -> TrainResult:
    """Train a new run in `folder`, which must not be there yet."""
    if folder.exists() and any(folder.iterdir()):
        raise OutputExistsError(folder, f"give another --name, or go on with `kneeedge train --resume {folder}`")
    root = Path(config.data).resolve()
    dataset = assign_splits(scan(root, config.group_regex), config.val_fraction, config.test_fraction, config.seed)
    check_splits(dataset)
    positive = config.positive or default_positive(dataset.classes)
    if positive not in dataset.classes:
        classes = ", ".join(dataset.classes)
        raise ConfigError(f"--positive {positive} is no class of the data", f"choose one of {classes}")
    say_data(dataset, positive, progress)
    torch.manual_seed(config.seed)
    n_frozen = choose_frozen(config)
    model = build_model(config, len(dataset.classes), n_frozen)
    origin = load_pretrained(model, config.weights)
    bf16 = choose_bf16(model, config, progress)
    record = RunRecord(
        config=config, command=tuple(command), data_root=str(root), classes=dataset.classes, positive=positive,
        weights_origin=origin, n_frozen_blocks=n_frozen, bf16=bf16,
        n_views=choose_views(model, dataset, config, n_frozen, bf16, progress),
        device="cuda" if torch.cuda.is_available() else "cpu", environment=machine.environment(),
    )  # fmt: skip
    run = Run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_split(dataset, run.split)
    save_weights(model, run.start)
    write_record(run, record)
    return _train(run, record, dataset, model, progress)


def resume(folder: Path, progress: Progress) -> TrainResult:
    """Go on with a stopped run; the result equals that of an unbroken one."""
    run = Run(folder)
    record = read_record(run)
    if run.spec.is_file():
        raise ConfigError(f"{folder} is finished", "train a new run with `kneeedge train DATA`")
    dataset = read_split(run.split, Path(record.data_root), record.classes)
    check_unchanged(dataset.samples)
    model = build_model(record.config, len(record.classes), record.n_frozen_blocks)
    model.load_state_dict(read_weights(run.start, model))
    return _train(run, record, dataset, model, progress)


def build_model(config: TrainConfig, n_classes: int, n_frozen: int) -> KneeVGG:
    """The network that the config describes, channels-last."""
    architecture = Architecture(config.channels, config.batch_norm, config.head)
    model = KneeVGG(architecture, n_classes, config.dropout, n_frozen)
    return model.to(memory_format=torch.channels_last)


def choose_frozen(config: TrainConfig) -> int:
    """The lower blocks to freeze: as asked for, else four where a CPU starts from pretrained weights, else none."""
    if config.freeze_blocks is not None:
        return config.freeze_blocks
    return 4 if config.weights != "none" and not torch.cuda.is_available() else 0


def choose_bf16(model: KneeVGG, config: TrainConfig, progress: Progress) -> bool:
    """Whether to run in bfloat16: as asked for, else on a GPU that has it, else where this CPU is measured faster."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    model.eval()
    speedup = seconds_an_image(model, config.size, False) / seconds_an_image(model, config.size, True)
    taken = speedup >= FASTER
    progress(f"bf16 runs this network {speedup:.1f}× as fast as fp32 here: {'taken' if taken else 'left'}")
    return taken


def choose_views(
    model: KneeVGG, dataset: Dataset, config: TrainConfig, n_frozen: int, bf16: bool, progress: Progress
) -> int:
    """How many views' frozen activations to cache; 0 where nothing is frozen, a GPU is there or no view fits."""
    if n_frozen == 0 or torch.cuda.is_available():
        return 0
    plan = plan_cache(model.eval(), len(dataset.split("train")), len(dataset.split("val")), config, bf16)
    frozen = "block 1 keeps its" if n_frozen == 1 else f"blocks 1 to {n_frozen} keep their"
    if plan.n_views == 0:
        progress(
            f"{frozen} weights; not one view fits --cache-gb {config.cache_gb:g}, so each epoch computes them anew"
        )
        return 0
    n_images = len(dataset.split("train")) * plan.n_views + len(dataset.split("val"))
    left = duration(n_images * seconds_an_image(model, config.size, bf16))
    fewer = f", fewer than the {config.views} asked for" if plan.n_views < config.views else ""
    progress(
        f"{frozen} weights: their activations for {plan.n_views} views an image{fewer} are computed once, in about "
        f"{left}, and take {plan.gigabytes:.1f} GB of disk while training runs (--cache-gb {config.cache_gb:g})"
    )
    return plan.n_views


def say_data(dataset: Dataset, positive: str, progress: Progress) -> None:
    """What is in the data, what was left out, and what leaks."""
    for split in dataset.counts():
        labels = [sample.label for sample in dataset.split(split)]
        counts = ", ".join(f"{labels.count(k):,} {name}" for k, name in enumerate(dataset.classes))
        progress(f"{split}: {len(labels):,} images ({counts})")
    progress(f"positive class: {positive}")
    if dataset.others:
        progress(f"left out, since they are no images: {len(dataset.others)} files, {dataset.others[0]} the first")
    if leaked := dataset.leaked():
        progress(
            f"LEAK: {len(leaked)} images of val and test, or their patients, also stand in another split "
            f"({leaked[0].name} the first); every held-out figure of this run is too good"
        )


def link_latest(folder: Path) -> None:
    """Let `latest`, beside the run folder, name it."""
    link = folder.parent / LATEST
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise OutputExistsError(link, "it is no link; move it away")
    link.symlink_to(folder.name, target_is_directory=True)


def _train(run: Run, record: RunRecord, dataset: Dataset, model: KneeVGG, progress: Progress) -> TrainResult:
    config = record.config
    torch.set_num_threads(min(torch.get_num_threads(), machine.available_cpus()))  # it does not know of quotas
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces each precision
    precision = "bf16-mixed" if record.bf16 else "32-true"
    fabric = Fabric(accelerator=record.device, devices=1, precision=precision)  # type: ignore[arg-type]
    batches = _batches(run, record, dataset, model, progress)
    state = fit(model, batches, config, run, fabric, progress)
    evaluations = score(run, record, dataset, state, progress)
    drop_cache(run.cache)
    for leftover in (run.start, run.last):
        leftover.unlink(missing_ok=True)
    link_latest(run.folder)
    return TrainResult(run, evaluations, len(dataset.leaked()))


def _batches(run: Run, record: RunRecord, dataset: Dataset, model: KneeVGG, progress: Progress) -> Batches:
    splits, config = (dataset.split("train"), dataset.split("val")), record.config
    if not record.n_views:
        return FileBatches(*splits, config, PixelPath(config.size, config.fit))
    return cache_activations(model.eval(), splits, record.n_views, config, run.cache, record.bf16, progress)
