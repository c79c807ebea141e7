"""Which further images the gate's verdict rests on, what they prove, and which are left out."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

from PIL import Image

from export.gate import gate_report
from export.gate_data import GATE, read_gate_data
from export.options import ExportOptions
from export.run import export_run
from kneeedge.data.dataset import Dataset, Sample, scan
from kneeedge.errors import DataError, NotFoundError
from kneeedge.inference.evaluation import read_seen_hashes
from kneeedge.model.file import open_model
from kneeedge.model.file_record import GateData
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from kneeedge.pixels.phantom import phantom, write_dataset
from kneeedge.report.card import card_in
from kneeedge.report.export import comparison_lines, gate_text
from kneeedge.report.info import info_text
from kneeedge.report.variants import variant_parts
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.export_report import VerifyReport
from kneeedge.runs.folder import Run
from kneeedge.statistics.partly_labelled import NO_LABEL
from kneeedge.system.progress import Progress
from tests.tiny_onnx import CLASSES, tiny_spec

QUIET = Progress(quiet=True)
SPEC = tiny_spec()


class Said(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


def save_phantom(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(phantom(seed, seed % 2, 48)).save(path)


@pytest.fixture
def run_data(tmp_path: Path) -> Dataset:
    """Two images of each class in each split, their patients in the names."""
    root = tmp_path / "run"
    for i, split in enumerate(("train", "val", "test")):
        for seed in range(4):
            name = f"{split}/{CLASSES[seed % 2]}/P{i}{seed}-1.png"
            save_phantom(root / name, 10 * i + seed)
    return scan(root, r"P(\d+)")


def config_of(run: Dataset, **changes: object) -> TrainConfig:
    plain = TrainConfig(data=str(run.root), group_regex=r"P(\d+)", audit=False)
    return dataclasses.replace(plain, **changes)


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """Four images that the run has not, in class folders."""
    folder = tmp_path / "more"
    for seed in range(4):
        save_phantom(folder / CLASSES[seed % 2] / f"P9{seed}-1.png", 90 + seed)
    return folder


def test_class_folders_give_labels_and_patients(run_data: Dataset, more: Path) -> None:
    said = Said()
    found = read_gate_data(more, run_data, config_of(run_data), said)
    assert [(s.name, s.label, s.group) for s in found.samples] == [
        ("more/Healthy/P90-1.png", 0, "90"),
        ("more/Healthy/P92-1.png", 0, "92"),
        ("more/Osteoporosis/P91-1.png", 1, "91"),
        ("more/Osteoporosis/P93-1.png", 1, "93"),
    ]
    assert {sample.split for sample in found.samples} == {GATE}
    assert (found.record.folder, found.record.n, found.record.is_labelled) == ("more", 4, True)
    assert (found.record.left_out, said.lines) == ({}, [])


def test_split_folders_and_a_table_give_all_their_images(
    run_data: Dataset, more: Path, tmp_path: Path
) -> None:
    plain = read_gate_data(more, run_data, config_of(run_data), QUIET).record
    for split in ("train", "test"):
        shutil.copytree(more, tmp_path / "splits" / split)
        for path in (tmp_path / "splits/test").glob("*/*.png"):
            save_phantom(path, 50 + int(path.name[2]))
            path.rename(path.with_name(path.name.replace("P9", "P8")))
    both = read_gate_data(tmp_path / "splits", run_data, config_of(run_data), QUIET)
    assert both.record.n == 8
    rows = [f"{path.relative_to(more.parent)},{path.parent.name}" for path in more.glob("*/*.png")]
    table = more.parent / "table.csv"
    table.write_text("\n".join(["path,label", *rows]))
    of_table = read_gate_data(table, run_data, config_of(run_data), QUIET)
    assert of_table.record.sha256 == plain.sha256
    assert (of_table.record.folder, of_table.record.is_labelled) == ("table", True)
    assert {sample.group for sample in of_table.samples} == {"90", "91", "92", "93"}


def test_a_folder_without_class_folders_has_no_labels_and_says_so(
    run_data: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    for seed in range(3):
        save_phantom(folder / f"study {seed}" / f"P9{seed}.png", 90 + seed)
    said = Said()
    found = read_gate_data(folder, run_data, config_of(run_data), said)
    assert {sample.label for sample in found.samples} == {NO_LABEL}
    assert [sample.group for sample in found.samples] == ["90", "91", "92"]
    assert not found.record.is_labelled
    assert "no folder is named as a class (Healthy, Osteoporosis)" in said.lines[0]
    assert said.lines[-1] == (
        "gate data: 3 images without labels say how often answers agree; accuracy is val's"
    )


def test_images_that_count_one_by_one_beside_a_run_with_patients_are_told(
    run_data: Dataset, more: Path
) -> None:
    one_patient = [dataclasses.replace(sample, group="1") for sample in run_data.samples]
    said = Said()
    config = config_of(run_data, group_regex=None)
    read_gate_data(more, dataclasses.replace(run_data, samples=tuple(one_patient)), config, said)
    (line,) = said.lines
    assert line == (
        "gate data: nothing says whose the images are, so each counts as a patient of its own; a "
        "CSV file path,label,patient would say so"
    )


def test_what_the_run_has_seen_is_left_out_and_counted(run_data: Dataset, more: Path) -> None:
    for split, name in (("train", "P00-1"), ("val", "P10-1"), ("test", "P20-1")):
        shutil.copy(run_data.root / split / CLASSES[0] / f"{name}.png", more / "Healthy")
    shutil.copy(more / "Healthy/P90-1.png", more / "Healthy/P94-1.png")
    save_phantom(more / "Healthy/P02-2.png", 80)  # of a patient of training
    save_phantom(more / "Healthy/P22-2.png", 81)  # of a patient of test
    save_phantom(more / "Healthy/P12-2.png", 82)  # of a patient of val: that is told by its group
    said = Said()
    found = read_gate_data(more, run_data, config_of(run_data), said)
    assert found.record.left_out == {
        "copies of training images": 1,
        "copies of val images": 1,
        "copies of test images": 1,
        "second copies within it": 1,
        "images of patients in training": 1,
        "images of patients in test": 1,
    }
    assert (
        "gate data: 1 left out, copies of training images (more/Healthy/P00-1.png the first)"
        in said.lines
    )
    assert found.record.n == 5
    assert "12" in {sample.group for sample in found.samples}


def test_altered_copies_are_left_out_where_the_run_looked_for_copies(
    run_data: Dataset, more: Path
) -> None:
    source = run_data.root / "train/Healthy/P00-1.png"
    Image.open(source).resize((96, 96)).save(more / "Healthy/P95-1.png")
    assert read_gate_data(more, run_data, config_of(run_data), QUIET).record.left_out == {}
    audited = read_gate_data(more, run_data, config_of(run_data, audit=True), QUIET)
    assert audited.record.left_out.get("copies of training images", 0) >= 1
    assert "more/Healthy/P95-1.png" not in {sample.name for sample in audited.samples}


def test_where_nothing_is_left_it_says_why(run_data: Dataset) -> None:
    with pytest.raises(DataError, match=r"none of its images is evidence: .*4 copies of training"):
        read_gate_data(run_data.root, run_data, config_of(run_data), QUIET)


def test_what_cannot_be_read_as_asked_is_refused(
    run_data: Dataset, more: Path, tmp_path: Path
) -> None:
    config = config_of(run_data)
    with pytest.raises(NotFoundError, match="no such gate data"):
        read_gate_data(tmp_path / "nowhere", run_data, config, QUIET)
    (more / "Osteopenia").mkdir()
    save_phantom(more / "Osteopenia/P99-1.png", 99)
    with pytest.raises(DataError, match="'Osteopenia' is none of the classes"):
        read_gate_data(more, run_data, config, QUIET)
    shutil.rmtree(more / "Osteopenia")
    shutil.copy(more / "Healthy/P90-1.png", more / "Osteoporosis/P96-1.png")
    with pytest.raises(DataError, match="are one image, of Healthy and Osteoporosis"):
        read_gate_data(more, run_data, config, QUIET)
    (more / "Osteoporosis/P96-1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none is left out unsaid"):
        read_gate_data(more, run_data, config, QUIET)


def test_a_pattern_that_finds_no_patient_there_is_said(run_data: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "other names"
    for seed in range(2):
        save_phantom(folder / f"{seed}.png", 90 + seed)
    said = Said()
    found = read_gate_data(folder, run_data, config_of(run_data), said)
    assert {sample.group for sample in found.samples} == {s.sha256 for s in found.samples}
    assert any("finds no patient of 2 of 2 images" in line for line in said.lines)


# What the images prove


def samples_of(n: int, split: str, is_labelled: bool = True, first: int = 0) -> list[Sample]:
    """Images of the two classes in turn, each of a patient of its own."""
    return [
        Sample(
            path=Path(f"{i}.png"),
            name=f"{split}/{i}.png",
            sha256=f"{i:064x}",
            split=split,
            label=i % 2 if is_labelled else NO_LABEL,
            group=f"{split}{i}",
        )
        for i in range(first, first + n)
    ]


def report_of(
    n_val: int, n_gate: int, flips: list[int], is_labelled: bool, wrong: int = 0
) -> VerifyReport:
    """An original with the first `wrong` images wrong, and a variant that flips these answers."""
    samples = [*samples_of(n_val, "val"), *samples_of(n_gate, GATE, is_labelled)]
    truths = np.array([*(np.arange(n_val) % 2), *(np.arange(n_gate) % 2)])
    said = truths.copy()
    said[:wrong] = 1 - said[:wrong]
    after = said.copy()
    after[flips] = 1 - after[flips]
    before, logits = (np.where(a[:, None] == np.arange(2), 2.0, -2.0) for a in (said, after))
    data = GateData(
        folder="more", n=n_gate, is_labelled=is_labelled, sha256="0" * 64, left_out={"x": 2}
    )
    original = Answers(ORIGINAL, SPEC, before)
    variant = Answers("int8", SPEC, logits)
    gate_data = data if n_gate else None
    return gate_report(tuple(samples), original, variant, "cpu", 0.01, gate_data=gate_data)


@pytest.mark.parametrize("is_labelled", [True, False])
def test_more_images_without_a_flip_prove_a_pass_with_labels_or_without(is_labelled: bool) -> None:
    assert report_of(100, 0, [], True).verdict == INCONCLUSIVE
    report = report_of(100, 200, [], is_labelled)
    assert report.verdict == PASS
    assert report.deciding.n == 300
    lines = "\n".join(comparison_lines(report))
    labels = "" if is_labelled else " without labels"
    assert f"100 val + 200 gate images{labels} (more) on cpu" in lines
    assert "left out of more: 2 x" in lines
    assert ("accuracy is that of the val images" in lines) != is_labelled


def test_the_number_that_was_said_settles_it() -> None:
    alone = report_of(100, 0, [], True)
    n_more = alone.images_to_settle - alone.deciding.n
    assert report_of(100, n_more, [], False).verdict == PASS
    assert report_of(100, n_more - 1, [], False).verdict == INCONCLUSIVE
    assert f"about {n_more} more images would settle it" in "\n".join(comparison_lines(alone))


def test_figures_of_accuracy_are_of_labelled_images_alone() -> None:
    flips = [0, 100, 101, 102]
    labelled = report_of(100, 200, flips, True)
    assert labelled.changes["accuracy"].n == labelled.original.n == 300
    healthy, ill = CLASSES
    assert [case.truth for case in labelled.flips] == [healthy, healthy, ill, healthy]
    unlabelled = report_of(100, 200, flips, False)
    assert unlabelled.changes["accuracy"].n == unlabelled.original.n == 100
    assert (unlabelled.changes["accuracy"].flips, len(unlabelled.flips)) == (1, 4)
    assert [case.truth for case in unlabelled.flips] == ["Healthy", None, None, None]
    assert (unlabelled.agreement.n, unlabelled.agreement.changed) == (200, 3)
    assert "4 of 300 answers flipped, 1 right to wrong, 0 wrong to right, 3 without a label" in (
        unlabelled.reason
    )


def test_flips_without_labels_count_as_lost_for_a_pass_and_as_gained_for_a_fail() -> None:
    """15 wrong answers mended and 15 broken are no loss with labels, and may be one without."""
    mended = list(range(15))
    broken = list(range(3000, 3015))
    labelled = report_of(3000, 1000, [*mended, *broken], True, wrong=15)
    assert labelled.verdict == PASS
    assert report_of(3000, 1000, broken, False).verdict == PASS, "15 of 4,000 are few"
    many = list(range(300, 400))
    assert report_of(300, 100, many, False).verdict == INCONCLUSIVE, "all may have been gained"
    assert report_of(300, 100, many, True).verdict == FAIL


# The whole export


@pytest.fixture(scope="module")
def gate_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate") / "second clinic"
    write_dataset(folder, {"test": 40}, size=64, seed=4000)
    return folder


@pytest.fixture(scope="module")
def exported_by(trained_run: Path, gate_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """Copies of the run, exported in int8 with labelled and with unlabelled gate data."""
    plain = tmp_path_factory.mktemp("plain") / "unsorted"
    plain.mkdir()
    for i, path in enumerate(sorted(gate_folder.glob("test/*/*.png"))):
        shutil.copy(path, plain / f"{i}.png")
    runs = {}
    for name, data in (("labelled", gate_folder), ("unlabelled", plain)):
        folder = tmp_path_factory.mktemp(name) / "narrow"
        ignore = shutil.ignore_patterns("models")
        run = shutil.copytree(trained_run, folder, symlinks=True, ignore=ignore)
        options = ExportOptions(
            precisions=("fp32", "int8"), search_minutes=0, tolerance=0.2, gate_data=str(data)
        )
        runs[name] = (Run(run), export_run(run, options, QUIET))
    return runs


@pytest.mark.parametrize("name", ["labelled", "unlabelled"])
def test_every_place_says_which_images_the_verdict_rests_on(exported_by, name: str) -> None:
    run, report = exported_by[name]
    folder = {"labelled": "second clinic", "unlabelled": "unsorted"}[name]
    labels = "" if name == "labelled" else " without labels"
    images = f"60 val + 40 gate images{labels} ({folder})"
    assert gate_text(report).count(images) == 2
    (file,) = [file for file in run.read_export_report().files if file.report.precision == "int8"]
    assert file.report.images == images
    model = open_model(run.models / file.path)
    spec = model.spec
    assert spec.file.verification.images == images
    assert images in info_text(spec, model, ["cpu"])
    assert images in card_in(model)
    assert images in run.card.read_text()
    assert images in "".join(variant_parts(run.read_export_report()))
    assert str(run.folder.parent) not in run.export_report.read_text()
    assert len(read_seen_hashes(model.metadata, "", GATE)) == 40


def test_the_figures_are_those_of_val_and_gate_images_together(exported_by) -> None:
    _, labelled = exported_by["labelled"]
    _, unlabelled = exported_by["unlabelled"]
    for file in labelled.files:
        assert file.report.changes["accuracy"].n == file.report.original.n == 100
        assert file.report.n == 60
    for with_labels, without in zip(labelled.files, unlabelled.files, strict=True):
        assert without.report.changes["accuracy"].n == 60
        assert without.report.agreement.n == 40
        assert without.report.deciding.flips == with_labels.report.deciding.flips
        assert without.report.max_abs_logit_change == pytest.approx(
            with_labels.report.max_abs_logit_change, abs=1e-4
        )
        assert without.report.refusals == with_labels.report.refusals, "refusals are val's"
