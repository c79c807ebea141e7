"""The signals that stop a command: what hears them, and what they raise.

It imports next to nothing, since it is there before all else: see `kneeedge.cli.start`.
"""

import os
import signal
import sys
from contextlib import contextmanager, suppress

from kneeedge.cli.exit_codes import INTERRUPTED

TYPE_CHECKING = False  # `typing` takes a while
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    Handler = Callable[[int, FrameType | None], None]

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"the signals by which people, service managers and closed terminals stop a command"
AGAIN_SECONDS = 0.05
"after which a stop that got lost in a destructor is raised again"

_stops: "list[int]" = []
"the signals that came and were raised as KeyboardInterrupt"


def was_stopped() -> bool:
    """Whether a stop has been raised, whatever became of it."""
    return bool(_stops)


@contextmanager
def stoppable() -> "Iterator[None]":
    """Within, a stop raises KeyboardInterrupt; SIGTERM and SIGHUP lose no more than Ctrl-C does."""
    before = hear_stops(_interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hear_stops(handler: "Handler") -> "dict[int, Any]":
    """Let the handler hear the stops, but for those that are ignored, as `nohup` has it.

    Returns the handlers before.
    """
    before = {number: signal.getsignal(number) for number in STOPS}
    heard = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, handler)
    return heard


def leave(number: int, frame: "FrameType | None") -> None:
    """End at once: nothing is begun yet, or all is done."""
    with suppress(OSError):
        os.write(2, b"stopped\n")
    os._exit(INTERRUPTED)


def _interrupt(number: int, frame: "FrameType | None") -> None:
    _stops.append(number)
    raise KeyboardInterrupt


def raise_again(unraisable: "Any") -> None:
    """A KeyboardInterrupt within a destructor or a callback, which Python only reports, is raised
    again a moment later.
    """
    import threading

    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()
