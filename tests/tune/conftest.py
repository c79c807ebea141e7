"""Studies of networks so narrow that a trial takes less than a second."""

import dataclasses
from pathlib import Path

import pytest

from kneeedge.pixels.phantom import write_dataset
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.tuning import TuneConfig


@pytest.fixture(scope="session")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """{train,val,test}/{Healthy,Osteoporosis}/P….png, two images a patient."""
    folder = tmp_path_factory.mktemp("knees") / "data"
    write_dataset(folder, {"train": 40, "val": 16, "test": 16}, size=64)
    return folder


@pytest.fixture(scope="session")
def tune_config(knees: Path) -> TuneConfig:
    """Three trials of one epoch, of which the search alone decides how many folds each has."""
    train = TrainConfig(
        data=str(knees),
        weights="none",
        width=0.07,
        size=32,
        epochs=1,
        precision="32",
        views=2,
        freeze_blocks=2,
        group_regex=r"(P\d+)",
        val_fraction=0.25,
        audit=False,
    )
    return TuneConfig(train=train, fixed=("epochs",), minutes=10, trials=3, folds=2, seeds=1)


@pytest.fixture
def undrawn_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer to draw than these networks to train."""
    monkeypatch.setattr("kneeedge.tune.run.draw", lambda *_: None)


@pytest.fixture(scope="session")
def finished(tune_config: TuneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of twelve trials, with its figures."""
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    from kneeedge.system.progress import Progress
    from kneeedge.tune.run import tune

    folder = tmp_path_factory.mktemp("studies") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kneeedge.tune.run.FEWEST", 4)  # complete trials, for importances
        tune(dataclasses.replace(tune_config, trials=12), folder, [], Progress(quiet=True))
    return folder
