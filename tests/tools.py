"""Programs that tests need beyond Python, pip, gcc and make."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "Orthanc": "orthanc",
    "chromium": "chromium",
    "dciodvfy": "dicom3tools",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-x86_64-static": "qemu-user-static",
    "storescu": "dcmtk",
    "strace": "strace",
}
"program → the Debian package that brings it; `.ci/run` installs them"


def need(*programs: str) -> None:
    """Skip the test where a program is not here; fail under CI, which is to have them all."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    packages = sorted({PACKAGES[program] for program in missing})
    lacking(f"{', '.join(missing)} not found; apt-get install {' '.join(packages)}")


def need_file(path: str, package: str) -> None:
    """As `need`, of a file that a Debian package brings."""
    if not Path(path).is_file():
        lacking(f"{path} not found; apt-get install {package}")


def lacking(message: str) -> NoReturn:
    """Skip the test by what is missing; fail under CI."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
