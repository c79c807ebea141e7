"""A device runs only what the owner of a key signed, and exactly those bytes."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kneeedge import Predictor
from kneeedge.bench.messages import WorkRequest
from kneeedge.bench.models import load_file
from kneeedge.cli.app import app
from kneeedge.errors import MissingExtraError, ModelFileError, SignatureError
from kneeedge.model.file import open_model
from kneeedge.model.signature import (
    check_signature,
    key_fingerprint,
    read_private_key,
    read_public_key,
    sign_file,
    signature_path,
)
from kneeedge.model.spec import PixelPath
from kneeedge.runtime.session import Session
from kneeedge.system.files import file_sha256
from tests.tiny_onnx import write_tiny_model
from tests.tools import need

pytestmark = pytest.mark.torch

IMAGES = np.full((1, 1, 64, 64), 90, dtype=np.uint8)
COMMANDS = ("infer", "evaluate", "stress", "verify", "info", "bench")
SHORT_BENCH = ("--seconds", "0.1", "--rounds", "1", "--batch-size", "1")


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A private and its public key in PEM."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    private = folder / f"{name}.pem"
    public = folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def keys(tmp_path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "owner")


@pytest.fixture
def signed(tmp_path, keys) -> Path:
    """A model signed with the owner's key."""
    model = write_tiny_model(tmp_path / "m.onnx")
    sign_file(model, read_private_key(keys[0]))
    return model


def command_of(name: str, model: Path, data: Path, out: Path) -> list[object]:
    """The words of the command that runs a model file."""
    commands: dict[str, list[object]] = {
        "infer": ["infer", data / "test", "--model", model, "--out", out / "p.csv", "-q"],
        "evaluate": ["evaluate", model, data, "-q"],
        "stress": ["stress", model, data, "--kinds", "inverted", "-q"],
        "verify": ["verify", model],
        "info": ["info", model],
        "bench": ["bench", model, *SHORT_BENCH, "-q"],
    }
    return commands[name]


def run(command: list[object], **environment: str):
    return CliRunner().invoke(app, [str(word) for word in command], env=environment)


def refused(command: list[object], message: str, **environment: str) -> None:
    result = run(command, **environment)
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    "name",
    [
        "infer",
        "evaluate",
        "stress",
        "verify",
        "info",
        pytest.param("bench", marks=pytest.mark.slow),
    ],
)
def test_every_command_runs_what_the_owner_signed(signed, keys, phantoms, tmp_path, name):
    command = command_of(name, signed, phantoms, tmp_path)
    result = run([*command, "--require-signature", keys[1]])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_a_file_without_a_signature(signed, keys, phantoms, tmp_path, name):
    signature_path(signed).unlink()
    command = command_of(name, signed, phantoms, tmp_path)
    refused(
        [*command, "--require-signature", keys[1]],
        "a signature is required, and m.onnx.sig does not stand beside",
    )
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_environment_requires_a_signature_of_every_command(
    signed, keys, phantoms, tmp_path, name
):
    signature_path(signed).unlink()
    command = command_of(name, signed, phantoms, tmp_path)
    refused(command, "a signature is required", KNEEEDGE_REQUIRE_SIGNATURE=str(keys[1]))


def test_a_signature_of_another_key_is_refused(signed, tmp_path):
    _, foreign = write_keys(tmp_path, "foreign")
    refused(["info", signed, "--require-signature", foreign], "it was signed with the key")


def test_a_foreign_signature_under_the_owners_name_is_refused(signed, keys, tmp_path):
    private, _ = write_keys(tmp_path, "foreign")
    sign_file(signed, read_private_key(private))
    path = signature_path(signed)
    record = json.loads(path.read_text()) | {"key": key_fingerprint(read_public_key(keys[1]))}
    path.write_text(json.dumps(record))
    refused(["info", signed, "--require-signature", keys[1]], "is not the signature of these bytes")


def test_a_file_changed_by_one_bit_is_refused(signed, keys):
    data = bytearray(signed.read_bytes())
    command = ["info", signed, "--require-signature", keys[1]]
    for place in (0, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        signed.write_bytes(changed)
        refused(command, "is not the signature of these bytes")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "{}",
        "\x00" * 10_000,
        '{"key": "ab"}',
        '{"key": "ab", "signature": "eA==", "format": 2}',
        '{"key": 1, "signature": "eA=="}',
    ],
)
def test_a_damaged_signature_is_refused(signed, keys, text):
    signature_path(signed).write_text(text)
    refused(["info", signed, "--require-signature", keys[1]], "the signature is damaged")


@pytest.mark.parametrize("signature", ["", "eA==", "no base64!", "A" * 88])
def test_a_signature_of_other_bytes_is_refused(signed, keys, signature):
    path = signature_path(signed)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"signature": signature}))
    refused(["info", signed, "--require-signature", keys[1]], "is not the signature of these bytes")


def test_the_bytes_that_were_verified_are_those_that_run(signed, keys, tmp_path):
    before = Session(signed, "cpu").run(IMAGES).logits
    file = open_model(signed, keys[1])
    sha256 = file_sha256(signed)
    write_tiny_model(signed, seed=1)  # after the check, before ONNX Runtime loads
    session = Session(file, "cpu")
    assert np.array_equal(session.run(IMAGES).logits, before)
    assert not np.array_equal(Session(signed, "cpu").run(IMAGES).logits, before)
    assert session.file.sha256 == sha256 != file_sha256(signed)


def test_a_second_session_of_the_verified_file_loads_the_verified_bytes_too(signed, keys, tmp_path):
    session = Session(open_model(signed, keys[1]), "cpu")
    signed.unlink()
    assert session.profile(IMAGES, tmp_path).is_file()


def test_a_file_replaced_while_it_is_loaded_is_no_model_without_signature_either(signed):
    file = open_model(signed)
    write_tiny_model(signed, seed=1)
    message = "replaced while it was being loaded; run the command again"
    with pytest.raises(ModelFileError, match=message):
        Session(file, "cpu")


def test_each_process_of_a_benchmark_verifies_what_it_loads(signed, keys):
    request = WorkRequest(
        model=str(signed),
        is_original=False,
        provider="cpu",
        threads=1,
        pixel_path=PixelPath(64),
        inputs=(),
        public_key=str(keys[1]),
    )
    assert load_file(request).provider == "cpu"
    write_tiny_model(signed, seed=1)
    with pytest.raises(SignatureError, match="not the signature of these bytes"):
        load_file(request)


def test_a_signed_file_runs_in_python_as_well(signed, keys, phantoms):
    image = next((phantoms / "test/Healthy").iterdir())
    verified = Predictor(open_model(signed, keys[1]), "cpu")
    assert verified.predict(image) == Predictor(signed, "cpu").predict(image)


def test_info_says_who_signed(signed, keys):
    result = run(["info", signed, "--require-signature", keys[1]])
    assert f"signed by  the key {key_fingerprint(read_public_key(keys[1]))[:12]}" in result.stdout
    assert "signed by" not in run(["info", signed]).stdout


@pytest.mark.slow
def test_no_original_is_measured_beside_signed_files(signed, keys, trained_run):
    command = ["bench", signed, "--run", trained_run, *SHORT_BENCH]
    result = run([*command, "--require-signature", keys[1], "--json", "-"])
    assert result.exit_code == 0, result.output
    assert "PyTorch's original has no row: it carries no signature" in result.stderr
    rows = json.loads(result.stdout)["results"]
    models = {(row["precision"], row["model_sha256"]) for row in rows}
    assert models == {("fp32", file_sha256(signed))}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
    ],
)
def test_what_is_no_public_key_is_refused(signed, tmp_path, content, message):
    path = tmp_path / "bad.pem"
    path.write_bytes(content)
    refused(["info", signed, "--require-signature", path], message)
    refused(["info", signed, "--require-signature", tmp_path / "none.pem"], "no such key file")


def test_the_private_key_is_not_taken_for_the_public_one(signed, keys):
    refused(
        ["info", signed, "--require-signature", keys[0]],
        "it is no public key in PEM; make it with `openssl pkey",
    )


def test_a_key_of_another_kind_is_refused(tmp_path, signed):
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = X25519PrivateKey.generate()
    path = tmp_path / "x.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    message = "another kind than Ed25519; make one with `openssl genpkey"
    with pytest.raises(SignatureError, match=message):
        read_private_key(path)
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(SignatureError, match="another kind than Ed25519"):
        check_signature(signed.read_bytes(), signed, path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_private_key_that_others_can_read_is_refused(keys, mode):
    keys[0].chmod(mode)
    message = "others than its owner can read this private key; run `chmod 600"
    with pytest.raises(SignatureError, match=message):
        read_private_key(keys[0])


def test_an_encrypted_private_key_says_what_to_do(keys):
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
    )

    key = read_private_key(keys[0])
    encryption = BestAvailableEncryption(b"secret")
    keys[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    with pytest.raises(SignatureError, match="it is encrypted; write an open copy"):
        read_private_key(keys[0])


def test_without_cryptography_the_extra_is_named(signed, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kneeedge\[sign\]'"):
        open_model(signed, keys[1])
    assert open_model(signed).signed_by == ""


@pytest.mark.slow
def test_export_signs_what_it_publishes_and_drops_old_signatures(trained_run, keys, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained_run, folder, symlinks=True, ignore=shutil.ignore_patterns("models"))
    export = ["export", folder, "--precision", "fp32", "-q"]
    assert run([*export, "--sign", keys[0]]).exit_code == 0
    (model,) = (folder / "models").glob("*.onnx")
    assert open_model(model, keys[1]).signed_by == key_fingerprint(read_public_key(keys[1]))
    assert run(export).exit_code == 0
    assert not signature_path(model).exists()


@pytest.mark.slow
def test_export_refuses_a_bad_key_before_the_work(trained_run, tmp_path):
    key = tmp_path / "bad.pem"
    key.write_text("x")
    key.chmod(0o600)
    command = ["export", trained_run, "--sign", key, "-q"]
    refused(command, "it is no private key in PEM; make one with")


def test_openssl_makes_the_keys_and_agrees_on_signature_and_fingerprint(tmp_path):
    need("openssl")

    def openssl(*words: object) -> bytes:
        command = ["openssl", *map(str, words)]
        return subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout

    openssl("genpkey", "-algorithm", "ed25519", "-out", "KEY.pem")
    openssl("pkey", "-in", "KEY.pem", "-pubout", "-out", "PUBLIC.pem")
    model = write_tiny_model(tmp_path / "m.onnx")
    record = json.loads(sign_file(model, read_private_key(tmp_path / "KEY.pem")).read_text())
    (tmp_path / "raw.sig").write_bytes(base64.b64decode(record["signature"]))
    key = ("-pubin", "-inkey", "PUBLIC.pem")
    report = openssl("pkeyutl", "-verify", *key, "-rawin", "-in", model, "-sigfile", "raw.sig")
    assert b"Verified Successfully" in report
    der = openssl("pkey", "-pubin", "-in", "PUBLIC.pem", "-outform", "DER")
    (tmp_path / "key.der").write_bytes(der)
    assert file_sha256(tmp_path / "key.der") == record["key"]
