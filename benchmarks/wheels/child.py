"""What the ONNX Runtime of this Python answers to the golden inputs of model files.

    PYTHON -m benchmarks.wheels.child MODEL...

For `benchmarks.wheels`, which reads the JSON. It needs kneeedge's own dependencies and any wheel of
ONNX Runtime.
"""

import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from kneeedge.runtime.batches import joined
from kneeedge.runtime.golden import PHANTOM, decided, golden_inputs, read_golden, verify
from kneeedge.runtime.session import Session
from kneeedge.system.machine import versions


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One wheel's answers to one file's golden inputs, on the CPU."""

    precision: str
    n_hard: int
    "inputs at the threshold or at the limit to abstain"
    logits: list[list[float]]
    distances: list[float]
    "of the features; empty where the model never abstains"
    answers: list[int]
    "index of the class; −1 where it is refused"
    verified: bool
    "whether `kneeedge verify` passes"


@dataclass(frozen=True)
class Wheel:
    """The answers of one wheel of ONNX Runtime."""

    python: str
    versions: dict[str, str]
    files: list[Answers]


def answers_of(path: Path) -> Answers:
    session = Session(path, "cpu", threads=1)
    spec = session.spec
    golden = read_golden(session)
    outputs = joined([session.run(image[None]) for image in golden_inputs(session, golden)])
    answers = decided(spec, outputs.logits)
    if spec.novelty is not None and outputs.distance is not None:
        answers[spec.novelty.refuses(outputs.distance)] = -1
    return Answers(
        precision=spec.file.precision if spec.file else "unknown",
        n_hard=sum(case.kind != PHANTOM for case in golden.cases),
        logits=outputs.logits.tolist(),
        distances=[] if outputs.distance is None else outputs.distance.tolist(),
        answers=answers.tolist(),
        verified=verify(session, session.file.sha256, "").passed,
    )


if __name__ == "__main__":
    files = [answers_of(Path(name)) for name in sys.argv[1:]]
    json.dump(asdict(Wheel(platform.python_version(), versions(), files)), sys.stdout)
