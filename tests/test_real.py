"""The main job on real radiographs with ImageNet weights at full width, cut down to minutes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from export.options import ExportOptions
from export.run import export_run
from kneeedge.inference.evaluation import evaluate_model
from kneeedge.inference.folder import FolderOptions, infer_folder
from kneeedge.inference.predictor import Predictor
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.picture import read_grey
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.runtime.golden import verify
from kneeedge.runtime.session import Session
from kneeedge.system.progress import Progress
from kneeedge.training.run import train

pytestmark = [pytest.mark.real, pytest.mark.torch, pytest.mark.slow]

QUIET = Progress(quiet=True)
WEIGHTS = "weights/vgg19-imagenet-features.safetensors"


@pytest.fixture(scope="module")
def subset(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training, 24 validation and 24 test knees, half of them healthy."""
    root = tmp_path_factory.mktemp("real") / "knees"
    for split, count in (("train", 20), ("val", 12), ("test", 12)):
        for name in ("Healthy", "Osteoarthritis"):
            (root / split / name).mkdir(parents=True)
            for source in sorted((real_data / "knee-kl" / split / name).iterdir())[:count]:
                shutil.copy(source, root / split / name)
    return root


@pytest.fixture(scope="module")
def models(real_data: Path, subset: Path) -> dict[str, Path]:
    weights = str(real_data.parent / WEIGHTS)
    config = TrainConfig(data=str(subset), weights=weights, views=2, epochs=5, patience=0, ema=0.0)
    run = Run(subset.parent / "runs" / "real")
    train(config, run.folder, [], QUIET)
    options = ExportOptions(n_calibration=16, tolerance=0.2, search_minutes=0.1)
    with pytest.MonkeyPatch.context() as patch:  # an image takes up to half a second
        patch.setattr("export.golden.N_STARTS", 1)
        patch.setattr("export.golden.N_HALVINGS", 4)
        patch.setattr("export.run.N_HALF", 8)
        report = export_run(run.folder, options, QUIET)
    return {file.report.precision: run.models / file.path for file in report.files}


def test_224_pixel_knees_reach_the_network_unchanged(real_data):
    path = next((real_data / "knee-kl/test/Healthy").iterdir())
    np.testing.assert_array_equal(load_input(path, PixelPath(224)), read_grey(path, 224))


def test_every_image_of_osteoporosis_372_is_read(real_data):
    listing = find_images([real_data / "osteoporosis-372"])
    assert len(listing.images) == 372
    for image in listing.images[::12]:
        assert load_input(image.path, PixelPath(224)).std() > 5


def test_a_few_real_knees_are_told_apart(models, subset):
    report = evaluate_model(Session(models["fp32"], "cpu"), subset, "test", 8, QUIET)
    assert report.evaluation.auroc.value > 0.7


def test_no_variant_loses_what_the_original_knew(models, subset):
    accuracies = []
    for path in models.values():
        report = evaluate_model(Session(path, "cpu"), subset, "test", 8, QUIET)
        accuracies.append(report.evaluation.accuracy.value)
    assert max(accuracies) - min(accuracies) <= 2 / 24
    assert models["int8"].stat().st_size < 0.27 * models["fp32"].stat().st_size


def test_every_file_answers_its_golden_inputs(models):
    assert all(verify(Session(path, "cpu"), "", "").passed for path in models.values())


def test_a_real_folder_is_answered(models, subset, tmp_path):
    listing = find_images([subset / "test"])
    options = FolderOptions(heatmaps=tmp_path / "maps")
    predictor = Predictor(models["int8"], "cpu")
    summary = infer_folder(predictor, listing, tmp_path / "p.csv", QUIET, options).summary
    assert (summary.n_ok + summary.n_abstained, summary.n_errors) == (24, 0)
    assert len(list((tmp_path / "maps").rglob("*.png"))) == summary.n_ok
