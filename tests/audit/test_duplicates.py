"""The duplicate search: what is a copy, what is not, and which images belong together."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kneeedge.audit.duplicates import MAX_ALL_PAIRED, find_pairs
from kneeedge.audit.fingerprint import Fingerprint, fingerprint
from kneeedge.data.groups import BYTES, NEAR, PIXELS, Pair, groups
from kneeedge.pixels.phantom import phantom
from kneeedge.system.progress import Progress

Pixels = NDArray[np.uint8]
N, SIZE = 12, 256
CHOSEN = 5


def prints_of(images: dict[str, Pixels]) -> list[Fingerprint]:
    return [fingerprint(name, f"bytes of {name}", grey) for name, grey in images.items()]


@pytest.fixture(scope="module")
def knees() -> dict[str, Pixels]:
    return {f"knee-{i:02d}": phantom(i, (i % 7) / 6, SIZE) for i in range(N)}


def search(images: dict[str, Pixels]) -> tuple[Pair, ...]:
    return find_pairs(prints_of(images), Progress(quiet=True))


def only_pair(knees: dict[str, Pixels], copy: Pixels) -> Pair:
    """The one pair among the knees and a copy of one of them."""
    pairs = search({**knees, "a copy": copy})
    assert [(pair.first, pair.second) for pair in pairs] == [("a copy", f"knee-{CHOSEN:02d}")]
    return pairs[0]


def resized(grey: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC))


def as_jpeg(grey: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_same_bytes_are_a_pair(knees: dict[str, Pixels]) -> None:
    first, second = (fingerprint(name, "the same", knees["knee-00"]) for name in ("a", "b"))
    (pair,) = find_pairs([second, first], Progress(quiet=True))
    assert pair == Pair(first="a", second="b", kind=BYTES, similarity=1.0, how="same bytes")


def test_same_pixels_in_another_file_are_a_pair(knees: dict[str, Pixels]) -> None:
    assert only_pair(knees, knees[f"knee-{CHOSEN:02d}"].copy()).kind == PIXELS


def test_same_grey_levels_in_another_shape_are_not_the_same_pixels() -> None:
    levels = np.arange(64, dtype=np.uint8)
    square = fingerprint("a", "", levels.reshape(8, 8))
    wide = fingerprint("b", "", levels.reshape(4, 16))
    assert square.pixel_sha256 != wide.pixel_sha256


@pytest.mark.parametrize("quality", [40, 95])
def test_a_re_encoded_copy_is_found(knees: dict[str, Pixels], quality: int) -> None:
    assert only_pair(knees, as_jpeg(knees[f"knee-{CHOSEN:02d}"], quality)).kind == NEAR


@pytest.mark.parametrize("size", [(96, 96), (512, 512), (256, 180), (160, 256)])
def test_a_resized_copy_is_found(knees: dict[str, Pixels], size: tuple[int, int]) -> None:
    assert only_pair(knees, resized(knees[f"knee-{CHOSEN:02d}"], *size)).kind == NEAR


def test_a_mirrored_copy_is_found_and_said_to_be_one(knees: dict[str, Pixels]) -> None:
    pair = only_pair(knees, knees[f"knee-{CHOSEN:02d}"][:, ::-1])
    assert pair.kind == NEAR
    assert pair.how.startswith("mirrored")


def test_a_copy_of_other_brightness_and_contrast_is_found(knees: dict[str, Pixels]) -> None:
    paler = knees[f"knee-{CHOSEN:02d}"].astype(np.float32) * 0.6 + 60
    copy = np.clip(paler, 0, 255).astype(np.uint8)
    assert only_pair(knees, copy).how == "other grey levels"


@pytest.mark.parametrize("angle", [-8, 4])
def test_a_rotated_copy_is_found_with_its_angle(knees: dict[str, Pixels], angle: int) -> None:
    image = Image.fromarray(knees[f"knee-{CHOSEN:02d}"])
    copy = np.asarray(image.rotate(angle, Image.Resampling.BICUBIC))
    assert f"rotated {abs(angle)}°" in only_pair(knees, copy).how


def test_a_crop_is_found(knees: dict[str, Pixels]) -> None:
    copy = knees[f"knee-{CHOSEN:02d}"][40:240, 10:210]
    # (200 / 256)² = 0.61; the copy sorts first
    assert "the first is cropped to 61%" in only_pair(knees, copy).how


def test_a_mirrored_crop_is_found(knees: dict[str, Pixels]) -> None:
    assert "mirrored" in only_pair(knees, knees[f"knee-{CHOSEN:02d}"][30:240, 20:230][:, ::-1]).how


@pytest.mark.slow
def test_different_knees_are_no_copies() -> None:
    assert search({f"knee-{i}": phantom(1000 + i, (i % 9) / 8, 224) for i in range(120)}) == ()


def test_the_order_of_the_images_does_not_matter(knees: dict[str, Pixels]) -> None:
    grey = knees["knee-03"]
    prints = prints_of(
        {**knees, "copy 1": as_jpeg(grey, 60), "copy 2": grey[:, ::-1], "copy 3": grey[20:, 20:]}
    )
    shuffled = [prints[i] for i in np.random.default_rng(1).permutation(len(prints))]
    pairs = find_pairs(prints, Progress(quiet=True))
    assert len(pairs) == 6
    assert find_pairs(shuffled, Progress(quiet=True)) == pairs


def test_a_near_copy_of_two_identical_files_pairs_with_both(knees: dict[str, Pixels]) -> None:
    grey = knees["knee-03"]
    pairs = search({"a": grey, "b": as_jpeg(grey, 60), "c": grey})
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        ("a", "b", NEAR),
        ("a", "c", PIXELS),
        ("b", "c", NEAR),
    ]


def test_many_identical_images_make_pairs_in_proportion(knees: dict[str, Pixels]) -> None:
    grey = knees["knee-03"]
    n = MAX_ALL_PAIRED + 1
    images = {f"a{i:03d}": grey for i in range(n)}
    images |= {f"b{i:03d}": as_jpeg(grey, 60) for i in range(n)}
    pairs = search(images)
    within = 2 * (n - 1) - 1  # with the first, and with the one before; the second has both in one
    between = 2 * n - 1  # the first of either with all of the other
    assert len(pairs) == 2 * within + between
    assert len({(pair.first, pair.second) for pair in pairs}) == len(pairs)
    assert len(set(groups([*images], pairs).values())) == 1


def test_blank_images_are_near_nothing(knees: dict[str, Pixels]) -> None:
    blank = np.full((SIZE, SIZE), 128, np.uint8)
    pairs = search(
        {
            **knees,
            "blank": blank,
            "blank again": blank,
            "darker": blank // 2,
            "smaller": blank[:100, :100],
        }
    )
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        ("blank", "blank again", PIXELS)
    ]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_have_no_pairs(knees: dict[str, Pixels], n: int) -> None:
    assert search(dict(list(knees.items())[:n])) == ()


def test_an_image_of_a_few_pixels_is_taken() -> None:
    assert search({"dot": np.zeros((1, 1), np.uint8), "line": np.zeros((1, 500), np.uint8)}) == ()
