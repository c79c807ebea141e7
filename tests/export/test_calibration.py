"""Which images set the int8 ranges: training images alone, and as many of each class."""

import shutil

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("onnx")

from export.calibration import choose_images
from kneeedge.data.dataset import scan
from kneeedge.errors import DataError


def test_calibration_is_stratified_sorted_and_from_train_alone(phantoms):
    dataset = scan(phantoms)
    chosen = choose_images(dataset, 50, seed=0)
    names = [sample.name for sample in chosen.samples]
    assert [sample.label for sample in chosen.samples].count(0) == 25
    assert names == sorted(names)
    assert {sample.split for sample in chosen.samples} == {"train"}
    assert chosen == choose_images(dataset, 50, seed=0)
    assert chosen != choose_images(dataset, 50, seed=1)


def test_recipes_are_compared_on_other_training_images_where_there_are_any(phantoms):
    dataset = scan(phantoms)
    chosen = choose_images(dataset, 50, seed=0, n_scored=40)
    assert not set(chosen.samples) & set(chosen.scored)
    assert {sample.split for sample in chosen.scored} == {"train"}
    assert [sample.label for sample in chosen.scored].count(0) == 20
    everything = choose_images(dataset, 1000, seed=0, n_scored=40)
    assert set(everything.scored) < set(everything.samples)


def test_a_calibration_image_that_is_held_out_too_is_refused(phantoms, tmp_path):
    shutil.copytree(phantoms, tmp_path / "data")
    held_out = next((tmp_path / "data/test/Healthy").iterdir())
    shutil.copy(held_out, tmp_path / "data/train/Healthy/copy.png")
    with pytest.raises(DataError, match="also stands in val or test"):
        choose_images(scan(tmp_path / "data"), 1000, seed=0)
