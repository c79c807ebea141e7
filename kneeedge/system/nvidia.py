"""NVIDIA GPUs as `nvidia-smi` tells of them; nothing where there is none."""

import shutil
import subprocess
from dataclasses import dataclass

FIELDS = (
    "name", "driver_version",
    "memory.total", "clocks.sm", "clocks.max.sm", "power.draw", "temperature.gpu",
)  # fmt: skip
"what is asked of each GPU: two names, then five figures"
TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU; a figure that the driver does not give is absent."""

    name: str
    driver: str
    memory_mb: float | None
    clock_mhz: float | None
    "of the multiprocessors, now"
    max_clock_mhz: float | None
    power_w: float | None
    temperature_c: float | None


def gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine, as they are now."""
    rows = query("--query-gpu=" + ",".join(FIELDS))
    return tuple(_gpu(*row) for row in rows if len(row) == len(FIELDS))


def _gpu(name: str, driver: str, *figures: str) -> Gpu:
    memory, clock, max_clock, power, temperature = map(_number, figures)
    return Gpu(
        name=name,
        driver=driver,
        memory_mb=memory,
        clock_mhz=clock,
        max_clock_mhz=max_clock,
        power_w=power,
        temperature_c=temperature,
    )


def gpu_memory_mb(pid: int) -> float | None:
    """GPU memory of a process; None where the driver does not list it, as across containers."""
    for row in query("--query-compute-apps=pid,used_memory"):
        if row[0] == str(pid):
            return _number(row[1])
    return None


def query(question: str) -> list[list[str]]:
    """The rows of an `nvidia-smi` query; none without the tool, or where it finds no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, question, "--format=csv,noheader,nounits"]
    reply = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if reply.returncode != 0:
        return []
    return [_cells(line) for line in reply.stdout.splitlines() if line.strip()]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")]


def _number(text: str) -> float | None:
    """MiB, MHz, W or °C; None for the driver's "[N/A]"."""
    try:
        return float(text)
    except ValueError:
        return None
