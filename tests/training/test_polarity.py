"""Inverted radiographs are told by their pixels and turned around before the network."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from kneeedge.model.spec import ModelSpec, Polarity
from kneeedge.pixels.phantom import phantom
from kneeedge.runs.folder import open_run
from kneeedge.runtime.session import Session
from kneeedge.training.checkpoint import load_original, predict_logits
from kneeedge.training.polarity import Upright, fit_polarity

SIDE = 64


def knees(n: int, first: int = 700) -> np.ndarray:
    return np.stack([phantom(first + i, i % 2, SIDE) for i in range(n)])


def turned(polarity: Polarity, images: np.ndarray) -> np.ndarray:
    """Whether each image (S, S) is turned around."""
    grey = torch.from_numpy(images[:, None]).float()
    return (Upright(polarity)(grey) == 255 - grey).flatten(1).all(dim=1).numpy()


def test_inverted_knees_are_turned_and_others_are_not():
    polarity = fit_polarity(knees(60))
    new = knees(40, first=900)
    assert not turned(polarity, new).any()
    assert turned(polarity, 255 - new).all()


def test_a_few_inverted_training_images_are_outvoted_and_counted():
    images = knees(60)
    images[::12] = 255 - images[::12]
    polarity = fit_polarity(images)
    assert (polarity.n, polarity.n_inverted) == (60, 5)
    assert turned(polarity, images).tolist() == [i % 12 == 0 for i in range(60)]


def test_turning_changes_nothing_else_of_an_image():
    polarity = fit_polarity(knees(30))
    grey = torch.from_numpy(255 - knees(3)[:, None]).float()
    assert torch.equal(Upright(polarity)(grey), 255 - grey)
    assert torch.equal(Upright(polarity)(255 - grey), 255 - grey)


def test_images_that_show_no_polarity_are_left_as_they_are():
    noise = np.random.default_rng(0).integers(0, 256, (60, SIDE, SIDE), dtype=np.uint8)
    assert fit_polarity(noise) is None
    assert fit_polarity(knees(5)) is None
    mixed = knees(60)
    mixed[::3] = 255 - mixed[::3]
    assert fit_polarity(mixed) is None


def test_a_blank_image_is_left_as_it_is():
    blank = np.stack([np.full((SIDE, SIDE), grey, dtype=np.uint8) for grey in (0, 128, 255)])
    assert not turned(fit_polarity(knees(30)), blank).any()


def test_a_spec_without_polarity_is_the_json_that_it_was(spec_with_polarity):
    without = dataclasses.replace(spec_with_polarity, polarity=None)
    assert "polarity" not in without.to_json()
    for spec in (spec_with_polarity, without):
        assert ModelSpec.from_json(spec.to_json(), "here") == spec


@pytest.fixture
def spec_with_polarity(trained_run):
    spec = open_run(trained_run).read_spec()
    assert spec.polarity is not None
    return spec


@pytest.mark.slow
def test_every_file_answers_an_inverted_knee_as_the_knee_itself(exported, trained_run):
    images = knees(6)[:, None]
    model, _ = load_original(open_run(trained_run))
    expected = predict_logits(model, images)
    np.testing.assert_array_equal(predict_logits(model, 255 - images), expected)
    for path in exported.values():
        session = Session(path, "cpu")
        upright = session.run(images)
        inverted = session.run(255 - images)
        np.testing.assert_array_equal(inverted.logits, upright.logits)
        np.testing.assert_array_equal(inverted.distance, upright.distance)
