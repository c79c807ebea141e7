"""The list of runs: figures, files and faults; nothing in a folder of runs goes untold."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from kneeedge.errors import NotFoundError
from kneeedge.runs.folder import Run
from kneeedge.runs.overview import (
    BROKEN,
    FINISHED,
    UNFINISHED,
    RunSummary,
    list_runs,
    n_unusable,
    summarise,
)
from kneeedge.runs.slim_report import SlimConfig, SlimReport
from tests.kept_runs import write_kept_run
from tests.run_records import export_report, run_record, slimmed

LABELS = [0, 1, 0, 1]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return write_kept_run(tmp_path / "runs/kept", LABELS, LABELS)


def export(run: Run, content: bytes = b"model") -> Path:
    """The run with one exported int8 file that holds `content`."""
    run.models.mkdir()
    report = export_report(int8="inconclusive")
    (file,) = report.files
    (run.models / file.path).write_bytes(content)
    file = dataclasses.replace(file, sha256=hashlib.sha256(b"model").hexdigest())
    run.write_export_report(dataclasses.replace(report, files=(file,)))
    return run.models / file.path


def only(folder: Path) -> RunSummary:
    (summary,) = list_runs(folder)
    return summary


def test_a_finished_run_is_listed_with_its_figures_and_files(run: Run):
    export(run)
    (run.folder.parent / "latest").symlink_to("kept")
    summary = only(run.folder.parent)
    assert (summary.state, summary.problem, summary.is_latest) == (FINISHED, "", True)
    assert summary.scores["test"].accuracy == 1.0
    assert summary.scores["test"].intervals["accuracy"].low < 1.0
    assert summary.data_sha256 == run.read_spec().training.data_sha256
    (file,) = summary.files
    assert (file.precision, file.verdict, file.problem) == ("int8", "inconclusive", "")
    assert file.images == "6 val images"
    assert file.sha256 == hashlib.sha256(b"model").hexdigest()


def test_a_file_that_was_replaced_or_is_gone_is_told(run: Run):
    path = export(run, b"another")
    assert summarise(run.folder).files[0].problem == "not the file that was exported"
    path.unlink()
    assert summarise(run.folder).files[0].problem == "gone"


def begin(folder: Path) -> Run:
    folder.mkdir(parents=True)
    run = Run(folder)
    run.write_config(run_record())
    return run


def test_an_unfinished_training_is_told_with_what_finishes_it(tmp_path: Path):
    run = begin(tmp_path / "half")
    summary = only(tmp_path)
    assert summary.state == UNFINISHED
    assert summary.problem.endswith(f"finish it with `kneeedge train --resume {run.folder}`")


def test_an_unfinished_slim_run_is_told_with_what_finishes_it(tmp_path: Path):
    (tmp_path / "slim").mkdir()
    Run(tmp_path / "slim").write_slim(SlimReport(SlimConfig(original="runs/wide"), slimmed()))
    summary = only(tmp_path)
    assert summary.problem == f"not finished; go on with `kneeedge slim --resume {tmp_path}/slim`"


def test_unfinished_folds_are_told_with_what_finishes_them(tmp_path: Path):
    begin(tmp_path / "crossed/fold-1")
    summary = only(tmp_path)
    assert summary.state == UNFINISHED
    assert "kneeedge train --resume" in summary.problem


def damage_spec(run: Run) -> None:
    run.spec.write_text("{}")


def damage_export(run: Run) -> None:
    run.models.mkdir()
    run.export_report.write_text("[1]")


def remove_weights(run: Run) -> None:
    run.model.unlink()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (damage_spec, "spec.json"),
        (damage_export, "not a report of this kneeedge"),
        (remove_weights, "model.safetensors is gone"),
    ],
)
def test_a_broken_run_is_told_and_the_others_are_listed(run: Run, damage, problem: str):
    write_kept_run(run.folder.parent / "other", LABELS, LABELS)
    damage(run)
    broken, other = list_runs(run.folder.parent)
    assert (broken.state, other.state) == (BROKEN, FINISHED)
    assert problem in broken.problem
    assert n_unusable((broken, other)) == 1


def test_a_folder_that_is_no_run_is_told(tmp_path: Path):
    (tmp_path / "notes").mkdir()
    assert only(tmp_path).problem.startswith("no training run here")


def test_a_latest_that_leads_nowhere_is_told(run: Run):
    (run.folder.parent / "latest").symlink_to("gone")
    kept, latest = list_runs(run.folder.parent)
    assert (kept.is_latest, latest.state) == (False, BROKEN)
    assert latest.problem.startswith("it leads to gone, which is gone")


def test_no_folder_of_runs_says_what_to_do(tmp_path: Path):
    with pytest.raises(NotFoundError, match="or name the folder with --runs"):
        list_runs(tmp_path / "runs")
    with pytest.raises(NotFoundError, match="no such run folder"):
        summarise(tmp_path / "runs")
