import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from kneeedge.audit import findings as kinds
from kneeedge.audit.facts import facts_of
from kneeedge.audit.findings import failed, list_findings
from kneeedge.audit.quick import quick_audit
from kneeedge.audit.run import audit
from kneeedge.cli.app import app
from kneeedge.data.dataset import scan
from kneeedge.data.groups import read_groups, write_groups
from kneeedge.errors import DataError, NotFoundError
from kneeedge.pixels.phantom import phantom, write_dataset
from kneeedge.pixels.picture import read_file
from kneeedge.report.audit import audit_text
from kneeedge.report.audit_page import audit_page
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


def found(folder: Path, group_regex: str | None = None, patients: Path | None = None):
    return {one.kind: one for one in list_findings(audit(folder, group_regex, patients, QUIET))}


def run(command: str, *more: object):
    return CliRunner().invoke(app, ["audit", *shlex.split(command), "-q", *map(str, more)])


def paint(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_clean_phantoms_have_no_fault(data):
    assert not failed(list_findings(audit(data, PATIENT, None, QUIET)))


def test_an_unreadable_file_is_reported_and_the_rest_is_audited(data):
    (data / "train/Healthy/broken.png").write_bytes(b"no image at all")
    result = audit(data, None, None, QUIET)
    assert [one.name for one in result.unreadable] == ["train/Healthy/broken.png"]
    assert len(result.images) == 12
    assert "cannot be read" in audit_text(result, list_findings(result))


def test_the_same_bytes_in_two_classes_are_a_label_conflict(data):
    shutil.copy(data / HEALTHY, data / "train/Osteoporosis/again.png")
    assert (
        f"{HEALTHY} = train/Osteoporosis/again.png: same bytes" in found(data)[kinds.CONFLICT].cases
    )


def test_the_same_pixels_in_another_format_are_copies(data):
    with Image.open(data / HEALTHY) as image:
        image.save(data / "train/Healthy/again.bmp")
    assert f"{HEALTHY} = train/Healthy/again.bmp: same pixels" in found(data)[kinds.COPIES].cases


def test_a_mirrored_copy_in_another_split_is_a_leak(tmp_path):
    write_dataset(tmp_path / "data", {"train": 8, "test": 4}, size=256)
    with Image.open(tmp_path / "data" / HEALTHY) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
            tmp_path / "data/test/Healthy/again.jpg", quality=85
        )
    (case,) = found(tmp_path / "data")[kinds.LEAK].cases
    assert case.startswith(f"test/Healthy/again.jpg = {HEALTHY}: mirrored")


def test_a_patient_in_two_splits_is_found_by_pattern_and_by_table(data, tmp_path):
    shutil.copy(data / "train/Healthy/P00000R.png", data / "test/Healthy/P00000X.png")
    (data / "train/Healthy/P00000R.png").unlink()
    table = tmp_path / "patients.csv"
    table.write_text(
        f"path,patient\n{HEALTHY},Anna\ntest/Healthy/P00000X.png,Anna\n", encoding="utf-8"
    )
    assert found(data, PATIENT)[kinds.PATIENT_LEAK].cases == (
        f"00000: test/Healthy/P00000X.png, {HEALTHY}",
    )
    assert found(data, None, table)[kinds.PATIENT_LEAK].cases == (
        f"Anna: test/Healthy/P00000X.png, {HEALTHY}",
    )


def test_a_table_that_names_an_unknown_file_is_refused(data, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text("path,patient\nnowhere.png,Anna\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"nowhere\.png is no image"):
        audit(data, None, table, QUIET)


def test_twice_as_many_images_in_a_class_are_an_imbalance(data):
    for name in ("P00002R", "P00003L"):
        (data / f"train/Osteoporosis/{name}.png").unlink()
    assert found(data)[kinds.IMBALANCE].what == "train: 4 Healthy, 2 Osteoporosis"


def test_a_split_without_a_class_is_said(data):
    shutil.rmtree(data / "test/Osteoporosis")
    assert found(data)[kinds.NO_CLASS].what == "test: no image of Osteoporosis"


def test_an_image_of_another_size_and_shape_is_an_outlier(data):
    paint(data / "train/Healthy/wide.png", np.tile(phantom(99, 0.5, 96), (4, 12)))
    said = found(data)
    assert (
        said[kinds.SIZE].cases
        == said[kinds.ASPECT].cases
        == ("train/Healthy/wide.png: 1152 × 384",)
    )


def test_a_blank_image_is_said(data):
    paint(data / "train/Healthy/blank.png", np.full((96, 96), 40))
    assert found(data)[kinds.BLANK].cases == ("train/Healthy/blank.png",)


def test_a_white_bar_is_said_with_its_class(data):
    pixels = read_file(data / HEALTHY).grey
    pixels[-12:] = 255
    paint(data / HEALTHY, pixels)
    assert found(data)[kinds.BARS].what == "1 image with a white bar along an edge (1 Healthy)"


def test_writing_is_said(data):
    with Image.fromarray(read_file(data / HEALTHY).grey) as image:
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, 0, 96, 16), fill=0)
        pen.text((2, 2), "DOE JOHN 1951", fill=255)
        image.save(data / HEALTHY)
    assert found(data)[kinds.TEXT].cases == (HEALTHY,)


def test_files_outside_the_class_folders_are_said(data):
    paint(data / "loose.png", phantom(99, 0.5, 96))
    assert found(data)[kinds.OTHERS].cases == ("loose.png",)


def test_a_folder_beside_the_splits_is_neither_a_split_nor_a_class(data):
    (data / "valid/Healthy").mkdir(parents=True)
    shutil.copy(data / HEALTHY, data / "valid/Healthy/again.png")
    result = audit(data, None, None, QUIET)
    said = {one.kind: one for one in list_findings(result)}
    assert result.classes == ("Healthy", "Osteoporosis")
    assert said[kinds.OTHERS].cases == ("valid/Healthy/again.png",)
    assert not {kinds.CONFLICT, kinds.NO_CLASS} & set(said)
    assert " none        0             0    1\n" in audit_text(result, list_findings(result))


def test_images_that_the_table_of_patients_lacks_are_said(data, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text(f"path,patient\n{HEALTHY},P0\n")
    assert len(found(data, None, table)[kinds.NO_PATIENT].cases) == 11


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


def test_groups_survive_the_way_through_the_file(tmp_path):
    groups = {"a,b.png": "x", 'Ö "q"/\udce9.png': "x", "c.png": "c.png"}
    write_groups(groups, tmp_path / "groups.csv")
    assert read_groups(tmp_path / "groups.csv") == groups


@pytest.mark.parametrize(
    "text", ["path,patient\na,b\n", "path,group\na,\n", "path,group\na,b\na,c\n"]
)
def test_a_file_that_is_no_table_of_groups_is_refused(text, tmp_path):
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        read_groups(tmp_path / "groups.csv")


def test_the_page_is_one_file_that_escapes_names(data):
    shutil.copy(data / HEALTHY, data / "test/Healthy/<script>alert(1)<&'.png")
    result = audit(data, None, None, QUIET)
    page = audit_page(result, list_findings(result))
    assert "&lt;script&gt;alert(1)&lt;&amp;" in page
    assert "<script" not in page
    assert "http" not in page
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "Not a medical device" in page
    assert "pictures of patients" in page


def test_a_page_says_how_many_pairs_it_leaves_out(data, monkeypatch):
    monkeypatch.setattr("kneeedge.report.audit_page.N_PAIRS", 1)
    for name in ("again", "once-more"):
        shutil.copy(data / HEALTHY, data / f"test/Healthy/{name}.png")
    result = audit(data, None, None, QUIET)
    page = audit_page(result, list_findings(result))
    assert "2 more pairs are not shown" in page
    assert page.count("<figure>") == 2


def test_strict_fails_on_a_fault_alone(data):
    assert run("--strict", data).exit_code == 0
    shutil.copy(data / HEALTHY, data / "test/Healthy/again.png")
    assert run("", data).exit_code == 0
    assert run("--strict", data).exit_code == 1


def test_the_command_writes_json_page_and_groups(data, tmp_path):
    shutil.copy(data / HEALTHY, data / "test/Osteoporosis/again.png")
    page, groups = tmp_path / "page.html", tmp_path / "groups.csv"
    result = run(
        "--json - --group-regex '([P0-9a-z]+)[LR.]'", data, "--html", page, "--write-groups", groups
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["failed"] is True
    assert {one["kind"] for one in said["findings"]} >= {kinds.CONFLICT, kinds.LEAK}
    assert len(said["audit"]["images"]) == len(read_groups(groups)) == 13
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_place_that_is_not_there_is_said_before_the_work(data, tmp_path):
    result = run("", data, "--html", tmp_path / "nowhere/page.html")
    assert result.exit_code == 1
    assert "nowhere: no such folder" in result.output


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_names_that_are_no_utf8_pass_through_every_output(data, tmp_path):
    shutil.copy(data / HEALTHY, data / "test/Healthy" / "kn\udce9e.png")
    page, groups, record = tmp_path / "page.html", tmp_path / "groups.csv", tmp_path / "audit.json"
    result = run("", data, "--html", page, "--write-groups", groups, "--json", record)
    assert result.exit_code == 0, result.output
    names = [
        image["name"] for image in json.loads(record.read_text(encoding="utf-8"))["audit"]["images"]
    ]
    assert "test/Healthy/kn\udce9e.png" in names
    assert "test/Healthy/kn\udce9e.png" in read_groups(groups)
    assert "kn\\udce9e.png" in page.read_text(encoding="utf-8")


def test_a_folder_is_no_place_for_a_page(data, tmp_path):
    result = run("", data, "--html", tmp_path)
    assert result.exit_code == 1
    assert "it is a folder; name a file" in result.output


def test_without_the_extra_the_command_says_what_to_install(data):
    code = (
        "import sys, importlib.machinery\nfrom importlib import util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'sklearn' else find(name, *more)\n"
        "from kneeedge.cli.app import main\n"
        f"sys.argv = ['kneeedge', 'audit', {str(data)!r}]\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'kneeedge[audit]'" in done.stderr


def test_groups_are_read_without_the_extra():
    code = (
        "import sys\nsys.modules['scipy'] = sys.modules['sklearn'] = sys.modules['torch'] = None\n"
        "from kneeedge.data.groups import read_groups"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
