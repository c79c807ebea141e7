"""What is refused of any command's options before it works: no value, no number, no place."""

import errno
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.system.files import is_stream

LARGEST = 2**31 - 1
"of an option that counts"
WRITTEN = (
    "--out", "--json", "--csv", "--markdown", "--figure", "--html", "--write-groups",
    "--write-labels", "--rows",
)  # fmt: skip
"options that name what a command writes"


def refuse_empty(args: Sequence[str]) -> None:
    """Raise ConfigError for an empty argument.

    As a path it would be the folder where one stands, which nobody asked for.
    """
    for argument in args:
        name, equals, value = argument.partition("=")
        if not argument or (name.startswith("--") and equals and not value):
            problem = f"{name or 'an argument'} is empty"
            raise ConfigError(problem, "give a value, or leave it out; a variable may be unset")


def refuse_empty_variable(names: str | Sequence[str] | None) -> None:
    """Raise ConfigError where a variable is set and empty: what it was to ask for is not known."""
    for name in [names] if isinstance(names, str) else names or ():
        if os.environ.get(name) == "":
            raise ConfigError(f"{name} is set and empty", f"give it a value, or `unset {name}`")


def refuse_no_number(option: str, value: object) -> None:
    """Raise ConfigError for NaN, an infinity, and an integer that no library takes."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{option} {value} is no finite number", "give one")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"{option} {value} is too large", f"give {LARGEST:,} at most")


def refuse_overwriting(values: Mapping[str, object]) -> None:
    """Raise ConfigError where a file to write is also one to read, or is to be written twice."""
    places: dict[Path, str] = {}
    for option in sorted(values, key=WRITTEN.__contains__):
        value = values[option]
        for path in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(path, Path) or path == Path("-") or is_stream(path):
                continue
            other = places.setdefault(path.resolve(), option)
            if other != option and option in WRITTEN:
                raise ConfigError(f"{option} and {other} both name {path}", "name another file")


def new_file(path: Path | None) -> Path | None:
    """The file to write, of an option, in a folder that is there or can be made; - is stdout.

    Raises OutputExistsError or PermissionError where it could not be written after the work.
    """
    if path is None or path == Path("-") or is_stream(path):
        return path
    if path.is_dir():
        raise OutputExistsError(path, "it is a folder; name a file")
    folder = next(above for above in path.absolute().parents if above.exists())
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return path


def new_folder(path: Path | None) -> Path | None:
    """The folder to write to, of an option; raises OutputExistsError where a file has the name."""
    if path is not None and path.exists() and not path.is_dir():
        raise OutputExistsError(path, "it is no folder; name one")
    return path


def run_folder(path: Path) -> Path:
    """The folder of a new run; raises ConfigError where its name is no UTF-8.

    Such a name cannot be given to the writer of weights.
    """
    if any("\udc80" <= char <= "\udcff" for char in str(path)):
        raise ConfigError(f"{path}: the name is no UTF-8", "name the run otherwise")
    return path


def known_provider(name: str) -> str:
    """The provider's name, of an option; raises ConfigError where kneeedge does not know it."""
    from kneeedge.runtime.providers import PROVIDERS  # `kneeedge --help` comes past this module

    known = ("auto", *PROVIDERS)
    if name not in known:
        raise ConfigError(f"--provider {name} is unknown", f"choose from {', '.join(known)}")
    return name


def known_providers(names: str) -> str:
    """Names of providers, separated by commas; raises ConfigError for one that is none."""
    return ",".join(map(known_provider, names.split(",")))
