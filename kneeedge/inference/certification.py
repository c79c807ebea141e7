"""`kneeedge certify`: labelled images of a site → limits that keep a promise there → a new file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kneeedge.data.dataset import Sample, say_depths
from kneeedge.errors import ConfigError, DataError, OutputExistsError
from kneeedge.inference.evaluation import (
    DEFAULT_BATCH,
    answer_samples,
    answered_rows,
    count_seen,
    evaluation_samples,
    read_seen_hashes,
)
from kneeedge.inference.three_answers import ThreeAnswers, three_answers
from kneeedge.model.certify import (
    CARD_LINE,
    LabelledAnswers,
    Promise,
    certified_line,
    certify,
    check_two_classes,
)
from kneeedge.model.file import ModelFile, model_of_bytes, open_model
from kneeedge.model.metadata import with_metadata
from kneeedge.model.signature import read_private_key, sign_file
from kneeedge.model.spec import CARD_KEY, SPEC_KEY, Certified, ModelSpec
from kneeedge.runtime.session import Session
from kneeedge.system.files import write_bytes
from kneeedge.system.progress import Progress

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SUFFIX = ".onnx"
PREFERRED = ("val", "test")
"splits to find limits on when nobody names one: test is left to check them on"


@dataclass(frozen=True, kw_only=True)
class CertifyRequest:
    """What is to be promised, by which images; raises ConfigError for what cannot be."""

    model: Path
    data: Path
    out: Path
    "the new file"
    promise: Promise
    prevalence: float | None = None
    "0 to 1; share of the positive class where it will be used; None: as among the images"
    split: str | None = None
    group_regex: str | None = None
    "finds the patient in a path below the class"
    provider: str = "auto"
    threads: int | None = None
    batch_size: int | None = None
    public_key: Path | None = None
    "the key that must have signed the model; None: no signature is asked for"
    sign: Path | None = None
    "the private key to sign the new file with"

    def __post_init__(self) -> None:
        if self.out.suffix.lower() != SUFFIX:
            raise ConfigError(f"--out {self.out} is no model file", f"name it {SUFFIX}")
        if self.prevalence is not None and not 0.0 < self.prevalence < 1.0:
            problem = f"--prevalence {self.prevalence} is out of range"
            raise ConfigError(problem, "give a share above 0 and below 1, as 0.15")


@dataclass(frozen=True, kw_only=True)
class CertifyReport:
    """The limits, and the file that holds them."""

    model: str
    model_sha256: str
    out: str
    out_sha256: str
    signed: bool
    "whether the new file has a signature; that of the other does not hold for it"
    split: str
    "of the images, or their folder's name"
    provider: str
    n: int
    "images"
    n_abstained: int
    "of these, unlike the training images, which get no answer"
    n_chosen_on: int
    "images that, byte for byte, the model's weights and threshold were chosen on"
    certified: Certified
    prevalence: float
    "0 to 1; share of the images that are of the positive class"
    three_answers: ThreeAnswers | None
    "what the limits come to on these very images"


def certify_model(request: CertifyRequest, progress: Progress) -> CertifyReport:
    """Find the limits by the model's answers to labelled images, and write a file that has them.

    The network and all else in the file stay as they are. Raises OutputExistsError where there is a
    file of that name, DataError where the model was trained on one of the images, PromiseError
    where the promise is not shown, and what `open_model` and `evaluation_samples` raise.
    """
    if request.out.exists() or request.out.is_symlink():
        raise OutputExistsError(request.out, "it is there already; name a new file")
    file = open_model(request.model, request.public_key)
    check_two_classes(file.spec.classes)
    key = signing_key(request)
    session = Session(file, request.provider, request.threads)
    if session.notice:
        progress(session.notice)
    samples, answers = labelled_answers(request, session, progress)
    spec = certify(file.spec, answers, request.promise, request.prevalence)
    content = certified_bytes(file, spec, request.out)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(request.out, content)
    if key is not None:
        sign_file(request.out, key)
    labels = np.array([sample.label for sample in samples])
    return CertifyReport(
        model=str(request.model),
        model_sha256=file.sha256,
        out=str(request.out),
        out_sha256=hashlib.sha256(content).hexdigest(),
        signed=key is not None,
        split=answers.split,
        provider=session.provider,
        n=len(samples),
        n_abstained=len(samples) - len(answers.labels),
        n_chosen_on=count_seen(samples, read_seen_hashes(file.metadata, file.path, "val")),
        prevalence=float(np.mean(labels == spec.positive_index)),
        certified=certified_of(spec),
        three_answers=three_answers(spec, answers.labels, answers.probabilities, answers.groups),
    )


def signing_key(request: CertifyRequest) -> "Ed25519PrivateKey | None":
    """The key to sign the new file with; raises SignatureError where it cannot be used."""
    return None if request.sign is None else read_private_key(request.sign)


def labelled_answers(
    request: CertifyRequest, session: Session, progress: Progress
) -> tuple[list[Sample], LabelledAnswers]:
    """The labelled images, and the answers to those that the model does not abstain from."""
    spec = session.spec
    split, samples = evaluation_samples(
        request.data,
        spec.classes,
        request.split,
        request.group_regex,
        progress,
        spec.pixel_path.grey_bits,
        PREFERRED,
    )
    check_unseen(samples, session.file)
    say_depths(samples, progress)
    outputs = answer_samples(session, samples, request.batch_size or DEFAULT_BATCH, progress)
    rows = answered_rows(spec, outputs)
    answers = LabelledAnswers(
        probabilities=outputs.probabilities[rows],
        labels=np.array([samples[i].label for i in rows], dtype=np.intp),
        groups=[samples[i].group for i in rows],
        split=split,
    )
    return samples, answers


def check_unseen(samples: list[Sample], file: ModelFile) -> None:
    """Raise DataError where the model was trained on one of the images: nothing would be shown."""
    trained_on = read_seen_hashes(file.metadata, file.path, "train")
    seen = [sample for sample in samples if sample.short_hash in trained_on]
    if seen:
        n = f"{len(seen):,} of {len(samples):,} images"
        problem = f"the model was trained on this image ({n}), so its answers show nothing"
        raise DataError(seen[0].path, problem, "give images that it has not seen")


def certified_of(spec: ModelSpec) -> Certified:
    """The spec's limits; raises ValueError where it has none."""
    if spec.certified is None:
        raise ValueError("the spec has no certified limits")
    return spec.certified


def certified_bytes(file: ModelFile, spec: ModelSpec, out: Path) -> bytes:
    """The file with another spec, and a card that tells of the limits; the rest byte for byte.

    Raises ModelFileError where the file was replaced meanwhile.
    """
    data = file.data if file.data is not None else file.path.read_bytes()
    file.check_same()
    changes = {SPEC_KEY: spec.to_json()}
    card = file.metadata.get(CARD_KEY)
    if card is not None:
        changes[CARD_KEY] = card_with(card, certified_of(spec))
    content = with_metadata(data, changes, file.path)
    written = model_of_bytes(content, out)
    if written.spec != spec:
        raise ValueError(f"{out}: what was written is not what was meant")
    return content


def card_with(card: str, certified: Certified) -> str:
    """The model card with a line on the limits, in place of an earlier one, at its end."""
    lines = [line for line in card.splitlines() if not line.startswith(CARD_LINE)]
    section = ["## Certified limits of this file", "", certified_line(certified), ""]
    if section[0] in lines:
        lines = lines[: lines.index(section[0])]
    return "\n".join([*lines, *section])
