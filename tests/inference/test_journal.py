"""Rows that outlive any stop: the journal, `infer --resume`, two runs on one output, a full disk."""

import dataclasses
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import BusyError, ConfigError
from kneeedge.inference import journal as journal_module
from kneeedge.inference.folder import FolderOptions, infer_folder, run_key
from kneeedge.inference.journal import Journal, RunKey, encode, names_sha256, whole_rows
from kneeedge.inference.predictions import no_formula, of_row, row
from kneeedge.inference.predictor import Predictor
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.progress import Progress
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)
COLUMNS = ("path", "error")


def key(n: int = 9, batch_size: int = 2, **changes: object) -> RunKey:
    found = RunKey(
        version="0.1.0",
        model_sha256="ab",
        provider="cpu",
        threads=1,
        batch_size=batch_size,
        answer_all=False,
        dicom_window=0,
        with_patient_id=False,
        max_pixels=9,
        columns=COLUMNS,
        n=n,
        names_sha256=names_sha256(map(str, range(n))),
    )
    return dataclasses.replace(found, **changes)


def rows(n: int) -> list[list[str]]:
    return [[f'{i}, "quoted"\nand broken', f"é{i}"] for i in range(n)]


def interrupted(out: Path, n_rows: int, run: RunKey) -> Journal:
    """A journal that was left behind that many rows."""
    with Journal(out, run, resume=False) as journal:
        for cells in rows(n_rows):
            journal.append(cells)
    return journal


def test_the_output_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    with Journal(out, key(3), resume=False) as journal:
        for cells in rows(3):
            journal.append(cells)
            assert not out.exists()
        journal.publish()
    assert out.read_bytes() == b"".join(map(encode, [COLUMNS, *rows(3)]))
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize(("n_done", "n_kept"), [(0, 0), (1, 0), (2, 2), (5, 4), (9, 9)])
def test_a_run_goes_on_behind_its_last_whole_batch(
    tmp_path: Path, n_done: int, n_kept: int
) -> None:
    out = tmp_path / "p.csv"
    interrupted(out, n_done, key())
    with Journal(out, key(), resume=True) as journal:
        assert journal.kept == rows(n_kept)
        for cells in rows(9)[n_kept:]:
            journal.append(cells)
        journal.publish()
    assert out.read_bytes() == b"".join(map(encode, [COLUMNS, *rows(9)]))


def test_a_file_cut_anywhere_keeps_its_whole_rows() -> None:
    content = b"".join(map(encode, [COLUMNS, *rows(3)]))
    ends = [len(b"".join(map(encode, [COLUMNS, *rows(i)]))) for i in range(4)]
    for cut in range(len(content) + 1):
        expected = sum(end <= cut for end in ends)
        assert whole_rows(content[:cut]) == [list(COLUMNS), *rows(3)][:expected]


def test_a_torn_row_is_written_anew(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    journal = interrupted(out, 4, key())
    with journal.part.open("r+b") as file:
        file.truncate(journal.part.stat().st_size - 3)
    with Journal(out, key(), resume=True) as again:
        assert again.kept == rows(2)
    assert whole_rows(again.part.read_bytes())[1:] == rows(2)


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"kn\xffee.png")
    out = tmp_path / "p.csv"
    with Journal(out, key(2), resume=False) as journal:
        for _ in range(2):
            journal.append([name, ""])
    with Journal(out, key(2), resume=True) as journal:
        assert journal.kept == [[name, ""]] * 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_sha256": "cd"}, "another model sha256"),
        ({"n": 8}, "another n"),
        ({"names_sha256": "0"}, "another names sha256"),
        ({"batch_size": 4}, "another batch size"),
        ({"provider": "cuda"}, "another provider"),
    ],
)
def test_a_run_of_something_else_is_not_gone_on_with(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    out = tmp_path / "p.csv"
    journal = interrupted(out, 4, key())
    before = journal.part.read_bytes()
    with pytest.raises(ConfigError, match=said):
        Journal(out, key(**change), resume=True)
    assert journal.part.read_bytes() == before  # nothing is lost by asking


def test_a_damaged_state_is_one_line(tmp_path: Path) -> None:
    journal = interrupted(tmp_path / "p.csv", 4, key())
    journal.state.write_text("{")
    with pytest.raises(ConfigError, match=r"is damaged .* start anew, without --resume"):
        Journal(tmp_path / "p.csv", key(), resume=True)


def test_with_nothing_to_go_on_with_a_run_starts(tmp_path: Path) -> None:
    with Journal(tmp_path / "p.csv", key(), resume=True) as journal:
        assert (journal.kept, journal.n_dropped) == ([], 0)


def test_starting_anew_says_what_it_drops(tmp_path: Path) -> None:
    interrupted(tmp_path / "p.csv", 5, key())
    with Journal(tmp_path / "p.csv", key(), resume=False) as journal:
        assert journal.n_dropped == 5
    assert whole_rows(journal.part.read_bytes()) == [list(COLUMNS)]


def test_a_second_run_on_one_output_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    with Journal(out, key(), resume=False) as journal:
        journal.append(rows(1)[0])
        with pytest.raises(
            BusyError, match="another run is writing it; wait for that one, or name another --out"
        ):
            Journal(out, key(), resume=False)
        journal.append(rows(2)[1])
    assert whole_rows(journal.part.read_bytes())[1:] == rows(2)


def test_a_run_that_opened_the_file_before_it_was_put_in_place_takes_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, published = tmp_path / "p.csv", []
    first = Journal(out, key(2), resume=False)
    real = journal_module._lock

    def lock(file: object) -> None:
        if not published:  # the other run ends between our opening and our locking
            published.append(first.publish())
            first.__exit__(None, None, None)
        real(file)

    monkeypatch.setattr(journal_module, "_lock", lock)
    whole = len(encode(COLUMNS))
    with Journal(out, key(2), resume=False) as second:
        second.append(rows(1)[0])
    assert out.stat().st_size == whole


def test_a_row_that_the_disk_does_not_take_leaves_no_half(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    journal = Journal(out, key(), resume=False)
    journal.append(rows(1)[0])

    class Full:
        """A file whose disk takes three bytes more."""

        def __init__(self, file: io.FileIO) -> None:
            self.file, self.room = file, 3

        def write(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken, self.room = self.room, 0
            return self.file.write(data[:taken])

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    real, journal._file = journal._file, Full(journal._file)
    with pytest.raises(OSError, match="No space left"):
        journal.append(rows(2)[1])
    real.close()
    assert journal.part.read_bytes() == b"".join(map(encode, [COLUMNS, *rows(1)]))


def test_a_full_disk_ends_the_run_in_one_line_and_it_goes_on_when_there_is_room(
    night: Path, model: Path, tmp_path: Path
) -> None:
    """A real limit: no file of this process may grow beyond 900 bytes."""
    resource = pytest.importorskip("resource")
    out = tmp_path / "p.csv"
    command = [
        sys.executable,
        "-m",
        "kneeedge",
        "infer",
        str(night),
        "--model",
        str(model),
        "--out",
        str(out),
        "--provider",
        "cpu",
        "--threads",
        "1",
        "-q",
    ]
    full = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900)),
    )
    assert full.returncode == 1
    assert (
        full.stderr
        == "error: File too large; make the place readable and writable, with room left\n"
    )
    assert not out.exists()
    part = (tmp_path / ".p.csv.part").read_bytes()
    assert 100 < len(part) <= 900
    assert b"".join(map(encode, whole_rows(part))) == part
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
    done = CliRunner().invoke(
        app, ["infer", str(night), "--model", str(model), "--out", str(tmp_path / "p.csv")]
    )
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    "name", ["=1+1.png", "+1.png", "-1.png", "@SUM(A1).png", "\tx.png", "\rx.png"]
)
def test_no_path_becomes_a_formula_and_each_is_still_a_path(name: str) -> None:
    assert no_formula(name) == f"./{name}"
    assert Path(no_formula(name)) == Path(name)
    assert no_formula("knee=1.png") == "knee=1.png"


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


def test_a_row_gives_its_prediction_back(night: Path, model: Path, tmp_path: Path) -> None:
    predictor = Predictor(model, "cpu", 1)
    result = infer_folder(
        predictor, find_images([night]), tmp_path / "p.csv", QUIET, FolderOptions(keep=True)
    )
    spec = predictor.spec
    for prediction in result.predictions:
        cells = row(prediction, spec)
        assert row(of_row(cells, spec), spec) == cells


def test_an_interrupted_run_goes_on_and_the_summary_counts_all(
    night: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = infer_folder(
        Predictor(model, "cpu", 1),
        find_images([night]),
        tmp_path / "whole.csv",
        QUIET,
        FolderOptions(keep=True),
    )
    out, real, done = tmp_path / "p.csv", Journal.append, []

    def stop(self: Journal, cells: list[str]) -> None:
        if len(done) == 10:
            raise KeyboardInterrupt
        done.append(real(self, cells))

    monkeypatch.setattr(Journal, "append", stop)
    command = [
        "infer",
        str(night),
        "--model",
        str(model),
        "--out",
        str(out),
        "--threads",
        "1",
        "--provider",
        "cpu",
    ]
    stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code == 130
    assert (
        f"stopped; the rows so far are kept: the same command with --resume ends {out}"
        in stopped.stderr
    )
    assert not out.exists()
    monkeypatch.undo()
    again = CliRunner().invoke(app, [*command, "--resume"])
    assert again.exit_code == 1  # one image is broken
    assert "going on behind 8 rows of the interrupted run" in again.stderr
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert again.stdout.splitlines()[0] == f"22 images: {counts(whole.summary.counts)}; 1 errors"


def counts(found: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in found.items())


def test_sigterm_stops_as_ctrl_c_does(night: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    process = slow_run(night, model, out, resume=False)
    wait_for_start(out, None)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"with --resume ends" in stderr


def slow_run(night: Path, model: Path, out: Path, resume: bool) -> subprocess.Popen[bytes]:
    """`kneeedge infer` that takes a while for each row."""
    code = textwrap.dedent("""
        import sys, time
        from kneeedge.inference.journal import Journal
        real = Journal.append
        Journal.append = lambda self, row: (real(self, row), time.sleep(0.01))[0]
        from kneeedge.cli.app import main
        main()
    """)
    options = ["--resume"] if resume else []
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            code,
            "infer",
            str(night),
            "--model",
            str(model),
            "--out",
            str(out),
            "--provider",
            "cpu",
            "--threads",
            "1",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def started(out: Path) -> int | None:
    """When the run that writes `out` began its rows; None where none has."""
    state = out.with_name(f".{out.name}.run")
    return state.stat().st_mtime_ns if state.is_file() else None


def wait_for_start(out: Path, before: int | None) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and started(out) == before:
        time.sleep(0.002)


def n_lines(out: Path) -> int:
    """Lines of the rows so far."""
    try:
        return out.with_name(f".{out.name}.part").read_bytes().count(b"\r\n")
    except FileNotFoundError:  # it was put in place meanwhile
        return 0


def wait_for_rows(process: subprocess.Popen[bytes], out: Path, n: int) -> None:
    """Until the run has written `n` rows more, or is done."""
    wanted = n_lines(out) + n
    while process.poll() is None and not out.exists() and n_lines(out) < wanted:
        time.sleep(0.002)


def test_killed_at_fifty_random_points_the_result_is_that_of_an_unbroken_run(
    night: Path, model: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.csv"
    infer_folder(Predictor(model, "cpu", 1), find_images([night]), whole, QUIET)
    rng, n_killed, n_whole = np.random.default_rng(0), 0, 0
    out = tmp_path / "p.csv"
    while n_killed < 50:
        before = started(out)
        process = slow_run(night, model, out, resume=True)
        wait_for_start(out, before)
        wait_for_rows(process, out, int(rng.integers(0, 13)))
        time.sleep(rng.uniform(0, 0.02))  # a row takes about as long
        process.kill()
        process.communicate()
        n_killed += process.returncode == -signal.SIGKILL
        if out.exists():  # it was done before the kill: the next starts over
            assert out.read_bytes() == whole.read_bytes()
            out.unlink()
            n_whole += 1
    last = slow_run(night, model, out, resume=True)
    last.communicate(timeout=60)
    assert last.returncode == 1  # one image is broken
    assert out.read_bytes() == whole.read_bytes()
    assert n_whole >= 1  # the kills fell everywhere, to the last row


def test_the_key_names_what_decides_the_rows(night: Path, model: Path) -> None:
    found = run_key(Predictor(model, "cpu", 1), find_images([night]))
    assert (found.n, found.provider, found.threads, found.batch_size) == (22, "cpu", 1, 4)
    assert len(found.model_sha256) == len(found.names_sha256) == 64


def meanwhile(monkeypatch: pytest.MonkeyPatch, n: int, what: Callable[[], object]) -> None:
    """Let `what` happen when `n` rows are written."""
    real, done = Journal.append, []

    def append(self: Journal, cells: list[str]) -> None:
        real(self, cells)
        done.append(cells)
        if len(done) == n:
            what()

    monkeypatch.setattr(Journal, "append", append)


def test_an_input_that_goes_away_meanwhile_is_a_row_with_its_reason(
    night: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "night"
    shutil.copytree(night, folder)
    last = find_images([folder]).images[-1]
    meanwhile(monkeypatch, 1, last.path.unlink)
    command = [
        "infer",
        str(folder),
        "--model",
        str(model),
        "--out",
        str(tmp_path / "p.csv"),
        "--batch-size",
        "1",
    ]
    done = CliRunner().invoke(app, [*command, "--threads", "1", "-q"])
    assert done.exit_code == 1
    rows = whole_rows((tmp_path / "p.csv").read_bytes())[1:]
    assert len(rows) == 22
    assert rows[-1][:2] == [last.name, "error"]
    assert rows[-1][-1] == "is not there"


def test_an_output_folder_that_goes_away_meanwhile_ends_in_one_line(
    night: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    meanwhile(monkeypatch, 5, lambda: shutil.rmtree(tmp_path / "out"))
    command = [
        "infer",
        str(night),
        "--model",
        str(model),
        "--out",
        str(tmp_path / "out/p.csv"),
        "-q",
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "No such file or directory; make the place readable and writable" in done.stderr


def test_an_input_that_is_replaced_meanwhile_is_answered_as_it_was_read(
    night: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read once, whole: its row is of one content or of the other, never of both."""
    folder = tmp_path / "night"
    shutil.copytree(night, folder)
    last, other = find_images([folder]).images[-1], find_images([night]).images[0].path.read_bytes()
    meanwhile(monkeypatch, 1, lambda: last.path.write_bytes(other))
    predictor = Predictor(model, "cpu", 1, batch_size=1)
    infer_folder(predictor, find_images([folder]), tmp_path / "p.csv", QUIET)
    found = float(whole_rows((tmp_path / "p.csv").read_bytes())[-1][3])
    allowed = [predictor.predict(path).probability for path in (night / last.below, last.path)]
    assert min(abs(found - p) for p in allowed) < 1e-6
