"""A folder with an arm64 Python and what kneeedge needs on a device, for qemu to run.

`python -m kneeedge.runtime.arm64_root [FOLDER]` makes it on Debian, of Debian's packages and of
wheels in the versions that are installed here. apt and pip fetch them from where they fetch
everything else; nothing of the system changes, and no right of root is needed.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import ConfigError, KneeEdgeError, NotFoundError, WorkerError
from kneeedge.runtime.providers import load_runtime
from kneeedge.system.files import write_text
from kneeedge.system.machine import user_cache, versions
from kneeedge.system.processes import last_words
from kneeedge.system.strict_json import from_json, to_json

COMMAND = "python -m kneeedge.runtime.arm64_root"
PACKAGES = ("python3", "libstdc++6", "libgomp1")
"of Debian, which bring what they need"
WHEELS = ("numpy", "onnxruntime", "pillow", "rich", "typer", "pydicom", "python-gdcm")
"those of them that are installed here"
GLIBC = range(17, 40)
"minor versions of the manylinux wheels that may be taken"
LEAST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Arm64Root:
    """A root folder that is there."""

    folder: Path

    @property
    def system(self) -> Path:
        """What qemu takes for the root of the file system."""
        return self.folder / "system"

    @property
    def site(self) -> Path:
        """The wheels' modules."""
        return self.folder / "site"

    @property
    def contents(self) -> Path:
        """What it says of itself."""
        return self.folder / "contents.json"

    @property
    def python(self) -> Path:
        return self.system / "usr/bin/python3"


@dataclass(frozen=True)
class _Contents:
    """What a root says of itself."""

    versions: dict[str, str]
    "of its wheels; none until it is finished"


def default_folder() -> Path:
    return user_cache() / "kneeedge" / "arm64"


def find_root(folder: Path | None) -> Arm64Root:
    """The root in `folder`, by default in the user's cache.

    Raises NotFoundError where there is none, and ConfigError where it holds other versions than
    this environment.
    """
    root = Arm64Root((folder or default_folder()).absolute())
    command = COMMAND if folder is None else f"{COMMAND} {folder}"
    if not root.contents.is_file():
        problem = f"{root.folder}: no arm64 Python for qemu is there"
        raise NotFoundError(problem, f"make one on Debian with `{command}`")
    try:
        there = from_json(_Contents, root.contents.read_bytes()).versions
    except ValueError as error:
        raise ConfigError(f"{root.contents}: {error}", f"make it anew with `{command}`") from error
    if there != wanted_wheels():
        held = _listed(there) or "half of what is needed"
        problem = f"{root.folder} holds {held}, and here is {_listed(wanted_wheels())}"
        raise ConfigError(problem, f"make it anew with `{command}`")
    return root


def wanted_wheels() -> dict[str, str]:
    """Name and version of the wheels that a root of this environment has.

    ONNX Runtime's is the plain one, whichever is installed here: its version decides.
    """
    installed = versions(WHEELS)
    if "onnxruntime" not in installed:
        installed["onnxruntime"] = load_runtime().__version__
    return installed


def make_root(folder: Path) -> Arm64Root:
    """Make the root, in place of one that is there.

    Raises NotFoundError where apt-get, dpkg-deb or pip is not there, and WorkerError where one of
    them fails.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise NotFoundError(f"{program} is not on the PATH", "make the root on Debian")
    root = Arm64Root(folder.absolute())
    if folder.exists() and any(folder.iterdir()) and not root.contents.is_file():
        raise ConfigError(f"{folder} holds other things", "name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(root.contents, to_json(_Contents({})))  # that it is not finished
    for part in filter(Path.exists, (root.system, root.site)):
        shutil.rmtree(part)
    with tempfile.TemporaryDirectory() as scratch:
        for package in _download(Path(scratch)):
            _run("dpkg-deb", "--extract", str(package), str(root.system))
    if not (root.system / "lib").exists():  # Debian 13 leaves this link to the installation
        (root.system / "lib").symlink_to("usr/lib")
    wheels = wanted_wheels()
    _install(wheels, _python_version(root), root.site)
    write_text(root.contents, to_json(_Contents(wheels)) + "\n")
    return root


def _download(scratch: Path) -> list[Path]:
    """Debian's arm64 packages, by an apt that has its own lists and believes nothing installed."""
    for name in ("lists/partial", "archives/partial"):
        (scratch / name).mkdir(parents=True)
    (scratch / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Dir::State": scratch,
        "Dir::State::Lists": scratch / "lists",
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch,
        "Dir::Cache::archives": scratch / "archives",
        "Debug::NoLocking": "true",
    }
    settings = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    apt = ["apt-get", "--quiet=2", *settings]
    _run(*apt, "update")
    how = ("--yes", "--no-install-recommends", "--download-only")
    _run(*apt, *how, "install", *PACKAGES)
    return sorted((scratch / "archives").glob("*.deb"))


def _python_version(root: Arm64Root) -> tuple[int, int]:
    """Of Debian's python3, which is a link to python3.X; raises WorkerError for an old one."""
    major, _, minor = root.python.readlink().name.removeprefix("python").partition(".")
    version = int(major), int(minor)
    if version < LEAST_PYTHON:
        reason = f"this system's arm64 Python is {major}.{minor}, and kneeedge needs 3.11"
        raise WorkerError("the arm64 root", reason, "make it on Debian 12 or later")
    return version


def _install(wheels: Mapping[str, str], python: tuple[int, int], site: Path) -> None:
    """Put the wheels of that Python for arm64, and what they need, into a folder."""
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in reversed(GLIBC)]
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", f"--target={site}",
        "--only-binary=:all:", "--implementation=cp", f"--python-version={python[0]}.{python[1]}",
        *platforms, "--platform=manylinux2014_aarch64",
        *(f"{name}=={version}" for name, version in wheels.items()),
    )  # fmt: skip


def _run(*command: str) -> None:
    """Run a command; WorkerError with its last words where it fails."""
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        reason = last_words(done.returncode, done.stderr)
        remedy = f"see what `{command[0]}` lacks, and run the command again"
        raise WorkerError(" ".join(command[:4]), reason, remedy)


def _listed(wheels: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in wheels.items())


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0]) if arguments else default_folder()
    try:
        root = make_root(folder)
    except KneeEdgeError as error:
        sys.exit(f"error: {error}")
    n_bytes = sum(path.lstat().st_size for path in root.folder.rglob("*"))
    sys.stdout.write(f"wrote: {folder}, {n_bytes / 1e6:.0f} MB\n")


if __name__ == "__main__":
    main(sys.argv[1:])
