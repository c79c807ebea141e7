"""Inputs made once a session: phantoms, a narrow VGG trained on them, and its exported files."""

import os
from pathlib import Path

# The tests' networks are so narrow that threads cost more than they bring; torch reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# GNU readline sets it for whatever pytest starts, workers too, and reports would wrap at it.
os.environ.pop("COLUMNS", None)

import onnxruntime
import pytest

from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.progress import Progress

SIZE = 64


def pytest_report_header() -> str:
    providers = ", ".join(onnxruntime.get_available_providers())
    return f"onnxruntime {onnxruntime.__version__}, providers {providers}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Among workers files of slow tests come first: none is left to one worker at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs; tests that take it are marked `real`."""
    folder = os.environ.get("KNEEEDGE_REAL_DATA")
    if not folder:
        pytest.skip("KNEEEDGE_REAL_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """{train,val,test}/{Healthy,Osteoporosis}/P….png"""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_dataset(folder, {"train": 120, "val": 60, "test": 60}, size=SIZE)
    return folder


@pytest.fixture(scope="session")
def narrow_config(phantoms: Path):
    """A narrow VGG with batch norm that a CPU trains in seconds."""
    from kneeedge.runs.config import TrainConfig

    return TrainConfig(
        data=str(phantoms),
        weights="none",
        width=0.125,
        batch_norm=True,
        size=SIZE,
        epochs=8,
        lr=3e-3,
        head_lr=3e-3,
        lr_decay=1.0,
        dropout=0.1,
        patience=0,
        precision="32",
        audit=False,
    )


@pytest.fixture(scope="session")
def trained_run(narrow_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    from kneeedge.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "narrow"
    train(narrow_config, folder, ["kneeedge", "train"], Progress(quiet=True))
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of the test draw no pictures: those take longer than networks this narrow."""
    monkeypatch.setattr("kneeedge.training.score.draw", lambda *_: None)


@pytest.fixture
def one_cold_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark starts each model once, not three times: with torch one start takes seconds."""
    monkeypatch.setattr("kneeedge.bench.turns.N_COLD_STARTS", 1)


@pytest.fixture(scope="session")
def slim_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was slimmed from `trained_run`."""
    from tests.slim_run import write_slim_run

    return write_slim_run(trained_run, tmp_path_factory.mktemp("slim") / "slim")


@pytest.fixture(scope="session")
def exported(trained_run: Path) -> dict[str, Path]:
    """The published file of each precision."""
    from export.options import ExportOptions
    from export.run import export_run
    from kneeedge.runs.folder import Run

    options = ExportOptions(n_calibration=200, tolerance=0.2)
    report = export_run(trained_run, options, Progress(quiet=True))
    assert not report.failed
    models = Run(trained_run).models
    return {file.report.precision: models / file.path for file in report.files}
