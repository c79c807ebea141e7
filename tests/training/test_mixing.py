"""What mixup and CutMix make of a batch, and that a mixed training is the same when repeated."""

import dataclasses
import math

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from kneeedge.errors import ConfigError
from kneeedge.model.spec import VGG19_CHANNELS, Architecture
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.slim_report import SlimConfig
from kneeedge.system.progress import Progress
from kneeedge.training import loop
from kneeedge.training.mixing import Mixture, draw_mixture, span
from kneeedge.training.model import KneeVGG
from kneeedge.training.run import resume, train

QUIET = Progress(quiet=True)
NARROW = tuple(tuple(count // 16 for count in block) for block in VGG19_CHANNELS)
LABELS = torch.tensor([0, 1])
LOGITS = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
"of which the classes have probabilities of 3/4 and 1/4"


def test_mixup_adds_two_images_by_their_shares():
    mixture = Mixture(torch.tensor([1, 0]), 0.25)
    images = torch.tensor([4.0, 8.0]).view(2, 1, 1, 1)
    assert mixture.mixed(images).flatten().tolist() == [7.0, 5.0]


def test_cutmix_puts_the_partners_box_in_place():
    mixture = Mixture(torch.tensor([1, 0]), 0.75, (slice(0, 1), slice(1, 2)))
    images = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    mixed = mixture.mixed(images)
    assert mixed[:, 0].tolist() == [[[1.0, 2.0], [1.0, 1.0]], [[2.0, 1.0], [2.0, 2.0]]]
    assert images[0].unique().tolist() == [1.0], "the batch itself is not changed"


@pytest.mark.parametrize(
    ("smoothing", "expected"),
    [
        # image 0 is a quarter class 0, three quarters class 1, image 1 the other way round:
        # both labels together weigh as much, so the mean is that of -log 3/4 and -log 1/4
        (0.0, -(math.log(3 / 4) + math.log(1 / 4)) / 2),
        (0.2, -(math.log(3 / 4) + math.log(1 / 4)) / 2),
    ],
)
def test_the_loss_weighs_both_labels_by_their_shares(smoothing, expected):
    loss = Mixture(torch.tensor([1, 0]), 0.25).loss(LOGITS, LABELS, smoothing)
    assert loss.item() == pytest.approx(expected)


def test_the_loss_of_one_mixed_image_by_hand():
    mixture = Mixture(torch.tensor([1]), 0.25)
    mixture = dataclasses.replace(mixture, partners=torch.tensor([1, 1]))
    # image 0: 1/4 · -log 3/4 + 3/4 · -log 1/4; image 1 is its own partner: -log 1/4
    expected = (0.25 * math.log(4 / 3) + 0.75 * math.log(4) + math.log(4)) / 2
    assert mixture.loss(LOGITS, LABELS, 0.0).item() == pytest.approx(expected)
    # smoothed by 0.2, a label has 0.9 of its own class and 0.1 of the other
    of_class_0 = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    of_class_1 = 0.1 * math.log(4 / 3) + 0.9 * math.log(4)
    expected = (0.25 * of_class_0 + 0.75 * of_class_1 + of_class_1) / 2
    assert mixture.loss(LOGITS, LABELS, 0.2).item() == pytest.approx(expected)


def test_the_main_label_is_that_of_the_larger_share():
    partners = torch.tensor([1, 0])
    assert Mixture(partners, 0.5).main_labels(LABELS).tolist() == [0, 1]
    assert Mixture(partners, 0.4).main_labels(LABELS).tolist() == [1, 0]


def test_a_box_stays_within_the_image():
    assert span(0, 8, 0.75) == slice(0, 2)  # a side of 4, half of it over the border
    assert span(4, 8, 0.75) == slice(2, 6)
    assert span(7, 8, 0.75) == slice(5, 8)
    assert span(3, 8, 1.0) == slice(3, 3)


def test_what_is_kept_is_what_the_box_leaves():
    torch.manual_seed(0)
    config = TrainConfig(data="", cutmix=1.0)
    for _ in range(20):
        mixture = draw_mixture(config, 4, 7)
        cut = mixture.mixed(torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 7, 7))
        moved = mixture.partners != torch.arange(4)
        kept = (cut == torch.arange(4.0).view(4, 1, 1, 1)).float().mean(dim=(1, 2, 3))
        assert kept[moved].tolist() == pytest.approx([mixture.share] * int(moved.sum()))


def test_nothing_is_drawn_without_mixing():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert draw_mixture(TrainConfig(data=""), 4, 7) is None
    assert torch.equal(torch.get_rng_state(), before)


def test_with_both_each_batch_takes_one_by_chance():
    torch.manual_seed(0)
    config = TrainConfig(data="", mixup=1.0, cutmix=1.0)
    kinds = [draw_mixture(config, 4, 7).box is None for _ in range(50)]
    assert 10 < sum(kinds) < 40


def test_an_image_and_its_activations_are_mixed_alike():
    model = KneeVGG(Architecture(NARROW), 2, n_frozen=3).eval()
    images = torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8)
    config = TrainConfig(data="", cutmix=1.0, mixup=1.0)
    objective = loop.Objective()
    losses = []
    for x in (images, model.lower(images)):
        torch.manual_seed(3)
        losses.append(objective.loss(model, x, torch.tensor([0, 1, 0, 1]), config)[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("value", [-0.1, float("nan"), 101.0])
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_an_alpha_out_of_range_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"--{name} {value} is too"):
        TrainConfig(data="", **{name: value})


def test_a_narrowed_network_learns_unmixed():
    config = SlimConfig(original="run").training(TrainConfig(data="", mixup=0.4, cutmix=1.0))
    assert (config.mixup, config.cutmix) == (0.0, 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("freeze_blocks", [0, 2])
def test_a_resumed_mixed_run_equals_an_unbroken_one(config, tmp_path, monkeypatch, freeze_blocks):
    config = dataclasses.replace(
        config, epochs=3, mixup=0.4, cutmix=1.0, freeze_blocks=freeze_blocks
    )
    train(config, tmp_path / "unbroken", [], QUIET)
    save_last = loop.save_last

    def stop_after_two(model, optimizer, average, state, path):
        save_last(model, optimizer, average, state, path)
        if state.count('"epoch"') == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_last", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "broken", [], QUIET)
    monkeypatch.setattr(loop, "save_last", save_last)
    resume(tmp_path / "broken", QUIET)
    unbroken, broken = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("unbroken", "broken")
    )
    assert broken == unbroken
