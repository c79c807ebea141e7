"""Which original a run's files are measured beside: a slim run's is the run it was slimmed from,
while it is there.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kneeedge.errors import CheckpointError
from kneeedge.model.provenance import Slimmed
from kneeedge.runs.choose import original_of
from kneeedge.runs.folder import Run
from kneeedge.system.files import file_sha256
from tests.tiny_onnx import tiny_spec


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A finished run; what is in its weights does not matter here."""
    folder = tmp_path / "wide"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "spec.json").write_text(tiny_spec().to_json())
    return folder


@pytest.fixture
def slim(wide: Path, tmp_path: Path) -> Path:
    """What a slim run of `wide` says of it."""
    folder = tmp_path / "slim"
    folder.mkdir()
    spec = tiny_spec()
    slimmed = Slimmed(
        original="wide",
        sha256=file_sha256(wide / "model.safetensors"),
        channels=((8,),) * 5,
        temperature=1.0,
        threshold=0.5,
    )
    spec = dataclasses.replace(spec, training=dataclasses.replace(spec.training, slimmed=slimmed))
    (folder / "spec.json").write_text(spec.to_json())
    (folder / "config.json").write_text(json.dumps({"original": str(wide)}))
    return folder


def test_the_original_of_a_trained_run_is_its_own(wide: Path) -> None:
    assert original_of(Run(wide)) == (Run(wide), "")


def test_the_original_of_a_slim_run_is_the_run_it_was_slimmed_from(slim: Path, wide: Path) -> None:
    assert original_of(Run(slim)) == (Run(wide), "")


@pytest.mark.parametrize("lost", ["spec.json", "model.safetensors"])
def test_an_original_that_is_gone_is_said_and_the_slim_run_stands_in(
    slim: Path, wide: Path, lost: str
) -> None:
    (wide / lost).unlink()
    original, notice = original_of(Run(slim))
    assert original == Run(slim)
    assert notice == (
        "the PyTorch row is the slimmed network's own, not that of its original, wide: "
        f"no finished run is at {wide} any more"
    )


def test_an_original_that_was_trained_again_is_said_and_the_slim_run_stands_in(
    slim: Path, wide: Path
) -> None:
    (wide / "model.safetensors").write_bytes(b"other weights")
    original, notice = original_of(Run(slim))
    assert original == Run(slim)
    assert notice.endswith(f"original, wide: the run at {wide} holds other weights now")


@pytest.mark.parametrize("text", ["{}", "[]", '{"original": null}', "{"])
def test_a_config_that_names_no_original_is_one_clear_error(slim: Path, text: str) -> None:
    (slim / "config.json").write_text(text)
    with pytest.raises(
        CheckpointError, match=r"config\.json: it does not name the run .*; slim the original again"
    ):
        original_of(Run(slim))


def test_choosing_imports_neither_torch_nor_what_reads_images() -> None:
    code = "import sys, kneeedge.runs.choose; assert not {'torch', 'PIL', 'onnxruntime'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
