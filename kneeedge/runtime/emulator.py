"""qemu-user as installed here: what runs kneeedge on an emulated CPU, and in which surroundings."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import kneeedge
from kneeedge.errors import ConfigError, NotFoundError
from kneeedge.runtime.arm64_root import Arm64Root, find_root
from kneeedge.runtime.emulated_cpus import X86, EmulatedCpu
from kneeedge.system import processes

QEMU_PACKAGE = "qemu-user-static"
"of Debian"
LEAST_QEMU = (7, 2)
"the first that computes AVX2"
NOT_HANDED_ON = (
    "GLIBC_TUNABLES", "KNEEEDGE_REQUIRE_SIGNATURE", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "NPY_ENABLE_CPU_FEATURES", "OPENBLAS_CORETYPE", "PYTHONHOME",
)  # fmt: skip
"""variables that mean this machine's libraries, or its CPU, whose instructions another may lack;
signatures are looked at before"""


@dataclass(frozen=True)
class Emulator:
    """A qemu for one architecture, and the Python that it runs."""

    program: str
    version: str
    root: Arm64Root | None
    "None: this very Python, of x86-64"

    def prepare(self, folder: Path, cpu: EmulatedCpu) -> None:
        """Fill a folder that `command` and `variables` take: the CPU's files, and kneeedge."""
        seen_first = folder / "root"
        (seen_first / "proc").mkdir(parents=True)
        (seen_first / "proc/cpuinfo").write_text(cpu.cpuinfo(os.cpu_count() or 1))
        if self.root:
            for part in self.root.system.iterdir():
                (seen_first / part.name).symlink_to(part)
        (folder / "modules").mkdir()
        (folder / "modules/kneeedge").symlink_to(Path(kneeedge.__file__).absolute().parent)

    def command(self, folder: Path, cpu: EmulatedCpu, *arguments: str) -> list[str]:
        """What runs `kneeedge ARGUMENTS` on the CPU.

        A file is looked for in qemu's -L before it is in this machine's root folder.
        """
        qemu = [self.program, "-L", str(folder / "root"), "-cpu", cpu.qemu_name]
        python = self.root.python if self.root else sys.executable
        return [*qemu, str(python), "-P", "-s", "-m", "kneeedge", *arguments]

    def variables(self, folder: Path) -> dict[str, str]:
        """The environment of that command."""
        variables = processes.environment()
        if self.root:
            modules = (folder / "modules", self.root.site)
            variables["PYTHONPATH"] = os.pathsep.join(map(str, modules))
        return {name: value for name, value in variables.items() if name not in NOT_HANDED_ON}


def open_emulator(architecture: str, root: Path | None) -> Emulator:
    """What runs CPUs of the architecture here; `root` as in `find_root`.

    Raises NotFoundError where qemu or the root is not there, and ConfigError where one of them is
    of another version than is needed.
    """
    here = os.uname().machine if sys.platform == "linux" else sys.platform
    if here != X86:
        problem = f"--emulate runs on x86-64 Linux, and this is {here}"
        raise ConfigError(problem, "run it there, and plain `kneeedge verify` here")
    program, version = find_qemu(architecture)
    return Emulator(program, version, None if architecture == X86 else find_root(root))


def find_qemu(architecture: str) -> tuple[str, str]:
    """Path and version of qemu-user for the architecture, the latter as "qemu-aarch64 7.2.22".

    Raises NotFoundError where there is none, and ConfigError for one that is too old.
    """
    name = f"qemu-{architecture}"
    program = shutil.which(f"{name}-static") or shutil.which(name)
    if program is None:
        install = f"install it, on Debian with `apt-get install {QEMU_PACKAGE}`"
        raise NotFoundError(f"{name} is not on the PATH", install)
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = next(iter(answer.stdout.partition(" version ")[2].split()), "")
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if tuple(numbers) < LEAST_QEMU:
        problem = f"{program} is of version {version or 'unknown'}"
        raise ConfigError(problem, "install 7.2 or later, which computes AVX2")
    return program, f"{name} {version}"
