"""What this machine is: cores that may be used, instruction sets, limits, clocks, versions."""

import math
import os
import platform
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from kneeedge.system.nvidia import Gpu, gpus

CPUS = Path("/sys/devices/system/cpu")
CPU0 = CPUS / "cpu0"
ISA_OF_INTEREST = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8",
    "amx_bf16", "asimd", "asimddp", "i8mm", "bf16",
)  # fmt: skip
BEFORE_AVX2 = "sse4_2"
VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}
PACKAGES = (
    "kneeedge", "numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "onnx", "onnxscript", "torch",
    "torchvision", "lightning-fabric",
)  # fmt: skip
NO_QUOTA = 1 << 16
"cores, more than any machine has"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where a number was measured."""

    cpu: str
    isa: tuple[str, ...]
    "instruction sets that decide the speed of fp16, bf16 and int8"
    n_cpus: int
    "physical cores this process may use, container quota included"
    memory_gb: float
    system: str
    python: str
    versions: dict[str, str]
    load_average: float | None
    "runnable processes over the last minute, before the measurement"
    cpu_quota: float | None = None
    "cores that the container's quota gives; absent where there is none"
    memory_limit_gb: float | None = None
    "of the container; absent where there is none"
    governor: str | None = None
    "how the system chooses the clock, as powersave; absent where it does not tell"
    turbo: bool | None = None
    "whether clocks may rise above the nominal one; absent where the system does not tell"
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Conditions:
    """What may change while something is measured."""

    load_average: float | None
    "runnable processes over the last minute"
    cpu_mhz: float | None
    "mean clock of the cores, where the system tells"
    throttled: int | None
    "times that heat has lowered a core's clock since the start; absent where none are counted"
    gpu_mhz: tuple[float, ...] = ()
    "clock of each GPU"


def environment() -> Environment:
    """The facts of this machine and its installed packages."""
    limit = memory_limit_bytes()
    return Environment(
        cpu=cpu_model(),
        isa=isa_flags(),
        n_cpus=available_cpus(),
        memory_gb=round(memory_bytes() / 1e9, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions(),
        load_average=_load_average(),
        cpu_quota=_cgroup_quota(),
        memory_limit_gb=None if limit is None else round(limit / 1e9, 1),
        governor=read_text(CPU0 / "cpufreq/scaling_governor").strip() or None,
        turbo=_turbo(),
        gpus=gpus(),
    )


def conditions() -> Conditions:
    """The clocks and the load of this moment."""
    facts = _key_values(read_text(Path("/proc/cpuinfo")))
    clocks = [float(value) for key, value in facts if key == "cpu MHz"]
    counters = CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [int(read_text(path)) for path in counters]
    return Conditions(
        load_average=_load_average(),
        cpu_mhz=round(sum(clocks) / len(clocks)) if clocks else None,
        throttled=sum(counts) if counts else None,
        gpu_mhz=tuple(gpu.clock_mhz for gpu in gpus() if gpu.clock_mhz is not None),
    )


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of packages, by default of those that decide an answer; what lacks is absent."""
    installed = {}
    for name in packages:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def cpu_model() -> str:
    """The processor's name as its maker gives it."""
    for key, value in _first_cpu():
        if key == "model name":
            return value
    return platform.processor() or platform.machine()


def isa_flags() -> tuple[str, ...]:
    """The sets of `ISA_OF_INTEREST` that this CPU has; empty where the system does not tell."""
    flags: set[str] = set()
    for key, value in _first_cpu():
        if key in ("flags", "Features"):  # x86's word, and Arm's
            flags.update(value.split())
    return isa_of(flags)


def isa_of(flags: Collection[str]) -> tuple[str, ...]:
    """The sets of `ISA_OF_INTEREST` among features by the names of Linux.

    An x86 older than AVX2 has `BEFORE_AVX2` alone, so that it is not taken for one unknown.
    """
    names = [name for name in ISA_OF_INTEREST if name in flags]
    if not names and BEFORE_AVX2 in flags:
        return (BEFORE_AVX2,)
    return tuple(names)


def has_vnni(isa: tuple[str, ...] | None = None) -> bool:
    """Whether u8×s8 products accumulate in 32 bits with `isa`, this CPU's by default.

    AVX2 saturates in 16 bits.
    """
    flags = isa_flags() if isa is None else isa
    return not VNNI.isdisjoint(flags)


def user_cache() -> Path:
    """Where this system keeps what a user's programs can make again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def available_cpus() -> int:
    """Physical cores that the process's affinity and the container's quota leave; at least 1.

    Hyper-threads of one core count once.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    else:
        allowed = set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _cgroup_cpus()))


def memory_bytes() -> int:
    """Physical memory, or 0 where the system does not tell."""
    if not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_limit_bytes() -> int | None:
    """The container's limit (cgroup v2, else v1); None where none is below the machine's memory."""
    physical = memory_bytes() or math.inf
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = read_text(Path(path)).strip()
        if text.isdigit() and int(text) < physical:
            return int(text)
    return None


def read_text(path: Path) -> str:
    """The text of a small file of the system; empty where it is not there."""
    return path.read_text() if path.is_file() else ""


def _load_average() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _turbo() -> bool | None:
    no_turbo = read_text(CPUS / "intel_pstate/no_turbo").strip()
    boost = read_text(CPUS / "cpufreq/boost").strip()
    if no_turbo:
        return no_turbo == "0"
    return boost == "1" if boost else None


def _first_cpu() -> list[tuple[str, str]]:
    """Key and value of each line that /proc/cpuinfo has on its first processor."""
    first, *_ = read_text(Path("/proc/cpuinfo")).split("\n\n", maxsplit=1)
    return _key_values(first)


def _key_values(text: str) -> list[tuple[str, str]]:
    pairs = (line.partition(":") for line in text.splitlines())
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _siblings(cpu: int) -> str:
    return read_text(CPUS / f"cpu{cpu}/topology/thread_siblings_list").strip() or str(cpu)


def _cgroup_cpus() -> int:
    """Whole cores that the container's quota leaves; `NO_QUOTA` where there is none."""
    quota = _cgroup_quota()
    return NO_QUOTA if quota is None else max(1, math.ceil(quota))


def _cgroup_quota() -> float | None:
    """Cores that the container's CPU quota (cgroup v2, else v1) gives; None where there is none."""
    quota_text, _, period_text = read_text(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    if not quota_text:
        quota_text = read_text(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
        period_text = read_text(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    try:
        quota_us = int(quota_text)
        period_us = int(period_text)
    except ValueError:  # "max", or no cgroup at all
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None
