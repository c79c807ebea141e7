"""The programs of examples/ give kneeedge's answers, and notice where they do not."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.any_size import with_resize
from kneeedge.cli.json_format import stamped
from kneeedge.inference.predictor import Predictor
from kneeedge.model.file import open_model
from kneeedge.model.spec import PixelPath
from kneeedge.runtime.session import Session
from kneeedge.runtime.vectors import pgm, vectors_of
from kneeedge.runtime.vectors_folder import write_vectors
from kneeedge.system.strict_json import to_json
from tests.certified_models import write_certified
from tests.tiny_onnx import write_tiny_model

LIMIT = 110.0
"mean grey levels; with SEED some vectors are refused, and the others are of both classes"
SEED = 4


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder each of a model file and its vectors."""
    top = tmp_path_factory.mktemp("models")
    plain = write_tiny_model(top / "plain.onnx", seed=SEED, limit=LIMIT)
    onnx.save(with_resize(onnx.load(plain), PixelPath(64)), top / "any-size.onnx")
    write_tiny_model(top / "padded.onnx", fit="pad")
    write_tiny_model(top / "three.onnx", classes=("Gesund", "Ödem ⊕", "c"), seed=SEED, limit=LIMIT)
    write_certified(top / "padded.onnx", top / "referred.onnx", *middle_limits(top / "padded.onnx"))
    paths = {path.stem: path for path in top.glob("*.onnx")}
    for name, path in paths.items():
        index, contents = vectors_of(Session(path, "cpu"))
        write_vectors(top / name, to_json(stamped("vectors", index)), contents)
    return paths


def middle_limits(model: Path) -> tuple[float, float]:
    """Limits between which the middle of the vectors' probabilities lies."""
    index, _ = vectors_of(Session(model, "cpu"))
    known = sorted(vector.probabilities[1] for vector in index.vectors)
    return (known[2] + known[3]) / 2, (known[-3] + known[-2]) / 2


def vectors(model: Path) -> Path:
    return model.with_suffix("")


@pytest.mark.parametrize("name", ["plain", "any-size", "padded", "three", "referred"])
def test_every_vector_is_answered_as_kneeedge_does(program, models, name):
    done = program(models[name], vectors(models[name]))
    *lines, last = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    index = json.loads((vectors(models[name]) / "vectors.json").read_bytes())
    assert len(lines) == len(index["vectors"]) == 10
    for line, vector in zip(lines, index["vectors"], strict=True):
        answer = vector["answer"] or "no answer"
        assert line.startswith(f"ok    {vector['name']}: {answer}")
    assert last.startswith("10 of 10 vectors; largest change of a logit ")


def move_pixel(vector: dict, folder: Path) -> None:
    path = folder / vector["input"]["name"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    vector["input"]["sha256"] = hashlib.sha256(content).hexdigest()


def move(field: str, change):
    """What makes another field of a vector wrong."""
    return lambda vector, _: vector.update({field: change(vector[field])})


WRONG = (
    (move("logits", lambda logits: logits[::-1]), "logits off by"),
    (move("probabilities", lambda shares: shares[::-1]), "probabilities off by"),
    (move("distance", lambda distance: distance + 0.1), "distance off by 1"),
    (move("answer", lambda answer: None if answer else "Healthy"), "answer"),
    (move_pixel, "the input differs"),
)
"how a vector is made wrong, and what is to be said of it"


def test_a_vector_that_is_wrong_at_one_step_is_missed(program, models, tmp_path):
    folder = tmp_path / "vectors"
    shutil.copytree(vectors(models["plain"]), folder)
    index = json.loads((folder / "vectors.json").read_bytes())
    wrong = index["vectors"][2:7]
    for vector, (change, _) in zip(wrong, WRONG, strict=True):
        change(vector, folder)
    (folder / "vectors.json").write_text(json.dumps(index))
    done = program(models["plain"], folder)
    lines = [line for line in done.stdout.splitlines() if line.startswith("MISS")]
    for line, vector, (_, words) in zip(lines, wrong, WRONG, strict=True):
        assert line.startswith(f"MISS  {vector['name']}: ")
        assert words in line
        assert ";" not in line
    assert "5 of 10 vectors" in done.stdout
    assert done.returncode == 1


def test_a_picture_of_ones_own_is_answered_as_infer_does(program, models, tmp_path):
    rng = np.random.default_rng(2)
    grey = rng.integers(0, 100, (190, 75), dtype=np.uint8)
    path = tmp_path / "own.pgm"
    path.write_bytes(pgm(grey).replace(b"P5\n", b"P5\n# made by a scanner\n"))
    done = program(models["plain"], path)
    prediction = Predictor(models["plain"], "cpu").predict(grey)
    expected = f"{prediction.prediction}, probability of Osteoporosis {prediction.probability:.6f}"
    assert done.stdout.startswith(f"{path}: {expected}, distance {prediction.distance:#.6g}")
    assert done.returncode == 0
    assert "Not a medical device" in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n", "it is no binary PGM (P5)"),
        (b"P5\n2 2\n65535\n" + bytes(8), "its white is 65535, not 255"),
        (b"P5\n2 2\n255\n" + bytes(3), "its pixels are not width"),
    ],
)
def test_a_picture_that_cannot_be_read_ends_in_one_line(program, models, tmp_path, content, words):
    path = tmp_path / "bad.pgm"
    path.write_bytes(content)
    done = program(models["plain"], path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {path}: {words}")


def test_a_file_that_is_no_model_of_kneeedges_is_refused(program, models, tmp_path):
    graph = onnx.load(models["plain"])
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "bare.onnx")
    done = program(tmp_path / "bare.onnx", vectors(models["plain"]))
    assert done.returncode == 1
    assert "no model file of kneeedge" in done.stderr
    assert open_model(models["plain"]).spec.classes
