"""Commands of which several processes are started: who speaks, and what is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from kneeedge.cli.exit_codes import FAILED, INTERRUPTED, WRONG_USAGE
from kneeedge.errors import ConfigError, KneeEdgeError, PeerLostError
from kneeedge.system.processes import end_with_parent
from kneeedge.system.ranks import PEER_LOST, Rank, started_by_us, this_rank, torchrun_size

TOGETHER = "train"
"the command whose processes know each other"


def refuse_torchrun(command: str | None) -> None:
    """Raise ConfigError, in one process alone, where torchrun starts what works in one."""
    n = torchrun_size()
    if n == 1 or command == TOGETHER:
        return
    if not this_rank().is_first:
        raise typer.Exit(WRONG_USAGE)
    problem = f"torchrun started {n} processes of `kneeedge {command}`, which works in one"
    raise ConfigError(problem, "start it without torchrun")


@contextmanager
def told_by_first(rank: Rank) -> Iterator[None]:
    """Within, what all processes find wrong alike is told by the first of them."""
    try:
        yield
    except KneeEdgeError as error:
        if not rank.is_first:
            raise typer.Exit(FAILED) from error
        raise


@contextmanager
def one_voice(rank: Rank) -> Iterator[Any]:
    """The meeting of all processes; why it ends is told by the first that knows.

    What watches the processes of `--devices` tells of a stop, and of one that ended without a word.
    """
    if started_by_us():
        end_with_parent()
    from kneeedge.training.team import meet

    with told_by_first(rank):
        meeting = meet(rank)
    try:
        yield meeting.team
    except PeerLostError as error:
        if started_by_us() or not meeting.first_to_tell():
            raise typer.Exit(PEER_LOST) from error
        raise
    except KeyboardInterrupt as error:
        if started_by_us() or not meeting.first_to_tell():
            raise typer.Exit(INTERRUPTED) from error
        raise
    except (KneeEdgeError, OSError, MemoryError) as error:
        if not meeting.first_to_tell():
            raise typer.Exit(FAILED) from error
        raise
    meeting.leave()
