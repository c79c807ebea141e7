"""The example programs, built: each takes a model file, and vectors or pictures."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

from tests.tools import lacking, need, need_file

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
HEADER = "onnxruntime_c_api.h"
INCLUDES = ("/usr/include/onnxruntime", str(ROOT / ".cache/onnxruntime/usr/include/onnxruntime"))
"where Debian has ONNX Runtime's header, and where `.ci/onnxruntime-header` puts it"
Program = Callable[..., subprocess.CompletedProcess[str]]


def header_folder() -> str:
    """The folder of ONNX Runtime's C header."""
    folders = [os.environ.get("ORT_INCLUDE", ""), *INCLUDES]
    found = next((folder for folder in folders if folder and Path(folder, HEADER).is_file()), None)
    if found is None:
        lacking(f"{HEADER} not found; `.ci/onnxruntime-header`, or apt-get its libonnxruntime-dev")
    need_file("/usr/include/cjson/cJSON.h", "libcjson-dev")
    return str(found)


def built_c(folder: Path) -> list[str]:
    """The C program, linked to the library of the Python wheel that the tests run."""
    include = header_folder()
    for name in ("kneeedge.c", "Makefile"):
        shutil.copy(EXAMPLES / "c" / name, folder)
    (library,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    flags = "CFLAGS=-O1 -g -Wall -Wextra -Wpedantic -Werror"
    make = ["make", "-C", str(folder), f"ORT_INCLUDE={include}", f"ORT_LIB={library}", flags]
    subprocess.run(make, check=True, capture_output=True)
    return [str(folder / "kneeedge")]


def installed_node() -> list[str]:
    """The program for Node.js, with its package beside it."""
    need("node", "npm")
    folder = EXAMPLES / "node"
    if not (folder / "node_modules/onnxruntime-node").is_dir():
        # Its script would fetch GPU libraries from elsewhere; the CPU's are in the package.
        install = [
            "npm",
            "install",
            "--ignore-scripts",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
        ]
        done = subprocess.run(install, cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode:
            lacking(f"npm install in {folder} failed: {done.stderr[-500:]}")
    return ["node", str(folder / "kneeedge.mjs")]


@pytest.fixture(scope="session", params=["node", "c"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Runs the program of one language on a model file, and vectors or pictures."""
    is_node = request.param == "node"
    command = installed_node() if is_node else built_c(tmp_path_factory.mktemp("c"))

    def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
        words = [*command, *map(str, arguments)]
        return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)

    return run
