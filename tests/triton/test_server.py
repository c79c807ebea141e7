"""The written repository in NVIDIA's real server: its answers are kneeedge's own, bit for bit."""

import json
import os
import shutil
import signal
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.inference.predictions import Prediction
from kneeedge.inference.predictor import Predictor, say_nothing
from kneeedge.model.file import open_model
from kneeedge.pixels.phantom import phantom
from kneeedge.runtime.session import Session
from kneeedge.system.files import file_sha256
from kneeedge.system.strict_json import plain
from kneeedge.triton.config import ServerOptions
from kneeedge.triton.repository import write_repository
from tests.dicom_files import EIGHT, dataset, stored
from tests.tiny_onnx import write_tiny_model
from tests.triton.server import ask_files, need_triton, pids_with, run_client, serving

pytestmark = pytest.mark.slow
STAND_IN = Path(__file__).with_name("stand_in.py")
PROTOCOLS = ("http", "grpc")


@pytest.fixture(scope="module")
def triton():
    return need_triton()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One that abstains where the mean grey level is above 140."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", limit=140.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Of every kind that there is an answer or a reason for."""
    folder = tmp_path_factory.mktemp("files")
    image = Image.fromarray(phantom(3, 0.5, 300))
    image.save(folder / "sound.png")
    image.save(folder / "sound.jpg", quality=90)
    (folder / "sound.dcm").write_bytes(stored(dataset(EIGHT)))
    (folder / "truncated.png").write_bytes((folder / "sound.png").read_bytes()[:-9000])
    (folder / "letter.txt").write_text("Dear colleague")
    Image.fromarray(np.full((80, 90), 255, dtype=np.uint8)).save(folder / "white.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def repository(model, tmp_path_factory):
    """Its model that takes pixels is run by the stand-in, by the config that was written."""
    folder = tmp_path_factory.mktemp("triton") / "repository"
    write_repository(open_model(model), folder, ServerOptions(threads=2), say_nothing)
    config = folder / "kneeedge_network/config.pbtxt"
    text = config.read_text()
    config.write_text(text.replace('backend: "onnxruntime"', 'backend: "python"'))
    shutil.copyfile(STAND_IN, folder / "kneeedge_network/1/model.py")
    return folder


@pytest.fixture(scope="module")
def server(triton, repository):
    with serving(triton, repository) as addresses:
        yield addresses


def fields(answer):
    """Of an answer, but for what names the file."""
    return {name: value for name, value in answer.items() if name != "path"}


def expected(prediction: Prediction) -> dict[str, object]:
    return fields(plain(replace(prediction, heatmap=None)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_answers_are_those_of_infer_to_the_last_bit(
    protocol, server, triton, model, files, tmp_path
):
    told = ask_files(triton, getattr(server, protocol), protocol, "kneeedge", files)
    predictor = Predictor(model, threads=2)
    # in a list, where an unreadable one is an answer, but each in a batch of its own
    predictions = [predictor.predict([path.read_bytes()])[0] for path in files]
    assert [prediction.status for prediction in predictions] == [
        "error", "ok", "ok", "ok", "error", "abstain",
    ]  # fmt: skip
    for path, each, prediction in zip(files, told, predictions, strict=True):
        answer = json.loads(each["answer"])
        assert answer.pop("format") == "kneeedge-answer/1"
        assert answer.pop("model_sha256") == file_sha256(model)
        assert answer["path"] == path.name
        assert fields(answer) == expected(prediction)
        figures = [prediction.probabilities.get(name) for name in ("Healthy", "Osteoporosis")]
        assert each["probabilities"] == figures
        assert each["distance"] == prediction.distance


def test_what_is_refused_and_what_cannot_be_read_has_no_figures(server, triton, files):
    told = ask_files(triton, server.grpc, "grpc", "kneeedge", files)
    by_name = {path.name: each for path, each in zip(files, told, strict=True)}
    for name in ("letter.txt", "truncated.png", "white.png"):
        answer = json.loads(by_name[name]["answer"])
        assert by_name[name]["probabilities"] == [None, None]
        assert (answer["prediction"], answer["probability"]) == (None, None)
        assert answer["error"] != ""
    assert by_name["letter.txt"]["distance"] is None
    assert by_name["white.png"]["distance"] == 255.0


def test_an_empty_file_is_an_answer_with_its_reason(server, triton, tmp_path):
    (tmp_path / "empty.png").touch()
    (told,) = ask_files(triton, server.grpc, "grpc", "kneeedge", [tmp_path / "empty.png"])
    assert json.loads(told["answer"])["error"] == "is empty"


def test_each_of_many_at_once_gets_its_own_answer(server, triton, model, tmp_path):
    paths = []
    for seed in range(40):
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(phantom(seed, seed / 40, 64 + seed)).save(paths[-1])
    told = ask_files(triton, server.grpc, "grpc", "kneeedge", paths, threads=8)
    predictions = Predictor(model).predict(paths)
    for path, each, prediction in zip(paths, told, predictions, strict=True):
        answer = json.loads(each["answer"])
        assert (answer["path"], answer["prediction"]) == (path.name, prediction.prediction)
        # which of them share a batch, and so round alike, is the server's affair
        assert answer["probabilities"] == pytest.approx(prediction.probabilities, rel=1e-5)
        assert each["distance"] == pytest.approx(prediction.distance, rel=1e-5)


def test_a_file_alone_is_a_request_as_curl_sends_it(server, model, files):
    path = next(path for path in files if path.suffix == ".dcm")
    request = urllib.request.Request(
        f"http://{server.http}/v2/models/kneeedge/infer",
        path.read_bytes(),
        {"Inference-Header-Content-Length": "0"},
    )
    with urllib.request.urlopen(request) as reply:  # noqa: S310 - our own server
        length = int(reply.headers["Inference-Header-Content-Length"])
        body = reply.read()
    (first, *_) = json.loads(body[:length])["outputs"]
    answer = body[length : length + first["parameters"]["binary_data_size"]]
    assert first["name"] == "answer"
    prediction = Predictor(model, threads=2).predict(path.read_bytes())
    assert json.loads(answer)["probabilities"] == prediction.probabilities


def test_two_files_in_one_request_are_an_error(server, triton, files):
    told = json.loads(run_client(triton, ["rows", "grpc", server.grpc, "kneeedge", str(files[1])]))
    assert "holds 2 files; send one each" in told["failure"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_config_of_the_network_is_one_that_serves_the_sessions_outputs(
    protocol, server, triton, model, tmp_path
):
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 64, 64), dtype=np.uint8)
    np.save(tmp_path / "in.npy", images)
    paths = [str(tmp_path / name) for name in ("in.npy", "out.npz")]
    address = getattr(server, protocol)
    run_client(triton, ["pixels", protocol, address, "kneeedge_network", *paths])
    outputs = Session(model, "cpu", 1).run(images)
    told = np.load(tmp_path / "out.npz")
    assert set(told) == {"probabilities", "logits", "cam", "distance"}
    for name in told:
        # a figure an image is a list of one: Triton has no scalars
        output = getattr(outputs, name).reshape(told[name].shape)
        np.testing.assert_array_equal(told[name], output, strict=True)
    assert told["distance"].shape == (5, 1)


def test_the_server_counts_what_it_answered(server, triton, files):
    count = 'nv_inference_request_success{model="kneeedge",version="1"} '
    before = server.get("metrics", server.metrics)
    ask_files(triton, server.http, "http", "kneeedge", files)
    after = server.get("metrics", server.metrics)
    counts = [int(text.partition(count)[2].partition("\n")[0]) for text in (before, after)]
    assert counts[1] - counts[0] == len(files)


def test_the_server_says_which_model_it_proved(server, model):
    proved = f"kneeedge: model {file_sha256(model)}, no signature asked for, 2 golden inputs"
    assert proved in server.log.read_text()


def test_a_model_whose_process_was_killed_gives_errors_and_no_answers(
    triton, model, files, tmp_path
):
    options = ServerOptions(threads=1, files_only=True)
    write_repository(open_model(model), tmp_path / "repository", options, say_nothing)
    with serving(triton, tmp_path / "repository", "--exit-timeout-secs=1") as addresses:
        for pid in pids_with(f"triton_python_backend_stub {tmp_path}"):
            os.kill(pid, signal.SIGKILL)
        (told,) = ask_files(triton, addresses.grpc, "grpc", "kneeedge", files[1:2])
        assert "is not healthy" in told["failure"]


@pytest.fixture(scope="module")
def refusals(triton, model, tmp_path_factory):
    """Why a server of broken repositories did not load each model, and its log."""
    folder = tmp_path_factory.mktemp("broken")
    models = folder / "models"
    models.mkdir()
    for provider in ("cpu", "cuda", "tensorrt"):
        options = ServerOptions(name=provider, provider=provider, threads=1)
        write_repository(open_model(model), folder / provider, options, say_nothing)
        shutil.copytree(folder / provider / f"{provider}_network", models / f"{provider}_network")
    misspelt = shutil.copytree(models / "cpu_network", models / "misspelt")
    config = misspelt / "config.pbtxt"
    config.write_text(config.read_text().replace("cpu_network", "misspelt").replace("kind:", "k:"))
    other = shutil.copytree(folder / "cpu/cpu", models / "cpu")
    write_tiny_model(other / "1/model.onnx", seed=1)
    with serving(triton, models, "--exit-on-error=false") as addresses:
        yield addresses.reasons(), addresses.log.read_text()


@pytest.mark.parametrize("provider", ["cpu", "cuda", "tensorrt"])
def test_the_servers_own_parser_takes_the_config_for_onnxruntime(provider, refusals):
    reasons, log = refusals
    # It parses and checks a config before it looks for the backend, which this wheel lacks.
    assert (
        "unable to find backend library for backend 'onnxruntime'" in reasons[f"{provider}_network"]
    )
    assert "'misspelt': failed to read text proto" in log


def test_a_model_of_another_hash_is_not_served(refusals):
    reasons, _ = refusals
    assert "its hash is" in reasons["cpu"]
    assert "write the repository again with `kneeedge triton`" in reasons["cpu"]


def test_a_server_that_requires_a_signature_serves_no_model_without(triton, model, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from kneeedge.model.signature import sign_file

    key = Ed25519PrivateKey.generate()
    public = tmp_path / "PUBLIC.pem"
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(pem)
    models = tmp_path / "models"
    models.mkdir()
    for name in ("signed", "unsigned"):
        copy = Path(shutil.copyfile(model, tmp_path / f"{name}.onnx"))
        if name == "signed":
            sign_file(copy, key)
        options = ServerOptions(name=name, threads=1)
        write_repository(open_model(copy), tmp_path / name, options, say_nothing)
        shutil.copytree(tmp_path / name / name, models / name)
    arguments = ("--exit-on-error=false",)
    variables = {"KNEEEDGE_REQUIRE_SIGNATURE": str(public)}
    with serving(triton, models, *arguments, **variables) as addresses:
        reasons = addresses.reasons()
    assert reasons["signed"] == ""
    assert (
        "a signature is required, and model.onnx.sig does not stand beside it"
        in (reasons["unsigned"])
    )
