"""What looking through a model file costs, and what verifying its signature adds.

    python -m benchmarks.signed_load MODEL.onnx [--rounds 5] [--json FILE]

Each load is a process of its own; the ways take turns and the median of the rounds is reported.
`plain` is ONNX Runtime on the path; `checked` is kneeedge's session; `signed` is such a session
with a signature required. Seconds and peak memory are told; ONNX Runtime's import and that of
`cryptography` are outside the clock.
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
    arguments = parser.parse_args()
    runs: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        model, public_key = signed_copy(arguments.model, Path(scratch))
        for _ in range(arguments.rounds):
            for way in WAYS:
                command = [sys.executable, "-c", CHILD, way, str(model), str(public_key)]
                done = subprocess.run(command, capture_output=True, check=True)
                runs[way].append(json.loads(done.stdout))
    medians = {}
    for way, rows in runs.items():
        medians[way] = [statistics.median(column) for column in zip(*rows, strict=True)]
        look, load, peak = medians[way]
        times = f"look {look * 1e3:7.1f} ms  load {load * 1e3:7.1f} ms"
        print(f"{way:8}  {times}  peak {peak:7.1f} MiB")
    if arguments.json:
        record = {
            "environment": asdict(environment()),
            "model": arguments.model.name,
            "rounds": arguments.rounds,
            "columns": ["look_s", "load_s", "peak_mib"],
            "medians": medians,
            "runs": runs,
        }
        arguments.json.write_text(json.dumps(record) + "\n", encoding="utf-8")


def signed_copy(model: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of the model that is signed, and the file of the public key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from kneeedge.model.signature import sign_file

    private_key = Ed25519PrivateKey.generate()
    copy = folder / model.name
    copy.write_bytes(model.read_bytes())
    sign_file(copy, private_key)
    public_key = private_key.public_key()
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public_file = folder / "PUBLIC.pem"
    public_file.write_bytes(pem)
    return copy, public_file


if __name__ == "__main__":
    main()
