"""Which model runs where nobody names one, and which original a run's files are measured beside."""

import subprocess
import sys
from pathlib import Path

import pytest

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.runs.choose import MODEL_VARIABLE, bench_subjects, choose_model, original_of
from kneeedge.runs.folder import Run
from kneeedge.runs.latest import link_latest
from kneeedge.runtime import providers
from kneeedge.system.files import file_sha256
from tests.run_records import export_report, run_record, slim_spec, write_finished_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs; no variable names a model."""
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    return tmp_path / "runs"


@pytest.fixture
def exported_run(runs: Path) -> Run:
    """The last run, with a file of each precision that passed its verification."""
    run = write_finished_run(runs / "first")
    run.models.mkdir()
    run.write_export_report(export_report(fp32="pass", fp16="pass", int8="pass"))
    link_latest(run)
    return run


@pytest.fixture
def wide(runs: Path) -> Run:
    return write_finished_run(runs / "wide")


@pytest.fixture
def slim(runs: Path, wide: Run) -> Run:
    """A run that was slimmed from `wide`."""
    run = write_finished_run(runs / "slim", slim_spec(sha256=file_sha256(wide.model)))
    run.write_config(run_record(original=wide.folder))
    return run


def test_a_model_that_is_named_is_taken_before_the_variable_and_the_last_run(
    exported_run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, "variable.onnx")
    assert choose_model(Path("named.onnx"), "cpu", runs).path == Path("named.onnx")
    assert choose_model(None, "cpu", runs).path == Path("variable.onnx")


@pytest.mark.parametrize(
    ("provider", "precision"), [("cpu", "int8"), ("openvino", "int8"), ("cuda", "fp16")]
)
def test_the_file_that_suits_the_provider_is_chosen(
    provider: str, precision: str, exported_run: Run, runs: Path
) -> None:
    choice = choose_model(None, provider, runs)
    assert choice.path.name == f"tiny.{precision}.onnx"
    assert choice.why.endswith(f"in {runs / 'latest'} that passed its verification")


@pytest.mark.parametrize(("works", "precision"), [(True, "fp16"), (False, "int8")])
def test_auto_prefers_the_file_that_suits_what_it_will_run_on(
    works: bool, precision: str, exported_run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "gpu_works", lambda: works)
    assert choose_model(None, "auto", runs).path.name == f"tiny.{precision}.onnx"


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_a_file_that_did_not_pass_is_not_chosen(
    verdict: str, exported_run: Run, runs: Path
) -> None:
    exported_run.write_export_report(export_report(fp32="pass", int8=verdict))
    assert choose_model(None, "cpu", runs).path.name == "tiny.fp32.onnx"
    exported_run.write_export_report(export_report(int8=verdict))
    with pytest.raises(NotFoundError, match="passed its verification; run `kneeedge export`"):
        choose_model(None, "cpu", runs)


def test_without_a_file_those_that_the_last_run_published_are_measured(
    exported_run: Run, runs: Path
) -> None:
    exported_run.write_export_report(export_report(fp32="pass", fp16="inconclusive", int8="fail"))
    files, run = bench_subjects((), None, runs)
    assert [Path(file).name for file in files] == ["tiny.fp32.onnx", "tiny.fp16.onnx"]
    assert run == str(runs / "latest")


def test_a_file_is_measured_beside_the_run_that_it_stands_in(exported_run: Run) -> None:
    file = exported_run.models / "tiny.fp32.onnx"
    assert bench_subjects((file,), None) == ((str(file),), str(exported_run.folder))


def test_a_file_of_no_run_is_measured_alone(tmp_path: Path) -> None:
    file = tmp_path / "tiny.onnx"
    assert bench_subjects((file,), None) == ((str(file),), None)


def test_the_original_of_a_trained_run_is_its_own(wide: Run) -> None:
    assert original_of(wide) == (wide, "")


def test_the_original_of_a_slim_run_is_the_run_it_was_slimmed_from(slim: Run, wide: Run) -> None:
    assert original_of(slim) == (wide, "")


@pytest.mark.parametrize("lost", ["spec", "model"])
def test_an_original_that_is_gone_is_said_and_the_slim_run_stands_in(
    slim: Run, wide: Run, lost: str
) -> None:
    getattr(wide, lost).unlink()
    original, notice = original_of(slim)
    assert original == slim
    assert notice == (
        "the PyTorch row is the slimmed network's own, not that of its original, wide: "
        f"no finished run is at {wide.folder} any more"
    )


def test_an_original_that_was_trained_again_is_said_and_the_slim_run_stands_in(
    slim: Run, wide: Run
) -> None:
    wide.model.write_bytes(b"other weights")
    original, notice = original_of(slim)
    assert original == slim
    assert notice.endswith(f"original, wide: the run at {wide.folder} holds other weights now")


@pytest.mark.parametrize("text", ["{}", "[]", '{"original": null}', "{"])
def test_a_config_that_names_no_original_is_one_clear_error(slim: Run, text: str) -> None:
    slim.config.write_text(text)
    words = r"config\.json: it does not name the run .*; slim the original again"
    with pytest.raises(CheckpointError, match=words):
        original_of(slim)


def test_choosing_imports_neither_torch_nor_what_reads_images() -> None:
    code = (
        "import sys, kneeedge.runs.choose\n"
        "assert not {'torch', 'PIL', 'onnxruntime'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
