"""A report that no longer fits the disk is one clear line, and the old report stays as it was."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.pixels.phantom import write_dataset
from tests.tiny_onnx import write_tiny_model

resource = pytest.importorskip("resource", reason="this system has no limits to set")

N_BYTES = 250
"that a file may have: less than any of the reports"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "m.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "knees", {"train": 8, "test": 8}, size=64)
    return tmp_path / "knees"


def run_on_a_full_disk(command: list[object]) -> subprocess.CompletedProcess[str]:
    """The command, none of whose files may grow beyond N_BYTES."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (N_BYTES, N_BYTES))

    return subprocess.run(
        [sys.executable, "-m", "kneeedge", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=limit,
    )


@pytest.mark.parametrize(
    "kind",
    [
        "info",
        "verify",
        "evaluate",
        pytest.param("audit", marks=pytest.mark.slow),
        pytest.param("groups", marks=pytest.mark.slow),
    ],
)
def test_the_old_report_outlives_a_full_disk(
    kind: str, model: Path, images: Path, tmp_path: Path
) -> None:
    report = tmp_path / "reports" / "report"
    report.parent.mkdir()
    command: dict[str, list[object]] = {
        "info": ["info", model, "--json", report],
        "verify": ["verify", model, "--json", report],
        "evaluate": ["evaluate", model, images, "--json", report],
        "audit": ["audit", images, "--html", report, "-q"],
        "groups": ["audit", images, "--write-groups", report, "-q"],
    }
    CliRunner().invoke(app, [*map(str, command[kind])])
    old = report.read_text()
    assert len(old) > N_BYTES
    done = run_on_a_full_disk(command[kind])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: File too large; make the place readable and writable, with room left"
    )
    assert report.read_text() == old
    assert [path.name for path in report.parent.iterdir()] == ["report"]
