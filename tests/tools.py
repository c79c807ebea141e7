"""Programs that some tests need beside Python, and the Debian packages that bring them."""

import os
import shutil

import pytest

PACKAGES = {
    "chromium": "chromium",
    "dcm2pnm": "dcmtk",
    "node": "nodejs",
    "npm": "npm",
    "qemu-aarch64": "qemu-user",
    "qemu-x86_64": "qemu-user",
}


def need(*programs: str) -> None:
    """Skip the test where one of the programs is missing; in CI, which installs them, fail."""
    missing = [name for name in programs if shutil.which(name) is None]
    if not missing:
        return
    line = f"apt-get install {' '.join(sorted({PACKAGES.get(name, name) for name in missing}))}"
    if os.environ.get("CI"):
        pytest.fail(line)
    pytest.skip(line)
