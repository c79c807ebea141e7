"""An inverted image is said to be inverted wherever its answer is seen, and is shown turned."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kneeedge import Predictor
from kneeedge.cli.app import app
from kneeedge.inference.heatmap import caveat_lines, heatmap_lines, overlay
from kneeedge.inference.predictions import READ_INVERSE, csv_row, prediction_of_row
from kneeedge.inference.secondary_capture import CaptureWriter
from kneeedge.inference.structured_report import ReportWriter
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import phantom, write_dataset
from kneeedge.report.audit_closer import _map
from kneeedge.system.strict_json import plain
from tests.inverting_models import write_inverting
from tests.tiny_onnx import write_tiny_model

INVERTED = ("1.png", "4.png")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_inverting(write_tiny_model(tmp_path / "tiny.onnx"), tmp_path / "model.onnx")


@pytest.fixture
def knees(tmp_path: Path) -> Path:
    """Six phantoms, two of them inverted, and a file that is no image."""
    folder = tmp_path / "knees"
    folder.mkdir()
    for i in range(6):
        grey = phantom(800 + i, i % 2, 64)
        shown = 255 - grey if f"{i}.png" in INVERTED else grey
        Image.fromarray(shown).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code in (0, 3), result.stderr
    return result.stdout


def test_every_row_and_the_summary_say_what_was_inverted(model: Path, knees: Path) -> None:
    out = knees.parent / "p.csv"
    told = run("infer", knees, "--model", model, "--out", out)
    assert "inverted (bone dark), and read as their inverse: 2 images" in told
    with out.open(newline="") as file:
        cells = {row["path"]: row["inverted"] for row in csv.DictReader(file)}
    of_images = {f"{i}.png": "true" if f"{i}.png" in INVERTED else "false" for i in range(6)}
    assert cells == of_images | {"broken.png": ""}
    record = json.loads(run("infer", knees, "--model", model, "--out", out, "--json", "-"))
    assert record["summary"]["n_inverted"] == 2
    said = {row["path"]: row["inverted"] for row in record["predictions"]}
    assert [name for name, inverted in said.items() if inverted] == list(INVERTED)
    assert said["broken.png"] is None


def test_a_model_that_turns_nothing_says_nothing_of_it(knees: Path, tmp_path: Path) -> None:
    model = tmp_path / "tiny.onnx"
    write_tiny_model(model)
    told = run("infer", knees, "--model", model, "--out", tmp_path / "p.csv")
    assert "inverted" not in told
    with (tmp_path / "p.csv").open(newline="") as file:
        assert {row["inverted"] for row in csv.DictReader(file)} == {""}


def test_a_row_gives_back_whether_the_image_was_inverted(model: Path, knees: Path) -> None:
    predictor = Predictor(model, "cpu")
    answers = predictor.predict_folder(knees)
    assert {answer.inverted for answer in answers} == {True, False, None}
    for answer in answers:
        cells = csv_row(answer, predictor.spec)
        assert prediction_of_row(cells, predictor.spec).inverted is answer.inverted


def test_evaluate_counts_them(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, {"test": 6}, size=64)
    one = min(data.rglob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(one))).save(one)
    assert "inverted (bone dark), and read as their inverse: 1 image" in run(
        "evaluate", model, data
    )
    assert json.loads(run("evaluate", model, data, "--json", "-"))["n_inverted"] == 1
    plain_model = tmp_path / "tiny.onnx"
    record = json.loads(run("evaluate", plain_model, data, "--json", "-"))
    assert record["n_inverted"] is None


def test_a_heat_map_shows_the_inverse_that_was_read_and_says_so(model: Path, knees: Path) -> None:
    predictor = Predictor(model, "cpu")
    answers = list(predictor.predict_all(find_images([knees]).images[:2]))
    for answer, is_inverted in zip(answers, (False, True), strict=True):
        assert (READ_INVERSE in heatmap_lines(answer.prediction, predictor.spec)) == is_inverted
        read = 255 - answer.image if is_inverted else answer.image
        np.testing.assert_array_equal(answer.as_read(answer.image), read)
        alone = predictor.predict(knees / answer.prediction.path, heatmap=True)
        np.testing.assert_array_equal(alone.heatmap, overlay(read, answer.cam))
    maps = knees.parent / "maps"
    run("infer", knees, "--model", model, "--out", knees.parent / "p.csv", "--heatmaps", maps)
    for answer in answers:
        with Image.open(maps / answer.prediction.path) as picture:
            drawn = np.asarray(picture)[:64, :64]
        expected = overlay(answer.as_read(answer.image), answer.cam)
        np.testing.assert_array_equal(drawn, expected)


def test_what_stands_beside_an_answer_says_it(model: Path, knees: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="pip install 'kneeedge[dicom-sr]'")
    predictor = Predictor(model, "cpu")
    upright, inverted = predictor.predict([knees / "0.png", knees / "1.png"], heatmap=True)
    report = ReportWriter(tmp_path / "sr", predictor.spec, "0" * 64, with_patient_id=False)
    capture = CaptureWriter(tmp_path / "sc", predictor.spec, "0" * 64, with_patient_id=False)
    for answer, is_inverted in ((upright, False), (inverted, True)):
        for lines in (
            report._remarks(answer),
            capture.caption(answer),
            caveat_lines(answer),
        ):
            assert (READ_INVERSE in lines) == is_inverted
        assert (READ_INVERSE in _map(answer)) == is_inverted
        assert ("inverted" in repr(answer)) == is_inverted
        assert plain(answer)["inverted"] is is_inverted
