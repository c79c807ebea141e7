"""Python processes that run a module of kneeedge: what they answer, and the errors they send back.

A native library may crash, hang or write over its own memory. What might is run in a Child, whose
parent waits for it no longer than it wants to.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from kneeedge import errors
from kneeedge.errors import KneeEdgeError

Message = TypeVar("Message")

END_SECONDS = 5.0
"for a killed process to end; one that waits for a dead network share does not"
LAST_SECONDS = 60.0
"for a process whose stdout is closed to end: on a busy machine that takes a while"
PR_SET_PDEATHSIG = 1
"of linux/prctl.h"
LONGEST = 300
"characters of a process's last words"


class ChildLostError(Exception):
    """A child that ended, answered what is no message, or did not answer in time."""

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out


class Child(Generic[Message]):
    """One process that runs a module, reads lines on stdin and answers messages on stdout.

    It starts at once. Its stdout is read by a thread that nothing waits for, so that a child which
    hangs where no signal reaches it can be left behind.
    """

    def __init__(
        self,
        module: str,
        read_message: Callable[[BinaryIO], Message | None],
        *,
        ignores_ctrl_c: bool = False,
        variables: dict[str, str] | None = None,
    ) -> None:
        """Run `module`; `read_message` takes one message from its stdout, None at the end.

        A ValueError of `read_message` is the child's fault, and ends it as well. With
        `ignores_ctrl_c` the keys that stop a run reach the parent alone, which lets its child go.
        """
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        self._process = subprocess.Popen(
            command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(**(variables or {})),
            start_new_session=ignores_ctrl_c,
        )
        self._stdin: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._stdout: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._is_damaged = False
        "whether it said what is no message"
        self._closing = threading.Lock()
        "held while its files are closed, and while its last words are read"
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, args=[read_message], daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: str) -> None:
        """Give it a line; that it is dead, or was ended, shows in `receive`."""
        with contextlib.suppress(OSError, ValueError):
            self._stdin.write(line.encode("utf-8", "surrogateescape") + b"\n")
            self._stdin.flush()

    def receive(self, seconds: float) -> Message:
        """Its next message. Raises ChildLostError where none comes within `seconds`, or ever."""
        try:
            message = self._messages.get(timeout=seconds)
        except queue.Empty:
            raise ChildLostError(f"no answer within {seconds:g} s", timed_out=True) from None
        if message is None:
            raise ChildLostError(self._cause())
        return message

    def finish(self, seconds: float) -> int:
        """Close its stdin, upon which it ends by itself; its exit code."""
        self._stdin.close()
        return self._process.wait(seconds)

    def end(self) -> None:
        """Kill the process, whatever it does."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
            self._listener.join(END_SECONDS)
            with self._closing:
                for file in (self._stdin, self._stdout, self._stderr):
                    with contextlib.suppress(OSError):  # what was not sent any more
                        file.close()

    def _listen(self, read_message: Callable[[BinaryIO], Message | None]) -> None:
        """Hand over the messages; None stands for the end, or for what is no message."""
        try:
            while (message := read_message(self._stdout)) is not None:
                self._messages.put(message)
        except ValueError:  # a child that overwrote its memory may say anything
            self._is_damaged = True
        self._messages.put(None)

    def _cause(self) -> str:
        """Why the process ended."""
        try:
            status = self._process.wait(END_SECONDS if self._is_damaged else LAST_SECONDS)
        except subprocess.TimeoutExpired:
            return "its answer is damaged" if self._is_damaged else "it closed its output"
        with self._closing:
            if self._stderr.closed:
                return "it was ended"
            self._stderr.seek(0)
            return last_words(status, self._stderr.read())


def last_words(status: int, stderr: bytes) -> str:
    """Why a process ended: the signal that ended it, and the last line that it wrote."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines()]
    last = next(filter(None, reversed(lines)), "")[:LONGEST]
    if status >= 0:
        return last or f"exit code {status}"
    memory = ", as when memory runs out" if -status == signal.SIGKILL else ""
    ended = f"signal {-status}, {signal.strsignal(-status)}{memory}"
    return f"{ended}: {last}" if last else ended


@dataclass(frozen=True)
class Failure:
    """A KneeEdgeError on its way to the parent."""

    kind: str
    "name of the class in kneeedge.errors"
    message: str


def as_raised(kind: str, message: str) -> KneeEdgeError:
    """The error of class `kind` in kneeedge.errors, with the message that it was raised with.

    Its class made that message of its arguments there, and is not to make one of it again.
    """
    error_class: type[KneeEdgeError] = getattr(errors, kind, KneeEdgeError)
    error = error_class.__new__(error_class)
    Exception.__init__(error, message)
    return error


def end_with_parent() -> None:
    """Let the system kill this process when its parent ends, however that ends; for a child's main.

    Linux alone knows of that (prctl(2), PR_SET_PDEATHSIG). There it is the thread that started the
    child whose end counts, so who starts children from a thread ends them before it. A parent that
    ended before this call has closed the child's stdin; elsewhere that is all that tells of it.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def command(module: str, *arguments: str) -> list[str]:
    """What runs a module in this Python."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(**variables: str) -> dict[str, str]:
    """Variables with which such a process finds the modules that this one finds."""
    modules = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": modules, **variables}
