"""The VGG: torchvision's shapes and weights, frozen blocks, and activations in place of images."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from kneeedge.model.spec import VGG19_CHANNELS, Architecture
from kneeedge.runs.config import TrainConfig
from kneeedge.training import loop
from kneeedge.training.cache import as_activations, plan_cache
from kneeedge.training.model import KneeVGG

NARROW = tuple(tuple(count // 16 for count in block) for block in VGG19_CHANNELS)


def test_frozen_blocks_keep_weights_and_batch_norm():
    model = KneeVGG(Architecture(NARROW, batch_norm=True), 2, n_frozen=2).train()
    frozen = model.features[: model.n_frozen_layers]
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    optimizer = loop.build_optimizer(model, TrainConfig(data="", lr=0.1))
    model(torch.randint(0, 255, (4, 1, 64, 64), dtype=torch.uint8)).sum().backward()
    optimizer.step()
    after = frozen.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_activations_stand_for_the_image():
    model = KneeVGG(Architecture(NARROW), 2, n_frozen=4).eval()
    image = torch.randint(0, 255, (3, 1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(model(model.lower(image)), model(image))


def test_stored_bf16_comes_back_bit_for_bit():
    activations = torch.randn(2, 3, 4, 5).to(torch.bfloat16)
    stored = activations.permute(0, 2, 3, 1).contiguous().view(torch.int16).numpy()
    assert torch.equal(as_activations(stored), activations)


def test_the_cache_stays_within_its_budget():
    model = KneeVGG(Architecture(NARROW), 2, n_frozen=4).eval()
    one_view = 512 // 16 * 4 * 4 * 2  # channels × 4 × 4 × 2 bytes
    config = TrainConfig(data="", size=64, views=8, cache_gb=(100 * 3 + 20) * one_view / 1e9)
    plan = plan_cache(model, 100, 20, config, "bf16")
    assert (plan.n_views, plan.bytes_a_view) == (3, one_view)
    assert plan.gigabytes <= config.cache_gb


def test_full_vgg19_has_torchvisions_shapes():
    from torchvision.models import vgg19

    with torch.device("meta"):
        reference = vgg19().state_dict()
        own = KneeVGG(Architecture(head="classifier"), 1000).state_dict()
    for name, tensor in reference.items():
        assert own[name].shape == tensor.shape
