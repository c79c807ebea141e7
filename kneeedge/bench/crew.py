"""The worker processes, from the parent's side: one for each subject, asleep but for the one whose
turn it is.
"""

import queue
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from kneeedge.bench.messages import Command, Reply, Started, WorkRequest
from kneeedge.errors import WorkerError
from kneeedge.system.processes import as_raised, command, environment
from kneeedge.system.strict_json import from_json, to_json

WORKER = "kneeedge.bench.worker"


class Member:
    """One worker process. Raises what the worker refuses as it is, and WorkerError where it dies or
    does not answer.
    """

    def __init__(self, request: WorkRequest, timeout: float) -> None:
        self.what = f"the benchmark of {request.model}"
        self.timeout = timeout
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        self._process = subprocess.Popen(
            command(WORKER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(),
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            started = self._ask(request).started
            if started is None:
                raise WorkerError(self.what, "its reply is damaged")
        except BaseException:
            self.dismiss()
            raise
        self.started: Started = started

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: Command) -> Reply:
        """The reply to a command; this process sleeps meanwhile."""
        return self._ask(command)

    def dismiss(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()

    def _ask(self, message: Any) -> Reply:
        line = to_json(message, indent=None).encode("utf-8", "surrogateescape") + b"\n"
        try:
            self._process.stdin.write(line)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            return self._read(b"")
        try:
            return self._read(self._lines.get(timeout=self.timeout))
        except queue.Empty:
            reason = f"it did not answer within {self.timeout:g} s"
            raise WorkerError(
                self.what, reason, "give more time with --timeout, or smaller --batch-sizes"
            ) from None

    def _read(self, line: bytes) -> Reply:
        if not line:
            raise WorkerError(self.what, self._last_words())
        return read_reply(line, self.what)

    def _listen(self) -> None:
        """Hand over the worker's lines; an empty one stands for its end."""
        stdout = self._process.stdout
        for line in iter(stdout.readline, b""):  # type: ignore[union-attr]
            self._lines.put(line)
        self._lines.put(b"")

    def _last_words(self) -> str:
        """Why the worker died: its last line, else its signal."""
        self._stderr.seek(0)
        return last_words(self._process.wait(), self._stderr.read())


class Crew:
    """A worker for each request, kept alive between its turns; or, with `fresh`, a new process for
    each turn.
    """

    def __init__(self, requests: Sequence[WorkRequest], timeout: float, fresh: bool) -> None:
        self.requests = list(requests)
        self.timeout = timeout
        self.fresh = fresh
        self._members: dict[int, Member] = {}
        self._stack = ExitStack()

    def start(self, i: int, keep: bool = True) -> Started:
        """Load model `i` in a new process, and let it go again where turns are fresh or `keep` is
        false.
        """
        member = Member(self.requests[i], self.timeout)
        if self.fresh or not keep:
            member.dismiss()
        else:
            self._stack.callback(member.dismiss)
            self._members[i] = member
        return member.started

    def ask(self, i: int, command: Command) -> tuple[Reply, int]:
        """The reply of the worker of model `i`, and the process that gave it."""
        if not self.fresh:
            return self._members[i].ask(command), self._members[i].pid
        member = Member(self.requests[i], self.timeout)
        try:
            return member.ask(command), member.pid
        finally:
            member.dismiss()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def read_reply(line: bytes, what: str) -> Reply:
    """The worker's reply; raises the KneeEdgeError that it met, or WorkerError where the line is
    damaged.
    """
    try:
        reply = from_json(Reply, line.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise WorkerError(what, f"its reply is damaged ({error})") from error
    if reply.failure is not None:
        raise as_raised(reply.failure.kind, reply.failure.message)
    return reply


def last_words(status: int, stderr: bytes) -> str:
    """Why a process died: its last line, else its signal."""
    said = stderr.decode("utf-8", "replace").strip().splitlines()
    silent = (
        f"signal {-status} ended it, as when memory runs out"
        if status < 0
        else f"exit code {status}"
    )
    return said[-1].strip() if said else silent
