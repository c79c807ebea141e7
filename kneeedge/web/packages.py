"""The npm packages whose files the page needs: fetched by npm, known by their SHA-512."""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import NotFoundError, PackageError
from kneeedge.system.strict_json import from_json

LIST = Path(__file__).with_name("packages.json")
NOTICES = Path(__file__).with_name("licences")
"texts that packages lack: their own, or of the library that they were compiled from"
NOTICE = "NOTICE"
NO_NPM = "install npm, or give --packages a folder with what `npm pack` fetched elsewhere"


@dataclass(frozen=True, kw_only=True)
class Package:
    """One npm package, to the bit."""

    name: str
    version: str
    integrity: str
    "sha512- and the base64 hash of the tarball, as npm writes it"
    licence: str
    "its SPDX identifier"
    files: tuple[str, ...]
    "what the page needs of it"

    @property
    def file_name(self) -> str:
        """The name without what no file name has."""
        return self.name.removeprefix("@").replace("/", "-")

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` gives it."""
        return f"{self.file_name}-{self.version}.tgz"


def read_packages(path: Path = LIST) -> tuple[Package, ...]:
    """The packages of a list."""
    return from_json(tuple[Package, ...], path.read_bytes())


def fetch(packages: Iterable[Package], folder: Path | None) -> dict[Package, bytes]:
    """The tarballs, from `folder` or else by npm, each with the hash that it must have.

    Raises NotFoundError where npm or a tarball is missing, and PackageError where npm cannot get
    one or one has other bytes.
    """
    if folder is not None:
        return {package: _checked(package, folder / package.tarball) for package in packages}
    npm = shutil.which("npm")
    if npm is None:
        raise NotFoundError("npm, which fetches what the page needs, is not there", NO_NPM)
    tarballs = {}
    with tempfile.TemporaryDirectory() as place:
        for package in packages:
            _pack(npm, package, Path(place))
            tarballs[package] = _checked(package, Path(place) / package.tarball)
    return tarballs


def files_of(package: Package, tarball: bytes) -> dict[str, bytes]:
    """The listed files of a tarball by their paths in it, and a NOTICE where one is needed.

    Raises PackageError where one is missing.
    """
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as tar:
        for member in tar:
            name = member.name.removeprefix("package/")
            if name in package.files and (file := tar.extractfile(member)):
                contents[name] = file.read()
    if missing := [name for name in package.files if name not in contents]:
        raise PackageError(package.tarball, f"{missing[0]} is not in it")
    notice = NOTICES / f"{package.file_name}.txt"
    if notice.is_file():
        contents[NOTICE] = notice.read_bytes()
    return contents


def _pack(npm: str, package: Package, folder: Path) -> None:
    """Let npm put the tarball into `folder`, by whatever registry it is set up for."""
    name = f"{package.name}@{package.version}"
    options = ["--pack-destination", str(folder), "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(
        [npm, "pack", name, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise PackageError(name, f"npm cannot get it ({lines[0].removeprefix('npm error ')})")


def _checked(package: Package, path: Path) -> bytes:
    """The bytes of a tarball; raises PackageError where they are not the listed ones."""
    if not path.is_file():
        remedy = f"put it there with `npm pack {package.name}@{package.version}`"
        raise NotFoundError(f"{path} is not there", remedy)
    content = path.read_bytes()
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode("ascii")
    if f"sha512-{digest}" != package.integrity:
        raise PackageError(path, "its SHA-512 is not the one that kneeedge lists")
    return content
