"""Which of the processes of one training this is, as what started them says."""

import os
from dataclasses import dataclass

from kneeedge.errors import ConfigError

MEETING = "KNEEEDGE_MEETING"
"names the file by which the processes of `--devices` find each other"
TORCHRUN = "TORCHELASTIC_RUN_ID"
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
PEER_LOST = 75
"exit code of a process that another one left alone; EX_TEMPFAIL of sysexits.h"
PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"what torchrun tells each process"
TASKS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
"how many processes mpirun and srun started; of PyTorch's meeting they tell nothing"


@dataclass(frozen=True)
class Rank:
    """One of the processes that train a network together; alone by default."""

    number: int = 0
    "counted from 0; the first writes, scores and decides"
    size: int = 1
    "processes together, each on a device of its own"

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def part(self, n: int) -> slice:
        """The process's own of `n` things; each is in one part, and parts differ by one at most."""
        share, rest = divmod(n, self.size)
        start = self.number * share + min(self.number, rest)
        return slice(start, start + share + (self.number < rest))


def started_by_us() -> bool:
    """Whether `--devices` started this process."""
    return MEETING in os.environ


def this_rank() -> Rank:
    """The place of this process among those that were started together.

    Raises ConfigError where it is not told whole, or where more than one machine is to train.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        _refuse_others()
        return Rank()
    missing = [name for name in PLACE if name not in os.environ]
    if missing and not started_by_us():
        problem = f"WORLD_SIZE is {size}, and {missing[0]} is not set"
        raise ConfigError(problem, "start the training with --devices or with torchrun")
    if _number("LOCAL_WORLD_SIZE", size) != size:
        problem = f"{size} processes on several machines; a training keeps to the devices of one"
        raise ConfigError(problem, "start it with torchrun --nnodes 1")
    number = _number("RANK", 0)
    if number >= size:
        problem = f"RANK {number} is not below WORLD_SIZE {size}"
        raise ConfigError(problem, "start the training with --devices or with torchrun")
    return Rank(number, size)


def started_by_torchrun() -> bool:
    """Whether torchrun, or what sets the same variables, started this process."""
    return TORCHRUN in os.environ or (_number("WORLD_SIZE", 1) > 1 and not started_by_us())


def torchrun_size() -> int:
    """How many processes torchrun started of this command; 1 without it."""
    return _number("WORLD_SIZE", 1) if TORCHRUN in os.environ else 1


def was_restarted() -> bool:
    """Whether torchrun has started all processes again after one of them ended."""
    return _number(RESTARTS, 0) > 0


def _refuse_others() -> None:
    """Raise ConfigError where each of several processes would train by itself."""
    for name in TASKS:
        n = _number(name, 1)
        if n > 1 and TORCHRUN not in os.environ:
            problem = f"{name} says that {n} processes were started, which do not know each other"
            remedy = f"start one, with --devices, or by torchrun; unset {name} for one of its own"
            raise ConfigError(problem, remedy)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdigit():
        raise ConfigError(f"{name}={text} is no number", "unset it, or start the job with torchrun")
    return int(text)
