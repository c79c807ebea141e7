"""What a training decides before it begins."""

import dataclasses
from functools import partial

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from kneeedge.runs.config import TrainConfig
from kneeedge.training import plan
from kneeedge.training.lower import TorchBlocks
from kneeedge.training.model import KneeVGG
from kneeedge.training.plan import Size, choose_frozen


@pytest.mark.parametrize(
    ("changes", "on_a_cpu", "on_a_gpu"),
    [
        ({}, 4, 0),
        ({"weights": "none"}, 0, 0),
        ({"freeze_blocks": 3}, 3, 3),
        ({"freeze_blocks": 0}, 0, 0),
    ],
)
def test_a_cpu_trains_the_upper_block_of_pretrained_weights_alone(
    changes, on_a_cpu, on_a_gpu, monkeypatch
):
    for has_gpu, frozen in ((False, on_a_cpu), (True, on_a_gpu)):
        monkeypatch.setattr(torch.cuda, "is_available", partial(bool, has_gpu))
        assert choose_frozen(TrainConfig(data="x", **changes)) == frozen


def test_a_gpu_keeps_no_activations_and_says_what_is_frozen(config, monkeypatch):
    config = dataclasses.replace(config, freeze_blocks=3)
    model = KneeVGG(config.architecture, 2, n_frozen=3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    said: list[str] = []
    lower = TorchBlocks(model.eval(), bf16=False)
    assert plan.choose_views(model, lower, Size(4, 2), config, said.append) == 0
    assert said == ["blocks 1 to 3 keep their weights"]


class Timed:
    """A network that takes a second an image in fp32, by a clock of its own."""

    def __init__(self, bf16_seconds: float) -> None:
        self.bf16_seconds = bf16_seconds
        self.now = 0.0
        self.n_in_bf16 = 0
        self.n_in_fp32 = 0

    def eval(self) -> None:
        pass

    def __call__(self, images) -> None:
        bf16 = torch.is_autocast_enabled("cpu")
        self.now += len(images) * (self.bf16_seconds if bf16 else 1.0)
        self.n_in_bf16 += len(images) if bf16 else 0
        self.n_in_fp32 += 0 if bf16 else len(images)


@pytest.mark.parametrize(
    ("bf16_seconds", "is_taken", "n_timed"),
    [(0.5, True, 18), (0.9, False, 18), (3.9, False, 18), (8.0, False, 2)],
)
def test_bf16_is_taken_where_it_is_faster_and_soon_left_where_it_is_emulated(
    bf16_seconds, is_taken, n_timed, monkeypatch
):
    model = Timed(bf16_seconds)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("time.perf_counter", lambda: model.now)
    said: list[str] = []
    assert plan.choose_bf16(model, "auto", 224, said.append) == is_taken
    assert (model.n_in_fp32, model.n_in_bf16) == (16, n_timed)
    decision = "taken" if is_taken else "left"
    assert said == [
        f"bf16 runs this network {1 / bf16_seconds:.1f}× as fast as fp32 here: {decision}"
    ]
