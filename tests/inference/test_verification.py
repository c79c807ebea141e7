"""`verify --data`: a folder's answers by themselves, and beside those of a file or a device."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import kneeedge.pixels.reader
from kneeedge.cli.app import app
from kneeedge.errors import ConfigError, DataError, NotFoundError, OutputExistsError
from kneeedge.inference.answer_rows import read_rows, write_rows
from kneeedge.inference.verification import Verification, VerifyRequest, verify_models
from kneeedge.model.verdict import INCONCLUSIVE
from kneeedge.pixels.phantom import write_dataset
from kneeedge.pixels.pixel_path import load_input
from kneeedge.report.verification import verify_text
from kneeedge.runtime.session import Session
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from tests.tiny_onnx import CLASSES, write_tiny_model

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of one network, two others, and labelled images."""
    folder = tmp_path_factory.mktemp("made")
    write_tiny_model(folder / "fp32.onnx")
    write_tiny_model(folder / "int8.onnx", "int8")
    write_tiny_model(folder / "other.onnx", seed=3)
    write_tiny_model(folder / "larger.onnx", size=96)
    write_dataset(folder / "knees", {"val": 4, "test": 12}, size=64)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what was made, where one stands."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cut_off(folder: Path) -> Path:
    """The first test image, cut off."""
    path = min((folder / "test").rglob("*.png"))
    path.write_bytes(path.read_bytes()[:-40])
    return path


def verify(*models: str, **options: object) -> list[Verification]:
    paths = {
        key: Path(value) if key in ("data", "against", "rows") else value
        for key, value in options.items()
    }
    request = VerifyRequest(models=tuple(map(Path, models)), provider="cpu", isolate=False, **paths)
    return verify_models(request, QUIET)


def run(*words: object) -> Result:
    return CliRunner().invoke(
        app, ["verify", "--provider", "cpu", "--no-isolate", "-q", *map(str, words)]
    )


def test_a_row_tells_of_each_image_from_its_bytes_to_its_answer(place: Path) -> None:
    broken = cut_off(place / "knees")
    (report,) = verify("fp32.onnx", data="knees", rows="rows.json")
    (answers,) = read_rows(Path("rows.json"))
    session = Session(place / "fp32.onnx", "cpu")
    assert len(answers.rows) == 12
    assert [row.path for row in answers.rows] == sorted(row.path for row in answers.rows)
    for row in answers.rows:
        path = place / "knees" / row.path
        assert row.sha256 == file_sha256(path)
        if path == broken:
            assert (row.status, row.logits, row.input_sha256) == ("error", (), "")
            assert report.images.unread == {row.path: row.error}
            continue
        pixels = load_input(path, session.spec.pixel_path)
        outputs = session.run(pixels[None, None])
        assert row.input_sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()
        np.testing.assert_array_equal(np.float32(row.logits), outputs.logits[0])
        np.testing.assert_array_equal(np.float32(row.probabilities), outputs.probabilities[0])
        assert row.prediction == CLASSES[session.spec.decide(outputs.probabilities)[0]]
    assert answers.device.model_sha256 == file_sha256(place / "fp32.onnx")
    assert answers.device.provider == "cpu"
    assert "" not in (answers.device.cpu, answers.device.onnxruntime, answers.device.pillow)


@pytest.mark.parametrize("name", ["rows.csv", "rows.json"])
def test_rows_come_back_as_they_were_written(place: Path, name: str) -> None:
    (place / "knees/test/Healthy/=1+1 \udce9.png").write_bytes(b"no picture")
    verify("fp32.onnx", "int8.onnx", data="knees", rows=name)
    first = read_rows(Path(name))
    assert [answers.device.precision for answers in first] == ["fp32", "int8"]
    assert len({answers.device.network for answers in first}) == 1
    write_rows(place / f"again-{name}", first)
    assert (place / f"again-{name}").read_bytes() == (place / name).read_bytes()


def test_csv_and_json_hold_the_same_rows(place: Path) -> None:
    cut_off(place / "knees")
    for name in ("rows.csv", "rows.json"):
        verify("fp32.onnx", data="knees", rows=name)
    assert read_rows(Path("rows.csv")) == read_rows(Path("rows.json"))


def test_the_same_device_passes_against_its_own_rows(place: Path) -> None:
    cut_off(place / "knees")
    verify("fp32.onnx", "int8.onnx", data="knees", rows="rows.csv")
    for report in verify("fp32.onnx", "int8.onnx", data="knees", against="rows.csv"):
        pairing = report.images.pairing
        assert pairing.same_file
        assert (pairing.n, pairing.n_read, pairing.flips) == (12, 11, ())
        assert pairing.changes.max_logit == 0.0
    assert run("fp32.onnx", "--data", "knees", "--against", "rows.csv").exit_code == 0


def test_another_file_is_answered_on_the_same_pixels_each_file_opened_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "one").mkdir()
    next((place / "knees/test").rglob("*.png")).rename(place / "one/a.png")
    opened = []
    read = kneeedge.pixels.reader.read_bytes
    monkeypatch.setattr(
        kneeedge.pixels.reader, "read_bytes", lambda path: opened.append(path) or read(path)
    )
    (report,) = verify("int8.onnx", data="one", against="fp32.onnx")
    assert opened == [Path("one/a.png")]
    pairing = report.images.pairing
    assert (pairing.same_file, pairing.same_network, pairing.n) == (False, True, 1)
    assert 0 < pairing.changes.max_logit < 0.5
    assert (pairing.other_input, pairing.verdict) == ((), INCONCLUSIVE)


def test_a_file_with_a_limit_of_its_own_is_of_the_same_network(place: Path) -> None:
    write_tiny_model(Path("fp32.onnx"), limit=120.0)
    write_tiny_model(Path("int8.onnx"), "int8", limit=121.0)
    (report,) = verify("int8.onnx", data="knees", against="fp32.onnx")
    assert report.images.pairing.same_network


def test_another_provider_runs_the_same_file(place: Path) -> None:
    request = VerifyRequest(
        models=(Path("fp32.onnx"),), data=Path("knees"), against_provider="cpu", isolate=False
    )
    (report,) = verify_models(request, QUIET)
    assert report.images.pairing.same_file
    assert report.images.pairing.same_device, "where auto is the CPU too, which is said"
    assert "shows only that it repeats itself" in verify_text([report])


def test_a_file_of_another_size_is_paired_on_pixels_of_its_own(place: Path) -> None:
    (report,) = verify("fp32.onnx", data="knees", against="larger.onnx")
    pairing = report.images.pairing
    assert (pairing.n, pairing.same_pixel_path, pairing.same_network) == (12, False, False)
    assert "not compared, since the two ask for other pixels" in verify_text([report])


def test_labelled_images_give_accuracy_and_another_layout_only_answers(place: Path) -> None:
    (test,) = verify("fp32.onnx", data="knees")
    assert (test.images.split, test.images.n) == ("test", 12)
    assert test.images.accuracy is not None
    (val,) = verify("fp32.onnx", data="knees", split="val")
    assert (val.images.split, val.images.n) == ("val", 4)
    (place / "knees/test/Healthy").rename(place / "knees/test/normal")
    (unlabelled,) = verify("fp32.onnx", data="knees/test")
    assert (unlabelled.images.n, unlabelled.images.accuracy) == (12, None)
    assert "without labels (knees/test: 'normal' is none of the classes" in verify_text(
        [unlabelled]
    )
    with pytest.raises(DataError, match="'normal' is none of the classes"):
        verify("fp32.onnx", data="knees", split="test")


def test_a_table_of_labels_names_the_images(place: Path) -> None:
    rows = [
        f"{p.relative_to(place)},{p.parent.name}" for p in Path(place / "knees/test").rglob("*.png")
    ]
    (place / "labels.csv").write_text("\n".join(["path,label", *rows]))
    (report,) = verify("fp32.onnx", data="labels.csv")
    (folder,) = verify("fp32.onnx", data="knees")
    assert report.images.accuracy == folder.images.accuracy
    pattern = r"(\d)[LR]\."
    (table,) = verify("fp32.onnx", data="labels.csv", group_regex=pattern)
    (folder,) = verify("fp32.onnx", data="knees", group_regex=pattern)
    assert table.images.accuracy == folder.images.accuracy
    (place / "labels.csv").write_text("\n".join(["path,label,patient", *(f"{r},1" for r in rows)]))
    with pytest.raises(ConfigError, match="both say whose an image is"):
        verify("fp32.onnx", data="labels.csv", group_regex="x")


@pytest.mark.parametrize("data", ["knees", "plain"])
def test_a_pattern_finds_the_patients_for_whom_intervals_allow(place: Path, data: str) -> None:
    shutil.copytree(place / "knees/test/Healthy", place / "plain")
    pattern = r"(\d)[LR]\."
    (report,) = verify("int8.onnx", data=data, against="fp32.onnx", group_regex=pattern)
    (alone,) = verify("int8.onnx", data=data, against="fp32.onnx")
    images = (place / ("plain" if data == "plain" else "knees/test")).rglob("*.png")
    assert report.images.pairing.answers.n_groups == len({path.stem[-2] for path in images})
    assert alone.images.pairing.answers.n_groups is None  # each image by itself
    with pytest.raises(DataError, match="finds no patient in"):
        verify("int8.onnx", data=data, group_regex="none of them")


def test_a_failed_pairing_exits_with_3_and_says_which_images_flip(place: Path) -> None:
    done = run("fp32.onnx", "--data", "knees", "--against", "other.onnx", "--json", "r.json")
    (record,) = json.loads((place / "r.json").read_text())
    pairing = record["images"]["pairing"]
    assert pairing["verdict"] == "fail"
    assert not record["passed"]
    assert done.exit_code == 3
    assert "FAIL  against other.onnx (fp32)" in done.stdout
    for flip in pairing["flips"][:3]:
        line = f"{flip['path']}: {flip['there']} {flip['there_probability']:.3f} → {flip['here']}"
        assert line in done.stdout


def test_too_few_images_are_inconclusive_and_that_is_said(place: Path) -> None:
    done = run("int8.onnx", "--data", "knees", "--against", "fp32.onnx")
    assert done.exit_code == 0
    assert "INCONCLUSIVE  against fp32.onnx (fp32)" in done.stdout
    assert "neither proved nor refuted: about" in done.stdout


def test_without_a_partner_it_is_said_that_nothing_is_paired(place: Path) -> None:
    done = run("fp32.onnx", "--data", "knees")
    assert "nothing to pair these answers with" in done.stdout
    assert "unreadable" not in run("fp32.onnx").stdout


@pytest.mark.parametrize(
    "options",
    [
        {"against": "fp32.onnx"},
        {"rows": "r.csv"},
        {"split": "val"},
        {"group_regex": "x"},
        {"data": "knees", "rows": "r.txt"},
        {"data": "knees", "against": "r.csv", "against_provider": "openvino"},
        {"data": "knees", "against_provider": "cpu"},
        {"data": "knees", "rows": "r.csv", "twice": True},
    ],
)
def test_options_that_exclude_each_other_are_wrong_usage(
    place: Path, options: dict[str, object]
) -> None:
    models = ["fp32.onnx"] * (2 if options.pop("twice", False) else 1)
    with pytest.raises(ConfigError):
        verify(*models, **options)


def test_rows_replace_older_rows_and_nothing_else(place: Path) -> None:
    for _ in range(2):
        verify("fp32.onnx", data="knees", rows="rows.csv")
    (place / "rows.csv").write_text("path,label\n")
    with pytest.raises(OutputExistsError, match="no table of a device's answers"):
        verify("fp32.onnx", data="knees", rows="rows.csv")


def test_rows_that_are_damaged_or_missing_are_one_line(place: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file of rows"):
        verify("fp32.onnx", data="knees", against="rows.csv")
    verify("fp32.onnx", data="knees", rows="rows.csv")
    whole = (place / "rows.csv").read_text()
    row = whole.splitlines()[1]
    logit = row.split(",")[7]
    for damaged in (
        "",
        "a,b\n",
        whole.replace(logit, "nan"),
        whole.replace(",ok,", ",fine,"),
        whole + row,
        whole.replace("p_Healthy", "p_Sound"),
        whole[: len(whole) // 2],
    ):
        (place / "rows.csv").write_text(damaged)
        with pytest.raises(DataError, match=r"rows\.csv: it .* write it again with"):
            verify("fp32.onnx", data="knees", against="rows.csv")


def test_several_models_in_a_file_of_rows_need_one_that_is_the_same(place: Path) -> None:
    verify("fp32.onnx", "int8.onnx", data="knees", rows="rows.csv")
    with pytest.raises(DataError, match=r"2 devices or models, none of them of other\.onnx"):
        verify("other.onnx", data="knees", against="rows.csv")
