"""Whether wheels of ONNX Runtime give the same answers: model files' golden inputs through each.

    python -m benchmarks.wheels --python .venv-gpu/bin/python [--python …] MODEL... [--json FILE]

Each `--python` has another wheel (`make gpu` makes the environment named here), numpy and Pillow;
its answers on the CPU are held against those of this Python's wheel. Exit code 1 where an answer
flips.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.wheels.child import Answers, Wheel
from kneeedge.system.files import write_text
from kneeedge.system.machine import environment

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Change:
    """One file's answers in one wheel beside those in this Python's."""

    wheel: str
    "name and version"
    precision: str
    n: int
    n_hard: int
    flips: int
    max_logit_change: float
    max_distance_change: float | None
    verified: bool
    "whether `kneeedge verify` passes"


def ask(python: str, models: Sequence[Path]) -> Wheel:
    """What the ONNX Runtime of `python` answers; raises CalledProcessError where it cannot."""
    command = [python, "-m", "benchmarks.wheels.child", *map(str, models)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE)
    record = json.loads(done.stdout)
    files = [Answers(**answers) for answers in record["files"]]
    return Wheel(record["python"], record["versions"], files)


def name_of(wheel: Wheel) -> str:
    """As onnxruntime-gpu 1.31.1."""
    names = [f"{n} {v}" for n, v in wheel.versions.items() if n.startswith("onnxruntime")]
    return ", ".join(names)


def changes(reference: Wheel, other: Wheel) -> list[Change]:
    """How each file's answers in `other` differ from those in `reference`."""
    return [
        change(name_of(other), here, there)
        for here, there in zip(reference.files, other.files, strict=True)
    ]


def change(wheel: str, here: Answers, there: Answers) -> Change:
    return Change(
        wheel=wheel,
        precision=there.precision,
        n=len(there.answers),
        n_hard=there.n_hard,
        flips=sum(a != b for a, b in zip(here.answers, there.answers, strict=True)),
        max_logit_change=largest(here.logits, there.logits),
        max_distance_change=largest(here.distances, there.distances) if here.distances else None,
        verified=there.verified,
    )


def largest(here: Sequence[object], there: Sequence[object]) -> float:
    return float(np.abs(np.subtract(here, there)).max())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--python", action="append", required=True, help="with another wheel")
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args(argv)
    models = [model.absolute() for model in asked.models]
    reference, *others = [ask(python, models) for python in (sys.executable, *asked.python)]
    rows = [row for other in others for row in changes(reference, other)]
    for row in rows:
        change = f"{row.flips} of {row.n} flips, logits change by {row.max_logit_change:.2g}"
        print(f"{row.wheel}, {row.precision}: {change}; verified: {row.verified}")
    record = {
        "environment": asdict(environment()),
        "models": [model.name for model in models],
        "reference": name_of(reference),
        "wheels": [
            {"python": wheel.python, "versions": wheel.versions} for wheel in (reference, *others)
        ],
        "changes": list(map(asdict, rows)),
    }
    if asked.json:
        write_text(asked.json, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return int(any(row.flips for row in rows))


if __name__ == "__main__":
    sys.exit(main())
