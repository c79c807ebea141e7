"""Files that came over a network → answers, without a server."""

import json
import os
import signal
from pathlib import Path

import pytest

from kneeedge.errors import ModelFileError, WorkerError
from kneeedge.inference.predictor import Predictor
from kneeedge.model.file import open_model
from kneeedge.pixels import isolation
from kneeedge.pixels.isolation import Decoder
from kneeedge.system.files import file_sha256
from kneeedge.triton import answers as answers_module
from kneeedge.triton.answers import FileAnswerer, Upload
from tests.image_files import colour, encode
from tests.tiny_onnx import write_tiny_model

PNG = encode(colour(90, 70), "PNG")


@pytest.fixture
def model(tmp_path):
    return write_tiny_model(tmp_path / "tiny.onnx", limit=140.0)


@pytest.fixture
def decoders(monkeypatch):
    """The decoders that were started."""
    started = []

    def start(options):
        started.append(Decoder(options))
        return started[-1]

    monkeypatch.setattr(isolation, "Decoder", start)
    return started


@pytest.fixture
def answerer(model, decoders):
    answerer = FileAnswerer(open_model(model), file_sha256(model), "cpu", 1)
    yield answerer
    answerer.close()


def test_more_files_than_a_run_takes_are_answered_in_their_order(answerer, model):
    uploads = [Upload(str(i), encode(colour(40 + i, 50), "PNG")) for i in range(9)]
    answers = answerer.answer(uploads)
    assert [answer.prediction.path for answer in answers] == [upload.name for upload in uploads]
    predictor = Predictor(model, threads=1)
    for upload, answer in zip(uploads, answers, strict=True):
        alone = predictor.predict(upload.data)
        assert answer.prediction.status == alone.status
        assert answer.prediction.distance == pytest.approx(alone.distance, rel=1e-5)


def test_a_decoder_that_dies_costs_one_file_its_answer(answerer, decoders):
    os.kill(decoders[0].child.pid, signal.SIGKILL)
    first, second = answerer.answer([Upload("a", PNG), Upload("b", PNG)])
    assert first.prediction.status == "error"
    assert "the decoder crashed (signal 9" in first.prediction.error
    assert second.prediction.status == "ok"


def test_nothing_is_left_of_the_files_and_the_decoders(answerer, decoders):
    answerer.answer([Upload("a", PNG), Upload("b", b"nonsense")])
    scratch = Path(answerer._scratch.name)
    assert list(scratch.iterdir()) == []
    answerer.close()
    assert not scratch.exists()
    for decoder in decoders:
        with pytest.raises(ProcessLookupError):
            os.kill(decoder.child.pid, 0)


def test_an_answer_is_json_with_the_models_hash_and_null_for_what_is_not_known(answerer, model):
    (answer,) = answerer.answer([Upload("\udcff.png", b"nonsense")])
    record = json.loads(answer.to_bytes())
    assert list(record)[:2] == ["format", "model_sha256"]
    assert record["model_sha256"] == file_sha256(model)
    assert record["status"] == "error"
    assert record["probability"] is None
    assert record["confidence"] is None


def test_a_model_of_another_hash_is_refused(model):
    with pytest.raises(
        ModelFileError, match=r"config\.pbtxt says 0000; write the repository again"
    ):
        FileAnswerer(open_model(model), "0000", "cpu", 1)


def test_decoders_that_do_not_start_are_said_at_the_start(model, monkeypatch):
    monkeypatch.setattr(isolation, "DECODER", "no.such.module")
    with pytest.raises(WorkerError, match="a decoder process ended without a result"):
        FileAnswerer(open_model(model), file_sha256(model), "cpu", 1)


def test_a_model_that_cannot_repeat_its_golden_inputs_answers_nothing(model, monkeypatch):
    def refuse(session):
        raise ModelFileError(session.path, "it answers its own golden inputs otherwise")

    monkeypatch.setattr(answers_module, "prove", refuse)
    with pytest.raises(ModelFileError, match="golden inputs otherwise"):
        FileAnswerer(open_model(model), file_sha256(model), "cpu", 1)
