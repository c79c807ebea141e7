"""What this machine is: cores that may be used, instruction sets, versions."""

import math
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ISA_OF_INTEREST = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16",
)  # fmt: skip
PACKAGES = (
    "kneeedge", "numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "onnx", "onnxscript", "torch", "torchvision",
    "lightning-fabric",
)  # fmt: skip


@dataclass(frozen=True)
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


def environment() -> Environment:
    """The facts of this machine and its installed packages."""
    return Environment(
        cpu=cpu_model(),
        isa=isa_flags(),
        n_cpus=available_cpus(),
        memory_gb=round(memory_bytes() / 1e9, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


def versions() -> dict[str, str]:
    """Versions of the packages that decide an answer; those not installed are absent."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """The processor's name as its maker gives it."""
    names = [value for key, value in _cpuinfo() if key == "model name"]
    return names[0] if names else platform.processor() or platform.machine()


def isa_flags() -> tuple[str, ...]:
    """The instruction sets of `ISA_OF_INTEREST` that this CPU has; empty where the system does not tell."""
    flags = {flag for key, value in _cpuinfo() if key in ("flags", "Features") for flag in value.split()}
    return tuple(name for name in ISA_OF_INTEREST if name in flags)


def has_vnni(isa: tuple[str, ...] | None = None) -> bool:
    """Whether u8×s8 products accumulate in 32 bits with `isa`, this CPU's by default; AVX2 saturates in 16 bits."""
    return not {"avx512_vnni", "avx_vnni", "amx_int8"}.isdisjoint(isa_flags() if isa is None else isa)


def available_cpus() -> int:
    """Physical cores this process may use: affinity, hyper-threads counted once, container quota."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _cgroup_cpus()))


def memory_bytes() -> int:
    """Physical memory, or 0 where the system does not tell."""
    if not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpuinfo() -> list[tuple[str, str]]:
    text = _read(Path("/proc/cpuinfo")).split("\n\n", maxsplit=1)[0]
    pairs = (line.partition(":") for line in text.splitlines())
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _siblings(cpu: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return _read(path).strip() or str(cpu)


def _cgroup_cpus() -> int:
    """Whole cores that the container's CPU quota (cgroup v2, else v1) leaves; a large number where there is none."""
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    if not quota:
        quota = _read(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
        period = _read(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    try:
        microseconds, window = int(quota), int(period)
    except ValueError:  # "max", or no cgroup at all
        return 1 << 16
    return max(1, math.ceil(microseconds / window)) if microseconds > 0 < window else 1 << 16


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
