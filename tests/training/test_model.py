"""The VGG: torchvision's shapes and weights, frozen blocks, and activations in place of images."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from kneeedge.errors import CheckpointError
from kneeedge.model.spec import VGG19_CHANNELS, Architecture
from kneeedge.runs.config import TrainConfig
from kneeedge.training import loop
from kneeedge.training.data import as_activations, plan_cache
from kneeedge.training.model import KneeVGG, load_pretrained

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
    plan = plan_cache(model, 100, 20, config, bf16=True)
    assert (plan.n_views, plan.bytes_a_view) == (3, one_view)
    assert plan.gigabytes <= config.cache_gb


def test_full_vgg19_has_torchvisions_shapes():
    from torchvision.models import vgg19

    with torch.device("meta"):
        reference = vgg19().state_dict()
        own = KneeVGG(Architecture(head="classifier"), 1000).state_dict()
    for name, tensor in reference.items():
        assert own[name].shape == tensor.shape


def test_pretrained_convolutions_are_loaded(tmp_path):
    from safetensors.torch import save_file

    source = KneeVGG(Architecture(NARROW), 5)
    model = KneeVGG(Architecture(NARROW), 2)
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    origin = load_pretrained(model, str(path))
    assert origin.startswith("sha256:")
    assert torch.equal(model.features[0].weight, source.features[0].weight)


def test_weights_of_another_width_say_what_to_do(tmp_path):
    from safetensors.torch import save_file

    save_file(KneeVGG(Architecture(NARROW), 2).state_dict(), tmp_path / "w.safetensors")
    other = tuple(tuple(2 * count for count in block) for block in NARROW)
    with pytest.raises(CheckpointError, match=r"features\.0\.bias is .*use --width 1"):
        load_pretrained(KneeVGG(Architecture(other), 2), str(tmp_path / "w.safetensors"))


def test_without_a_network_imagenet_weights_say_what_to_do(monkeypatch):
    from urllib.error import URLError

    from torchvision.models import VGG19_Weights

    def no_network(*args: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(VGG19_Weights.IMAGENET1K_V1.__class__, "get_state_dict", no_network)
    with pytest.raises(CheckpointError, match=r"cannot be downloaded.*give it with --weights FILE"):
        load_pretrained(KneeVGG(Architecture(), 2), "imagenet")
