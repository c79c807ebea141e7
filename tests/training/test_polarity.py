"""Inverted radiographs are told by their pixels and turned around before the network."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from kneeedge.inference.predictor import Predictor
from kneeedge.model.polarity import Polarity
from kneeedge.model.spec import ModelSpec, PixelPath
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.pixel_path import to_input
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


def bars(images: np.ndarray, level: int, share: float) -> np.ndarray:
    """The images with bars of one level along their sides, each of this share of the width."""
    wide = round(share * SIDE)
    barred = images.copy()
    barred[:, :, :wide] = level
    barred[:, :, -wide:] = level
    return barred


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("level", [0, 255])
def test_bars_of_either_level_hide_no_polarity(level, share):
    polarity = fit_polarity(knees(60))
    new = knees(40, first=900)
    assert not turned(polarity, bars(new, level, share)).any()
    grey = torch.from_numpy(bars(255 - new, level, share)[:, None]).float()
    seen = Upright(polarity)(grey).numpy()[:, 0]
    # what is left of the blank bars is dark, as after a shutter
    np.testing.assert_array_equal(seen, bars(new, 0, share))


def test_a_ramp_from_top_to_bottom_turns_nothing():
    polarity = fit_polarity(knees(60))
    new = knees(40, first=900)
    for rise in (-80, 80):
        ramp = np.linspace(-rise, rise, SIDE)[:, None]
        tilted = np.clip(np.rint(new + ramp), 0, 255).astype(np.uint8)
        assert not turned(polarity, tilted).any()
        assert turned(polarity, 255 - tilted).all()


def shown(images: np.ndarray) -> list[np.ndarray]:
    """The images, and what else a graph may be given: bars, one blank side, noise, no contrast."""
    noise = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    beside = images.copy()
    beside[:, :9] = 255
    beside[:, :, -5:] = 0
    parts = [images, bars(images, 255, 0.1), bars(images, 0, 0.2), beside, noise, images // 32]
    blank = np.stack([np.full((SIDE, SIDE), level, np.uint8) for level in (0, 7, 255)])
    return [*parts, blank, *(255 - part for part in [*parts, blank])]


@pytest.mark.parametrize("blank_range", [None, 8, 0])
def test_what_numpy_tells_is_what_the_graph_does(blank_range):
    polarity = dataclasses.replace(fit_polarity(knees(60)), blank_range=blank_range)
    images = np.concatenate(shown(knees(40, first=900)))
    grey = torch.from_numpy(images[:, None]).float()
    changed = (Upright(polarity)(grey) != grey).flatten(1).any(dim=1).numpy()
    told = polarity.inverted(images)
    np.testing.assert_array_equal(told, changed)
    assert 0 < told.sum() < len(told)


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


def test_an_inverted_picture_between_black_margins_is_read_as_the_picture():
    """The pixel path pads an inverted file with the black that it pads any other with."""
    path = PixelPath(SIDE, "pad")
    narrow = [phantom(700 + i, i % 2, SIDE)[:, 12:-12] for i in range(80)]
    padded = np.stack([to_input(picture, path) for picture in narrow])
    inverted = np.stack([to_input(255 - picture, path) for picture in narrow])
    polarity = fit_polarity(padded[:60])
    assert polarity.inverted(inverted).all()
    assert not polarity.inverted(padded).any()
    seen = Upright(polarity)(torch.from_numpy(inverted[:, None]).float()).numpy()
    np.testing.assert_array_equal(seen[:, 0], padded)


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
def test_a_row_says_inverted_where_its_file_turned_the_image(exported):
    """An image and its inverse have the same logits where one of the two is turned around."""
    upright, _, shuttered, _, noise, faint, *_ = shown(knees(6))
    pairs = [(part, 255 - part) for part in (upright, shuttered, noise, faint)]
    for path in exported.values():
        predictor = Predictor(path, "cpu")
        assert predictor.spec.polarity is not None
        for images, inverses in pairs:
            session = predictor.session
            logits, others = (session.run(x[:, None]).logits for x in (images, inverses))
            answers = predictor.predict(list(images)), predictor.predict(list(inverses))
            for i, (one, other) in enumerate(zip(*answers, strict=True)):
                assert not (one.inverted and other.inverted)
                is_turned = one.inverted or other.inverted
                assert np.array_equal(logits[i], others[i]) == is_turned
        assert all(row.inverted for row in predictor.predict(list(255 - upright)))


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
