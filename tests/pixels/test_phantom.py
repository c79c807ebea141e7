"""The synthetic knees: the same for a seed, others for another, and thinner boned with severity."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.pixels.phantom import CLASSES, phantom, severity_bands, write_dataset

# Means of 4 × 4 blocks of phantom(0, 0.5, 64), as recorded: they say that the drawing changed, not
# that it is right. Bytes are not pinned: float32 powers and exponentials differ in the last bit
# between processors.
RECORDED = [
    [73.8, 144.6, 132.2, 57.3],
    [77.7, 172.2, 171.5, 47.3],
    [79.8, 163.8, 156.1, 44.9],
    [79.5, 145.3, 134.0, 51.2],
]


def block_means(pixels: np.ndarray) -> np.ndarray:
    n = len(pixels) // 4
    return pixels.reshape(4, n, 4, n).mean(axis=(1, 3))


def edge_brightness(pixels: np.ndarray) -> float:
    """The steepest bright ridges, by second differences across columns, over the image's range."""
    grey = pixels.astype(float)
    ridge = 2 * grey[:, 4:-4] - grey[:, :-8] - grey[:, 8:]
    low, high = np.percentile(grey, (2, 98))
    return float(np.percentile(ridge, 97) / (high - low))


def relative_paths(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_dataset(folder, {"train": 14, "val": 8, "test": 8}, seed=3, size=64)
    return folder


@pytest.mark.parametrize("size", [64, 224])
def test_phantom_is_a_square_uint8_image(size: int) -> None:
    pixels = phantom(1, 0.2, size)
    assert pixels.shape == (size, size)
    assert pixels.dtype == np.uint8


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert phantom(5, 0.3).tobytes() == phantom(5, 0.3).tobytes()


def test_the_drawing_is_the_recorded_one() -> None:
    np.testing.assert_allclose(block_means(phantom(0, 0.5, 64)), RECORDED, atol=1.0)


def test_seeds_give_different_images() -> None:
    assert len({phantom(seed, 0.3, 64).tobytes() for seed in range(20)}) == 20


def test_seeds_give_different_exposures() -> None:
    means = [phantom(seed, 0.3, 64).mean() for seed in range(20)]
    assert max(means) - min(means) > 30


def test_severity_changes_the_bone_and_not_the_exposure_or_the_place() -> None:
    mild, severe = (phantom(2, severity).astype(float) for severity in (0.0, 1.0))
    assert np.abs(mild - severe).max() > 25
    assert np.corrcoef(mild.ravel(), severe.ravel())[0, 1] > 0.85


def test_bone_edges_fade_with_severity() -> None:
    levels = []
    for severity in (0.0, 0.33, 0.67, 1.0):
        edges = [edge_brightness(phantom(seed, severity)) for seed in range(12)]
        levels.append(np.mean(edges))
    assert np.all(np.diff(levels) < 0), levels


def test_the_background_is_darker_than_the_bone() -> None:
    for seed in range(10):
        pixels = phantom(seed, 0.5)
        assert np.percentile(pixels[:, :8], 10) < pixels[80:100, 100:124].mean() - 40


@pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan")])
def test_a_severity_out_of_range_is_refused(severity: float) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        phantom(0, severity)


def test_a_size_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="32 pixels"):
        phantom(0, 0.5, 16)


def test_bands_are_equal_and_leave_gaps() -> None:
    np.testing.assert_allclose(severity_bands(2), [(0, 0.4), (0.6, 1)])
    np.testing.assert_allclose(severity_bands(3), [(0, 0.25), (0.375, 0.625), (0.75, 1)])


def test_dataset_is_split_class_patient_side(dataset: Path) -> None:
    paths = relative_paths(dataset)
    assert paths[:3] == [
        "test/Healthy/P00012L.png",
        "test/Healthy/P00012R.png",
        "test/Healthy/P00013L.png",
    ]
    with Image.open(dataset / paths[0]) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 64))


def test_dataset_has_the_images_asked_for_in_equal_classes(dataset: Path) -> None:
    counts = Counter(path.rsplit("/", 1)[0] for path in relative_paths(dataset))
    expected = {}
    for split, n in (("train", 14), ("val", 8), ("test", 8)):
        expected |= {f"{split}/{name}": n // 2 for name in CLASSES}
    assert counts == expected


def test_no_patient_is_in_two_splits_or_classes(dataset: Path) -> None:
    homes: dict[str, set[str]] = {}
    for path in relative_paths(dataset):
        home, name = path.rsplit("/", 1)
        homes.setdefault(name[:6], set()).add(home)
    assert all(len(home) == 1 for home in homes.values())


def test_no_two_files_are_identical(dataset: Path) -> None:
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in dataset.rglob("*.png")]
    assert len(set(hashes)) == len(hashes) == 30


def test_dataset_of_a_seed_is_the_same_again(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train": 14, "val": 8, "test": 8}, seed=3, size=64)
    assert relative_paths(tmp_path) == relative_paths(dataset)
    for path in relative_paths(dataset):
        assert (tmp_path / path).read_bytes() == (dataset / path).read_bytes()


def test_dataset_of_another_seed_differs(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train": 2}, seed=4, size=64)
    name = "train/Healthy/P00000L.png"
    assert (tmp_path / name).read_bytes() != (dataset / name).read_bytes()


def test_empty_split_name_writes_the_classes_directly(tmp_path: Path) -> None:
    write_dataset(tmp_path / "flat", {"": 3}, size=64)
    assert relative_paths(tmp_path / "flat") == [
        "Healthy/P00000L.png",
        "Healthy/P00000R.png",
        "Osteoporosis/P00001L.png",
    ]


def test_three_classes_have_equal_parts(tmp_path: Path) -> None:
    classes = ("Healthy", "Osteopenia", "Osteoporosis")
    write_dataset(tmp_path, {"train": 6}, size=64, classes=classes)
    homes = Counter(path.split("/")[1] for path in relative_paths(tmp_path))
    assert homes == {"Healthy": 2, "Osteopenia": 2, "Osteoporosis": 2}


def test_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputExistsError, match="empty folder"):
        write_dataset(tmp_path, {"train": 2}, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two or more"):
        write_dataset(tmp_path, {"train": 2}, classes=("Healthy",))
