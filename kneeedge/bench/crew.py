"""The worker processes, from the parent's side: one a subject, asleep but for whose turn it is."""

from contextlib import ExitStack
from types import TracebackType
from typing import BinaryIO

from kneeedge.bench.messages import Command, Reply, Started, WorkRequest
from kneeedge.errors import WorkerError
from kneeedge.system.processes import Child, ChildLostError, as_raised
from kneeedge.system.strict_json import from_json, to_json

WORKER = "kneeedge.bench.worker"


class WorkerProcess:
    """One worker process.

    Raises what the worker refuses as it is, and WorkerError where it dies or does not answer.
    """

    def __init__(self, request: WorkRequest, timeout: float) -> None:
        self.job = f"the benchmark of {request.model}"
        self.timeout = timeout
        self.child = Child(WORKER, read_line)
        try:
            started = self._ask(to_json(request, indent=None)).started
            if started is None:
                raise WorkerError(self.job, "its reply is damaged")
        except BaseException:
            self.end()
            raise
        self.started: Started = started

    def ask(self, command: Command) -> Reply:
        """The reply to a command; this process sleeps meanwhile."""
        return self._ask(to_json(command, indent=None))

    def end(self) -> None:
        """End the process, whatever it does."""
        self.child.end()

    def _ask(self, line: str) -> Reply:
        self.child.send(line)
        try:
            return read_reply(self.child.receive(self.timeout), self.job)
        except ChildLostError as error:
            if not error.timed_out:
                raise WorkerError(self.job, error.reason) from error
            reason = f"it did not answer within {self.timeout:g} s"
            remedy = "give more time with --timeout, or smaller sizes with --batch-size"
            raise WorkerError(self.job, reason, remedy) from error


class Crew:
    """A worker for each request, kept alive between its turns; with `fresh`, a new one a turn."""

    def __init__(self, timeout: float, fresh: bool) -> None:
        self.timeout = timeout
        self.fresh = fresh
        self._workers: dict[WorkRequest, WorkerProcess] = {}
        self._stack = ExitStack()

    def start(self, request: WorkRequest, keep: bool = True) -> Started:
        """Load the model in a new process; it is ended where turns are fresh or `keep` is false."""
        worker = WorkerProcess(request, self.timeout)
        if self.fresh or not keep:
            worker.end()
        else:
            self._stack.callback(worker.end)
            self._workers[request] = worker
        return worker.started

    def ask(self, request: WorkRequest, command: Command) -> tuple[Reply, int]:
        """The reply of the request's worker, and the id of the process that gave it."""
        if not self.fresh:
            worker = self._workers[request]
            return worker.ask(command), worker.child.pid
        worker = WorkerProcess(request, self.timeout)
        try:
            return worker.ask(command), worker.child.pid
        finally:
            worker.end()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def read_line(stdout: BinaryIO) -> bytes | None:
    """A worker's next line; None at the end."""
    return stdout.readline() or None


def read_reply(line: bytes, job: str) -> Reply:
    """The worker's reply.

    Raises the KneeEdgeError that the worker met, or WorkerError where the line is damaged.
    """
    try:
        reply = from_json(Reply, line.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise WorkerError(job, f"its reply is damaged ({error})") from error
    if reply.failure is not None:
        raise as_raised(reply.failure.kind, reply.failure.message)
    return reply
