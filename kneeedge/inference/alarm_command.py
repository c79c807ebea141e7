"""A command of the user's, run once for what is noticed together, as JSON on its stdin."""

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from kneeedge.errors import ConfigError
from kneeedge.inference.drift_history import Alarm
from kneeedge.system.strict_json import to_json

ALARM_FORMAT = "kneeedge-alarm/1"
ALARM_SECONDS = 30.0
"for the command, which the next answers wait for; one that takes longer is ended"
MOST_WORDS = 200
"characters told of what a failed command said"


@dataclass(frozen=True, kw_only=True)
class AlarmMessage:
    """What the command reads from its stdin, in one line."""

    format: str = ALARM_FORMAT
    model: str
    "the file that answered"
    model_sha256: str
    history: str
    "the file of --drift"
    alarms: tuple[Alarm, ...]
    "what was noticed together"


def checked_command(text: str) -> tuple[str, ...]:
    """The program and its arguments; raises ConfigError for what is none. No shell reads them."""
    remedy = "write a program and its arguments, quoted as in a shell"
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"--alarm-command cannot be read ({error})", remedy) from error
    if not words:
        raise ConfigError("--alarm-command names no program", remedy)
    if shutil.which(words[0]) is None:
        raise ConfigError(f"--alarm-command: there is no program {words[0]!r}", remedy)
    return words


def run_command(
    command: tuple[str, ...], message: AlarmMessage, say: Callable[[str], None]
) -> None:
    """Run the command to its end; that it fails is said, and stops nothing."""
    failed = "the alarm command"
    try:
        done = subprocess.run(
            command,
            input=to_json(message, indent=None).encode("utf-8") + b"\n",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=ALARM_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        say(f"{failed} did not end within {ALARM_SECONDS:g} s")
    except OSError as error:
        say(f"{failed} could not be run: {error.strerror}")
    else:
        if done.returncode:
            words = " ".join(done.stderr.decode("utf-8", "replace").split())[:MOST_WORDS]
            say(f"{failed} ended with {done.returncode}{': ' if words else ''}{words}")
