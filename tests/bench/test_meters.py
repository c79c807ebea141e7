"""Energy and memory: what the counters give, and nothing where there is none."""

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kneeedge.bench import meters as meters_module
from kneeedge.bench.meters import Meter, free_memory_mb, restart_peak_mb
from kneeedge.system import nvidia


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages, and a part of one that must not count twice."""
    for name, joules in (("intel-rapl:0", 10), ("intel-rapl:0:0", 7), ("intel-rapl:1", 20)):
        (tmp_path / name).mkdir()
        write(tmp_path, name, joules)
        (tmp_path / name / "max_energy_range_uj").write_text("100000000")
    return tmp_path


def write(folder: Path, name: str, joules: float) -> None:
    (folder / name / "energy_uj").write_text(f"{int(joules * 1e6)}\n")


def test_the_packages_are_summed_and_their_parts_left_out(powercap: Path) -> None:
    meter = Meter(gpu=False, powercap=powercap)
    before = meter.read()
    write(powercap, "intel-rapl:0", 12.5)
    write(powercap, "intel-rapl:0:0", 9)
    write(powercap, "intel-rapl:1", 21)
    assert before == [10.0, 20.0]
    assert meter.spent(before, meter.read()) == 3.5


def test_a_counter_that_wraps_goes_on(powercap: Path) -> None:
    meter = Meter(gpu=False, powercap=powercap)
    assert meter.spent([99.0, 20.0], [1.0, 20.0]) == 2.0


def test_without_counters_energy_is_absent_and_not_zero(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        meter = Meter(gpu=False, powercap=folder)
        assert meter.read() == []
        assert meter.spent([], []) is None


def test_a_counter_that_only_the_administrator_may_read_is_none(
    powercap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(path)

    monkeypatch.setattr("kneeedge.system.machine.read_text", refuse)
    assert Meter(gpu=False, powercap=powercap).read() == []


class FakeNvml(SimpleNamespace):
    """NVML with one device that counts millijoules; `supported` is what the driver answers."""

    def __init__(self, supported: int = 0) -> None:
        super().__init__(supported=supported, millijoules=5000)

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, *_: Any) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, _: Any, count: Any) -> int:  # noqa: N802
        count._obj.value = self.millijoules
        return self.supported


def test_the_gpus_counter_is_added_where_it_computes(
    powercap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = FakeNvml()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    meter = Meter(gpu=True, powercap=powercap)
    before = meter.read()
    library.millijoules += 1500
    assert meter.spent(before, meter.read()) == 1.5
    assert len(Meter(gpu=False, powercap=powercap).read()) == 2


def test_a_gpu_that_does_not_count_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeNvml(supported=3))
    assert Meter(gpu=True, powercap=tmp_path).read() == []


def test_without_nvml_there_is_no_gpu_counter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters_module, "NVML", "libno-such-library.so")
    assert Meter(gpu=True, powercap=tmp_path).read() == []


SMI = (
    "NVIDIA H200, 570.1, 143771, 1980, 1980, 75.3, 31\n"
    "NVIDIA T4, 570.1, 15360, [N/A], 1590, [N/A], 40\n"
)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tool of that name, which prints the file beside it."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncat {tmp_path}/answer\n')
    tool.chmod(0o755)
    (tmp_path / "answer").write_text(SMI)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_the_driver_names_its_gpus_and_what_it_does_not_give_is_absent(smi: Path) -> None:
    first, second = nvidia.gpus()
    assert (first.name, first.driver) == ("NVIDIA H200", "570.1")
    assert (first.clock_mhz, first.power_w) == (1980.0, 75.3)
    assert (second.clock_mhz, second.power_w, second.temperature_c) == (None, None, 40.0)
    assert "--query-gpu=name,driver_version" in (smi / "asked").read_text()


def test_the_gpu_memory_is_that_of_the_process(smi: Path) -> None:
    (smi / "answer").write_text("11, 300\n12, 4500\n")
    assert nvidia.gpu_memory_mb(12) == 4500.0
    assert nvidia.gpu_memory_mb(13) is None


def test_a_driver_that_fails_tells_nothing(smi: Path) -> None:
    (smi / "nvidia-smi").write_text("#!/bin/sh\necho broken\nexit 9\n")
    assert nvidia.gpus() == ()


def test_without_the_tool_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia.gpus() == ()
    assert nvidia.gpu_memory_mb(1) is None


def test_free_memory_is_bounded_by_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 1000000 kB\n",
        "/sys/fs/cgroup/memory.current": "4000000",
    }
    monkeypatch.setattr("kneeedge.system.machine.read_text", lambda path: files.get(str(path), ""))
    monkeypatch.setattr("kneeedge.system.machine.memory_limit_bytes", lambda: None)
    assert free_memory_mb() == 1024.0
    monkeypatch.setattr("kneeedge.system.machine.memory_limit_bytes", lambda: 10_000_000)
    assert free_memory_mb() == 6.0


def test_the_peak_of_memory_sees_an_array_come() -> None:
    """In a fresh process: this one may have room left by larger arrays."""
    if restart_peak_mb() is None:
        pytest.skip("this system does not tell")
    code = (
        "import numpy as np; from kneeedge.bench.meters import peak_memory_mb, restart_peak_mb\n"
        "before = restart_peak_mb(); block = np.ones(8_000_000); print(peak_memory_mb() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 50 < float(done.stdout) < 200
