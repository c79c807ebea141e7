"""What looking through a model file costs, and what verifying its signature adds: seconds and peak
memory.

    python -m benchmarks.signed_load MODEL.onnx [--rounds 5] [--json FILE]

Each load is a process of its own; the ways take turns and the median of the rounds is reported.
`plain` is ONNX Runtime on the path; `checked` is kneeedge's session; `signed` is the same with a
signature required. ONNX Runtime's import and that of `cryptography` are outside the clock.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from kneeedge.system.machine import environment

WAYS = ("plain", "checked", "signed")
CHILD = """
import json, resource, sys, time
from pathlib import Path
from kneeedge.runtime.session import Session, load_runtime
from kneeedge.model.file import open_model
from kneeedge.model.signature import read_public_key
way, model, key = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
runtime = load_runtime()
read_public_key(key)
options = runtime.SessionOptions()
options.intra_op_num_threads = 1
marks = [time.perf_counter()]
if way == "plain":
    marks.append(marks[0])
    session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
else:
    file = open_model(model, key if way == "signed" else None)
    marks.append(time.perf_counter())
    session = Session(file, "cpu", threads=1)
marks.append(time.perf_counter())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([marks[1] - marks[0], marks[2] - marks[1], peak]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        model, public = signed_copy(asked.model, Path(scratch))
        for _ in range(asked.rounds):
            for way in WAYS:
                command = [sys.executable, "-c", CHILD, way, str(model), str(public)]
                found[way].append(
                    json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
                )
    medians = {
        way: [statistics.median(column) for column in zip(*rows, strict=True)]
        for way, rows in found.items()
    }
    for way, (look, load, peak) in medians.items():
        print(
            f"{way:8}  look {look * 1e3:7.1f} ms  load {load * 1e3:7.1f} ms  peak {peak:7.1f} MiB"
        )
    if asked.json:
        record = {
            "environment": asdict(environment()),
            "model": asked.model.name,
            "rounds": asked.rounds,
            "columns": ["look_s", "load_s", "peak_mib"],
        }
        asked.json.write_text(
            json.dumps(record | {"medians": medians, "runs": found}) + "\n", encoding="utf-8"
        )


def signed_copy(model: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of the model with its signature, and the public key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from kneeedge.model.signature import sign_file

    key = Ed25519PrivateKey.generate()
    copy = folder / model.name
    public = folder / "PUBLIC.pem"
    copy.write_bytes(model.read_bytes())
    sign_file(copy, key)
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return copy, public


if __name__ == "__main__":
    main()
