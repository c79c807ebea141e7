"""Inference uses no network and leaves nothing in the user's home, nor does ONNX Runtime in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_onnx import write_tiny_model
from tests.tools import need

ROOT = Path(__file__).parent.parent
FORBID = """
import sys

def forbid(event, arguments):
    if event.startswith("socket."):
        print("a socket was used:", event, arguments, file=sys.stderr, flush=True)
        raise RuntimeError("a socket was used")

sys.addaudithook(forbid)
"""
"a sitecustomize.py: Python says each use of a socket to its audit hooks, before it happens"
SILENCERS = (
    "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "TF_BUILD", "GITHUB_ACTIONS",
    "XDG_CACHE_HOME",
)  # fmt: skip
"variables that keep ONNX Runtime silent, or its files elsewhere"
NAMESPACES = (["unshare", "-rn"], ["unshare", "-n"])
BENCH = pytest.param("bench", marks=pytest.mark.slow)
COMMANDS = ("infer", BENCH, "evaluate", "verify", "info")


@pytest.fixture
def model(tmp_path) -> Path:
    return write_tiny_model(tmp_path / "m.onnx")


def command(name: str, model: Path, data: Path, out: Path) -> list[str]:
    arguments = {
        "infer": [data / "test", "--model", model, "--out", out / "p.csv"],
        "bench": [model, "--seconds", "0.2", "--rounds", "1", "--batch-size", "1", "--data", data],
        "evaluate": [model, data],
    }.get(name, [model])
    return [sys.executable, "-m", "kneeedge", name, *map(str, arguments)]


def run(words: list[str], home: Path, *modules: Path) -> subprocess.CompletedProcess[str]:
    """Run with an empty home; nothing but kneeedge keeps ONNX Runtime silent."""
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if name not in SILENCERS}
    env |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join(map(str, (*modules, ROOT)))}
    return subprocess.run(
        words, env=env, cwd=home.parent, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """What runs a command where there is no network interface but a loopback that is down."""
    for words in NAMESPACES:
        if shutil.which(words[0]) is None:
            continue
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            return list(words)
    pytest.skip("this machine lets nobody here make a network namespace")


def test_the_namespace_has_no_network(namespace):
    code = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    done = subprocess.run(
        [*namespace, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "Network is unreachable" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_without_any_network(name, namespace, model, phantoms, tmp_path):
    done = run([*namespace, *command(name, model, phantoms, tmp_path)], tmp_path / "home")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_opens_no_socket_and_leaves_nothing_in_the_users_home(
    name, model, phantoms, tmp_path
):
    (tmp_path / "forbid").mkdir()
    (tmp_path / "forbid/sitecustomize.py").write_text(FORBID)
    done = run(command(name, model, phantoms, tmp_path), tmp_path / "home", tmp_path / "forbid")
    assert done.returncode == 0, done.stderr
    assert "a socket was used" not in done.stderr
    assert list((tmp_path / "home").rglob("*")) == []


def test_the_ban_on_sockets_works(tmp_path):
    (tmp_path / "forbid").mkdir()
    (tmp_path / "forbid/sitecustomize.py").write_text(FORBID)
    code = "import socket; socket.socket()"
    done = run([sys.executable, "-c", code], tmp_path / "home", tmp_path / "forbid")
    assert done.returncode == 1
    assert "a socket was used: socket.__new__" in done.stderr


@pytest.mark.slow
def test_native_code_asks_for_no_internet_socket_either(model, phantoms, tmp_path):
    need("strace")
    trace = tmp_path / "trace.txt"
    strace = ["strace", "-f", "-qq", "-e", "trace=socket,connect,sendto", "-o", str(trace)]
    done = run([*strace, *command("infer", model, phantoms, tmp_path)], tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "AF_INET" not in trace.read_text()
