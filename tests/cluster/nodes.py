"""Ray nodes of this machine: started, looked into, and stopped with all that they started."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

START = "from ray.scripts.scripts import main; main()"
SECONDS = 120
"for anything that is waited for: machines of CI may be slow"
STORE = 100 << 20
"bytes of a node's object store"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for the condition; fails after SECONDS."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {SECONDS} s"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # it has ended
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(folder.name)] = int(parent)
    return found


def below(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    known = parents()
    found = [pid]
    for each in found:
        found += [child for child, parent in known.items() if parent == each]
    return found[1:]


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def environment(**variables: str) -> dict[str, str]:
    """For Ray's processes: this checkout's kneeedge, no proxy, a bucket's key that is none."""
    modules = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    fake = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    fake["AWS_EC2_METADATA_DISABLED"] = "true"
    return {**os.environ, "PYTHONPATH": modules, **fake, **variables}


class TwoNodes:
    """A head and a second node, of one CPU each, with a token that nobody else knows."""

    def __init__(self) -> None:
        # sockets below it may have 107 bytes of path
        self.folder = Path(tempfile.mkdtemp(prefix="kr", dir="/tmp"))
        self.environment = environment(
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=secrets.token_hex(32),
            RAY_USAGE_STATS_ENABLED="0",
        )
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._killed: set[int] = set()
        port = self.address.rpartition(":")[2]
        self._start("--head", "--port", port, "--include-dashboard=false")
        self._start("--address", self.address)

    def _start(self, *options: str) -> None:
        log = self.folder / f"node{len(self.nodes)}.log"
        command = [sys.executable, "-c", START, "start", *options, "--block", "--num-cpus", "1"]
        command += ["--object-store-memory", str(STORE)]
        command += ["--min-worker-port", "0", "--max-worker-port", "0"]
        if "--head" in options:
            command += ["--temp-dir", str(self.folder)]
        with log.open("wb") as out:
            node = subprocess.Popen(
                command, stdout=out, stderr=out, env=self.environment, start_new_session=True
            )
        self.nodes.append(node)

        def started() -> bool:
            assert node.poll() is None, log.read_text()
            return "Ray runtime started" in log.read_text()

        until(started, f"node {len(self.nodes)}")

    def workers(self, node: int) -> list[int]:
        """The networks of a node."""
        return [pid for pid in below(self.nodes[node].pid) if "MapWorker" in title(pid)]

    def kill_node(self, node: int) -> None:
        """End all processes of a node at once, as a power cut does."""
        pids = [self.nodes[node].pid, *below(self.nodes[node].pid)]
        self._killed |= set(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.nodes[node].wait()

    def stop(self) -> None:
        """End all nodes; fails where one of their processes is left."""
        for i, node in reversed(list(enumerate(self.nodes))):
            if node.poll() is None:
                self.kill_node(i)
        shutil.rmtree(self.folder, ignore_errors=True)
        until(lambda: not self._killed & set(parents()), "the end of Ray's processes")
