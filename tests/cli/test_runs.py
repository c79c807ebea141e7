"""`kneeedge runs`: its two reports, as text and as JSON."""

import json
from pathlib import Path

from typer.testing import CliRunner

from kneeedge.cli.app import app
from tests.kept_runs import write_kept_run

LABELS = [0, 1, 0, 1, 0, 1]
ANSWERS = [0, 1, 1, 1, 0, 1]


def run(*words: object):
    return CliRunner().invoke(app, ["runs", *map(str, words)])


def test_all_runs_are_listed_by_default_the_broken_too(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_kept_run(tmp_path / "runs/good", LABELS, LABELS)
    (tmp_path / "runs/half").mkdir()
    done = run()
    assert done.exit_code == 0
    assert "runs/good\n" in done.stdout
    assert "  test: accuracy 1.0000 [0.610, 1.000], AUROC 1.0000" in done.stdout
    assert "runs/half  UNFINISHED: no training run here; " in done.stdout
    assert "2 folders, 1 of them unfinished or broken" in done.stdout
    assert "Not a medical device" in done.stdout


def test_two_runs_of_the_same_images_are_paired(tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, LABELS)
    second = write_kept_run(tmp_path / "b", LABELS, ANSWERS)
    done = run(first.folder, second.folder)
    assert done.exit_code == 0
    assert "the same 6 test images, PyTorch, paired" in done.stdout
    assert "  accuracy: change -0.1667 [" in done.stdout
    assert "  answers that differ: 1; 1 right to wrong, 0 wrong to right" in done.stdout
    record = json.loads(run(first.folder, second.folder, "--json", "-").stdout)
    assert record["changes"]["accuracy"]["lost"] == 1
    assert record["changes"]["accuracy"]["interval"]["high"] > 0


def test_two_runs_of_other_images_exit_3_and_have_no_difference(tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, LABELS)
    second = write_kept_run(tmp_path / "b", LABELS[:4], ANSWERS[:4])
    done = run(first.folder, second.folder)
    assert done.exit_code == 3
    assert "cannot be paired; their test images are not the same: 6 and 4, 4" in done.stdout
    assert "change" not in done.stdout


def test_one_run_is_shown_alone_and_more_than_two_are_refused(tmp_path: Path):
    folder = write_kept_run(tmp_path / "a", LABELS, LABELS).folder
    (record,) = json.loads(run(folder, "--json", "-").stdout)
    assert (record["state"], record["folder"]) == ("finished", str(folder))
    assert run(folder, folder, folder).exit_code == 2
    assert run(tmp_path / "none").exit_code == 1
