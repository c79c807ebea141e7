"""Which folders are splits, which are classes, and what stops instead of being guessed at."""

import shutil
from pathlib import Path

import pytest

from kneeedge.data.dataset import scan
from kneeedge.data.layout import list_classes, read_layout, split_named
from kneeedge.errors import DataError
from kneeedge.inference.evaluation import evaluation_samples
from kneeedge.inference.heatmap import write_heatmap
from kneeedge.pixels.picture import read_grey
from tests.data.test_dataset import make_images

TRAIN = ["Train", "TRAIN", "training", "trn", "train_set", "trainset", "Train images", "1_train"]
VAL = ["Val", "valid", "validation", "VAL", "dev", "Dev-set", "valdata", "images_val"]
TEST = ["Test", "testing", "TST", "eval", "evaluation", "test2", "hold-out", "held_out"]
NONE = ["Healthy", "KL0", "0", "images", "data", "auto_test", "knee_train", "Trainer", "valgus", ""]


def splits(folder: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        make_images(folder, [f"{name}/a/{name}1.png", f"{name}/b/{name}2.png"], seed=i)
    return folder


def flat(folder: Path) -> Path:
    make_images(folder, ["a/1.png", "b/2.png"])
    return folder


@pytest.mark.parametrize(
    ("names", "split"), [(TRAIN, "train"), (VAL, "val"), (TEST, "test"), (NONE, "")]
)
def test_the_usual_words_name_a_split_in_any_case(names: list[str], split: str) -> None:
    assert {name: split_named(name) for name in names} == dict.fromkeys(names, split)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Train", "Val", "Test"), ("training", "validation", "testing"), ("TRN", "dev", "eval")],
)
def test_splits_by_other_names_are_splits(tmp_path: Path, train: str, val: str, test: str) -> None:
    dataset = scan(splits(tmp_path, train, val, test))
    assert dataset.classes == ("a", "b")
    assert dataset.counts() == {"train": 2, "val": 2, "test": 2}
    places = {sample.name.split("/")[0]: sample.split for sample in dataset.samples}
    assert places == {train: "train", val: "val", test: "test"}
    assert f"{train}/ is taken for train" in dataset.remarks
    assert not dataset.others


def test_splits_by_their_own_names_are_not_remarked_on(tmp_path: Path) -> None:
    assert scan(splits(tmp_path, "train", "val", "test")).remarks == ()


def test_two_folders_of_one_split_stop(tmp_path: Path) -> None:
    splits(tmp_path, "train", "val", "Validation")
    with pytest.raises(DataError, match=r"Validation/ and val/ both name the split val; keep one"):
        scan(tmp_path)


def test_a_folder_beside_the_splits_with_their_classes_stops(tmp_path: Path) -> None:
    splits(tmp_path, "train", "test", "auto_test")
    for look in (scan, read_layout):
        with pytest.raises(DataError, match="auto_test/ holds the class 'a' too, and names no"):
            look(tmp_path)


@pytest.mark.parametrize("name", ["a", "B"])
def test_a_class_beside_the_splits_stops(tmp_path: Path, name: str) -> None:
    splits(tmp_path, "train", "test")
    make_images(tmp_path, [f"{name}/more.png"])
    with pytest.raises(DataError, match=f"the class {name}/ stands beside the splits; move it"):
        scan(tmp_path)


def test_another_folder_beside_the_splits_is_left_out_and_said(tmp_path: Path) -> None:
    splits(tmp_path, "train", "test")
    make_images(tmp_path, ["unsorted/1.png", "raw/knees/2.png", "loose.png"])
    others = [path.name for path in scan(tmp_path).others]
    assert others == ["loose.png", "raw", "unsorted"]


@pytest.mark.parametrize("name", ["knee_train", "test-positive", "Healthy train"])
def test_a_class_whose_name_also_says_a_split_stops(tmp_path: Path, name: str) -> None:
    flat(tmp_path)
    make_images(tmp_path, [f"{name}/1.png"])
    with pytest.raises(DataError, match=f"{name}/ names a split and something else; rename them"):
        scan(tmp_path)


@pytest.mark.parametrize("above", ["", "train/", "Test/"])
def test_splits_within_the_classes_stop(tmp_path: Path, above: str) -> None:
    names = ["Healthy/train/1.png", "Healthy/test/2.png", "Ill/train/3.png"]
    make_images(tmp_path, [above + name for name in names])
    with pytest.raises(DataError, match=r"Healthy/test/ is a split within a class; give DATA/"):
        scan(tmp_path)


def test_classes_that_are_all_named_as_splits_stop(tmp_path: Path) -> None:
    make_images(tmp_path, ["train/Train/1.png", "train/Test/2.png"])
    with pytest.raises(DataError, match=r"all its folders, as Test/, are named as splits"):
        scan(tmp_path)


def test_splits_without_class_folders_stop(tmp_path: Path) -> None:
    make_images(tmp_path, ["Train/1.png", "Test/2.png"])
    with pytest.raises(DataError, match="Train: it holds 0 class folders"):
        scan(tmp_path)


def test_a_test_folder_alone_stops_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it has Testing/ but no train/"):
        scan(splits(tmp_path, "Testing"))


def make_run(folder: Path) -> None:
    make_images(folder, ["curves.png", "roc.png"])
    (folder / "config.json").write_text('{"config": {}, "command": [], "data_root": "/"}')


@pytest.mark.parametrize("run", ["runs/20261126", "night", "test", "runs/train"])
def test_a_run_in_the_data_folder_is_no_class_and_no_split(tmp_path: Path, run: str) -> None:
    flat(tmp_path)
    before = scan(tmp_path)
    make_run(tmp_path / run)
    (tmp_path / run).parent.joinpath("latest").symlink_to(tmp_path / run)
    dataset = scan(tmp_path)
    assert dataset.samples == before.samples
    assert dataset.classes == ("a", "b")
    (remark,) = dataset.remarks
    assert remark.startswith("left out: ")
    assert "written by kneeedge" in remark


@pytest.mark.parametrize("folder", ["maps", "a/maps", "maps/below"])
def test_heat_maps_in_the_data_folder_are_no_class(tmp_path: Path, folder: str) -> None:
    flat(tmp_path)
    before = scan(tmp_path)
    for sample in before.samples:
        image = read_grey(sample.path, 8)
        write_heatmap(tmp_path / folder, sample.name, image, image[:2, :2].astype("float32"))
    dataset = scan(tmp_path)
    assert dataset.samples == before.samples
    assert dataset.remarks[0].startswith("left out: 2 items written by kneeedge, ")


def test_a_heat_map_that_was_moved_among_the_images_stops(tmp_path: Path) -> None:
    data = flat(tmp_path / "data")
    image = read_grey(data / "a/1.png", 8)
    write_heatmap(tmp_path / "maps", "x", image, image[:2, :2].astype("float32"))
    shutil.move(tmp_path / "maps/x.map.png", data / "b/x.png")
    with pytest.raises(DataError, match=r"x\.png: is a picture that kneeedge made"):
        scan(data)


def test_what_the_system_leaves_is_no_class(tmp_path: Path) -> None:
    splits(tmp_path, "train")
    make_images(
        tmp_path, ["train/@eaDir/x.jpg", "train/a/lost+found/y.png", "__MACOSX/train/a/z.png"]
    )
    (tmp_path / "train/Thumbs.db").write_bytes(b"x")
    dataset = scan(tmp_path)
    assert dataset.classes == ("a", "b")
    assert len(dataset.samples) == 2
    assert not dataset.others
    (remark,) = dataset.remarks
    assert remark.startswith("left out: 4 items of the system or the file server")


def test_labels_follow_the_models_order_of_the_classes(tmp_path: Path) -> None:
    flat(tmp_path)
    assert list(list_classes(tmp_path, ("b", "a")).listings) == ["b", "a"]
    _, samples = evaluation_samples(tmp_path, ("b", "a"))
    assert {sample.path.parent.name: sample.label for sample in samples} == {"b": 0, "a": 1}


def test_evaluate_takes_the_splits_that_train_takes(tmp_path: Path) -> None:
    splits(tmp_path, "Training", "Validation", "Testing")
    classes = ("a", "b")
    assert evaluation_samples(tmp_path, classes)[0] == "test"
    name, samples = evaluation_samples(tmp_path, classes, "validation")
    assert name == "val"
    assert {sample.name.split("/")[0] for sample in samples} == {"Validation"}
    with pytest.raises(DataError, match=r"it has no split 'fold', only train/, val/, test/"):
        evaluation_samples(tmp_path, classes, "fold")


def test_evaluate_says_what_it_leaves_out(tmp_path: Path) -> None:
    splits(tmp_path, "test")
    make_run(tmp_path / "test/runs/x")
    (tmp_path / "test/a/notes.txt").write_text("x")
    (tmp_path / "test/Thumbs.db").write_text("x")
    lines: list[str] = []
    evaluation_samples(tmp_path, ("a", "b"), group_regex=r"test(\d)", say=lines.append)
    assert [line.split(",")[0] for line in lines] == [
        "left out",
        "left out: 1 item written by kneeedge",
        "left out: 1 item of the system or the file server",
        "2 patients",
        "PATIENTS: each of the 2 images is of another patient; check the pattern",
    ]
