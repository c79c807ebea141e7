"""What a process takes: its memory at most, and joules where the machine counts them."""

import contextlib
import ctypes
import sys
from pathlib import Path

from kneeedge.system import machine


def restart_peak_mb() -> float | None:
    """Forget the process's peak of memory where the system can (Linux), and give what stands now."""
    with contextlib.suppress(OSError):  # no Linux, or a kernel without it: the peak so far stands
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory_mb()


def peak_memory_mb() -> float | None:
    """Most resident memory of this process so far; None where the system does not tell (Windows).

    VmHWM where there is one: on Linux `ru_maxrss` survives an exec, so it would hold the parent's
    peak.
    """
    status = Path("/proc/self/status")
    lines = (
        status.read_text(encoding="ascii", errors="replace").splitlines()
        if status.is_file()
        else []
    )
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
    """What may still be taken here, container limit included; infinity where the system does not
    tell.
    """
    lines = machine.read_text(Path("/proc/meminfo")).splitlines()
    free = next(
        (int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("MemAvailable:")),
        float("inf"),
    )
    limit = machine.memory_limit_bytes()
    used = machine.read_text(Path("/sys/fs/cgroup/memory.current")).strip()
    return min(free, (limit - int(used)) / 1e6) if limit is not None and used else free


def above(before: float | None, now: float | None) -> float | None:
    """The growth since `before`, MB; None where either is not known."""
    return None if before is None or now is None else round(max(0.0, now - before), 1)


POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"


class Meter:
    """Counters of energy; `read` before and after a piece of work, and `spent` between them."""

    def __init__(self, gpu: bool, powercap: Path = POWERCAP) -> None:
        found = sorted(powercap.glob("intel-rapl:*")) if powercap.is_dir() else []
        # "intel-rapl:0" is a package, "intel-rapl:0:1" a part of it; AMD's have the same names
        self._packages = [
            folder
            for folder in found
            if folder.name.count(":") == 1 and _joules(folder) is not None
        ]
        self._gpu = _open_gpu() if gpu else None

    def read(self) -> list[float]:
        """The counters now, in joules: the packages, then the GPU; none where the machine has none
        or hides them.
        """
        counts = [joules for folder in self._packages if (joules := _joules(folder)) is not None]
        return counts if self._gpu is None else [*counts, self._gpu_joules()]

    def spent(self, before: list[float], after: list[float]) -> float | None:
        """Joules between two readings; None without a counter. RAPL's counters wrap around."""
        if not before or len(before) != len(after):
            return None
        ranges = [_number(folder / "max_energy_range_uj") for folder in self._packages]
        total = 0.0
        for i, (first, last) in enumerate(zip(before, after, strict=True)):
            wrapped = (ranges[i] or 0.0) / 1e6 if last < first and i < len(ranges) else 0.0
            total += last - first + wrapped
        return round(total, 4)

    def _gpu_joules(self) -> float:
        library, device = self._gpu  # type: ignore[misc]
        millijoules = ctypes.c_ulonglong()
        library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules))
        return millijoules.value / 1e3


def _joules(package: Path) -> float | None:
    microjoules = _number(package / "energy_uj")
    return None if microjoules is None else microjoules / 1e6


def _number(path: Path) -> float | None:
    """None where the file is missing, or only the administrator may read it, as RAPL's since
    CVE-2020-8694.
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
    failed = (  # each gives 0 where it worked
        library.nvmlInit_v2()
        or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device))
        or library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(count))
    )
    return None if failed else (library, device)
