"""`kneeedge infer` that is stopped, killed or has a full disk: its rows stand, and it goes on."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.inference import request
from kneeedge.inference.folder import FolderOptions, infer_folder, run_key
from kneeedge.inference.heatmap import MOST_SHOWN
from kneeedge.inference.journal import Batch, Journal, KeptBatch, journal_of, read_content
from kneeedge.inference.output import rows_of
from kneeedge.inference.predictions import csv_row, prediction_of_row
from kneeedge.inference.predictor import Predictor
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.progress import Progress
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 phantoms, one of them broken, and one of a hostile name."""
    folder = tmp_path_factory.mktemp("night")
    write_dataset(folder, {"": 20}, size=64)
    images = sorted(folder.rglob("*.png"))
    images[5].write_bytes(images[5].read_bytes()[:99])
    shutil.copy(images[0], folder / "=HYPERLINK(0).png")
    shutil.copy(images[1], folder / 'a,b\n"c".png')
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "m.onnx")


def infer_command(folder: Path, model: Path, out: Path) -> list[str]:
    """`infer` on one core; its options are those of `Predictor(model, "cpu", 1)`."""
    command = ["infer", str(folder), "--model", str(model), "--out", str(out)]
    return [*command, "--provider", "cpu", "--threads", "1"]


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_line_and_it_goes_on_when_there_is_room(
    night: Path, model: Path, tmp_path: Path
) -> None:
    """A real limit: no file of this process may grow beyond 900 bytes."""
    resource = pytest.importorskip("resource")
    out = tmp_path / "p.csv"
    command = [sys.executable, "-m", "kneeedge", *infer_command(night, model, out), "-q"]
    full = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900)),
    )
    assert full.returncode == 1
    remedy = "make the place readable and writable, with room left"
    assert full.stderr == f"error: File too large; {remedy}\n"
    assert not out.exists()
    journal = journal_of(out)
    assert 100 < journal.stat().st_size <= 900
    with journal.open("rb", buffering=0) as file:
        content = read_content(file)
    assert content.end == journal.stat().st_size
    assert content.n_damaged == 0
    subprocess.run([*command, "--resume"], check=False)
    infer_folder(Predictor(model, "cpu", 1), find_images([night]), tmp_path / "whole.csv", QUIET)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_that_may_not_be_written_is_one_line(
    night: Path, model: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o555)
    result = CliRunner().invoke(app, infer_command(night, model, tmp_path / "p.csv"))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_a_row_gives_its_prediction_back(night: Path, model: Path, tmp_path: Path) -> None:
    predictor = Predictor(model, "cpu", 1)
    options = FolderOptions(keep=True)
    result = infer_folder(predictor, find_images([night]), tmp_path / "p.csv", QUIET, options)
    spec = predictor.spec
    assert len(result.predictions) == 22
    for prediction in result.predictions:
        cells = csv_row(prediction, spec)
        assert csv_row(prediction_of_row(cells, spec), spec) == cells


def test_an_interrupted_run_goes_on_and_the_summary_counts_all(
    night: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.csv"
    result = infer_folder(Predictor(model, "cpu", 1), find_images([night]), whole, QUIET)
    out = tmp_path / "p.csv"
    n_appended = 0
    real_append = Journal.append

    def stop(self: Journal, batch: Batch) -> KeptBatch:
        nonlocal n_appended
        if n_appended == 2:
            raise KeyboardInterrupt
        n_appended += 1
        return real_append(self, batch)

    monkeypatch.setattr(Journal, "append", stop)
    command = infer_command(night, model, out)
    stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code == 130
    note = f"stopped; the rows so far are kept: the same command with --resume ends {out}"
    assert note in stopped.stderr
    assert not out.exists()
    monkeypatch.undo()
    again = CliRunner().invoke(app, [*command, "--resume"])
    assert again.exit_code == 3  # one image is broken
    assert "going on behind 8 rows of the run before" in again.stderr
    assert out.read_bytes() == whole.read_bytes()
    counts = ", ".join(f"{n} {name}" for name, n in result.summary.counts.items())
    assert again.stdout.splitlines()[0] == f"22 images: {counts}; 1 error"


def test_a_stop_before_the_first_row_does_not_claim_that_rows_are_kept(
    night: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "p.csv"
    command = infer_command(night, model, out)
    note = f"stopped; there are no rows yet: the same command with --resume ends {out}\n"
    for owner, name in ((request, "Predictor"), (Journal, "append")):
        monkeypatch.setattr(owner, name, stop)
        stopped = CliRunner().invoke(app, command)
        assert stopped.exit_code == 130
        assert stopped.stderr.endswith(note)
        assert "kept" not in stopped.stderr
        monkeypatch.undo()
    assert CliRunner().invoke(app, [*command, "--resume"]).exit_code == 3  # one image is broken
    assert len(rows_of(out.read_bytes())) == 23


def test_sigterm_stops_as_ctrl_c_does(night: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    process = slow_run(night, model, out, resume=False)
    wait_for_batches(process, out, 1)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"with --resume ends" in stderr


def slow_run(night: Path, model: Path, out: Path, resume: bool) -> subprocess.Popen[bytes]:
    """`kneeedge infer` that takes a while for each batch."""
    code = textwrap.dedent("""
        import sys, time
        from kneeedge.inference.journal import Journal
        real = Journal.append
        Journal.append = lambda self, batch: (real(self, batch), time.sleep(0.04))[0]
        from kneeedge.cli.app import main
        main()
    """)
    command = [sys.executable, "-c", code, *infer_command(night, model, out)]
    command += ["--heatmaps", str(out.parent / "maps")]
    if resume:
        command.append("--resume")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def n_batches(out: Path) -> int:
    """Batches in the journal so far."""
    path = journal_of(out)
    return path.read_bytes().count(b'"rows"') if path.exists() else 0


def wait_for_batches(process: subprocess.Popen[bytes], out: Path, n: int) -> None:
    """Until the run has written `n` batches more, or is done."""
    wanted = n_batches(out) + n
    while process.poll() is None and not out.exists() and n_batches(out) < wanted:
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_twenty_random_points_the_result_is_that_of_an_unbroken_run(
    night: Path, model: Path, tmp_path: Path
) -> None:
    """Rows and heat maps, to the last byte, and no half-written file beside them."""
    whole = tmp_path / "whole"
    options = FolderOptions(heatmaps=whole / "maps")
    predictor = Predictor(model, "cpu", 1)
    predictor.read_options = replace(predictor.read_options, shown_side=MOST_SHOWN)
    infer_folder(predictor, find_images([night]), whole / "p.csv", QUIET, options)
    rng = np.random.default_rng(0)
    n_killed = 0
    n_whole = 0
    broken = tmp_path / "broken"
    out = broken / "p.csv"
    while n_killed < 20:
        process = slow_run(night, model, out, resume=True)
        wait_for_batches(process, out, int(rng.integers(0, 4)))
        time.sleep(rng.uniform(0, 0.08))  # two batches take about as long
        process.kill()
        process.communicate()
        n_killed += process.returncode == -signal.SIGKILL
        if out.exists():  # it was done before the kill: the next starts over
            assert files_below(broken) == files_below(whole)
            shutil.rmtree(broken)
            n_whole += 1
    last = slow_run(night, model, out, resume=True)
    last.communicate(timeout=60)
    assert last.returncode == 3  # one image is broken
    assert files_below(broken) == files_below(whole)
    assert n_whole >= 1  # the kills fell everywhere, to the last row


def files_below(folder: Path) -> dict[str, bytes]:
    """The bytes of every file but the journal."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if path.suffix != ".journal"
    }


def test_the_key_names_what_decides_the_rows(model: Path, tmp_path: Path) -> None:
    run = run_key(Predictor(model, "cpu", 1), FolderOptions(heatmaps=tmp_path))
    assert (run.provider, run.threads, run.batch_size) == ("cpu", 1, 4)
    assert run.heatmaps == str(tmp_path.resolve())
    assert len(run.model_sha256) == 64


def meanwhile(monkeypatch: pytest.MonkeyPatch, n: int, happen: Callable[[], object]) -> None:
    """Let something happen when `n` batches are written."""
    real_append = Journal.append
    n_appended = 0

    def append(self: Journal, batch: Batch) -> KeptBatch:
        nonlocal n_appended
        kept = real_append(self, batch)
        n_appended += 1
        if n_appended == n:
            happen()
        return kept

    monkeypatch.setattr(Journal, "append", append)


def test_an_input_that_goes_away_meanwhile_is_a_row_with_its_reason(
    night: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "night"
    shutil.copytree(night, folder)
    last = find_images([folder]).images[-1]
    meanwhile(monkeypatch, 1, last.path.unlink)
    command = infer_command(folder, model, tmp_path / "p.csv")
    result = CliRunner().invoke(app, [*command, "--batch-size", "1", "-q"])
    assert result.exit_code == 3
    written = rows_of((tmp_path / "p.csv").read_bytes())[1:]
    assert len(written) == 22
    assert written[-1][:2] == [last.name, "error"]
    assert written[-1][-1] == "is not there"


def test_an_output_folder_that_goes_away_meanwhile_ends_in_one_line(
    night: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    meanwhile(monkeypatch, 5, lambda: shutil.rmtree(tmp_path / "out"))
    command = infer_command(night, model, tmp_path / "out/p.csv")
    result = CliRunner().invoke(app, [*command, "-q"])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "No such file or directory; make the place readable and writable" in result.stderr


def test_an_input_that_is_replaced_meanwhile_is_answered_as_it_was_read(
    night: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read once, whole: its row is of one content or of the other, never of both."""
    folder = tmp_path / "night"
    shutil.copytree(night, folder)
    last = find_images([folder]).images[-1]
    other = find_images([night]).images[0].path.read_bytes()
    meanwhile(monkeypatch, 1, lambda: last.path.write_bytes(other))
    predictor = Predictor(model, "cpu", 1, batch_size=1)
    infer_folder(predictor, find_images([folder]), tmp_path / "p.csv", QUIET)
    probability = float(rows_of((tmp_path / "p.csv").read_bytes())[-1][3])
    allowed = [predictor.predict(path).probability for path in (night / last.below, last.path)]
    assert min(abs(probability - p) for p in allowed) < 1e-6
