"""The frozen blocks in int8: what they give, when they are taken, and a training on top of them."""

import dataclasses

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("undrawn")]
torch = pytest.importorskip("torch")

from export.frozen import frozen_to_int8
from kneeedge.errors import CheckpointError, ConfigError
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.system.progress import Progress
from kneeedge.training import loop, plan
from kneeedge.training.cache import as_activations, cache_activations, views_wanted
from kneeedge.training.folds import train_folds
from kneeedge.training.lower import (
    N_AT_ONCE,
    TorchBlocks,
    open_int8,
    read_int8,
)
from kneeedge.training.plan import Plan, Size, plan_run
from kneeedge.training.prepare import gather_images, split_data
from kneeedge.training.run import resume, train

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def frozen(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, epochs=3, freeze_blocks=2)


@pytest.fixture(scope="module")
def dataset(frozen):
    return split_data(gather_images(frozen, QUIET).dataset, frozen)[0]


def planned(config: TrainConfig, dataset, make_int8=frozen_to_int8, progress=QUIET) -> Plan:
    size = Size(len(dataset.split("train")), len(dataset.split("val")))
    return plan_run(config, dataset, size, [], progress, make_int8=make_int8)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_int8_gives_the_activations_of_fp32_but_for_its_steps(frozen, dataset, batch_norm):
    config = dataclasses.replace(frozen, batch_norm=batch_norm)
    model = planned(config, dataset).model.eval()
    lower = open_int8(frozen_to_int8(model, dataset, config, QUIET))
    images = np.stack([load_input(s.path, config.pixel_path) for s in dataset.samples[:8]])
    images = torch.from_numpy(images[:, None])
    rows = lower.rows(images)
    exact = model.lower(images)
    assert rows.dtype == np.uint8
    assert rows.shape == TorchBlocks(model, bf16=False).rows(images).shape
    activations = as_activations(rows, lower.scale)
    assert activations.shape == exact.shape
    error = (activations - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()
    assert 0 < error < 0.1


def test_a_few_images_at_once_give_the_rows_of_all(frozen, dataset):
    model = planned(frozen, dataset).model.eval()
    samples = dataset.samples[: 2 * N_AT_ONCE + 1]
    images = np.stack([load_input(sample.path, frozen.pixel_path) for sample in samples])
    images = torch.from_numpy(images[:, None])
    rows = TorchBlocks(model, bf16=False).rows(images)
    with torch.inference_mode():
        whole = model.lower(images).permute(0, 2, 3, 1)
    assert rows.shape == whole.shape
    np.testing.assert_allclose(rows, whole.numpy(), rtol=1e-4, atol=1e-5)


def test_a_cache_in_int8_gives_back_what_it_was_given(frozen, dataset, tmp_path):
    config = dataclasses.replace(frozen, frozen_precision="int8")
    begun = planned(config, dataset)
    assert begun.record.frozen_precision == "int8"
    val = dataset.split("val")
    wanted = views_wanted(dataset.split("train"), val, 2)
    store = cache_activations(begun.model, begun.lower, wanted, config, tmp_path / "cache", QUIET)
    images = np.stack([load_input(sample.path, config.pixel_path) for sample in val])[:, None]
    expected = begun.lower.rows(torch.from_numpy(images)).astype(np.float32) * begun.lower.scale
    read = store.read(store.rows_of(val))
    assert torch.equal(read, torch.from_numpy(expected).permute(0, 3, 1, 2))


@pytest.mark.parametrize(("int8_seconds", "taken"), [(0.5, "int8"), (0.9, "fp32")])
def test_int8_is_taken_where_it_is_faster(frozen, dataset, monkeypatch, int8_seconds, taken):
    seconds = {"fp32": 1.0, "int8": int8_seconds}
    monkeypatch.setattr(plan, "seconds_a_view", lambda lower, _: seconds[lower.precision])
    monkeypatch.setattr(plan, "WORTH_INT8", 0.0)
    monkeypatch.setattr(plan, "choose_bf16", lambda *_: False)
    config = dataclasses.replace(frozen, precision="auto")
    begun = planned(config, dataset)
    assert begun.record.frozen_precision == begun.lower.precision == taken


@pytest.mark.parametrize(
    "changes",
    [{"precision": "32"}, {"precision": "auto", "views": 1}, {"frozen_precision": "32"}],
    ids=["fp32 asked for", "too few views", "frozen in fp32"],
)
def test_no_ranges_are_looked_for_in_vain(frozen, dataset, monkeypatch, changes):
    monkeypatch.setattr(plan, "choose_bf16", lambda *_: False)

    def never(*_: object) -> bytes:
        raise AssertionError

    begun = planned(dataclasses.replace(frozen, **changes), dataset, never)
    assert begun.record.frozen_precision == "fp32"


def test_without_onnx_runtime_int8_is_refused(frozen, dataset):
    config = dataclasses.replace(frozen, frozen_precision="int8")
    with pytest.raises(ConfigError, match="needs ONNX Runtime; pip install"):
        planned(config, dataset, None)


def test_a_precision_of_nothing_is_refused(frozen, dataset):
    config = dataclasses.replace(frozen, freeze_blocks=0, frozen_precision="int8")
    with pytest.raises(ConfigError, match="none are here; leave it out"):
        planned(config, dataset)


def test_a_stopped_training_in_int8_goes_on_as_if_unbroken(frozen, tmp_path, monkeypatch):
    config = dataclasses.replace(frozen, frozen_precision="int8")
    train(config, tmp_path / "unbroken", [], QUIET, make_int8=frozen_to_int8)
    save_last = loop.save_last

    def stop_after_two(model, optimizer, average, state, path):
        save_last(model, optimizer, average, state, path)
        if state.count('"epoch"') == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_last", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "broken", [], QUIET, make_int8=frozen_to_int8)
    monkeypatch.setattr(loop, "save_last", save_last)
    resume(tmp_path / "broken", Progress(quiet=True))
    broken, unbroken = Run(tmp_path / "broken"), Run(tmp_path / "unbroken")
    assert broken.model.read_bytes() == unbroken.model.read_bytes()
    assert broken.read_config().frozen_precision == "int8"
    assert not broken.lower.exists()
    assert broken.read_seconds() == {}
    steps = {"data", "choices", "frozen blocks", "epochs", "scoring"}
    assert unbroken.read_seconds().keys() == steps


def test_folds_share_the_file_of_int8(frozen, tmp_path):
    config = dataclasses.replace(frozen, epochs=1, folds=2, frozen_precision="int8")
    crossed = train_folds(config, tmp_path / "crossed", [], QUIET, make_int8=frozen_to_int8)
    assert Run(crossed.folder).fold(1).read_config().frozen_precision == "int8"
    assert not list(crossed.folder.rglob("lower.onnx"))


def test_a_damaged_file_of_int8_is_named(tmp_path):
    path = tmp_path / "lower.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match=r"lower\.onnx.*train the run again"):
        read_int8(path)


def test_the_network_is_left_as_it_was(frozen, dataset):
    model = planned(frozen, dataset).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frozen_to_int8(model, dataset, frozen, QUIET)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
