"""How much memory a process took at most, and how much this machine has left."""

import contextlib
import sys
from pathlib import Path

from kneeedge import machine


def restart_peak_mb() -> float | None:
    """Forget the process's peak of memory where the system can (Linux), and give what stands now."""
    with contextlib.suppress(OSError):  # no Linux, or a kernel without it: the peak so far stands
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory_mb()


def peak_memory_mb() -> float | None:
    """Most resident memory of this process so far; None where the system does not tell (Windows).

    VmHWM where there is one: on Linux `ru_maxrss` survives an exec, so it would hold the parent's peak.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, the others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def free_memory_mb() -> float:
    """What may still be taken here, container limit included; infinity where the system does not tell."""
    lines = machine.read_text(Path("/proc/meminfo")).splitlines()
    free = next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("MemAvailable:")), float("inf"))
    limit = machine.memory_limit_bytes()
    used = machine.read_text(Path("/sys/fs/cgroup/memory.current")).strip()
    return min(free, (limit - int(used)) / 1e6) if limit is not None and used else free


def above(before: float | None, now: float | None) -> float | None:
    """The growth since `before`, MB; None where either is not known."""
    return None if before is None or now is None else round(max(0.0, now - before), 1)
