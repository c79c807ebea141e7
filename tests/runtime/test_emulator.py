"""CPUs that qemu emulates, qemu itself, and the folder with an arm64 Python."""

import json
import os
import sys
from pathlib import Path

import pytest

from kneeedge.errors import ConfigError, NotFoundError, WorkerError
from kneeedge.runtime.arm64_root import Arm64Root, find_root, make_root, wanted_wheels
from kneeedge.runtime.emulated_cpus import ARM, CPUS, NAMES, X86, emulated_cpus
from kneeedge.runtime.emulator import Emulator, find_qemu, open_emulator
from kneeedge.runtime.golden import suits
from kneeedge.system import machine


def write_program(folder: Path, name: str, code: str) -> Path:
    """A program on a PATH of a test."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{code}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def say_version(version: str) -> str:
    return f"print('qemu-x86_64 version {version} (Debian 1:{version})')"


def test_cpus_are_asked_for_by_names_each_once() -> None:
    cpus = emulated_cpus("haswell, Cortex-A72,haswell")
    assert [(cpu.name, cpu.architecture) for cpu in cpus] == [("haswell", X86), ("cortex-a72", ARM)]


@pytest.mark.parametrize("names", ["cascadelake", "haswell,", ""])
def test_an_unknown_cpu_is_refused_with_the_known_ones(names: str) -> None:
    with pytest.raises(ConfigError, match=r"choose from nehalem, .*max; AVX-512, VNNI") as refused:
        emulated_cpus(names)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("cpu", CPUS, ids=NAMES)
def test_a_cpus_own_cpuinfo_is_read_as_that_cpu(cpu, monkeypatch) -> None:
    monkeypatch.setattr(machine, "read_text", lambda _: cpu.cpuinfo(2))
    assert machine.cpu_model() == cpu.model
    assert machine.isa_flags() == cpu.isa != ()
    assert not machine.has_vnni()
    assert suits("arm", cpu.isa) is (cpu.architecture == ARM)
    blocks = cpu.cpuinfo(2).split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["processor\t: 0", "processor\t: 1"]


def test_qemu_that_is_not_here_is_named_with_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match=r"qemu-aarch64 is not on the PATH; .*qemu-user-static"):
        find_qemu(ARM)


def test_a_qemu_without_avx2_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_program(tmp_path, "qemu-x86_64", say_version("7.0.1"))
    with pytest.raises(ConfigError, match=r"of version 7\.0\.1; install 7\.2"):
        find_qemu(X86)
    program = write_program(tmp_path, "qemu-x86_64", say_version("10.0.2"))
    assert find_qemu(X86) == (str(program), "qemu-x86_64 10.0.2")


def test_another_machine_than_x86_linux_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="runs on x86-64 Linux, and this is darwin"):
        open_emulator(X86, None)


def test_a_root_that_is_not_there_is_named_with_what_makes_it(tmp_path) -> None:
    command = f"python -m kneeedge.runtime.arm64_root {tmp_path}"
    with pytest.raises(NotFoundError, match="no arm64 Python") as missing:
        find_root(tmp_path)
    assert command in str(missing.value)


def test_a_root_of_other_versions_is_refused(tmp_path, monkeypatch) -> None:
    contents = tmp_path / "contents.json"
    contents.write_text(json.dumps({"versions": wanted_wheels()}), encoding="utf-8")
    monkeypatch.chdir(tmp_path.parent)
    assert find_root(Path(tmp_path.name)).python == tmp_path / "system/usr/bin/python3"
    other = wanted_wheels() | {"onnxruntime": "1.21.0"}
    contents.write_text(json.dumps({"versions": other}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"onnxruntime 1\.21\.0.*make it anew"):
        find_root(tmp_path)


def test_what_is_no_root_is_left_as_it_is(tmp_path) -> None:
    (tmp_path / "system").mkdir()
    (tmp_path / "system/letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other things"):
        make_root(tmp_path)
    assert (tmp_path / "system/letter.txt").read_text() == "mine"


def test_a_root_is_made_of_debians_packages_and_wheels_for_its_python(
    tmp_path, monkeypatch
) -> None:
    """By an apt-get, dpkg-deb and pip that only say what they were asked for."""
    programs = tmp_path / "bin"
    log = tmp_path / "log"
    write_program(
        programs,
        "apt-get",
        "import pathlib, sys\n"
        f"print('apt-get', *sys.argv[1:], file=open({str(log)!r}, 'a'))\n"
        "(option,) = [a for a in sys.argv if a.startswith('Dir::Cache::archives=')]\n"
        "pathlib.Path(option.partition('=')[2], 'python3.deb').touch()",
    )
    write_program(
        programs,
        "dpkg-deb",
        "import pathlib, sys\n"
        "python = pathlib.Path(sys.argv[3], 'usr/bin/python3')\n"
        "python.parent.mkdir(parents=True)\n"
        "python.symlink_to('python3.13')",
    )
    pip = write_program(
        programs, "python", f"import sys; print(*sys.argv[1:], file=open({str(log)!r}, 'a'))"
    )
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sys, "executable", str(pip))
    root = make_root(tmp_path / "arm64")
    update, install, wheels = log.read_text().splitlines()
    assert update.endswith(" update")
    assert "APT::Architecture=arm64" in install
    assert install.endswith("--download-only install python3 libstdc++6 libgomp1")
    assert "-m pip install" in wheels
    assert "--python-version=3.13" in wheels
    assert f"onnxruntime=={wanted_wheels()['onnxruntime']}" in wheels
    assert (root.system / "lib").readlink() == Path("usr/lib")
    assert find_root(tmp_path / "arm64").python.readlink() == Path("python3.13")


def test_what_apt_complains_of_is_said_in_one_line(tmp_path, monkeypatch) -> None:
    for name in ("apt-get", "dpkg-deb"):
        write_program(tmp_path / "bin", name, "import sys; sys.exit('E: no such source')")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(WorkerError, match=r"apt-get .*E: no such source; see what"):
        make_root(tmp_path / "arm64")
    with pytest.raises(ConfigError, match="half of what is needed"):
        find_root(tmp_path / "arm64")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match="apt-get is not on the PATH"):
        make_root(tmp_path / "arm64")


def test_qemu_sees_the_cpus_own_files_and_the_roots(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libx86.so")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    root = Arm64Root(tmp_path / "arm64")
    (root.system / "usr/lib").mkdir(parents=True)
    (cpu,) = emulated_cpus("cortex-a72")
    emulated = Emulator("qemu-aarch64", "qemu-aarch64 7.2", root)
    emulated.prepare(tmp_path / "cpu", cpu)
    assert (tmp_path / "cpu/root/proc/cpuinfo").read_text() == cpu.cpuinfo(os.cpu_count() or 1)
    assert (tmp_path / "cpu/root/usr/lib").is_dir()
    assert (tmp_path / "cpu/modules/kneeedge/version.py").is_file()
    variables = emulated.variables(tmp_path / "cpu")
    assert not {"LD_PRELOAD", "OPENBLAS_CORETYPE"} & variables.keys()
    assert variables["PYTHONPATH"] == f"{tmp_path / 'cpu/modules'}{os.pathsep}{root.site}"
    words = emulated.command(tmp_path / "cpu", cpu, "verify")
    assert words[:5] == ["qemu-aarch64", "-L", str(tmp_path / "cpu/root"), "-cpu", "cortex-a72"]
    assert words[-3:] == ["-m", "kneeedge", "verify"]
