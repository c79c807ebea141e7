"""What a process takes: its memory at most, and joules where the machine counts them."""

import contextlib
import ctypes
import math
import sys
from pathlib import Path

from kneeedge.system import machine

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"


def restart_peak_mb() -> float | None:
    """Forget the process's peak of memory where the system can (Linux); the peak as it stands."""
    # where it fails, on another system or a kernel without the file, the peak so far stands
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory_mb()


def peak_memory_mb() -> float | None:
    """Most resident memory of this process so far; None where the system does not tell (Windows).

    VmHWM where there is one: on Linux `ru_maxrss` survives an exec, so it would hold the parent's
    peak.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        text = status.read_text(encoding="ascii", errors="replace")
        peak = _line_mb(text, "VmHWM:")
        if peak is not None:
            return peak
    try:
        import resource
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, the others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def free_memory_mb() -> float:
    """What may still be taken, a container's limit included; infinity where nothing tells."""
    free = _line_mb(machine.read_text(Path("/proc/meminfo")), "MemAvailable:")
    if free is None:
        free = math.inf
    limit = machine.memory_limit_bytes()
    used = machine.read_text(Path("/sys/fs/cgroup/memory.current")).strip()
    if limit is None or not used:
        return free
    return min(free, (limit - int(used)) / 1e6)


def growth_mb(before: float | None, now: float | None) -> float | None:
    """The growth since `before`, MB; None where either is not known."""
    if before is None or now is None:
        return None
    return round(max(0.0, now - before), 1)


class Meter:
    """Counters of energy; `read` before and after a piece of work, and `spent` between them."""

    def __init__(self, gpu: bool, powercap: Path = POWERCAP) -> None:
        # "intel-rapl:0" is a package, "intel-rapl:0:1" a part of it; AMD's have the same names
        folders = sorted(powercap.glob("intel-rapl:*")) if powercap.is_dir() else []
        packages = [folder for folder in folders if folder.name.count(":") == 1]
        self._packages = [folder for folder in packages if _joules(folder) is not None]
        self._gpu = _open_gpu() if gpu else None

    def read(self) -> list[float]:
        """The counters now, in joules: the packages, then the GPU.

        None of them where the machine has none or hides them.
        """
        packages = map(_joules, self._packages)
        counters = [joules for joules in packages if joules is not None]
        if self._gpu is not None:
            counters.append(_gpu_joules(*self._gpu))
        return counters

    def spent(self, before: list[float], after: list[float]) -> float | None:
        """Joules between two readings; None without a counter. RAPL's counters wrap around."""
        if not before or len(before) != len(after):
            return None
        total = sum(after) - sum(before)
        for package, first, last in zip(self._packages, before, after, strict=False):
            if last < first:
                total += (_number(package / "max_energy_range_uj") or 0.0) / 1e6
        return round(total, 4)


def _line_mb(text: str, name: str) -> float | None:
    """The megabytes that a line of /proc tells in KiB; None without such a line."""
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def _joules(package: Path) -> float | None:
    microjoules = _number(package / "energy_uj")
    return None if microjoules is None else microjoules / 1e6


def _number(path: Path) -> float | None:
    """What the file holds; None where it is missing, or for the administrator alone.

    RAPL's files are the administrator's since CVE-2020-8694.
    """
    try:
        return float(machine.read_text(path))
    except (ValueError, PermissionError):
        return None


def _open_gpu() -> tuple[ctypes.CDLL, ctypes.c_void_p] | None:
    """NVML and its first device, where both are there and the device counts (Volta and later)."""
    try:
        library = ctypes.CDLL(NVML)
    except OSError:
        return None
    device = ctypes.c_void_p()
    count = ctypes.c_ulonglong()
    # each gives 0 where it worked
    failed = (
        library.nvmlInit_v2()
        or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device))
        or library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(count))
    )
    return None if failed else (library, device)


def _gpu_joules(library: ctypes.CDLL, device: ctypes.c_void_p) -> float:
    millijoules = ctypes.c_ulonglong()
    library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules))
    return millijoules.value / 1e3
