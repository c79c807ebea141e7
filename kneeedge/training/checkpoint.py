"""The run folder: what stands in it, and weights in and out of safetensors. No pickle is written or read."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kneeedge.crossval import is_cross_validation
from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.machine import Environment
from kneeedge.records import from_json, to_json
from kneeedge.spec import FOLDERS, Architecture, DataReport, ModelSpec, Slimmed
from kneeedge.training.average import WeightAverage
from kneeedge.training.config import TrainConfig
from kneeedge.training.model import KneeVGG


@dataclass(frozen=True)
class RunRecord:
    """`config.json`: what was asked for, what came of every `auto`, and where it ran."""

    config: TrainConfig
    command: tuple[str, ...]
    data_root: str
    classes: tuple[str, ...]
    positive: str
    weights_origin: str
    n_frozen_blocks: int
    n_views: int
    "views whose frozen activations are cached; 0: the files are read anew each epoch"
    bf16: bool
    "whether the forward pass runs in bfloat16"
    device: str
    environment: Environment
    protocol: str = FOLDERS
    "how the splits came about; see `TrainingRecord`"
    data_report: DataReport | None = None
    "absent where no audit was run"
    slimmed: Slimmed | None = None
    "absent where the network is no narrowed one"
    original: str | None = None
    "folder of the run that was slimmed"
    channels: tuple[tuple[int, ...], ...] | None = None
    "of the narrowed network; absent where `config` says them"

    @property
    def architecture(self) -> Architecture:
        """Of the network that is trained; batch norm was folded into a narrowed one's convolutions."""
        if self.channels is None:
            return self.config.architecture
        return Architecture(self.channels, False, self.config.head)


@dataclass(frozen=True)
class Run:
    """The files of one training run."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def start(self) -> Path:
        """The weights training begins with."""
        return self.folder / "start.safetensors"

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def spec(self) -> Path:
        return self.folder / "spec.json"

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def split(self) -> Path:
        return self.folder / "split.csv"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def novelty(self) -> Path:
        """The Gaussian of the training images' features, where the model may abstain."""
        return self.folder / "novelty.safetensors"

    @property
    def original_answers(self) -> Path:
        """The answers of the original that this run is a slimmed one of, as in its own `answers.csv`."""
        return self.folder / "original.csv"

    @property
    def models(self) -> Path:
        return self.folder / "models"


def open_run(folder: Path) -> Run:
    """The finished run in `folder`; raises NotFoundError where there is none."""
    run = Run(folder)
    if is_cross_validation(folder):
        raise NotFoundError(f"{folder}: it holds the folds of a cross-validation", f"name one of them, {folder}/fold-1")
    if not run.config.is_file():
        raise NotFoundError(f"{folder}: no training run here", "train one with `kneeedge train DATA`")
    if not run.spec.is_file():
        raise NotFoundError(f"{folder}: the run is not finished", f"finish it with `kneeedge train --resume {folder}`")
    return run


def read_record(run: Run) -> RunRecord:
    """`config.json` of a run."""
    if not run.config.is_file():
        raise NotFoundError(f"{run.folder}: no training run here", "give the folder of a run, runs/<name>")
    try:
        return from_json(RunRecord, run.config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(run.config, f"not a kneeedge config ({error})", "train the run again") from error


def load_original(run: Run) -> tuple[KneeVGG, ModelSpec]:
    """The trained PyTorch model in fp32, ready to answer, and its spec."""
    spec = read_spec(run)
    return load_model(spec, run.model), spec


def read_spec(run: Run) -> ModelSpec:
    """`spec.json` of a finished run."""
    return ModelSpec.read(run.spec)


def load_model(spec: ModelSpec, weights: Path) -> KneeVGG:
    """The network that the spec describes, with these weights, in fp32, channels-last, in evaluation mode."""
    model = KneeVGG(spec.architecture, len(spec.classes))
    model.load_state_dict(read_weights(weights, model))
    return model.eval().to(memory_format=torch.channels_last)


def read_weights(path: Path, model: KneeVGG) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which must fit `model`."""
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", "train the run again") from error
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != shapes:
        raise CheckpointError(path, "its tensors do not fit the spec's architecture", "train the run again")
    return state


def predict_logits(model: KneeVGG, images: NDArray[np.uint8], batch_size: int = 16) -> NDArray[np.float32]:
    """The original's logits (N, K) for images (N, 1, S, S) uint8, in fp32 on the device of the model."""
    device = model.mean.device
    with torch.inference_mode():
        parts = [
            model(torch.from_numpy(images[i : i + batch_size]).to(device)).float().cpu()
            for i in range(0, len(images), batch_size)
        ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never half of one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def save_weights(model: KneeVGG, path: Path) -> None:
    """Write the model's weights, atomically."""
    _save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path, {})


def save_last(model: KneeVGG, optimizer: torch.optim.Optimizer, average: WeightAverage, state: str, path: Path) -> None:
    """One file from which training goes on: weights, averages, the optimiser's moments, and `state` as metadata."""
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor.contiguous() for name, tensor in average.state().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": tensor.contiguous() for name, tensor in moments.items()}
    _save(tensors, path, {"state": state, "step": str(average.step)})


def load_last(model: KneeVGG, optimizer: torch.optim.Optimizer, average: WeightAverage, path: Path) -> str:
    """Put back what `save_last` wrote and return its `state`."""
    try:
        with safe_open(path, "pt") as file:
            state: str = file.metadata()["state"]
            step = int(file.metadata()["step"])
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", "train the run again") from error
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    average.load({k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}, step)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, i, name = key.split(".")
            moments.setdefault(int(i), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return state


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    part = path.with_name(f".{path.name}.part")
    save_file(tensors, part, metadata)
    part.chmod(0o644)  # safetensors makes files that only their owner can read
    part.replace(path)


def write_record(run: Run, record: RunRecord) -> None:
    """Write `config.json`."""
    write_atomically(run.config, to_json(record))


def write_metrics(run: Run, metrics: dict[str, object]) -> None:
    """Write `metrics.json`."""
    write_atomically(run.folder / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False))
