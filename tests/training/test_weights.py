"""Weights that training begins with: read as tensors alone, and looked at before any image is."""

import dataclasses
from pathlib import Path
from urllib.error import URLError

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.model.spec import VGG19_CHANNELS, Architecture
from kneeedge.runs.config import TrainConfig
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from kneeedge.training import folds as folds_module
from kneeedge.training import run as run_module
from kneeedge.training import weights as weights_module
from kneeedge.training.folds import train_folds
from kneeedge.training.model import KneeVGG
from kneeedge.training.run import train
from kneeedge.training.weights import NAME, URL, cached, check_weights, load_pretrained

QUIET = Progress(quiet=True)
NARROW = tuple(tuple(count // 16 for count in block) for block in VGG19_CHANNELS)


@pytest.fixture(autouse=True)
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of torch without anything in it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


@pytest.fixture
def source() -> KneeVGG:
    return KneeVGG(Architecture(NARROW), 5)


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def pth(
    request: pytest.FixtureRequest, source: KneeVGG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A narrow network's file as `torch.save` writes it, which stands for torchvision's own."""
    path = tmp_path / "given.pth"
    torch.save(source.state_dict(), path, _use_new_zipfile_serialization=request.param)
    monkeypatch.setattr(weights_module, "SHA256_STARTS", file_sha256(path)[:8])
    return path


def first_weights(weights: str) -> torch.Tensor:
    model = KneeVGG(Architecture(NARROW), 2)
    load_pretrained(model, weights)
    return model.features[0].weight


def test_pretrained_convolutions_are_loaded(source, tmp_path):
    model = KneeVGG(Architecture(NARROW), 2)
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    origin = load_pretrained(model, str(path))
    assert origin == f"sha256:{file_sha256(path)}"
    assert torch.equal(model.features[0].weight, source.features[0].weight)


def test_weights_of_another_width_say_what_to_do(source, tmp_path):
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    other = tuple(tuple(2 * count for count in block) for block in NARROW)
    with pytest.raises(CheckpointError, match=r"features\.0\.bias is .*use --width 1"):
        load_pretrained(KneeVGG(Architecture(other), 2), str(tmp_path / "w.safetensors"))


def test_torchvisions_file_is_read_where_it_is_named(pth, source):
    assert torch.equal(first_weights(str(pth)), source.features[0].weight)


def test_torchvisions_file_is_read_from_torchs_cache_without_a_network(pth, source, no_network):
    cached().parent.mkdir(parents=True)
    pth.rename(cached())
    assert torch.equal(first_weights("imagenet"), source.features[0].weight)


def test_another_pth_is_refused_though_it_holds_tensors_alone(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=f"no safetensors file .*, nor torchvision's {NAME}"):
        first_weights(str(tmp_path / "other.pth"))


def test_a_file_in_the_cache_that_is_not_torchvisions_is_refused(no_network):
    cached().parent.mkdir(parents=True)
    cached().write_bytes(b"half of it")
    with pytest.raises(CheckpointError, match="is not torchvision's; remove it"):
        first_weights("imagenet")


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(1)], {"a": {"b": torch.zeros(1)}}])
def test_what_is_no_table_of_tensors_is_refused(content, tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    monkeypatch.setattr(weights_module, "SHA256_STARTS", file_sha256(path)[:8])
    with pytest.raises(CheckpointError, match="it holds more than tensors"):
        first_weights(str(path))


def test_without_a_network_the_file_to_bring_and_the_option_that_takes_it_are_said(no_network):
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(KneeVGG(Architecture(), 2), "imagenet")
    assert str(caught.value).startswith(f"{URL}: cannot be downloaded (")
    assert str(caught.value).endswith(
        "fetch that file on a machine with a network, bring it here "
        f"and give it with --weights {NAME}, or use --weights none"
    )


def test_a_download_is_announced_with_its_size(no_network, capsys):
    with pytest.raises(CheckpointError):
        check_weights(TrainConfig(data="", size=64), Progress())
    assert f"weights: downloading {URL} (548 MB), once, to " in capsys.readouterr().err


@pytest.fixture
def no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where images are looked for."""

    def fail(*args: object) -> None:
        raise AssertionError("the images were looked at first")

    monkeypatch.setattr(run_module, "gather_images", fail)
    monkeypatch.setattr(folds_module, "gather_images", fail)


@pytest.mark.parametrize("begin", [train, train_folds])
def test_weights_are_looked_at_before_the_images(begin, no_images, no_network, source, tmp_path):
    n_folds = 2 if begin is train_folds else 0
    config = TrainConfig(data=str(tmp_path), size=64, folds=n_folds)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    unfit = dataclasses.replace(config, weights=str(tmp_path / "w.safetensors"))
    missing = dataclasses.replace(config, weights=str(tmp_path / "none.pth"))
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        begin(config, tmp_path / "run", [], QUIET)
    with pytest.raises(CheckpointError, match="use --width 1"):
        begin(unfit, tmp_path / "run", [], QUIET)
    with pytest.raises(NotFoundError, match=f"torchvision's {NAME}"):
        begin(missing, tmp_path / "run", [], QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("begin", [train, train_folds])
def test_a_folder_that_is_not_there_is_said_before_weights_are_downloaded(
    begin, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    n_folds = 2 if begin is train_folds else 0
    config = TrainConfig(data=str(tmp_path / "knees"), folds=n_folds)
    with pytest.raises(NotFoundError, match="knees: no such data folder"):
        begin(config, tmp_path / "run", [], QUIET)
    without = dataclasses.replace(config, data=str(tmp_path), groups=str(tmp_path / "g.csv"))
    with pytest.raises(NotFoundError, match=r"g\.csv: no such groups file"):
        begin(without, tmp_path / "run", [], QUIET)


def test_weights_that_fit_pass_the_check(tmp_path):
    config = TrainConfig(data="", weights=str(tmp_path / "w.safetensors"), width=1 / 16)
    save_file(KneeVGG(config.architecture, 3).state_dict(), config.weights)
    check_weights(config, QUIET)
    check_weights(dataclasses.replace(config, weights="none"), QUIET)
