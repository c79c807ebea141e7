"""The processes of `--devices`: each is this command line again, and none outlives another's end.

What starts and watches them needs no torch.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kneeedge.errors import WorkerError
from kneeedge.system.processes import command, environment, last_words
from kneeedge.system.ranks import MEETING, PEER_LOST, Rank

TOLD = (1, 2, 141)
"exit codes of a process that has said why it ends, or whose reader went away"
LOOK_SECONDS = 0.1
END_SECONDS = 3.0
"for the others to say what they have to say, and to end by themselves"
KILL_SECONDS = 1.0
"for those that still wait for one that never came"
STOP_SECONDS = 10.0
"after a stop, for what is being written"


def train_together(size: int, arguments: Sequence[str]) -> int:
    """Run `kneeedge ARGUMENTS` in `size` processes that train together; the exit code.

    Raises WorkerError where one ends without a word, as when it is killed. The others are ended
    then, and after a KeyboardInterrupt.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="kneeedge-") as folder:
        try:
            ranks = [Rank(number, size) for number in range(size)]
            processes.extend(_start(rank, arguments, Path(folder)) for rank in ranks)
            codes = _watch(processes)
        except BaseException:
            _end(processes, STOP_SECONDS)
            raise
        _end(processes, KILL_SECONDS)
    return _judge(codes)


def _start(rank: Rank, arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """One process, told its place as torchrun would tell it; Ctrl-C reaches its parent alone."""
    variables = {
        MEETING: str(folder / "meeting"),
        "RANK": str(rank.number),
        "LOCAL_RANK": str(rank.number),
        "WORLD_SIZE": str(rank.size),
        "LOCAL_WORLD_SIZE": str(rank.size),
    }
    if sys.platform == "linux":  # they listen to each other and to nobody else
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            variables[name] = os.environ.get(name, "lo")
    return subprocess.Popen(
        command("kneeedge", *arguments),
        stdin=subprocess.DEVNULL,
        env=environment(**variables),
        start_new_session=True,
    )


def _watch(processes: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Exit codes, once all have ended, or a little after one has failed; None: still at work."""
    deadline = None
    while True:
        codes = [process.poll() for process in processes]
        if all(code is not None for code in codes):
            return codes
        if any(codes) and deadline is None:
            deadline = time.monotonic() + END_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            return codes
        time.sleep(LOOK_SECONDS)


def _end(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    """Stop those that still work, as SIGTERM stops a command, then kill what is left of them."""
    left = [process for process in processes if process.poll() is None]
    for process in left:
        process.terminate()
    deadline = time.monotonic() + seconds
    for process in left:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.wait()


def _judge(codes: Sequence[int | None]) -> int:
    """The exit code of all; raises WorkerError where nobody has said what went wrong."""
    told = [code for code in codes if code in TOLD]
    if told:
        return int(told[0] or 0)
    failed = [(i, code) for i, code in enumerate(codes) if code]
    failed.sort(key=lambda each: each[1] == PEER_LOST)  # it names no cause
    if not failed:
        return 0
    number, code = failed[0]
    what = f"process {number + 1} of {len(codes)} of the training"
    raise WorkerError(what, last_words(code, b""))
