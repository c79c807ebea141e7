"""The environment with onnxruntime-gpu, and libraries that stand in for those of a GPU."""

import json
import os
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDER = Path(__file__).parent
PYTHON = "KNEEEDGE_GPU_PYTHON"
"names the Python of an environment with onnxruntime-gpu; `make gpu` makes one"
WRITTEN = {
    "libcuda.so.1": "libcuda.c",
    "libnvinfer.so.10": "libnvinfer.c",
    "libnvonnxparser.so.10": "libnvinfer.c",
}
"libraries and the file that each is compiled from"
EMPTY = ("libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudnn.so.9")
"libraries of which the providers get functions that fail: options are read before they are called"


def gpu_python() -> str:
    """The Python with onnxruntime-gpu; without it the test is skipped, and fails under CI."""
    python = os.environ.get(PYTHON)
    if python:
        return python
    message = f"{PYTHON} is not set; run `make gpu` and set it to .venv-gpu/bin/python"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@dataclass(frozen=True)
class GpuWheel:
    """The installed wheel, and where its libraries are found."""

    python: str
    site_packages: Path
    stubs: Path
    "folder of the libraries that stand in"

    @property
    def capi(self) -> Path:
        """The folder of the providers' libraries."""
        return self.site_packages / "onnxruntime" / "capi"

    def run(self, *arguments: str, asked: str = "", with_stubs: bool = True) -> str:
        """What the wheel's Python prints; kneeedge is importable there."""
        folders = [str(self.stubs), *map(str, self.site_packages.glob("nvidia/cu*/lib"))]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.stubs),
            "ORT_DISABLE_TELEMETRY": "1",
            "LD_LIBRARY_PATH": os.pathsep.join(folders) if with_stubs else "",
        }
        done = subprocess.run(
            [self.python, *arguments],
            input=asked, env=environment, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def errors(self, model: Path, asked: list[tuple[str, dict[str, str]]]) -> list[str]:
        """What a session on each provider with its options ends in; see child.py."""
        answer = self.run(str(FOLDER / "child.py"), str(model), asked=json.dumps(asked))
        return list(json.loads(answer))


def open_wheel(stubs: Path) -> GpuWheel:
    """The wheel of `gpu_python`, its missing libraries compiled into the empty folder `stubs`."""
    python = gpu_python()
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    wheel = GpuWheel(python, Path(done.stdout.strip()), stubs)
    for library, source in WRITTEN.items():
        compile_library(stubs / library, FOLDER / source)
    symbols = imported_symbols(wheel.capi)
    for library in EMPTY:
        functions = [f"int {name}(void) {{ return 1; }}" for name in sorted(symbols[library])]
        source = stubs / f"{library}.c"
        source.write_text("\n".join(functions) + "\n", encoding="utf-8")
        compile_library(stubs / library, source)
    return wheel


def imported_symbols(capi: Path) -> dict[str, set[str]]:
    """The functions that the providers' libraries want of each library that versions its own."""
    symbols = defaultdict(set)
    for provider in ("cuda", "tensorrt"):
        path = capi / f"libonnxruntime_providers_{provider}.so"
        command = ["nm", "--dynamic", "--undefined-only", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        for word in done.stdout.split():
            name, _, version = word.partition("@")
            symbols[version].add(name)
    return symbols


def compile_library(path: Path, source: Path) -> None:
    """A shared library of that name, whose functions have its name as their version.

    The provider asks for NVIDIA's symbols with a version.
    """
    versions = path.with_suffix(".map")
    versions.write_text(f"{path.name} {{ *; }};\n", encoding="utf-8")
    linked = (f"-Wl,-soname,{path.name}", f"-Wl,--version-script={versions}")
    command = ["gcc", "-shared", "-fPIC", *linked, "-o", str(path), str(source)]
    subprocess.run(command, check=True)
