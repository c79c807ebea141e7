"""Joules, where the machine counts them: the CPU packages' RAPL counters and the first NVIDIA GPU's."""

import ctypes
from pathlib import Path

from kneeedge import machine

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"


class Meter:
    """Counters of energy; `read` before and after a piece of work, and `spent` between them."""

    def __init__(self, gpu: bool, powercap: Path = POWERCAP) -> None:
        found = sorted(powercap.glob("intel-rapl:*")) if powercap.is_dir() else []
        # "intel-rapl:0" is a package, "intel-rapl:0:1" a part of it; AMD's have the same names
        self._packages = [folder for folder in found if folder.name.count(":") == 1 and _joules(folder) is not None]
        self._gpu = _open_gpu() if gpu else None

    def read(self) -> list[float]:
        """The counters now, in joules: the packages, then the GPU; none where the machine has none or hides them."""
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
    """None where the file is missing, or only the administrator may read it, as RAPL's since CVE-2020-8694."""
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
    device, count = ctypes.c_void_p(), ctypes.c_ulonglong()
    failed = (  # each gives 0 where it worked
        library.nvmlInit_v2()
        or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device))
        or library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(count))
    )
    return None if failed else (library, device)
