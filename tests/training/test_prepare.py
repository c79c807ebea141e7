"""Copies are seen before training, stay together, and leak into no other split."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]
pytest.importorskip("torch")

from kneeedge.errors import DataError, NotFoundError
from kneeedge.model.provenance import GROUPED
from kneeedge.pixels.phantom import write_dataset
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import open_run
from kneeedge.system.progress import Progress
from kneeedge.training import run as training
from kneeedge.training.checkpoint import load_original
from kneeedge.training.prepare import gather_images, split_data

QUIET = Progress(quiet=True)


class Recorder(Progress):
    """Keeps the lines that are shown of the progress."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def line(self, start: str) -> str:
        return next((line for line in self.lines if line.startswith(start)), "")


@pytest.fixture(scope="module")
def audited(config: TrainConfig) -> tuple[Recorder, set[str]]:
    """What is shown of an audit with --drop-conflicts, and the images that it keeps."""
    progress = Recorder()
    changed = dataclasses.replace(config, audit=True, drop_conflicts=True)
    dataset = gather_images(changed, progress).dataset
    return progress, {sample.name for sample in dataset.samples}


def test_copies_and_conflicts_are_said_before_training(audited):
    progress, _ = audited
    first = "Healthy/P00000L.png and Osteoporosis/copy.png (same bytes) the first"
    assert first in progress.line("audit: 1 pair of")
    assert "--drop-conflicts" in progress.line("LABEL CONFLICT: 1 pair of")


def test_a_copy_joins_its_patients_group(config):
    dataset = gather_images(config, QUIET).dataset
    groups = {sample.name: sample.group for sample in dataset.samples}
    assert groups["Osteoporosis/copy.png"] == groups["Healthy/P00000L.png"]
    assert groups["Osteoporosis/copy.png"] == groups["Healthy/P00000R.png"]


def test_conflicting_copies_can_be_left_out(audited):
    progress, names = audited
    assert not {"Osteoporosis/copy.png", "Healthy/P00000L.png"} & names
    assert "Healthy/P00000R.png" in names
    assert progress.line("left out, since copies").endswith(": 2 images")


def test_a_table_of_groups_is_kept_together(config, tmp_path):
    names = [sample.name for sample in gather_images(config, QUIET).dataset.samples]
    table = tmp_path / "groups.csv"
    rows = [f"{name},{Path(name).parent}{i % 3}" for i, name in enumerate(names)]
    table.write_text("\n".join(["path,group", *rows, ""]))
    changed = dataclasses.replace(config, groups=str(table), group_regex=None)
    samples = gather_images(changed, QUIET).dataset.samples
    assert len({sample.group for sample in samples}) == 5  # six, two of which the copy joins


def test_a_table_of_labels_trains_the_run_that_its_folders_train(config, flat, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(flat, data)
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    rows = [f"{name},{Path(name).parent}" for name in names]
    (data / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    runs = []
    for source in (data, data / "labels.csv"):
        run = tmp_path / source.name / "run"
        changed = dataclasses.replace(config, data=str(source))
        training.train(changed, run, [], QUIET)
        runs.append(open_run(run))
    by_folder, by_table = runs
    assert by_table.model.read_bytes() == by_folder.model.read_bytes()
    assert by_table.split.read_bytes() == by_folder.split.read_bytes()
    assert by_table.read_spec().training == by_folder.read_spec().training
    assert by_table.read_config().data_root == by_folder.read_config().data_root
    assert by_table.card.is_file()


def test_a_copy_across_split_folders_is_said_counted_and_left_where_it_is(tmp_path, config):
    write_dataset(tmp_path / "data", {"train": 12, "val": 8, "test": 8}, size=64)
    from PIL import Image

    with Image.open(tmp_path / "data/train/Healthy/P00000L.png") as image:
        image.save(tmp_path / "data/test/Healthy/again.bmp")
    changed = dataclasses.replace(config, data=str(tmp_path / "data"), group_regex=None, audit=True)
    progress = Recorder()
    result = training.train(changed, tmp_path / "run", [], progress)
    assert "(same pixels) the first" in progress.line("LEAK: 1 pair of")
    assert progress.line("LEAKY: 1 image")
    _, spec = load_original(open_run(tmp_path / "run"))
    assert (spec.training.protocol, spec.training.leaked, result.leaked) == ("folders", 1, 1)
    assert (spec.training.data_report.leaks, spec.training.data_report.exact_pairs) == (1, 1)
    assert spec.training.n_images == {"train": 12, "val": 8, "test": 9}


def test_a_grouped_draw_forgets_the_folders_and_leaks_nothing(tmp_path, config):
    write_dataset(tmp_path / "data", {"train": 12, "val": 8, "test": 8}, size=64)
    source = tmp_path / "data/train/Healthy/P00000L.png"
    shutil.copy(source, tmp_path / "data/test/Healthy/again.png")
    data = str(tmp_path / "data")
    changed = dataclasses.replace(config, data=data, group_regex=None, split=GROUPED)
    dataset, protocol = split_data(gather_images(changed, QUIET).dataset, changed)
    assert protocol == GROUPED
    assert dataset.leaked() == ()
    assert any(not sample.name.startswith(f"{sample.split}/") for sample in dataset.samples)


@pytest.fixture(scope="module")
def twelve_bits(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """The images, each in 16 bits of which it uses 12."""
    root = tmp_path_factory.mktemp("twelve")
    for path in Path(config.data).rglob("*.png"):
        with Image.open(path) as image:
            wide = np.asarray(image.convert("L"), dtype=np.uint32) * 4095 // 255
        copy = root / path.relative_to(config.data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide.astype(np.uint16)).save(copy)
    return dataclasses.replace(config, data=str(root))


def test_a_depth_that_was_not_told_is_said_before_training(twelve_bits):
    progress = Recorder()
    gather_images(twelve_bits, progress)
    assert "use no more than 12" in progress.line("DEPTH: ")
    assert "--grey-bits 12" in progress.line("DEPTH: ")


def test_a_depth_that_was_told_is_what_the_run_and_its_model_read_with(twelve_bits, tmp_path):
    progress = Recorder()
    told = dataclasses.replace(twelve_bits, grey_bits=12)
    run = training.train(told, tmp_path / "run", ["kneeedge"], progress).run
    assert progress.line("DEPTH: ") == ""
    assert run.read_spec().pixel_path == told.pixel_path
    assert run.read_spec().pixel_path.grey_bits == 12


def test_pixels_beyond_the_depth_that_was_told_are_refused_before_training(twelve_bits):
    with pytest.raises(DataError, match=r"integer pixels outside 0 to 1023"):
        gather_images(dataclasses.replace(twelve_bits, grey_bits=10), QUIET)


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "a\udce9"])
def test_a_class_that_no_report_can_show_is_refused_before_the_training(tmp_path, config, name):
    write_dataset(tmp_path / "odd", {"train": 4}, size=64)
    (tmp_path / "odd/train/Healthy").rename(tmp_path / "odd/train" / name)
    odd = dataclasses.replace(config, data=str(tmp_path / "odd"))
    with pytest.raises(DataError, match="rename its folder"):
        gather_images(odd, QUIET)


def test_images_with_wrong_labels_are_left_out_and_counted_in_the_run(config, tmp_path):
    listed = tmp_path / "labels.csv"
    listed.write_text("path,label\nHealthy/P00000L.png,Healthy\n", encoding="utf-8")
    changed = dataclasses.replace(config, drop_labels=str(listed), epochs=1)
    progress = Recorder()
    result = training.train(changed, tmp_path / "run", [], progress)
    assert progress.line("left out, since ").endswith("(--drop-labels): 1 image")
    assert result.training.dropped_labels == 1
    run = open_run(tmp_path / "run")
    assert "Healthy/P00000L.png" not in run.split.read_text(encoding="utf-8")
    assert "a person found their labels wrong: 1 image" in run.card.read_text(encoding="utf-8")


def test_a_list_of_labels_that_is_not_there_stops_before_an_image_is_read(config, tmp_path):
    changed = dataclasses.replace(config, drop_labels=str(tmp_path / "none.csv"))
    with pytest.raises(NotFoundError, match="no such list of labels"):
        training.train(changed, tmp_path / "run", [], QUIET)
