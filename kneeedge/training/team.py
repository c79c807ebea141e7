"""What the processes that train together tell each other, through `torch.distributed`.

Numbers go as tensors of the CPU, by gloo; the gradients are DDP's, by NCCL where they lie on GPUs.
Alone, each of it gives back what it is given.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from kneeedge.errors import ConfigError, PeerLostError
from kneeedge.system.ranks import MEETING, RESTARTS, Rank

PATIENCE = timedelta(days=1)
"that the others wait while the first one prepares or scores; who ends is noticed at once"
LIBRARIES = ("gloo", "nccl", "c10d")
"named in what torch says of a connection that broke"
TOLD = "told"


@dataclass(frozen=True)
class Team(Rank):
    """One process among those that train together, and what it tells the others."""

    def total(self, values: Tensor) -> Tensor:
        """The sum of all processes' tensors, of one shape; it is written to `values`."""
        if self.size > 1:
            with peers_needed():
                distributed.all_reduce(values)
        return values

    def of_first(self, values: Tensor) -> Tensor:
        """The first process's tensor, of one shape in all; it is written to `values`."""
        if self.size > 1:
            with peers_needed():
                distributed.broadcast(values, src=0)
        return values

    def wait(self) -> None:
        """Until all processes have come here."""
        self.total(torch.zeros(1))

    def first_says(self, answer: bool) -> bool:
        """What the first process answers."""
        return bool(self.of_first(torch.tensor([int(answer)])).item())

    def text_of_first(self, text: str) -> str:
        """What the first process's text is."""
        content = torch.tensor(list(os.fsencode(text)), dtype=torch.uint8)
        length = int(self.of_first(torch.tensor([len(content)])).item())
        if not self.is_first:
            content = torch.zeros(length, dtype=torch.uint8)
        return os.fsdecode(bytes(self.of_first(content).tolist()))

    def share_statistics(self, model: nn.Module) -> None:
        """Give all processes the mean of what their batch norms have learnt of the activations.

        Each has normalised by its own part of every batch. Frozen ones have learnt nothing.
        """
        if self.size == 1:
            return
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.training:
                for statistic in (module.running_mean, module.running_var):
                    if statistic is not None:
                        statistic.copy_(self.total(statistic.cpu().clone()) / self.size)


ALONE = Team()


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a training have met."""

    team: Team
    store: Any = None
    "a `torch.distributed.Store`; absent for a process alone"

    def first_to_tell(self) -> bool:
        """Whether no other process has said yet why the training ends."""
        if self.store is None:
            return True
        attempt = os.environ.get(RESTARTS, "0")  # torchrun keeps one store over its restarts
        try:
            return bool(self.store.add(f"{TOLD} {attempt}", 1) == 1)
        except RuntimeError:  # whoever kept the store is gone
            return True

    def leave(self) -> None:
        """Let go of the connections."""
        if self.store is not None:
            distributed.destroy_process_group()


def meet(rank: Rank) -> Meeting:
    """Join the other processes, on a device of its own.

    Raises ConfigError where this machine has fewer devices, PeerLostError where one does not come.
    """
    team = Team(rank.number, rank.size)
    if team.size == 1:
        return Meeting(team)
    check_devices(team.size)
    if torch.cuda.is_available():
        torch.cuda.set_device(team.number)
    with peers_needed():
        store = _store(team)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=distributed.PrefixStore("team", store),  # type: ignore[attr-defined]
            rank=team.number,
            world_size=team.size,
            timeout=PATIENCE,
        )
    return Meeting(team, store)


def check_devices(size: int) -> None:
    """Raise ConfigError where this machine has fewer than `size` devices to train on."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    n = n_gpus or usable_cpus()
    if size > n:
        kind = "GPU" if n_gpus else "CPU"
        plural = "" if n == 1 else "s"
        problem = f"{size} processes are to train on {n} {kind}{plural}"
        raise ConfigError(problem, f"give --devices {n} at most")


def usable_cpus() -> int:
    """CPUs that this process may use, hyper-threads counted."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def peers_needed() -> Iterator[None]:
    """Within, PeerLostError is raised where another process does not answer any more."""
    try:
        yield
    except RuntimeError as error:
        if not speaks_of_a_peer(error):
            raise
        raise PeerLostError from error


def speaks_of_a_peer(error: RuntimeError) -> bool:
    """Whether torch speaks of a connection, rather than of memory or of shapes."""
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(name in text for name in LIBRARIES)


def _store(team: Team) -> Any:
    """Where the processes find each other: a file of ours, or what torchrun serves."""
    if MEETING in os.environ:
        path = os.environ[MEETING]
        return distributed.FileStore(path, team.size)  # type: ignore[attr-defined]
    size = team.size
    found = distributed.rendezvous("env://", team.number, size)  # type: ignore[attr-defined]
    return next(iter(found))[0]
