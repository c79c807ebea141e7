"""Train and export a narrow model for the tests that run without torch: `python -m
tests.make_edge_model FOLDER`.
"""

import shutil
import sys
from pathlib import Path

from export.options import ExportOptions
from export.run import export_run
from kneeedge.pixels.phantom import write_dataset
from kneeedge.runs.config import TrainConfig
from kneeedge.system.progress import Progress
from kneeedge.training.run import train

SIZE = 64


def make(folder: Path) -> None:
    """`folder`/data with phantoms and `folder`/runs/edge with its exported files."""
    shutil.rmtree(folder, ignore_errors=True)
    progress = Progress(quiet=True)
    write_dataset(folder / "data", {"train": 120, "val": 60, "test": 60}, size=SIZE)
    config = TrainConfig(
        data=str(folder / "data"),
        weights="none",
        width=0.125,
        batch_norm=True,
        size=SIZE,
        epochs=6,
        lr=3e-3,
        head_lr=3e-3,
        lr_decay=1.0,
        dropout=0.1,
        patience=0,
        precision="32",
    )
    train(config, folder / "runs/edge", [], progress)
    export_run(folder / "runs/edge", ExportOptions(n_calibration=100, tolerance=0.2), progress)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
