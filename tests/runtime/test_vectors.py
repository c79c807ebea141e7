"""`kneeedge info --test-vectors`: what a program in another language is held against."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from export.any_size import with_resize
from kneeedge.cli.app import app
from kneeedge.inference.predictor import Predictor
from kneeedge.model.spec import GOLDEN_KEY, PixelPath
from kneeedge.pixels.pixel_path import to_input
from kneeedge.runtime.vectors import pgm
from tests.docs.json_fields import FIELDS
from tests.docs.test_json import check
from tests.tiny_onnx import write_tiny_model

LIMIT = 110.0
"mean grey levels; with SEED some vectors are refused, and the others are of both classes"
SEED = 4


def written(model: Path, folder: Path, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["info", str(model), "--test-vectors", str(folder)])
    assert done.exit_code == code, done.output
    return done.output


def index_of(folder: Path) -> dict:
    return json.loads((folder / "vectors.json").read_bytes())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def model(tmp_path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx", seed=SEED, limit=LIMIT)


def test_every_step_of_every_vector_is_that_of_the_pixel_path_and_of_infer(model, tmp_path):
    folder = tmp_path / "vectors"
    written(model, folder)
    index = index_of(folder)
    predictor = Predictor(model, "cpu")
    for vector in index["vectors"]:
        for step in ("encoded", "grey", "input"):
            content = (folder / vector[step]["name"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == vector[step]["sha256"]
        square = to_input(pixels(folder / vector["grey"]["name"]), PixelPath(index["size"]))
        np.testing.assert_array_equal(pixels(folder / vector["input"]["name"]), square)
        prediction = predictor.predict(folder / vector["encoded"]["name"])
        assert vector["answer"] == prediction.prediction, vector["name"]
        assert vector["distance"] == pytest.approx(prediction.distance)
        logits = predictor.session.run(square[None, None]).logits[0]
        np.testing.assert_allclose(vector["logits"], logits, atol=index["logit_tolerance"])
    answers = {vector["answer"] for vector in index["vectors"]}
    assert answers == {None, "Healthy", "Osteoporosis"}
    named = {vector[step]["name"] for vector in index["vectors"] for step in ("encoded", "grey")}
    assert {path.name for path in folder.iterdir()} > named


def test_the_index_says_what_the_page_of_json_says(model, tmp_path):
    written(model, tmp_path / "vectors")
    assert "vectors" in FIELDS
    check("vectors", index_of(tmp_path / "vectors"))


def test_the_pictures_of_an_any_size_file_go_in_as_they_are(model, tmp_path):
    any_size = tmp_path / "any-size.onnx"
    onnx.save(with_resize(onnx.load(model), PixelPath(64)), any_size)
    written(model, tmp_path / "plain")
    written(any_size, tmp_path / "any")
    plain = index_of(tmp_path / "plain")
    index = index_of(tmp_path / "any")
    assert index["input"] == {"name": "picture", "dtype": "uint8", "shape": [-1, 1, -1, -1]}
    assert plain["input"] == {"name": "image", "dtype": "uint8", "shape": [-1, 1, 64, 64]}
    assert index["vectors"] == plain["vectors"]


def test_vectors_are_written_anew_where_all_is_as_kneeedge_wrote_it(model, tmp_path):
    folder = tmp_path / "vectors"
    written(write_tiny_model(tmp_path / "other.onnx", classes=("a", "b", "c")), folder)
    written(model, folder)
    assert index_of(folder)["model"] == "tiny.onnx"
    (folder / "tall.png").unlink()  # as where the writer was killed
    written(model, folder)
    assert (folder / "tall.png").is_file()


@pytest.mark.parametrize("name", ["notes.txt", "tall.png", "vectors.json"])
def test_a_folder_with_anything_of_somebody_elses_is_left_as_it_is(model, tmp_path, name):
    folder = tmp_path / "vectors"
    written(model, folder)
    (folder / name).write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    output = written(model, folder, code=1)
    assert "it is no test vector as kneeedge wrote it; name another folder" in output
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_json_of_info_is_not_written_among_the_vectors(model, tmp_path):
    folder = tmp_path / "vectors"
    command = ["info", str(model), "--test-vectors", str(folder)]
    done = CliRunner().invoke(app, [*command, "--json", str(folder / "vectors.json")])
    assert done.exit_code == 2
    assert "lies among the test vectors; name another place" in done.output


def test_an_index_that_names_files_elsewhere_removes_none(model, tmp_path):
    folder = tmp_path / "vectors"
    written(model, folder)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    index = index_of(folder)
    sha256 = hashlib.sha256(b"mine").hexdigest()
    index["vectors"][0]["grey"] = {"name": "../precious", "sha256": sha256}
    (folder / "vectors.json").write_text(json.dumps(index))
    written(model, folder)
    assert precious.read_text() == "mine"


def altered(model: Path, change) -> Path:
    """The model with another golden set."""
    graph = onnx.load(model)
    entry = next(entry for entry in graph.metadata_props if entry.key == GOLDEN_KEY)
    golden = json.loads(entry.value)
    change(golden)
    entry.value = json.dumps(golden)
    onnx.save(graph, model)
    return model


def test_a_machine_that_does_not_pass_verify_writes_none(model, tmp_path):
    altered(model, lambda golden: golden["cases"][0]["file_logits"].reverse())
    output = written(model, tmp_path / "vectors", code=1)
    assert "write the vectors on a machine that passes" in output
    assert not (tmp_path / "vectors").exists()


@pytest.mark.parametrize("name", ["../up.png", "golden-00.png"])
def test_a_golden_picture_cannot_choose_another_place(model, tmp_path, name):
    altered(model, lambda golden: golden["pictures"][0].update(name=name))
    assert "golden picture" in written(model, tmp_path / "vectors", code=1)
    assert not (tmp_path / "vectors").exists()


def test_a_pgm_is_what_other_programs_read():
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    with Image.open(io.BytesIO(pgm(grey))) as image:
        np.testing.assert_array_equal(np.asarray(image), grey)
