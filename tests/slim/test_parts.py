"""The parts of slimming on small networks: what each promises, against a reckoning by hand."""

import itertools

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from export.to_onnx import to_onnx
from kneeedge.model.spec import Architecture
from kneeedge.pixels.phantom import phantom
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import open_run
from kneeedge.slim.allot import allot
from kneeedge.slim.chain import links, most_important, narrow, widths
from kneeedge.slim.distil import Distillation
from kneeedge.slim.importance import channel_importance, margin
from kneeedge.slim.layer_times import LayerTimes, by_layer, profile, resized, widths_of
from kneeedge.slim.refit import refit
from kneeedge.slim.sensitivity import Sensitivity, measure
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original, predict_logits
from kneeedge.training.model import KneeVGG

QUIET = Progress(quiet=True)
CHANNELS = ((8, 8), (16, 16), (16, 16, 16, 16), (24, 24, 24, 24), (24, 24, 24, 24))
ARCHITECTURE = Architecture(CHANNELS)
N_LAYERS = 16


@pytest.fixture
def model() -> KneeVGG:
    torch.manual_seed(0)
    model = KneeVGG(ARCHITECTURE, 2).eval()
    model.classifier[-1].weight.data.mul_(20)  # a fresh head answers everything alike
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.from_numpy(np.stack([phantom(seed, seed % 2, 64) for seed in range(12)])[:, None])


def all_but(layer: int, dropped: list[int]) -> tuple[np.ndarray, ...]:
    kept = [np.arange(count) for block in CHANNELS for count in block]
    kept[layer] = np.setdiff1d(kept[layer], dropped)
    return tuple(kept)


@pytest.mark.parametrize("layer", [0, 7, 15])
def test_channels_that_are_always_zero_can_go_without_any_change(model, images, layer):
    conv = links(model)[layer].conv
    conv.weight.data[[1, 3]] = 0.0
    conv.bias.data[[1, 3]] = 0.0
    slim, architecture = narrow(model, ARCHITECTURE, all_but(layer, [1, 3]))
    assert widths(slim)[layer] == widths(model)[layer] - 2
    assert widths(slim) == tuple(itertools.chain(*architecture.channels))
    expected = predict_logits(model, images.numpy())
    np.testing.assert_allclose(predict_logits(slim, images.numpy()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 6, 15])
def test_least_squares_makes_up_for_a_channel_that_was_another_ones_twin(model, images, layer):
    conv = links(model)[layer].conv
    conv.weight.data[2] = 0.5 * conv.weight.data[0]
    conv.bias.data[2] = 0.5 * conv.bias.data[0]
    expected = predict_logits(model, images.numpy())
    slim, _ = narrow(model, ARCHITECTURE, all_but(layer, [2]))
    before = np.abs(predict_logits(slim, images.numpy()) - expected).max()
    refit(model, slim, all_but(layer, [2]), images, QUIET)
    after = np.abs(predict_logits(slim, images.numpy()) - expected).max()
    assert after < 0.1 * before


def test_a_channel_that_nobody_reads_has_no_importance(model, images):
    links(model)[5].conv.weight.data[:, 4] = 0.0
    importance = channel_importance(model, images, QUIET)
    assert importance[4][4] == 0.0
    assert importance[4][5] > 0.0


def test_importance_is_the_squared_change_of_the_margin_where_a_channel_goes(model, images):
    # The head is linear: but for the maximum in its pool, the first order is all that the last
    # layer has.
    importance = channel_importance(model, images, QUIET)[-1]
    with torch.no_grad():
        features = model.features(model.normalise(images))
        before = margin(model.head(features))
        answer = model.head(features).argmax(1, keepdim=True)
        features[:, 3] = 0.0
        logits = model.head(features)
        after = (logits.gather(1, answer) - logits.gather(1, 1 - answer)).squeeze(1)
    assert importance[3] == pytest.approx(float(((after - before) ** 2).mean()), rel=1e-3)


def test_the_most_important_channels_stay_in_their_order():
    (kept,) = most_important([np.array([0.1, 5.0, 0.2, 3.0])], [2])
    assert kept.tolist() == [1, 3]


def test_a_layer_loses_nothing_at_its_full_width_and_most_at_its_narrowest(model, images):
    importance = channel_importance(model, images, QUIET)
    errors = np.array(measure(model, importance, images, QUIET).errors)
    assert len(errors) == N_LAYERS
    assert (errors[:, -1] == 0.0).all()
    assert errors[:, 0].sum() > errors[:, -2].sum()


def test_sensitivity_between_two_shares_lies_between_them_and_grows_below_the_smallest():
    sensitivity = Sensitivity((0.25, 0.5, 1.0), ((0.4, 0.1, 0.0),))
    assert sensitivity.error(0, 0.5) == pytest.approx(0.1)
    assert 0.0 < sensitivity.error(0, 0.7) < 0.1
    # A halving more costs what the last one did.
    assert sensitivity.error(0, 0.125) == pytest.approx(0.7)


def loss(layer: int, width: int) -> float:
    return (layer + 1.0) / width


def time(layer: int, reads: int, writes: int) -> float:
    return 0.1 * (layer + 1) * (reads or 3) * writes


CHOICES = ((2, 4, 6), (2, 3, 5, 8), (1, 4, 9))


def cost(chain: tuple[int, ...]) -> tuple[float, float]:
    reads = (0, *chain[:-1])
    return sum(map(loss, range(3), chain)), sum(map(time, range(3), reads, chain))


@pytest.mark.parametrize("milliseconds", [2.0, 5.0, 9.0, 15.0, 40.0])
def test_no_widths_at_the_allotted_latency_lose_less(milliseconds):
    allotment = allot(CHOICES, loss, time, milliseconds)
    assert allotment.milliseconds <= milliseconds
    costs = [cost(chain) for chain in itertools.product(*CHOICES)]
    losses = [lost for lost, taken in costs if taken <= allotment.milliseconds + 1e-9]
    assert allotment.loss == min(losses)


def test_a_latency_below_that_of_the_narrowest_network_is_refused():
    with pytest.raises(ValueError, match="narrowest"):
        allot(CHOICES, loss, time, 0.1)


def test_layer_times_are_as_measured_at_the_measured_widths_and_even_between():
    times = LayerTimes(
        full=(8, 8),
        shares=(0.5, 1.0),
        milliseconds=(((1.0, 2.0), (1.0, 2.0)), ((1.0, 2.0), (3.0, 6.0))),
        overhead_ms=0.5,
        target="any",
        threads=1,
        cpu="a CPU",
    )
    assert times.layer(1, 4, 8) == 2.0
    assert times.layer(1, 6, 8) == 4.0
    assert times.total((4, 8)) == 0.5 + 1.0 + 2.0


def event(name: str, ts: int, dur: int, op: str = "") -> dict:
    category = "Node" if op else "Session"
    return {"name": name, "ts": ts, "dur": dur, "cat": category, "args": {"op_name": op}}


def test_a_trace_gives_each_layer_all_that_runs_until_the_next_convolution():
    kernels = [
        ("QLinearConv", 1000),
        ("MaxPool", 500),
        ("QLinearConv", 2000),
        ("Conv", 100),
        ("Softmax", 50),
    ]
    events = []
    for begin in (0, 100_000):
        events.append(event("model_run", begin, 4000))
        now = begin
        for op, microseconds in kernels:
            events.append(event(f"{op}_kernel_time", now, microseconds, op))
            now += microseconds
    assert by_layer(events) == [1.5, 2.0, 0.5]


@pytest.mark.slow
def test_a_resized_network_has_the_widths_asked_for_and_runs(trained_run):
    model, spec = load_original(open_run(trained_run))
    fp32 = to_onnx(model, spec)
    wanted = [max(8, width // 2) for width in widths_of(fp32)]
    milliseconds = profile(resized(fp32, wanted), 1)
    assert len(milliseconds) == N_LAYERS + 1
    assert all(value > 0 for value in milliseconds)


def test_the_mean_of_the_class_map_is_the_logits(model, images):
    with torch.no_grad():
        means = model.class_map(images).mean(dim=(2, 3))
        torch.testing.assert_close(means, model(images), rtol=1e-4, atol=1e-5)


def test_a_network_that_answers_as_its_original_has_only_the_loss_of_the_labels(model, images):
    objective = Distillation(variance=2.0, map_weight=4.0)
    labels = torch.arange(12) % 2
    config = TrainConfig(data="", label_smoothing=0.1)
    with torch.no_grad():
        maps = model.class_map(images)
        loss, _ = objective.loss(model, images, (maps, labels), config)
        shifted_loss, _ = objective.loss(model, images, (maps + 1.0, labels), config)
        label_loss = torch.nn.functional.cross_entropy(
            maps.mean(dim=(2, 3)), labels, label_smoothing=config.label_smoothing
        )
    assert float(loss) == pytest.approx(0.5 * float(label_loss), rel=1e-4)
    # A constant on both classes shifts the maps alone.
    assert float(shifted_loss) == pytest.approx(float(loss) + 4.0 / 2.0, rel=1e-4)
