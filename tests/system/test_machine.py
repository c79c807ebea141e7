import os

import pytest

from kneeedge.system import machine

QUOTA_V1 = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"
PERIOD_V1 = "/sys/fs/cgroup/cpu/cpu.cfs_period_us"


@pytest.fixture
def fake_files(monkeypatch):
    """Files of a made-up machine; what is not listed is not there."""
    files: dict[str, str] = {}
    monkeypatch.setattr(machine, "read_text", lambda path: files.get(str(path), ""))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return files


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"/sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({QUOTA_V1: "-1\n", PERIOD_V1: "100000\n"}, 8),
        ({QUOTA_V1: "200000\n", PERIOD_V1: "100000\n"}, 2),
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
    [
        ("fpu avx2 avx512f avx512_vnni", True),
        ("fpu avx2 avx_vnni", True),
        ("fpu avx2 avx512f", False),
    ],
)
def test_vnni_is_read_from_the_cpus_flags(fake_files, flags, vnni):
    first = f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n"
    fake_files["/proc/cpuinfo"] = f"{first}\nprocessor\t: 1\n"
    assert machine.has_vnni() is vnni
    assert machine.cpu_model() == "Some CPU"


def test_a_missing_file_reads_as_nothing(tmp_path):
    assert machine.read_text(tmp_path / "none") == ""


def test_the_environment_names_this_machine():
    facts = machine.environment()
    assert facts.n_cpus >= 1
    assert {"kneeedge", "numpy", "pillow"} <= set(facts.versions)


def test_the_containers_limits_and_the_clocks_rules_are_named(fake_files, monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16_000_000_000)
    fake_files["/sys/fs/cgroup/cpu.max"] = "150000 100000\n"
    fake_files["/sys/fs/cgroup/memory.max"] = "4000000000\n"
    fake_files["/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"] = "powersave\n"
    fake_files["/sys/devices/system/cpu/intel_pstate/no_turbo"] = "1\n"
    facts = machine.environment()
    assert facts.cpu_quota == 1.5
    assert facts.memory_limit_gb == 4.0
    assert facts.governor == "powersave"
    assert facts.turbo is False


def test_what_the_system_does_not_tell_is_absent(fake_files):
    facts = machine.environment()
    assert facts.cpu_quota is None
    assert facts.memory_limit_gb is None
    assert facts.governor is None
    assert facts.turbo is None


@pytest.mark.parametrize("limit", ["max", "99999999999999"])
def test_a_limit_above_the_machines_memory_is_none(fake_files, monkeypatch, limit):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16_000_000_000)
    fake_files["/sys/fs/cgroup/memory.max"] = limit
    assert machine.memory_limit_bytes() is None


def test_the_conditions_are_the_clocks_of_this_moment(fake_files):
    fake_files["/proc/cpuinfo"] = "cpu MHz\t: 2000.0\n\ncpu MHz\t: 3000.0\n"
    assert machine.conditions().cpu_mhz == 2500


def test_heat_is_counted_over_all_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPUS", tmp_path)
    for cpu, count in ((0, 3), (1, 4)):
        folder = tmp_path / f"cpu{cpu}" / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{count}\n")
    assert machine.conditions().throttled == 7


@pytest.mark.parametrize(
    ("system", "end"), [("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "Local")]
)
def test_the_cache_lies_where_the_system_keeps_caches(system, end, monkeypatch):
    monkeypatch.setattr("sys.platform", system)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert machine.user_cache().as_posix().endswith(end)
