"""The choices of a training: the paper's recipe, and options that are refused."""

import pytest

from kneeedge.errors import ConfigError
from kneeedge.model.provenance import PAPER
from kneeedge.model.spec import PixelPath
from kneeedge.runs.config import TrainConfig, paper_recipe


def test_the_paper_recipe_is_the_papers():
    config = paper_recipe(TrainConfig(data="x"))
    assert (config.recipe, config.epochs, config.size) == ("paper", 200, 224)
    assert config.head == "classifier"
    assert config.flip
    assert config.rotation > 0
    assert config.label_smoothing == config.weight_decay == config.patience == 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"epochs": 0}, "--epochs 0 is too small"),
        ({"lr": 0.0}, "--lr 0.0 is too small"),
        ({"dropout": 1.0}, "--dropout 1.0 is out of range"),
        ({"head": "vit"}, "choose one of gap, classifier"),
        ({"width": 0.5}, "ImageNet weights fit only the full width"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "nothing to train on"),
        ({"freeze_blocks": 6}, "0 to 5"),
        ({"threshold": "yuden"}, "--threshold yuden is no rule; give youden"),
        ({"threshold": "sensitivity=2"}, "out of range"),
        ({"grey_bits": 7}, "--grey-bits 7 is no depth of pixels; give 8 to 16"),
    ],
)
def test_options_out_of_range_name_the_option(changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        TrainConfig(data="", **changes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"folds": 1}, "--folds 1 is no cross-validation"),
        ({"folds": 3, "split": PAPER}, "leave out --folds"),
        ({"split": "random"}, "choose one of auto, grouped, paper"),
        ({"drop_conflicts": True, "audit": False}, "leave out --no-audit"),
    ],
)
def test_options_of_the_split_that_contradict_are_refused(changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        TrainConfig(data="", **changes)


def test_the_pixel_path_holds_what_images_are_read_with():
    config = TrainConfig(data="", size=96, fit="pad", grey_bits=12)
    assert config.pixel_path == PixelPath(96, "pad", grey_bits=12)
    assert TrainConfig(data="").pixel_path == PixelPath()
