import os
from pathlib import Path

import pytest

from kneeedge import machine


@pytest.fixture
def fake_files(monkeypatch):
    """Files of a made-up machine; what is not listed is not there."""
    files: dict[str, str] = {}
    monkeypatch.setattr(machine, "_read", lambda path: files.get(str(path), ""))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return files


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"/sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_a_containers_quota_limits_the_cores(fake_files, files, expected):
    fake_files.update(files)
    assert machine.available_cpus() == expected


def test_hyper_threads_count_once(fake_files):
    for cpu in range(8):
        path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        fake_files[path] = f"{cpu % 4},{cpu % 4 + 4}\n"
    assert machine.available_cpus() == 4


@pytest.mark.parametrize(
    ("flags", "vnni"),
    [("fpu avx2 avx512f avx512_vnni", True), ("fpu avx2 avx_vnni", True), ("fpu avx2 avx512f", False)],
)
def test_vnni_is_read_from_the_cpus_flags(fake_files, flags, vnni):
    fake_files["/proc/cpuinfo"] = f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
    assert machine.has_vnni() is vnni
    assert machine.cpu_model() == "Some CPU"


def test_a_missing_file_reads_as_nothing(tmp_path):
    assert machine._read(Path(tmp_path / "none")) == ""


def test_the_environment_names_this_machine():
    facts = machine.environment()
    assert facts.n_cpus >= 1
    assert {"kneeedge", "numpy", "pillow"} <= set(facts.versions)
