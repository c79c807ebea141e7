"""Ed25519 signatures beside model files: a device runs only what its owner released.

`NAME.onnx.sig` is JSON: the fingerprint of the public key, and the signature (RFC 8032) over the
bytes of `NAME.onnx`. Needs the extra `sign`.
"""

import base64
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kneeedge.errors import MissingExtraError, NotFoundError, SignatureError
from kneeedge.system.files import SHOWN_DIGITS, write_text
from kneeedge.system.strict_json import from_json, to_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SUFFIX = ".sig"
FORMAT, ALGORITHM = 1, "ed25519"
MAX_SIGNATURE_FILE = 4096
"bytes; one has about 250"
MAKE_KEY = "make one with `openssl genpkey -algorithm ed25519 -out KEY.pem`"
MAKE_PUBLIC = "make it with `openssl pkey -in KEY.pem -pubout -out PUBLIC.pem`"
MAKE_OPEN = (
    "write an open copy for the time of signing with `openssl pkey -in KEY.pem -out OPEN.pem`"
)


@dataclass(frozen=True)
class Signature:
    """What `NAME.onnx.sig` says."""

    key: str
    "SHA-256 of the public key (DER, SubjectPublicKeyInfo)"
    signature: str
    "64 bytes, base64"
    algorithm: str = ALGORITHM
    format: int = FORMAT

    def __post_init__(self) -> None:
        if (self.algorithm, self.format) != (ALGORITHM, FORMAT):
            kind = f"{self.algorithm} of format {self.format}"
            raise ValueError(f"it is {kind}, not {ALGORITHM} of format {FORMAT}")


def signature_path(model: Path) -> Path:
    """Where the signature of a model file stands: beside it, as `NAME.onnx.sig`."""
    return model.with_name(model.name + SUFFIX)


def read_private_key(path: Path) -> "Ed25519PrivateKey":
    """The Ed25519 key in a PEM file.

    Raises SignatureError where it is none, is encrypted, or can be read by others than its owner.
    """
    require_cryptography("signing a model")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read_key(path, MAKE_KEY)
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:  # as ssh has it
        problem = "others than its owner can read this private key"
        raise SignatureError(path, problem, f"run `chmod 600 {path}`")
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError as error:
        raise SignatureError(path, "it is encrypted", MAKE_OPEN) from error
    except _refusals() as error:
        raise SignatureError(path, "it is no private key in PEM", MAKE_KEY) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(path, "it is a key of another kind than Ed25519", MAKE_KEY)
    return key


def read_public_key(path: Path) -> "Ed25519PublicKey":
    """The Ed25519 key in a PEM file; raises SignatureError where it is none."""
    require_cryptography("verifying a signature")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read_key(path, MAKE_PUBLIC))
    except _refusals() as error:
        raise SignatureError(path, "it is no public key in PEM", MAKE_PUBLIC) from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(path, "it is a key of another kind than Ed25519", MAKE_PUBLIC)
    return key


def key_fingerprint(key: "Ed25519PublicKey") -> str:
    """SHA-256 of the key in DER, hex.

    `openssl pkey -pubin -in PUBLIC.pem -outform DER | sha256sum` gives it too.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    data = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(data).hexdigest()


def sign_file(model: Path, key: "Ed25519PrivateKey") -> Path:
    """Write the signature of a model file beside it, and give its path."""
    signature = base64.b64encode(key.sign(model.read_bytes())).decode("ascii")
    record = Signature(key_fingerprint(key.public_key()), signature)
    path = signature_path(model)
    write_text(path, to_json(record) + "\n")
    return path


def check_signature(data: bytes, model: Path, public_key: Path) -> str:
    """The fingerprint of the key in `public_key`, whose signature of `data` stands beside `model`.

    Raises SignatureError where the signature is missing, damaged, of another key or of other bytes.
    """
    key = read_public_key(public_key)  # says which extra is missing
    from cryptography.exceptions import InvalidSignature

    path = signature_path(model)
    owner = key_fingerprint(key)
    record = read_signature(path, model)
    if record.key != owner:
        signed = f"it was signed with the key {record.key[:SHOWN_DIGITS]}"
        problem = f"{signed}, and {public_key} is the key {owner[:SHOWN_DIGITS]}"
        remedy = "get the file that the key's owner released, or name the signer's key"
        raise SignatureError(model, problem, remedy)
    try:
        key.verify(base64.b64decode(record.signature, validate=True), data)
    except (InvalidSignature, ValueError) as error:
        problem = f"{path.name} is not the signature of these bytes: one of the two was changed"
        remedy = "do not run it; copy both from their owner again"
        raise SignatureError(model, problem, remedy) from error
    return owner


def read_signature(path: Path, model: Path) -> Signature:
    """What stands in `path`; raises SignatureError where it is missing or damaged."""
    if not path.is_file():
        problem = f"a signature is required, and {path.name} does not stand beside it"
        remedy = "get it from the model's owner, or sign with `kneeedge export --sign KEY.pem`"
        raise SignatureError(model, problem, remedy)
    try:
        with path.open("rb") as file:
            return from_json(Signature, file.read(MAX_SIGNATURE_FILE))
    except ValueError as error:
        problem = f"the signature is damaged ({error})"
        raise SignatureError(path, problem, "copy it from its owner again") from error


def require_cryptography(what: str) -> None:
    """Raise MissingExtraError where the extra `sign` is not installed."""
    try:
        import cryptography  # noqa: F401 - its parts are imported where they are used
    except ModuleNotFoundError as error:
        raise MissingExtraError(what, "cryptography", "pip install 'kneeedge[sign]'") from error


def _read_key(path: Path, remedy: str) -> bytes:
    if not path.is_file():
        raise NotFoundError(f"{path}: no such key file", remedy)
    with path.open("rb") as file:
        return file.read(2**16)


def _refusals() -> tuple[type[Exception], ...]:
    """What `cryptography` raises for a file that is no key."""
    from cryptography.exceptions import UnsupportedAlgorithm

    return ValueError, UnsupportedAlgorithm
