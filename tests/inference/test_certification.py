"""`kneeedge certify` and what three answers are to everyone who reads answers."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kneeedge import Predictor
from kneeedge.cli.app import app
from kneeedge.errors import (
    ConfigError,
    DataError,
    NotFoundError,
    OutputExistsError,
    PromiseError,
    SignatureError,
)
from kneeedge.inference.answer_rows import network_of
from kneeedge.inference.certification import CertifyRequest, card_with, certify_model
from kneeedge.inference.evaluation import evaluate_model
from kneeedge.inference.predictions import ABSTAIN, OK, REFER
from kneeedge.inference.verification import VerifyRequest, verify_models
from kneeedge.model.certify import CARD_LINE, Promise, certified_text
from kneeedge.model.file import open_model
from kneeedge.model.metadata import read_metadata, read_model_spec, with_metadata
from kneeedge.model.signature import signature_path
from kneeedge.model.spec import CARD_KEY, GOLDEN_KEY, SPEC_KEY
from kneeedge.report.info import info_rows
from kneeedge.report.scorecard import evaluation_text
from kneeedge.report.verification import verify_text
from kneeedge.runtime.session import Session
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from tests.certified_models import limits, write_certified
from tests.tiny_onnx import CLASSES, write_tiny_model

QUIET = Progress(quiet=True)
PROMISE = Promise(ppv=0.9, npv=0.9, confidence=0.9)
N = 72
"images, of which half are of each class; 29 right ones in a row show 0.9"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of many shades, unsorted."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(4)
    for i in range(N):
        level = 20 + 200 * i / N
        noise = rng.normal(level, 25, (64, 64)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"P{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def model(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its threshold in the middle of its answers."""
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "m.onnx")
    answers = Predictor(path, "cpu", 1).predict_folder(pictures, isolate=False)
    middle = float(np.median([answer.probability for answer in answers if answer.probability]))
    spec = replace(read_model_spec(path), threshold=middle)
    path.write_bytes(with_metadata(path.read_bytes(), {SPEC_KEY: spec.to_json()}, path))
    return path


@pytest.fixture(scope="module")
def data(pictures: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures, each in the folder of the class that the model says."""
    folder = tmp_path_factory.mktemp("data")
    for answer in Predictor(model, "cpu", 1).predict_folder(pictures, isolate=False):
        place = folder / str(answer.prediction) / answer.path
        place.parent.mkdir(exist_ok=True)
        place.write_bytes((pictures / answer.path).read_bytes())
    return folder


@pytest.fixture
def three(model: Path, pictures: Path, tmp_path: Path) -> Path:
    """The model with limits that leave a third of the pictures to a person."""
    answers = Predictor(model, "cpu", 1).predict_folder(pictures, isolate=False)
    low, high = np.quantile([a.probability for a in answers if a.probability], [1 / 3, 2 / 3])
    return write_certified(model, tmp_path / "three.onnx", float(low), float(high))


def request(model: Path, data: Path, out: Path, **others: object) -> CertifyRequest:
    return CertifyRequest(
        model=model, data=data, out=out, promise=PROMISE, provider="cpu", threads=1, **others
    )


# The new file


def test_the_new_file_has_the_limits_and_every_other_byte_of_the_old_one(
    model: Path, data: Path, tmp_path: Path
) -> None:
    before = model.read_bytes()
    out = tmp_path / "deep" / "new.onnx"
    report = certify_model(request(model, data, out), QUIET)
    assert model.read_bytes() == before
    spec = read_model_spec(out)
    assert spec.certified == report.certified
    assert replace(spec, certified=None) == read_model_spec(model)
    assert report.out_sha256 == file_sha256(out)
    old = read_metadata(model)[SPEC_KEY]
    assert with_metadata(out.read_bytes(), {SPEC_KEY: old}, out) == before
    assert network_of(spec) == network_of(read_model_spec(model))


def test_the_command_says_what_is_promised_and_that_the_file_is_unsigned(
    model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.onnx"
    words = ["certify", model, data, "--ppv", 0.9, "--npv", 0.9, "--confidence", 0.9, "--out", out]
    told = CliRunner().invoke(app, [*map(str, words), "--json", str(tmp_path / "r.json"), "-q"])
    assert told.exit_code == 0, told.output
    assert "0.9 was promised at 0.9 confidence" in told.output
    assert "it is not signed" in told.output
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["format"] == "kneeedge-certify/1"
    assert record["certified"]["n_answered"] == N
    again = CliRunner().invoke(app, [*map(str, words), "-q"])
    assert again.exit_code == 1
    assert "it is there already; name a new file" in again.output


def test_no_file_is_written_over_and_none_is_written_without_a_promise(
    model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputExistsError, match="name a new file"):
        certify_model(request(model, data, model), QUIET)
    strict = replace(
        request(model, data, tmp_path / "new.onnx"), promise=Promise(ppv=0.99, npv=0.99)
    )
    with pytest.raises(PromiseError, match="needs 368 images"):
        certify_model(strict, QUIET)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"name it \.onnx"):
        request(model, data, tmp_path / "new.txt")
    with pytest.raises(ConfigError, match="out of range"):
        request(model, data, tmp_path / "new.onnx", prevalence=1.0)


def test_images_that_the_model_was_trained_on_show_nothing(data: Path, tmp_path: Path) -> None:
    first = min(data.rglob("*.png"))
    path = write_tiny_model(tmp_path / "m.onnx", seen=(file_sha256(first)[:16],))
    with pytest.raises(DataError, match=r"trained on this image \(1 of 72"):
        certify_model(request(path, data, tmp_path / "new.onnx"), QUIET)


def test_a_key_that_is_not_there_is_told_of_before_the_work(
    model: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    out = tmp_path / "new.onnx"
    with pytest.raises(NotFoundError, match="no such key file"):
        certify_model(request(model, data, out, public_key=tmp_path / "no.pem"), QUIET)
    with pytest.raises(NotFoundError, match="no such key file"):
        certify_model(request(model, data, out, sign=tmp_path / "no.pem"), QUIET)
    assert not out.exists()


def test_a_signature_is_not_copied_and_a_new_one_is_made_where_it_is_asked_for(
    model: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    secret = Ed25519PrivateKey.generate()
    key = tmp_path / "key.pem"
    public = tmp_path / "public.pem"
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    public.write_bytes(
        secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    out = tmp_path / "signed.onnx"
    assert certify_model(request(model, data, out, sign=key), QUIET).signed
    assert open_model(out, public).spec.certified is not None
    with pytest.raises(SignatureError, match="a signature is required"):
        certify_model(request(model, data, tmp_path / "x.onnx", public_key=public), QUIET)
    certify_model(request(model, data, tmp_path / "plain.onnx"), QUIET)
    assert not signature_path(tmp_path / "plain.onnx").exists()


def test_the_card_of_the_new_file_tells_of_its_own_limits_alone() -> None:
    card = f"# Model card\n\n- Answer: so\n{CARD_LINE}of the run\n\n## Data\n\nmuch\n"
    first = card_with(card, limits(0.2, 0.8))
    assert "of the run" not in first
    assert "## Data" in first
    second = card_with(first, limits(0.3, 0.7))
    assert second.count(CARD_LINE) == 1
    assert "0.3" in second.splitlines()[-1]


# Who reads answers


def test_an_image_between_the_limits_keeps_its_probability_and_has_no_class(
    three: Path, pictures: Path, tmp_path: Path
) -> None:
    predictor = Predictor(three, "cpu", 1)
    certified = predictor.spec.certified
    assert certified is not None
    answers = predictor.predict_folder(pictures, out=tmp_path / "rows.csv", isolate=False)
    referred = [answer for answer in answers if answer.status == REFER]
    assert 0 < len(referred) < N
    for answer in answers:
        assert answer.probability is not None
        between = certified.low <= answer.probability < certified.high
        assert answer.status == (REFER if between else OK)
        assert (answer.prediction is None) == (answer.confidence is None) == between
        assert ("refer to a person" in answer.error) == between
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == REFER]
    assert len(rows) == len(referred)
    assert all(row["probability"] and not row["prediction"] for row in rows)


def test_with_all_to_be_answered_it_has_a_class_and_stays_referred(
    three: Path, pictures: Path
) -> None:
    answers = Predictor(three, "cpu", 1, answer_all=True).predict_folder(pictures, isolate=False)
    referred = [answer for answer in answers if answer.status == REFER]
    assert referred
    assert all(answer.prediction in CLASSES and not answer.ok for answer in referred)


def test_no_evidence_is_drawn_for_an_answer_that_is_not_given(three: Path, pictures: Path) -> None:
    answers = Predictor(three, "cpu", 1).predict(sorted(pictures.iterdir()), heatmap=True)
    assert {answer.status: answer.heatmap is None for answer in answers} == {OK: False, REFER: True}


def test_an_image_unlike_the_training_images_is_refused_before_it_is_referred(
    pictures: Path, tmp_path: Path
) -> None:
    plain = write_tiny_model(tmp_path / "m.onnx", limit=100.0)
    path = write_certified(plain, tmp_path / "three.onnx", 1e-9, 1.0)
    statuses = {a.status for a in Predictor(path, "cpu", 1).predict_folder(pictures, isolate=False)}
    assert statuses == {ABSTAIN, REFER}


def test_infer_counts_what_is_left_to_a_person_and_ends_well(
    three: Path, pictures: Path, tmp_path: Path
) -> None:
    words = ["infer", pictures, "--model", three, "--provider", "cpu", "--out", tmp_path / "r.csv"]
    told = CliRunner().invoke(app, [*map(str, words), "-q", "--json", str(tmp_path / "r.json")])
    assert told.exit_code == 0, told.output
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert summary["n_referred"] > 0
    assert summary["n_ok"] + summary["n_referred"] == N
    assert sum(summary["counts"].values()) == summary["n_ok"]
    assert f"{summary['n_referred']} to refer to a person" in told.output


def test_evaluate_tells_what_the_answered_are_worth_beside_all_images(
    three: Path, data: Path
) -> None:
    session = Session(three, "cpu", 1)
    report = evaluate_model(session, data, None, None, QUIET)
    answers = report.three_answers
    assert answers is not None
    assert report.evaluation.n == answers.n == N
    assert answers.answered.value == pytest.approx(1 - answers.n_referred / N)
    assert answers.ppv is not None
    assert answers.ppv.value == 1.0  # the labels are the model's own
    assert report.as_record()["three_answers"]["n_referred"] == answers.n_referred
    assert "are left to a person" in evaluation_text(report)
    assert "0.9 was promised" in evaluation_text(report)


def test_verify_lists_what_only_one_of_two_files_leaves_to_a_person(
    model: Path, three: Path, pictures: Path, tmp_path: Path
) -> None:
    wanted = VerifyRequest(
        models=(three,), data=pictures, against=model, provider="cpu", threads=1, isolate=False,
        rows=tmp_path / "rows.csv",
    )  # fmt: skip
    (report,) = verify_models(wanted, QUIET)
    images = report.images
    assert images is not None
    assert images.pairing is not None
    assert images.n_referred > 0
    assert images.pairing.same_network
    assert images.pairing.refusals is not None
    assert images.pairing.refusals.changed == len(images.pairing.flips) == images.n_referred
    assert {flip.here_status for flip in images.pairing.flips} == {REFER}
    assert "referred " in verify_text([report])
    again = replace(wanted, against=tmp_path / "rows.csv", rows=None)
    (same,) = verify_models(again, QUIET)
    assert same.images is not None
    assert same.images.pairing is not None
    assert not same.images.pairing.flips


def test_the_file_says_its_limits_and_keeps_its_golden_inputs(three: Path, model: Path) -> None:
    file = open_model(three)
    assert file.spec.certified is not None
    assert ("certified", certified_text(file.spec.certified)) in info_rows(file.spec, file)
    assert file.metadata[GOLDEN_KEY] == read_metadata(model)[GOLDEN_KEY]
    assert CARD_KEY not in file.metadata
    assert "certified" not in dict(info_rows(read_model_spec(model), open_model(model)))
