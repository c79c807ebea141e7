"""The whole audit of a folder: each finding with its cases, and what is no finding."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kneeedge.audit import findings as kinds
from kneeedge.audit.facts import facts_of
from kneeedge.audit.findings import failed, list_findings
from kneeedge.audit.quick import quick_audit
from kneeedge.audit.run import audit
from kneeedge.data.dataset import scan
from kneeedge.errors import DataError, NotFoundError
from kneeedge.pixels.phantom import phantom, write_dataset
from kneeedge.pixels.picture import read_file
from kneeedge.report.audit import audit_text
from kneeedge.system.progress import Progress

QUIET = Progress(quiet=True)
HEALTHY, SICK = "train/Healthy/P00000L.png", "train/Osteoporosis/P00002L.png"
PATIENT = r"P(\d+)"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """8 training and 4 test images without a fault."""
    folder = tmp_path / "data"
    write_dataset(folder, {"train": 8, "test": 4}, size=96)
    return folder


def findings_in(folder: Path, group_regex: str | None = None, patients: Path | None = None):
    """By kind."""
    findings = list_findings(audit(folder, group_regex, patients, QUIET))
    return {finding.kind: finding for finding in findings}


def paint(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_clean_phantoms_have_no_fault(data):
    assert not failed(list_findings(audit(data, PATIENT, None, QUIET)))


def test_an_unreadable_file_is_reported_and_the_rest_is_audited(data):
    (data / "train/Healthy/broken.png").write_bytes(b"no image at all")
    result = audit(data, None, None, QUIET)
    assert [file.name for file in result.unreadable] == ["train/Healthy/broken.png"]
    assert len(result.images) == 12
    assert "cannot be read" in audit_text(result, list_findings(result))


def test_the_same_bytes_in_two_classes_are_a_label_conflict(data):
    shutil.copy(data / HEALTHY, data / "train/Osteoporosis/again.png")
    (case,) = findings_in(data)[kinds.CONFLICT].cases
    assert case == f"{HEALTHY} = train/Osteoporosis/again.png: same bytes"


def test_the_same_pixels_in_another_format_are_copies(data):
    with Image.open(data / HEALTHY) as image:
        image.save(data / "train/Healthy/again.bmp")
    (case,) = findings_in(data)[kinds.COPIES].cases
    assert case == f"{HEALTHY} = train/Healthy/again.bmp: same pixels"


def test_a_mirrored_copy_in_another_split_is_a_leak(tmp_path):
    write_dataset(tmp_path / "data", {"train": 8, "test": 4}, size=256)
    with Image.open(tmp_path / "data" / HEALTHY) as image:
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mirrored.save(tmp_path / "data/test/Healthy/again.jpg", quality=85)
    (case,) = findings_in(tmp_path / "data")[kinds.LEAK].cases
    assert case.startswith(f"test/Healthy/again.jpg = {HEALTHY}: mirrored")


def test_a_patient_in_two_splits_is_found_by_pattern_and_by_table(data, tmp_path):
    shutil.copy(data / "train/Healthy/P00000R.png", data / "test/Healthy/P00000X.png")
    (data / "train/Healthy/P00000R.png").unlink()
    table = tmp_path / "patients.csv"
    table.write_text(
        f"path,patient\n{HEALTHY},Anna\ntest/Healthy/P00000X.png,Anna\n", encoding="utf-8"
    )
    (by_pattern,) = findings_in(data, PATIENT)[kinds.PATIENT_LEAK].cases
    assert by_pattern == f"00000: test/Healthy/P00000X.png, {HEALTHY}"
    (by_table,) = findings_in(data, None, table)[kinds.PATIENT_LEAK].cases
    assert by_table == f"Anna: test/Healthy/P00000X.png, {HEALTHY}"


def test_a_table_that_names_an_unknown_file_is_refused(data, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text("path,patient\nnowhere.png,Anna\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"nowhere\.png is no image"):
        audit(data, None, table, QUIET)


def test_twice_as_many_images_in_a_class_are_an_imbalance(data):
    for name in ("P00002R", "P00003L"):
        (data / f"train/Osteoporosis/{name}.png").unlink()
    assert findings_in(data)[kinds.IMBALANCE].what == "train: 4 Healthy, 2 Osteoporosis"


def test_a_split_without_a_class_is_said(data):
    shutil.rmtree(data / "test/Osteoporosis")
    assert findings_in(data)[kinds.NO_CLASS].what == "test: no image of Osteoporosis"


def test_an_image_of_another_size_and_shape_is_an_outlier(data):
    paint(data / "train/Healthy/wide.png", np.tile(phantom(99, 0.5, 96), (4, 12)))
    findings = findings_in(data)
    for kind in (kinds.SIZE, kinds.ASPECT):
        assert findings[kind].cases == ("train/Healthy/wide.png: 1152 × 384",)


def test_a_blank_image_is_said(data):
    paint(data / "train/Healthy/blank.png", np.full((96, 96), 40))
    assert findings_in(data)[kinds.BLANK].cases == ("train/Healthy/blank.png",)


def test_a_white_bar_is_said_with_its_class(data):
    pixels = read_file(data / HEALTHY).grey
    pixels[-12:] = 255
    paint(data / HEALTHY, pixels)
    assert (
        findings_in(data)[kinds.BARS].what == "1 image with a white bar along an edge (1 Healthy)"
    )


def test_writing_is_said(data):
    with Image.fromarray(read_file(data / HEALTHY).grey) as image:
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, 0, 96, 16), fill=0)
        pen.text((2, 2), "DOE JOHN 1951", fill=255)
        image.save(data / HEALTHY)
    assert findings_in(data)[kinds.TEXT].cases == (HEALTHY,)


def test_files_outside_the_class_folders_are_said(data):
    paint(data / "loose.png", phantom(99, 0.5, 96))
    assert findings_in(data)[kinds.OTHERS].cases == ("loose.png",)


def test_a_folder_beside_the_splits_is_neither_a_split_nor_a_class(data):
    (data / "more/knees").mkdir(parents=True)
    shutil.copy(data / HEALTHY, data / "more/knees/again.png")
    result = audit(data, None, None, QUIET)
    findings = list_findings(result)
    assert result.classes == ("Healthy", "Osteoporosis")
    (others,) = [finding for finding in findings if finding.kind == kinds.OTHERS]
    assert others.cases == ("more/knees/again.png",)
    assert not {kinds.CONFLICT, kinds.NO_CLASS} & {finding.kind for finding in findings}
    assert " none        0             0    1\n" in audit_text(result, findings)


def test_splits_by_other_names_are_splits_and_no_classes(data):
    (data / "train").rename(data / "Training")
    (data / "test").rename(data / "TST")
    result = audit(data, None, None, QUIET)
    assert result.classes == ("Healthy", "Osteoporosis")
    assert list(result.counts) == ["train", "test"]
    assert {image.split for image in result.images} == {"train", "test"}


def test_a_folder_of_the_same_classes_beside_the_splits_stops(data):
    shutil.copytree(data / "test", data / "auto_test")
    with pytest.raises(DataError, match="auto_test/ holds the class 'Healthy' too"):
        audit(data, None, None, QUIET)


def test_what_kneeedge_and_the_system_wrote_is_said_and_left_out(data):
    before = audit(data, None, None, QUIET)
    run = data / "runs/first"
    run.mkdir(parents=True)
    shutil.copy(data / HEALTHY, run / "samples.png")
    (run / "config.json").write_text('{"config": {}, "command": [], "data_root": "/"}')
    (data / "train/@eaDir").mkdir()
    shutil.copy(data / HEALTHY, data / "train/@eaDir/thumb.png")
    result = audit(data, None, None, QUIET)
    assert (result.images, result.classes) == (before.images, before.classes)
    findings = {finding.kind: finding for finding in list_findings(result)}
    assert findings[kinds.OWN].cases == ("runs/first",)
    assert findings[kinds.CLUTTER].cases == ("train/@eaDir",)


def test_patients_are_said_with_an_example_and_doubted_where_they_are_none(data):
    finding = findings_in(data, PATIENT)[kinds.PATIENTS]
    assert (finding.severity, finding.cases) == (kinds.NOTE, ())
    assert finding.what == "6 patients, as test/Healthy/P00004L.png → 00004"
    doubted = findings_in(data, r"P\d+[LR]")[kinds.PATIENTS]
    assert doubted.severity == kinds.WARNING
    assert kinds.PATIENTS not in findings_in(data)


def test_images_that_the_table_of_patients_lacks_are_said(data, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text(f"path,patient\n{HEALTHY},P0\n")
    assert len(findings_in(data, None, table)[kinds.NO_PATIENT].cases) == 11


def test_images_without_classes_are_searched_for_copies(tmp_path):
    for seed in range(3):
        paint(tmp_path / f"{seed}.png", phantom(seed, 0.5, 96))
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    result = audit(tmp_path, None, None, QUIET)
    assert result.shortcut is None
    assert [(pair.first, pair.second) for pair in result.copies.pairs] == [("0.png", "copy.png")]


def test_an_empty_folder_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="no images found"):
        audit(tmp_path, None, None, QUIET)
    with pytest.raises(NotFoundError, match="no such data folder"):
        audit(tmp_path / "nowhere", None, None, QUIET)


def test_facts_are_those_of_the_file(tmp_path):
    grey = np.full((40, 100), 100, np.uint8)
    grey[:, 50:] = 255
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    facts = facts_of(read_file(tmp_path / "deep.png"))
    assert (facts.format, facts.bit_depth, facts.width, facts.height) == ("PNG", 16, 100, 40)
    assert facts.n_bytes == (tmp_path / "deep.png").stat().st_size
    assert (facts.mean, facts.white, facts.white_bar) == pytest.approx((grey.mean(), 0.5, 0.5))
    assert facts.contrast == pytest.approx(grey.std())


def test_quick_audit_counts_pairs_conflicts_and_leaks(data):
    shutil.copy(data / HEALTHY, data / "test/Osteoporosis/again.png")
    copies = quick_audit(scan(data), QUIET)
    report = copies.data_report
    assert (report.n_images, report.exact_pairs, report.conflicts, report.leaks) == (13, 1, 1, 1)
    assert copies.conflicts == copies.leaks == copies.pairs
    assert copies.groups[HEALTHY] == copies.groups["test/Osteoporosis/again.png"]


def test_patients_and_copies_join_to_one_group(data):
    shutil.copy(data / HEALTHY, data / SICK)
    result = audit(data, PATIENT, None, QUIET)
    members = {name for name, group in result.copies.groups.items() if group == "00000"}
    assert members == {HEALTHY, HEALTHY.replace("L", "R"), SICK, SICK.replace("L.", "R.")}


@pytest.mark.real
def test_osteoporosis_372_has_17_identical_pairs_of_which_10_carry_both_labels(real_data):
    copies = quick_audit(scan(real_data / "osteoporosis-372"), QUIET)
    same = [pair for pair in copies.pairs if pair.kind == "bytes"]
    assert len(same) == 17
    assert len([pair for pair in same if pair in copies.conflicts]) == 10


@pytest.mark.real
def test_knee_kl_has_no_patient_in_two_splits(real_data, monkeypatch):
    monkeypatch.setattr("kneeedge.audit.run.find_pairs", lambda *_: ())
    result = audit(real_data / "knee-kl", r"(\d+)[LR]", None, QUIET)
    assert len(result.images) == 2045
    assert result.shared_patients == ()
