"""Test vectors of a model file: what another program must see and answer on its way through it.

The golden inputs and the golden pictures that the file carries become files that any language
reads – PNG and JPEG as they are, and pixels as PGM – with an index of what each step must give.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import ModelFileError, SpecError
from kneeedge.model.spec import ModelSpec, softmax
from kneeedge.runtime.golden import GoldenSet, golden_inputs, read_golden, verify
from kneeedge.runtime.golden_pictures import decoded
from kneeedge.runtime.session import IMAGE, OUTPUTS, PICTURE, Outputs, Session
from kneeedge.system import machine

GOLDEN_PICTURE = "picture"
"kind of a vector that begins with an encoded file; the others are kinds of golden inputs"
FILE, HERE = "file", "here"
"whose answer a vector has: the exporting machine's, which the file carries, or this machine's"
ROUNDING = 1e-6
"by which a probability may differ in single precision where the logits are the same"
ANY = -1
"a length in a shape that may be any"
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\.(png|jpg)")


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """An input or an output of the network."""

    name: str
    dtype: str
    "uint8 or float32"
    shape: tuple[int, ...]
    "-1: any"


@dataclass(frozen=True)
class VectorFile:
    """A file beside the index."""

    name: str
    sha256: str
    "of its bytes"


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One picture on its way to an answer."""

    name: str
    kind: str
    "phantom, at the threshold or at the limit: a golden input, of S × S pixels; picture: any size"
    encoded: VectorFile
    "PNG or JPEG"
    grey: VectorFile
    "PGM of 8 bits: the grey levels that it decodes to, upright"
    input: VectorFile
    "PGM of 8 bits, S × S: those, resized"
    levels: int
    "by which a pixel of the input may differ where another decoder read the JPEG; 0: none may"
    logits: tuple[float, ...]
    probabilities: tuple[float, ...]
    distance: float | None
    "null where the file has no such output"
    answer: str | None
    "the class; null where the model abstains, or leaves the image to a person"
    answered: str
    "file: on the exporting machine; here: on the machine that wrote the vectors"


@dataclass(frozen=True, kw_only=True)
class VectorSet:
    """The index of test vectors, `vectors.json`, with what a program must know of the file."""

    model: str
    "name of the file"
    model_sha256: str
    input: TensorFacts
    "image: pixels (N, 1, S, S) by the pixel path; picture: grey pixels of any size"
    outputs: tuple[TensorFacts, ...]
    classes: tuple[str, ...]
    "in the order of the outputs"
    positive: str
    size: int
    "S: side of the network's input, pixels"
    fit: str
    "stretch: both sides to S; pad: the longer side to S, centred on black"
    resize: str
    "how it is resized, to the bit"
    temperature: float
    "probabilities = softmax(logits / temperature)"
    threshold: float | None
    "positive where its probability is at least this; null with more than two classes"
    limit: float | None
    "the model abstains where the distance is above this; null where it never does"
    low: float | None
    "with certified limits: negative where the positive's probability is below this"
    high: float | None
    "positive where it is at least this; in between there is no answer; null without limits"
    logit_tolerance: float
    "largest change of a logit on another CPU"
    probability_tolerance: float
    "what that amounts to in a probability"
    distance_tolerance: float | None
    cpu: str
    "of the exporting machine; empty where the file does not say"
    here_cpu: str
    "of the machine that wrote the vectors, whose answers to the pictures these are"
    here_isa: tuple[str, ...]
    "its instruction sets that decide how numbers round"
    versions: dict[str, str]
    "of the packages there"
    vectors: tuple[Vector, ...]


def vectors_of(session: Session) -> tuple[VectorSet, dict[str, bytes]]:
    """The test vectors of a file, and what the files that they name hold.

    A golden picture has no answer in the file: this machine gives it. Raises ModelFileError where
    this machine does not answer the golden inputs as the file asks, and SpecError where they are
    missing or damaged.
    """
    golden = read_golden(session)
    report = verify(session, session.file.sha256, machine.cpu_model(), machine.isa_flags())
    if not report.passed:
        problem = "this machine does not give the answers that the file asks for"
        remedy = "see `kneeedge verify`, and write the vectors on a machine that passes"
        raise ModelFileError(session.path, problem, remedy)
    files = _Files(session)
    inputs = golden_inputs(session, golden)
    of_inputs = tuple(_of_inputs(session.spec, golden, inputs, files))
    of_pictures = tuple(_of_pictures(session, golden, files))
    seen = session.run(inputs[:1])
    return _index(session, golden, _facts_of(seen), of_inputs + of_pictures), files.contents


def pgm(pixels: NDArray[np.uint8]) -> bytes:
    """Grey levels (H, W) uint8 as a binary PGM: P5, width, height, 255, then rows from the top."""
    height, width = pixels.shape
    return b"P5\n%d %d\n255\n" % (width, height) + pixels.tobytes()


class _Files:
    """The files of the vectors, by name."""

    def __init__(self, session: Session) -> None:
        self.contents: dict[str, bytes] = {}
        self._session = session

    def add(self, name: str, content: bytes) -> VectorFile:
        if name in self.contents:
            raise SpecError(self._session.path, f"two of its golden pictures are called {name!r}")
        self.contents[name] = content
        return VectorFile(name, hashlib.sha256(content).hexdigest())


def _of_inputs(
    spec: ModelSpec, golden: GoldenSet, inputs: NDArray[np.uint8], files: _Files
) -> Iterator[Vector]:
    """The golden inputs, with the answers that the file carries."""
    for i, (case, pixels) in enumerate(zip(golden.cases, inputs, strict=True)):
        name = f"golden-{i:02d}"
        image = files.add(f"{name}.pgm", pgm(pixels[0]))
        probabilities = softmax(np.array([case.file_logits]), spec.temperature)
        yield Vector(
            name=name,
            kind=case.kind,
            encoded=files.add(f"{name}.png", base64.b64decode(case.png)),
            grey=image,
            input=image,
            levels=0,
            logits=case.file_logits,
            probabilities=tuple(probabilities[0].tolist()),
            distance=case.file_distance,
            answer=_answer(spec, probabilities, case.file_distance),
            answered=FILE,
        )


def _of_pictures(session: Session, golden: GoldenSet, files: _Files) -> Iterator[Vector]:
    """The golden pictures, with the answers of this machine."""
    spec = session.spec
    for picture in golden.pictures:
        if not _PLAIN_NAME.fullmatch(picture.name):
            raise SpecError(session.path, f"a golden picture is called {picture.name!r}")
        name = picture.name.rpartition(".")[0]
        grey, square = decoded(picture, spec.pixel_path)
        pixels = grey if session.takes_pictures else square
        outputs = session.run(pixels[None, None])
        distance = None if outputs.distance is None else float(outputs.distance[0])
        yield Vector(
            name=name,
            kind=GOLDEN_PICTURE,
            encoded=files.add(picture.name, base64.b64decode(picture.content)),
            grey=files.add(f"{name}.grey.pgm", pgm(grey)),
            input=files.add(f"{name}.input.pgm", pgm(square)),
            levels=picture.levels,
            logits=tuple(outputs.logits[0].tolist()),
            probabilities=tuple(outputs.probabilities[0].tolist()),
            distance=distance,
            answer=_answer(spec, outputs.probabilities, distance),
            answered=HERE,
        )


def _answer(
    spec: ModelSpec, probabilities: NDArray[np.floating], distance: float | None
) -> str | None:
    """The class of one image's probabilities (1, K); None where the model gives no answer."""
    if spec.novelty and distance is not None and spec.novelty.refuses(np.array([distance]))[0]:
        return None
    if spec.refers(probabilities)[0]:
        return None
    return spec.classes[int(spec.decide(probabilities)[0])]


def _facts_of(outputs: Outputs) -> tuple[TensorFacts, ...]:
    facts = []
    for name in OUTPUTS:
        array = getattr(outputs, name)
        if array is not None:
            shape = (ANY, *array.shape[1:])
            facts.append(TensorFacts(name=name, dtype=str(array.dtype), shape=shape))
    return tuple(facts)


def _index(
    session: Session,
    golden: GoldenSet,
    outputs: tuple[TensorFacts, ...],
    vectors: tuple[Vector, ...],
) -> VectorSet:
    spec = session.spec
    size = spec.pixel_path.size
    name, sides = (PICTURE, (ANY, ANY)) if session.takes_pictures else (IMAGE, (size, size))
    # |∂p/∂z| ≤ 2 p (1 − p) / T ≤ 1 / 2T, where all logits z move by as much
    spread = golden.device_tolerance / (2 * spec.temperature)
    return VectorSet(
        model=session.path.name,
        model_sha256=session.file.sha256,
        input=TensorFacts(name=name, dtype="uint8", shape=(ANY, 1, *sides)),
        outputs=outputs,
        classes=spec.classes,
        positive=spec.positive,
        size=size,
        fit=spec.pixel_path.fit,
        resize=spec.pixel_path.resize,
        temperature=spec.temperature,
        threshold=spec.threshold if len(spec.classes) == 2 else None,
        limit=spec.novelty.limit if spec.novelty else None,
        low=spec.certified.low if spec.certified else None,
        high=spec.certified.high if spec.certified else None,
        logit_tolerance=golden.device_tolerance,
        probability_tolerance=spread + ROUNDING,
        distance_tolerance=golden.distance_tolerance,
        cpu=golden.cpu,
        here_cpu=machine.cpu_model(),
        here_isa=machine.isa_flags(),
        versions=machine.versions(),
        vectors=vectors,
    )
