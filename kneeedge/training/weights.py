"""The weights that training begins with: torchvision's ImageNet file, another one, or none."""

import warnings
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import VGG19_Weights

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.runs.config import TrainConfig
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from kneeedge.training.model import KneeVGG

URL: str = VGG19_Weights.IMAGENET1K_V1.url
NAME = URL.rpartition("/")[2]
"of torchvision's file, vgg19-dcbb9e9d.pth"
SHA256_STARTS = Path(NAME).stem.rpartition("-")[2]
"the digits of its hash that stand in its name"
MEGABYTES = 548
"of torchvision's file"


def check_weights(config: TrainConfig, progress: Progress) -> None:
    """Raise where the weights asked for are not there or do not fit, before an image is read.

    What `load_pretrained` raises. Torchvision's file is downloaded here.
    """
    if config.weights == "none":
        return
    if config.weights == "imagenet" and not cached().is_file():
        progress(f"weights: downloading {URL} ({MEGABYTES} MB), once, to {cached().parent}")
    with torch.device("meta"):
        model = KneeVGG(config.architecture, 2)
    _check_fit(config.weights, _read_state(config.weights), _wanted(model))


def load_pretrained(model: KneeVGG, weights: str) -> str:
    """Load `weights` (imagenet, none or a file) into all but the last layer.

    The convolutions must all be there; the fully connected layers of the classifier head are taken
    where they are. Returns what to record as the weights' origin. Raises NotFoundError without the
    file, CheckpointError for weights that cannot be downloaded or read, or do not fit.
    """
    if weights == "none":
        return "none"
    state = _read_state(weights)
    wanted = _wanted(model)
    _check_fit(weights, state, wanted)
    taken = {name: state[name].float() for name in wanted if name in state}
    model.load_state_dict(taken, strict=False)
    return "imagenet" if weights == "imagenet" else f"sha256:{file_sha256(Path(weights))}"


def cached() -> Path:
    """Where torch keeps torchvision's file: below TORCH_HOME, else ~/.cache/torch."""
    return Path(torch.hub.get_dir(), "checkpoints", NAME)


def _wanted(model: KneeVGG) -> dict[str, Tensor]:
    """The model's tensors by name, less those of its last layer."""
    own = model.state_dict()
    last_layer = list(own)[-2].rpartition(".")[0]
    return {name: tensor for name, tensor in own.items() if not name.startswith(last_layer)}


def _check_fit(weights: str, state: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name in sorted(wanted):
        if name.startswith("features.") and name not in state:
            remedy = "give VGG19 weights with torchvision's key names"
            raise CheckpointError(weights, f"it lacks {name}", remedy)
    for name in sorted(wanted.keys() & state.keys()):
        shape = tuple(state[name].shape)
        wanted_shape = tuple(wanted[name].shape)
        if shape != wanted_shape:
            problem = f"{name} is {shape}, the model's {wanted_shape}"
            remedy = "use --width 1 without batch norm, or --weights none"
            raise CheckpointError(weights, problem, remedy)


def _read_state(weights: str) -> dict[str, Tensor]:
    if weights == "imagenet":
        return _imagenet()
    path = Path(weights)
    if not path.is_file():
        remedy = f"give imagenet, none, a safetensors file or torchvision's {NAME}"
        raise NotFoundError(f"{path}: no such weights file", remedy)
    try:
        return load_file(path)
    except SafetensorError as error:
        if is_torchvisions(path):
            return _read_torchvisions(path)
        problem = f"it is no safetensors file ({error}), nor torchvision's {NAME}"
        remedy = (
            "save the state dict with `safetensors.torch.save_file`; other pickles are not read"
        )
        raise CheckpointError(path, problem, remedy) from error


def _imagenet() -> dict[str, Tensor]:
    path = cached()
    if not path.is_file():
        _download(path)
    if not is_torchvisions(path):
        remedy = "remove it, and give the command again"
        raise CheckpointError(path, "the file in torch's cache is not torchvision's", remedy)
    return _read_torchvisions(path)


def _download(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(URL, str(path), SHA256_STARTS, progress=False)
    except (URLError, HTTPException, OSError, RuntimeError) as error:  # RuntimeError: a wrong hash
        remedy = (
            "fetch that file on a machine with a network, bring it here "
            f"and give it with --weights {NAME}, or use --weights none"
        )
        raise CheckpointError(URL, f"cannot be downloaded ({error})", remedy) from error


def is_torchvisions(path: Path) -> bool:
    """Whether the file's hash begins as torchvision's name for it says."""
    return file_sha256(path).startswith(SHA256_STARTS)


def _read_torchvisions(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth`; torch refuses whatever but tensors, and no code in it is run."""
    try:
        with warnings.catch_warnings():
            # torch wonders at pickles of other protocols.
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        problem = "it holds more than tensors, or is damaged"
        raise CheckpointError(path, problem, f"fetch {URL} again") from error
    if not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
        raise CheckpointError(path, "it holds more than tensors", f"fetch {URL} again")
    return state
