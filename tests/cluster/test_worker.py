"""What a node checks before it answers, and what it answers then."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from kneeedge.cluster.messages import Chunk, WorkerSetup
from kneeedge.cluster.sources import ClusterImage
from kneeedge.cluster.worker import Answerer, check_node
from kneeedge.errors import ConfigError, ModelFileError, NotFoundError
from kneeedge.inference.output import rows_of
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.request import InferRequest
from kneeedge.pixels.phantom import write_dataset
from kneeedge.pixels.prefetch import StageClock
from kneeedge.version import __version__
from tests.tiny_onnx import write_tiny_model


@pytest.fixture
def model(tmp_path) -> Path:
    return write_tiny_model(tmp_path / "m.onnx")


@pytest.fixture
def setup(model, tmp_path) -> WorkerSetup:
    request = InferRequest(
        paths=(), out=tmp_path / "p.csv", provider="cpu", threads=1, batch_size=4
    )
    return WorkerSetup(
        request=request,
        model="the/driver's.onnx",
        model_sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        version=__version__,
        folders=(str(tmp_path),),
    )


def test_rows_are_those_of_one_machine_chunk_after_chunk(model, setup, tmp_path):
    write_dataset(tmp_path / "knees", {"test": 10}, size=64)
    (tmp_path / "knees/test/Healthy/damaged.png").write_bytes(b"no picture")
    folder = tmp_path / "knees"
    Predictor(model, threads=1).predict_folder(folder, tmp_path / "plain.csv")
    header, *expected = rows_of((tmp_path / "plain.csv").read_bytes())
    names = [row[header.index("path")] for row in expected]
    images = [ClusterImage(str(folder), name) for name in names]
    batches = [tuple(images[i : i + 4]) for i in range(0, len(images), 4)]
    answerer = Answerer(model.read_bytes(), setup)
    clock = StageClock()
    answered = [
        *answerer.answer(Chunk((0, 1), tuple(batches[:2])), clock),
        *answerer.answer(Chunk((2,), tuple(batches[2:])), clock),
    ]
    assert [list(row) for batch in answered for row in batch.rows] == expected
    assert all(stamp and stamp.sha256 for batch in answered for stamp in batch.stamps)
    assert clock.seconds["running"] > 0
    answerer.close()


def test_other_bytes_than_the_driver_read_are_not_run(model, setup):
    with pytest.raises(ModelFileError, match="a node got other bytes"):
        Answerer(model.read_bytes() + b"\0", setup)


def test_a_node_without_the_folder_ends_the_run_and_not_each_image(setup):
    lacking = replace(setup, folders=("/nowhere-at-all",))
    with pytest.raises(NotFoundError, match="/nowhere-at-all is not there on node n1; mount it"):
        check_node(lacking, "n1")


def test_a_node_with_another_kneeedge_ends_the_run(setup):
    with pytest.raises(ConfigError, match=r"node n1 has kneeedge .*, and this machine 0\.0\.0"):
        check_node(replace(setup, version="0.0.0"), "n1")
