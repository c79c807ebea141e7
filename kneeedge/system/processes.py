"""Python processes that run a module of kneeedge, and the errors that come back from them."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from kneeedge import errors
from kneeedge.errors import KneeEdgeError


@dataclass(frozen=True)
class Failure:
    """A KneeEdgeError on its way to the parent."""

    kind: str
    "name of the class in kneeedge.errors"
    message: str


def as_raised(kind: str, message: str) -> KneeEdgeError:
    """The error of class `kind` in kneeedge.errors with the message that it already made of its
    arguments.
    """
    found: type[KneeEdgeError] = getattr(errors, kind, KneeEdgeError)
    error = found.__new__(found)
    Exception.__init__(error, message)
    return error


def command(module: str, *arguments: str) -> list[str]:
    """What runs a module in this Python."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(**more: str) -> dict[str, str]:
    """Variables with which such a process finds what this one found."""
    modules = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": modules, **more}
