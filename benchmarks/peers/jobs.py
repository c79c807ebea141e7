"""A dataclass to a fresh process and a dataclass back, through two files; a process that dies gives
its last words.
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


class JobError(Exception):
    """Why a process gave no reply, in one line."""


def run_job(step: str, request: Any, reply: type[T], work: Path) -> T:
    """What `benchmarks.peers.<step>` replies to a request; raises JobError where it ends without a
    reply.
    """
    env = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "CI": "true",  # openvino-telemetry reports nothing from there
    }
    with tempfile.TemporaryDirectory(dir=work) as folder:
        asked = Path(folder, "request.json")
        told = Path(folder, "reply.json")
        asked.write_text(to_json(request), encoding="utf-8")
        command = [sys.executable, "-m", f"{PROGRAM}.{step}", str(asked), str(told)]
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        if done.returncode or not told.is_file():
            raise JobError(last_words(done.returncode, done.stderr))
        return from_json(reply, told.read_text(encoding="utf-8"))


def serve(request: type[T], answer: Callable[[T], Any]) -> None:
    """The other side: read the request that the first argument names, write the reply to the
    second.
    """
    asked, told = map(Path, sys.argv[1:3])
    told.write_text(
        to_json(answer(from_json(request, asked.read_text(encoding="utf-8")))), encoding="utf-8"
    )


def without_paths(reason: Exception, **places: str) -> str:
    """The reason with each of the places under its name, since results are published."""
    text = str(reason)
    for name, path in places.items():
        text = text.replace(path, name.upper())
    return text


def last_words(status: int, stderr: bytes) -> str:
    """The error's own line: the last that names an exception, else the last one, else how the
    process ended.
    """
    lines = [
        line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()
    ]
    named = [
        line
        for line in lines
        if line.partition(":")[0].endswith(("Error", "Exception", "NotImplemented", "Fail"))
    ]
    said = named or lines
    return said[-1] if said else f"signal {-status}" if status < 0 else f"exit code {status}"
