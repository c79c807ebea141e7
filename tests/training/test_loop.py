"""When training stops, how fast it learns, and which weights it averages."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from kneeedge.model.spec import VGG19_CHANNELS, Architecture
from kneeedge.runs.config import TrainConfig
from kneeedge.training import loop
from kneeedge.training.average import WeightAverage
from kneeedge.training.model import KneeVGG

NARROW = tuple(tuple(count // 16 for count in block) for block in VGG19_CHANNELS)


def test_early_stopping_keeps_the_best_epoch():
    others = {"loss": 1, "accuracy": 1, "val_loss": 1, "val_accuracy": 1, "lr": 1, "seconds": 1}

    def state(*aurocs: float) -> loop.State:
        rows = [loop.Epoch(epoch=i + 1, val_auroc=a, **others) for i, a in enumerate(aurocs)]
        return loop.State(tuple(rows), 1 + aurocs.index(max(aurocs)))

    assert not loop.is_stale(state(0.5, 0.9, 0.8), patience=2)
    assert loop.is_stale(state(0.5, 0.9, 0.8, 0.9), patience=2)
    assert not loop.is_stale(state(0.5, 0.9, 0.8, 0.9), patience=0)


def test_the_learning_rate_warms_up_and_falls_to_zero():
    config = TrainConfig(data="", warmup=0.1)
    factors = [loop.lr_factor(config, step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001


def test_the_average_follows_the_weights():
    model = KneeVGG(Architecture(NARROW), 2)
    average = WeightAverage(model, decay=0.5)
    weight = model.classifier[-1].bias
    for value in (1.0, 3.0):
        weight.data.fill_(value)
        average.update()
    # decays of 2/11 and 3/12, below 0.5: 0 → 9/11 → 9/11 + (3 − 9/11) · 9/12
    expected = 9 / 11 + (3 - 9 / 11) * 9 / 12
    with average.applied():
        assert weight.tolist() == pytest.approx([expected] * 2)
    assert weight.tolist() == [3.0, 3.0]


def test_lower_blocks_learn_slower_and_biases_do_not_decay():
    model = KneeVGG(Architecture(NARROW), 2, n_frozen=3)
    config = TrainConfig(data="", lr=1.0, head_lr=5.0, lr_decay=0.5)
    groups = loop.build_optimizer(model, config).param_groups
    assert [group["base_lr"] for group in groups] == [5.0, 5.0, 1.0, 1.0, 0.5, 0.5]
    for group in groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}
