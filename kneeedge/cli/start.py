"""Where `kneeedge` starts: signals and streams are set before anything heavy is imported.

To import NumPy, ONNX Runtime and PyTorch takes seconds on a small device. A stop ends there in one
line and the exit code INTERRUPTED, as it does later. So this module imports next to nothing, and
what it runs through before (`kneeedge/__init__.py`) nothing at all.
"""

import atexit
import os
import signal
import sys

from kneeedge.cli.exit_codes import DONE, FAILED, INTERRUPTED, PIPE_CLOSED
from kneeedge.cli.stops import STOPS, hear_stops, leave, raise_again, was_stopped

TYPE_CHECKING = False  # `typing` takes a while
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> "NoReturn":
    """The `kneeedge` command: what it is asked for, its streams flushed, its exit code."""
    hear_stops(leave)
    atexit.register(_finish)  # the first that is registered is the last that runs
    sys.unraisablehook = raise_again
    open_streams()
    code = _run()
    hear_stops(leave)
    code = flush(code)
    if code and _is_of_several():
        os._exit(code)
    sys.exit(code)


def _is_of_several() -> bool:
    """Whether others train with this process.

    One that fails still has connections to them, on which threads wait. As Python takes these down,
    PyTorch may abort, and the exit code would be lost.
    """
    from kneeedge.system.ranks import TORCHRUN, started_by_us

    return started_by_us() or TORCHRUN in os.environ


def _run() -> int:
    """The exit code of the command line; INTERRUPTED after a stop, whatever became of it.

    A KeyboardInterrupt may become an ImportError within a native module, or kill a child whose
    parent then misses it.
    """
    from kneeedge.cli.app import app

    code = DONE
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else FAILED
        if isinstance(end.__context__, BrokenPipeError):
            code = PIPE_CLOSED
    except Exception:
        if not was_stopped():
            raise
        sys.stderr.write("stopped\n")
    return INTERRUPTED if was_stopped() else code


def _finish() -> None:
    """At the very end: a stop that comes now changes nothing, and one that came gives the code.

    Python itself would end by SIGINT where a KeyboardInterrupt passed through an `exec`, and takes
    its handlers back before its last breath.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    if was_stopped():
        os._exit(flush(INTERRUPTED))


def open_streams() -> None:
    """Let closed standard streams lead nowhere, and let what they cannot encode be escaped.

    Without a descriptor 1 or 2 the next file that is opened would get it, and what a library prints
    would stand in it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def flush(code: int) -> int:
    """Write what the streams still hold; the exit code, another where that fails."""
    for number, stream in enumerate((sys.stdout, sys.stderr), 1):
        try:
            stream.flush()
        except OSError as error:
            code = PIPE_CLOSED if isinstance(error, BrokenPipeError) else code or FAILED
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return code
