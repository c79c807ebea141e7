"""What is trained by the paper's protocol says wherever it goes that its figures are too good."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]
pytest.importorskip("torch")

from kneeedge.cli.app import app
from kneeedge.data.dataset import read_split
from kneeedge.inference.metrics import evaluate
from kneeedge.model.provenance import PAPER
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run, open_run
from kneeedge.runs.folds import read_fold
from kneeedge.training import figures
from kneeedge.training.checkpoint import load_original


@pytest.fixture(scope="module")
def leaky(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper") / "leaky"
    options = [
        "--name", "leaky", "--split", "paper", "--weights", "none", "--width", "0.07",
        "--size", "32", "--epochs", "1", "--precision", "32", "--freeze-blocks", "0",
    ]  # fmt: skip
    options += ["--runs", str(folder.parent), "--json", str(folder.parent / "json")]
    result = CliRunner().invoke(app, ["train", config.data, *options])
    assert result.exit_code == 0, result.output
    (folder.parent / "stdout").write_text(result.stdout)
    (folder.parent / "stderr").write_text(result.stderr)
    return folder


def test_the_paper_protocol_is_marked_leaky_in_the_command_output(leaky):
    assert "LEAKY: paper protocol" in (leaky.parent / "stdout").read_text()
    assert "LEAKY: " in (leaky.parent / "stderr").read_text()
    record = json.loads((leaky.parent / "json").read_text())
    assert record["caveat"].startswith("LEAKY: paper protocol")


def test_the_paper_protocol_is_marked_leaky_in_the_run_folder(leaky):
    assert "LEAKY: paper protocol" in (leaky / "report.txt").read_text()
    metrics = json.loads((leaky / "metrics.json").read_text())
    assert metrics["protocol"] == PAPER
    assert metrics["caveat"].startswith("LEAKY: paper protocol")
    spec = load_original(open_run(leaky))[1]
    assert spec.training.protocol == PAPER
    assert spec.training.leaked >= spec.training.n_images["test"] == 12
    assert spec.training.n_images == {"train": 30, "val": 7, "test": 12}


def test_a_leaky_figure_says_so_on_the_picture(leaky, tmp_path):
    from PIL import Image

    spec = load_original(open_run(leaky))[1]
    fold = read_fold(Run(leaky))
    evaluation = evaluate(fold.labels, fold.probabilities, spec)

    def n_red_pixels(caveat: str) -> int:
        path = tmp_path / "roc.png"
        figures.draw_roc(fold.labels, fold.probabilities, evaluation, path, caveat)
        with Image.open(path) as image:
            top = np.asarray(image.convert("RGB")).astype(int)[: image.height // 8]
        red, green, blue = np.moveaxis(top, 2, 0)  # the operating point is orange
        return int(((red - green > 80) & (abs(green - blue) < 40)).sum())

    assert n_red_pixels("") == 0
    assert n_red_pixels(spec.training.caveat) > 200


def test_the_paper_protocol_is_marked_leaky_in_what_is_exported(leaky):
    result = CliRunner().invoke(app, ["export", str(leaky), "--precision", "fp32"])
    assert "LEAKY: paper protocol" in result.stdout, result.output
    model = next((leaky / "models").rglob("*.onnx"))
    assert "paper protocol" in CliRunner().invoke(app, ["info", str(model)]).stdout


def test_calibration_under_the_paper_protocol_takes_no_held_out_image(leaky):
    from export.calibration import choose_images

    spec = load_original(open_run(leaky))[1]
    root = Path(Run(leaky).read_config().data_root)
    dataset = read_split(leaky / "split.csv", root, spec.classes)
    held_out = {sample.sha256 for sample in dataset.samples if sample.split != "train"}
    chosen = choose_images(dataset, 1000, 0).samples
    assert len(chosen) > 5
    assert not held_out & {sample.sha256 for sample in chosen}
