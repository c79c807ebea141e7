"""NVIDIA's real Triton server, as `.ci/triton` unpacks it, and what asks it."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
VARIABLE = "KNEEEDGE_TRITON"
MISSING = f"no Triton server: run `.ci/triton .cache/triton`, and set {VARIABLE} to that folder"
CLIENT = Path(__file__).with_name("client.py")
START_SECONDS = 240.0
"for a server whose models load on a busy machine"
TRIES = 3
"of a port, which another process may take between its choice and its use"


@dataclass(frozen=True)
class Triton:
    """What `.ci/triton` put into a folder."""

    root: Path

    @property
    def server(self) -> Path:
        return self.root / "server/pytriton/tritonserver"

    @property
    def client(self) -> Path:
        """A Python with tritonclient, which wants an older protobuf than kneeedge has."""
        return self.root / "client/bin/python"


@dataclass(frozen=True)
class Addresses:
    """Where a running server listens, this machine alone."""

    http: str
    grpc: str
    metrics: str
    log: Path

    def get(self, path: str, place: str = "", data: bytes | None = None) -> str:
        with urllib.request.urlopen(f"http://{place or self.http}/{path}", data) as reply:
            return str(reply.read().decode())

    def reasons(self) -> dict[str, str]:
        """Why each model was not loaded; empty for one that was."""
        models = json.loads(self.get("v2/repository/index", data=b"{}"))
        return {model["name"]: model.get("reason", "") for model in models}


def need_triton() -> Triton:
    """Skip the test where no server is unpacked; fail under CI, which is to have it."""
    triton = Triton(Path(os.environ.get(VARIABLE) or "/nowhere"))
    if not triton.client.exists():
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return triton


@contextmanager
def serving(
    triton: Triton, repository: Path, *arguments: str, **variables: str
) -> Iterator[Addresses]:
    """A server of the repository, on loopback, until the block ends."""
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(TRIES):
            addresses = _free_addresses(Path(scratch) / "log")
            with addresses.log.open("wb") as log:
                process = subprocess.Popen(
                    _command(triton, repository, addresses, arguments),
                    env=_environment() | variables,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            try:
                if _is_up(process, addresses):
                    yield addresses
                    return
            finally:
                process.terminate()
                process.wait(60)
        raise RuntimeError(addresses.log.read_text(errors="replace"))


def pids_with(words: str) -> list[int]:
    """Processes that have the words in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if words in path.read_bytes().decode(errors="replace").replace("\0", " "):
                found.append(int(path.parent.name))
    return found


def ask_files(
    triton: Triton, address: str, protocol: str, model: str, files: list[Path], threads: int = 1
) -> list[dict[str, Any]]:
    """What the model says of each file, by tritonclient: see tests/triton/client.py."""
    words = ["files", protocol, address, model, str(threads), *map(str, files)]
    return list(json.loads(run_client(triton, words)))


def run_client(triton: Triton, words: list[str]) -> str:
    """What the client prints."""
    command = [str(triton.client), str(CLIENT), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _command(
    triton: Triton, repository: Path, addresses: Addresses, arguments: tuple[str, ...]
) -> list[str]:
    places = []
    for name in ("http", "grpc", "metrics"):
        host, _, port = getattr(addresses, name).partition(":")
        places += [f"--{name}-address={host}", f"--{name}-port={port}"]
    return [
        str(triton.server / "bin/tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={triton.server / 'backends'}",
        f"--cache-directory={triton.server / 'caches'}",
        "--disable-auto-complete-config",
        *places,
        *arguments,
    ]


def _environment() -> dict[str, str]:
    """Variables with which the server's Python is the one of the tests."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
    }


def _free_addresses(log: Path) -> Addresses:
    sockets = [socket.socket() for _ in range(3)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    http, grpc, metrics = (f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return Addresses(http, grpc, metrics, log)


def _is_up(process: subprocess.Popen[bytes], addresses: Addresses) -> bool:
    """Whether the server listens; False where another process has one of its ports.

    Raises RuntimeError with its log where it ended, or never listened.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            addresses.get("v2/health/live")
            addresses.get("metrics", addresses.metrics)
        except OSError:
            time.sleep(0.1)
        else:
            return True
    text = addresses.log.read_text(errors="replace")
    if re.search(r"failed to bind|[Aa]ddress already in use|Failed to start", text):
        return False
    raise RuntimeError(text)
