"""Weights in and out of safetensors. No pickle is written or read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kneeedge.errors import CheckpointError
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.folder import Run
from kneeedge.system.files import replacing
from kneeedge.training.average import WeightAverage
from kneeedge.training.model import KneeVGG
from kneeedge.training.polarity import Upright


def load_original(run: Run) -> tuple[KneeVGG, ModelSpec]:
    """The trained PyTorch model in fp32, ready to answer, and its spec."""
    spec = run.read_spec()
    return load_model(spec, run.model), spec


def load_model(spec: ModelSpec, weights: Path) -> KneeVGG:
    """The spec's network with these weights: fp32, channels-last, in evaluation mode."""
    model = KneeVGG(spec.architecture, len(spec.classes))
    model.load_state_dict(read_weights(weights, model))
    if spec.polarity is not None:
        model.upright = Upright(spec.polarity)
    return model.eval().to(memory_format=torch.channels_last)


def read_weights(path: Path, model: KneeVGG) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which must fit `model`."""
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", "train the run again") from error
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != shapes:
        problem = "its tensors do not fit the spec's architecture"
        raise CheckpointError(path, problem, "train the run again")
    return state


def predict_logits(
    model: KneeVGG, images: NDArray[np.uint8], batch_size: int = 16
) -> NDArray[np.float32]:
    """Logits (N, K) of images (N, 1, S, S) uint8, in fp32, computed where the model stands."""
    device = model.mean.device
    logits = []
    with torch.inference_mode():
        for i in range(0, len(images), batch_size):
            batch = torch.from_numpy(images[i : i + batch_size]).to(device)
            logits.append(model(batch).float().cpu())
    return np.asarray(torch.cat(logits).numpy(), dtype=np.float32)


def save_weights(model: KneeVGG, path: Path) -> None:
    """Write the model's weights, atomically."""
    _save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path, {})


def save_last(
    model: KneeVGG, optimizer: torch.optim.Optimizer, average: WeightAverage, state: str, path: Path
) -> None:
    """One file to go on from: weights, averages, the optimiser's moments; `state` as metadata."""
    tensors = _named("model", model.state_dict()) | _named("average", average.state())
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= _named(f"optimizer.{i}", moments)
    _save(tensors, path, {"state": state, "step": str(average.step)})


def load_last(
    model: KneeVGG, optimizer: torch.optim.Optimizer, average: WeightAverage, path: Path
) -> str:
    """Put back what `save_last` wrote and return its `state`."""
    try:
        with safe_open(path, "pt") as file:
            state: str = file.metadata()["state"]
            step = int(file.metadata()["step"])
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", "train the run again") from error
    model.load_state_dict(_below("model", tensors))
    average.load(_below("average", tensors), step)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _below("optimizer", tensors).items():
        i, name = key.split(".")
        moments.setdefault(int(i), {})[name] = tensor
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for place, of_weight in moments.items():
        for moment_name, moment in of_weight.items():
            if moment.shape == weights[place].shape:
                # A fused step goes through memory, where the file's order may be another.
                of_weight[moment_name] = torch.empty_like(weights[place]).copy_(moment)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return state


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor.contiguous() for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    names = [name for name in tensors if name.startswith(start)]
    return {name.removeprefix(start): tensors[name] for name in names}


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    with replacing(path) as new:
        save_file(tensors, new, metadata)
