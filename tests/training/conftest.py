"""A small folder of knees with one copy, and a training on it that takes a second."""

import shutil
from pathlib import Path

import pytest

from kneeedge.pixels.phantom import write_dataset
from kneeedge.runs.config import TrainConfig


@pytest.fixture(scope="module")
def no_pictures():
    """Pictures take longer to draw than these networks to train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kneeedge.training.score.draw", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 knees in two class folders, two a patient; a copy of one knee also stands in the other."""
    folder = tmp_path_factory.mktemp("flat") / "data"
    write_dataset(folder, {"": 36}, size=64)
    shutil.copy(folder / "Healthy/P00000L.png", folder / "Osteoporosis/copy.png")
    return folder


@pytest.fixture(scope="module")
def config(flat: Path) -> TrainConfig:
    return TrainConfig(
        data=str(flat),
        weights="none",
        width=0.07,
        size=32,
        epochs=1,
        precision="32",
        views=2,
        freeze_blocks=2,
        group_regex=r"(P\d+|copy)",
        val_fraction=0.25,
        audit=False,
    )
