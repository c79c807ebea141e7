import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.data.dataset import check_unchanged, read_split, scan, write_split
from kneeedge.data.groups import read_groups, write_groups
from kneeedge.data.splits import assign_splits, check_splits
from kneeedge.errors import DataError, NotFoundError


def make_images(folder: Path, names: list[str], seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """100 healthy and 60 diseased knees, two a patient, in class folders."""
    for name, n_patients in (("Healthy", 50), ("Ill", 30)):
        knees = [f"{name}{p:03d}{side}" for p in range(n_patients) for side in "LR"]
        make_images(tmp_path, [f"{name}/{knee}.png" for knee in knees], seed=len(name))
    return tmp_path


def test_split_folders_name_the_split(phantoms):
    dataset = scan(phantoms)
    assert dataset.classes == ("Healthy", "Osteoporosis")
    assert dataset.counts() == {"train": 120, "val": 60, "test": 60}
    for sample in dataset.samples:
        assert sample.name.startswith(f"{sample.split}/{dataset.classes[sample.label]}/")


def test_a_patient_stays_on_one_side_of_the_split(flat):
    dataset = assign_splits(scan(flat, r"([A-Za-z]+\d+)[LR]"), 0.15, 0.2, seed=1)
    splits_of: dict[str, set[str]] = {}
    for sample in dataset.samples:
        splits_of.setdefault(sample.group, set()).add(sample.split)
    assert len(splits_of) == 80
    assert all(len(splits) == 1 for splits in splits_of.values())


def test_the_split_is_stratified(flat):
    dataset = assign_splits(scan(flat, r"([A-Za-z]+\d+)[LR]"), 0.15, 0.2, seed=1)
    for split, share in (("val", 0.15), ("test", 0.2)):
        counts = Counter(sample.label for sample in dataset.split(split))
        assert abs(counts[0] - 100 * share) <= 1
        assert abs(counts[1] - 60 * share) <= 1


def test_the_split_depends_on_the_seed_alone(flat):
    first, again, other = (assign_splits(scan(flat), 0.2, 0.2, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_byte_identical_files_stay_together_without_a_patient(flat):
    shutil.copy(flat / "Ill/Ill000L.png", flat / "Ill/copy.png")
    for seed in range(5):
        dataset = assign_splits(scan(flat), 0.3, 0.3, seed)
        pair = [s.split for s in dataset.samples if s.name in ("Ill/copy.png", "Ill/Ill000L.png")]
        assert len(pair) == 2
        assert pair[0] == pair[1]


def test_a_copy_in_another_split_is_a_leak(tmp_path):
    for i, split in enumerate(("train", "val")):
        make_images(tmp_path / split, ["a/1.png", "a/2.png", "b/1.png"], seed=i)
    assert scan(tmp_path).leaked() == ()
    shutil.copy(tmp_path / "train/a/1.png", tmp_path / "val/a/same.png")
    assert [sample.name for sample in scan(tmp_path).leaked()] == ["val/a/same.png"]


def test_a_patient_in_two_split_folders_is_a_leak(tmp_path):
    make_images(tmp_path, ["train/a/P1L.png", "train/b/P2L.png", "val/a/P1R.png", "val/b/P3L.png"])
    assert [sample.name for sample in scan(tmp_path, r"(P\d+)").leaked()] == ["val/a/P1R.png"]


def test_the_split_file_survives_the_round_trip(flat, tmp_path):
    dataset = assign_splits(scan(flat), 0.2, 0.2, seed=0)
    write_split(dataset, tmp_path / "split.csv")
    restored = read_split(tmp_path / "split.csv", flat, dataset.classes)
    assert restored.samples == dataset.samples
    assert restored.sha256() == dataset.sha256()


def test_a_class_that_the_spec_lacks_is_refused_with_the_file(flat, tmp_path):
    dataset = scan(flat)
    write_split(dataset, tmp_path / "split.csv")
    with pytest.raises(DataError, match=r"split\.csv: its class 'Ill' is none of Healthy, Sick"):
        read_split(tmp_path / "split.csv", flat, ("Healthy", "Sick"))


def test_groups_of_an_older_run_are_read_as_they_are(tmp_path):
    """Of a pattern that found the class folder, before it looked below that alone."""
    rows = ["path,sha256,split,class,group", "KL0/1L.png,aa,train,KL0,0", "KL4/2L.png,bb,val,KL4,4"]
    (tmp_path / "split.csv").write_text("\n".join(rows))
    dataset = read_split(tmp_path / "split.csv", tmp_path, ("KL0", "KL4"))
    assert [(s.name, s.split, s.label, s.group) for s in dataset.samples] == [
        ("KL0/1L.png", "train", 0, "0"),
        ("KL4/2L.png", "val", 1, "4"),
    ]


def test_the_data_hash_does_not_depend_on_where_the_folder_is(flat, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "data"
    shutil.copytree(flat, moved)
    assert scan(flat).sha256() == scan(moved).sha256()


def test_an_unreadable_image_stops_the_scan_by_name(flat):
    (flat / "Ill/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(DataError, match=r"broken\.png: .*repair or remove"):
        scan(flat)


def test_other_files_are_counted(flat):
    (flat / "Ill/notes.txt").write_text("x")
    assert [path.name for path in scan(flat).others] == ["notes.txt"]


def test_what_stands_outside_the_folders_of_splits_and_classes_is_counted(tmp_path):
    names = ["train/a/1.png", "train/b/2.png", "train/3.png", "more/4.png", "5.png"]
    make_images(tmp_path, names)
    others = [path.relative_to(tmp_path).as_posix() for path in scan(tmp_path).others]
    assert others == ["5.png", "more", "train/3.png"]


def test_a_changed_image_is_noticed(flat):
    dataset = scan(flat)
    check_unchanged(dataset.samples)
    make_images(flat, ["Ill/Ill000L.png"], seed=99)
    with pytest.raises(DataError, match=r"Ill000L\.png: the image has changed"):
        check_unchanged(dataset.samples)


def test_a_missing_image_is_noticed(flat):
    dataset = scan(flat)
    (flat / "Ill/Ill000L.png").unlink()
    with pytest.raises(DataError, match="the image is gone"):
        check_unchanged(dataset.samples)


def test_a_class_that_only_val_has_is_refused(tmp_path):
    make_images(tmp_path, ["train/a/1.png", "train/b/2.png", "val/a/3.png", "val/c/4.png"])
    with pytest.raises(DataError, match="'c' is none of the classes a, b"):
        scan(tmp_path)


def test_one_class_is_no_classification(tmp_path):
    make_images(tmp_path, ["a/1.png"])
    with pytest.raises(DataError, match="holds 1 class folders"):
        scan(tmp_path)


def test_a_split_without_a_class_is_refused(tmp_path):
    make_images(tmp_path, ["a/1.png", "b/2.png"])
    with pytest.raises(DataError, match="val has no image of 'a'"):
        check_splits(assign_splits(scan(tmp_path), 0.1, 0.1, 0))


@pytest.mark.parametrize(
    ("regex", "complaint"),
    [("(", "no regular expression"), (r"X\d", "finds no patient"), (r"(X\d)?", "finds no patient")],
)
def test_a_group_regex_that_does_not_serve_is_refused(flat, regex, complaint):
    with pytest.raises(DataError, match=complaint):
        scan(flat, regex)


def test_a_missing_folder_says_what_to_give(tmp_path):
    with pytest.raises(NotFoundError, match="no such data folder; give"):
        scan(tmp_path / "nowhere")


@pytest.mark.real
def test_knee_kl_has_the_papers_sizes_and_no_patient_in_two_splits(real_data):
    dataset = scan(real_data / "knee-kl", r"(\d{7})[LR]")
    assert dataset.counts() == {"train": 1258, "val": 315, "test": 472}
    assert dataset.leaked() == ()


def test_a_class_and_a_patient_that_are_formulas_come_back_and_do_not_run(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("=1+1", "Healthy"):
        (root / name).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(np.full((40, 40), 40 * k, np.uint8)).save(root / name / f"{k}.png")
    dataset = scan(root)
    write_split(dataset, tmp_path / "split.csv")
    text = (tmp_path / "split.csv").read_text()
    assert "./=1+1/0.png" in text
    assert ",./=1+1," in text
    assert "\n=" not in text
    assert read_split(tmp_path / "split.csv", root, dataset.classes) == dataset
    group_of = {sample.name: "@patient" for sample in dataset.samples}
    write_groups(group_of, tmp_path / "groups.csv")
    assert "@patient" not in (tmp_path / "groups.csv").read_text().replace("./@patient", "")
    assert read_groups(tmp_path / "groups.csv") == group_of
