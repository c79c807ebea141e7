"""A dataclass to a fresh process and a dataclass back, through two files.

Where the process dies, the line of its error says why.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kneeedge.system.strict_json import from_json, to_json

T = TypeVar("T")
PROGRAM = "benchmarks.peers"
EXCEPTIONS = ("Error", "Exception", "NotImplemented", "Fail")
"how the names of exceptions end, ONNX Runtime's among them"


class JobError(Exception):
    """Why a process gave no reply, in one line."""


def run_job(step: str, request: Any, reply: type[T], work: Path) -> T:
    """What `benchmarks.peers.<step>` replies to a request.

    Raises JobError where the process ends without a reply.
    """
    # openvino-telemetry reports nothing from a CI
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"), "CI": "true"}
    with tempfile.TemporaryDirectory(dir=work) as folder:
        request_file = Path(folder, "request.json")
        reply_file = Path(folder, "reply.json")
        request_file.write_text(to_json(request), encoding="utf-8")
        module = f"{PROGRAM}.{step}"
        command = [sys.executable, "-m", module, str(request_file), str(reply_file)]
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        if done.returncode or not reply_file.is_file():
            raise JobError(error_line(done.returncode, done.stderr))
        return from_json(reply, reply_file.read_text(encoding="utf-8"))


def serve(request_type: type[T], answer: Callable[[T], Any]) -> None:
    """The other side: the request from the first argument's file, the reply to the second's."""
    request_file, reply_file = map(Path, sys.argv[1:3])
    request = from_json(request_type, request_file.read_text(encoding="utf-8"))
    reply_file.write_text(to_json(answer(request)), encoding="utf-8")


def without_paths(reason: Exception, **places: str) -> str:
    """The reason with each of the places under its name, since results are published."""
    text = str(reason)
    for name, path in places.items():
        text = text.replace(path, name.upper())
    return text


def error_line(status: int, stderr: bytes) -> str:
    """The last line that names an exception, else the last line, else how the process ended."""
    stripped = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines()]
    lines = [line for line in stripped if line]
    naming = [line for line in lines if line.partition(":")[0].endswith(EXCEPTIONS)]
    if naming:
        return naming[-1]
    if lines:
        return lines[-1]
    return f"signal {-status}" if status < 0 else f"exit code {status}"
