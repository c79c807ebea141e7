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
