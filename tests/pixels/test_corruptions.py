"""Corruptions: the same for a seed, worse with severity, of any size, and as their names say."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ConfigError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.corruptions import KINDS, Kind, corrupt, kind_named, kinds_named, seed_of
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.pixel_path import to_input

KNEE = phantom(3, 0.5, 224)
GRADED = [kind for kind in KINDS if len(kind.levels) > 1]
SHAPES = ((1, 1), (1, 300), (300, 1), (2, 3), (70, 61))
EXACT = {
    "translation": "534fe1f85253",
    "crop": "0a0a871dc156",
    "padding": "3c79d7f0ab44",
    "collimation": "87cc7379746b",
    "text": "0ca91c2acd57",
    "bars": "97f6c793ff6e",
    "inverted": "aa7e3289e588",
    "mirrored": "084c9645afb2",
    "upside-down": "a75e6e77d7f5",
}
"""hashes of kinds that only move and set pixels, at severity 3 or the only one; the others round
what processors and Pillow's versions compute otherwise in the last bit"""


def named(kinds: list[Kind] | tuple[Kind, ...]) -> list[str]:
    return [kind.name for kind in kinds]


def strongest(kind: str) -> int:
    return kind_named(kind).severities[-1]


def damage(grey: np.ndarray, kind: str, severity: int, seed: int) -> float:
    """Root mean square of what changes in the network's input, grey levels."""
    path = PixelPath()
    before = to_input(grey, path).astype(float)
    after = to_input(corrupt(grey, kind, severity, seed), path)
    return float(np.sqrt(np.mean((after - before) ** 2)))


def worn() -> np.ndarray:
    """Pixels (48, 40) whose values are the same everywhere."""
    return (np.arange(48 * 40).reshape(48, 40) * 7 % 256).astype(np.uint8)


@pytest.mark.parametrize("kind", named(KINDS))
def test_the_same_seed_gives_the_same_pixels(kind: str) -> None:
    severity = strongest(kind)
    once = corrupt(KNEE, kind, severity, 5)
    assert np.array_equal(once, corrupt(KNEE, kind, severity, 5))


@pytest.mark.parametrize("kind", named(KINDS))
def test_the_pixels_given_are_left_alone_and_not_shared(kind: str) -> None:
    grey = KNEE.copy()
    for severity in kind_named(kind).severities:
        result = corrupt(grey, kind, severity, 5)
        assert not np.shares_memory(result, grey)
    assert np.array_equal(grey, KNEE)


@pytest.mark.parametrize("kind", named(GRADED))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_damage_grows_with_severity(kind: str, seed: int) -> None:
    damages = [damage(KNEE, kind, severity, seed) for severity in kind_named(kind).severities]
    assert damages == sorted(damages)
    assert len(set(damages)) == len(damages)
    assert damages[0] > 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", named(KINDS))
def test_pictures_of_any_size_stay_grey_pictures(kind: str, shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    for severity in kind_named(kind).severities:
        result = corrupt(grey, kind, severity, 9)
        assert result.dtype == np.uint8
        assert result.ndim == 2
        assert min(result.shape) >= 1
        assert to_input(result, PixelPath(size=32)).shape == (32, 32)


@pytest.mark.parametrize("kind", named(GRADED))
def test_a_large_picture_is_corrupted_as_a_small_one(kind: str) -> None:
    """The grain of `noise` is averaged by the resize of the large one: 0.59 of it is left."""
    large = np.array(Image.fromarray(KNEE).resize((896, 896), Image.Resampling.BICUBIC))
    ratio = damage(large, kind, 3, 4) / damage(KNEE, kind, 3, 4)
    assert 0.5 < ratio < 1.5


@pytest.mark.parametrize("kind", named(KINDS))
def test_a_black_picture_is_no_error(kind: str) -> None:
    black = np.zeros((40, 30), dtype=np.uint8)
    assert corrupt(black, kind, strongest(kind), 0).dtype == np.uint8


@pytest.mark.parametrize("kind", EXACT)
def test_what_only_moves_and_sets_pixels_does_so_everywhere(kind: str) -> None:
    severity = min(3, strongest(kind))
    result = corrupt(worn(), kind, severity, 11)
    content = repr(result.shape).encode() + result.tobytes()
    assert hashlib.sha256(content).hexdigest()[:12] == EXACT[kind]


def test_noise_is_stronger_where_few_photons_arrive() -> None:
    """Behind bone, which is bright: √30 times as strong as in air."""
    deviations = []
    for level in (64, 192):  # a quarter and three quarters of the range, far from its ends
        flat = np.full((224, 224), level, dtype=np.uint8)
        deviations.append(float(corrupt(flat, "noise", 2, 0).astype(float).std()))
    half_range = 30 ** ((192 - 64) / 255 / 2)
    assert deviations[1] / deviations[0] == pytest.approx(half_range, rel=0.05)


def test_scatter_as_strong_as_the_primary_halves_contrast() -> None:
    halved = corrupt(KNEE, "contrast", 3, 0)
    assert float(halved.std()) == pytest.approx(float(KNEE.std()) / 2, rel=0.02)
    assert float(halved.mean()) == pytest.approx(float(KNEE.mean()), abs=0.5)


def test_a_detectors_elements_are_averages_of_what_falls_on_them() -> None:
    coarse = corrupt(KNEE, "resolution", 3, 0)
    assert coarse.shape == (111, 111)  # 150 mm of 1.35 mm
    assert float(coarse.mean()) == pytest.approx(float(KNEE.mean()), abs=0.5)


def test_a_picture_as_coarse_as_the_detector_stays_as_it_is() -> None:
    coarse = KNEE[:50, :50]
    assert np.array_equal(corrupt(coarse, "resolution", 5, 0), coarse)


def test_crop_and_padding_change_the_shape_and_no_pixel() -> None:
    padded = corrupt(KNEE, "padding", 4, 0)
    assert padded.shape == (336, 336)  # 224 and a quarter of it at either end
    assert np.array_equal(padded[56:-56, 56:-56], KNEE)
    cropped = corrupt(KNEE, "crop", 3, 0)
    assert np.array_equal(cropped, KNEE[22:-22, 22:-22])


def test_what_has_one_severity_undoes_itself() -> None:
    for kind in ("inverted", "mirrored", "upside-down"):
        twice = corrupt(corrupt(KNEE, kind, 1, 0), kind, 1, 0)
        assert np.array_equal(twice, KNEE)


def test_seeds_draw_both_directions() -> None:
    brighter = [corrupt(KNEE, "gamma", 3, seed).mean() > KNEE.mean() for seed in range(12)]
    assert len(set(brighter)) == 2


def test_the_seed_is_of_the_file_and_not_of_its_place() -> None:
    assert seed_of("0000000a" + "f" * 56) == 10


def test_an_unknown_kind_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'fog'.*choose from noise, blur"):
        corrupt(KNEE, "fog", 1, 0)


@pytest.mark.parametrize(("kind", "severity"), [("noise", 0), ("noise", 6), ("inverted", 2)])
def test_a_severity_that_the_kind_lacks_is_refused(kind: str, severity: int) -> None:
    with pytest.raises(ConfigError, match=f"severity {severity} of {kind}"):
        corrupt(KNEE, kind, severity, 0)


def test_kinds_come_in_the_order_of_the_table_whatever_the_order_asked_for() -> None:
    assert named(kinds_named(["jpeg", "noise", "jpeg"])) == ["noise", "jpeg"]
    assert kinds_named([]) == KINDS
