"""The rows of an output while it is written: whole or not at all, and of one run at a time."""

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kneeedge.errors import BusyError, ConfigError
from kneeedge.inference.journal import Journal, RunKey, encode, names_sha256, whole_rows
from kneeedge.inference.predictions import no_formula

ROOT = Path(__file__).parents[2]
COLUMNS = ("path", "error")


def key(n: int = 9, batch_size: int = 2, **changes: object) -> RunKey:
    run = RunKey(
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
    return dataclasses.replace(run, **changes)


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
    ("change", "difference"),
    [
        ({"model_sha256": "cd"}, "another model sha256"),
        ({"n": 8}, "another n"),
        ({"names_sha256": "0"}, "another names sha256"),
        ({"batch_size": 4}, "another batch size"),
        ({"provider": "cuda"}, "another provider"),
    ],
)
def test_a_run_of_something_else_is_not_gone_on_with(
    tmp_path: Path, change: dict[str, object], difference: str
) -> None:
    out = tmp_path / "p.csv"
    journal = interrupted(out, 4, key())
    before = journal.part.read_bytes()
    with pytest.raises(ConfigError, match=difference):
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
        problem = "another run is writing it; wait for that one, or name another --out"
        with pytest.raises(BusyError, match=problem):
            Journal(out, key(), resume=False)
        journal.append(rows(2)[1])
    assert whole_rows(journal.part.read_bytes())[1:] == rows(2)


def test_a_run_that_opened_the_file_before_it_was_put_in_place_takes_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "p.csv"
    first = Journal(out, key(2), resume=False)
    locks = []
    real_lock = fcntl.flock

    def lock(file: object, operation: int) -> None:
        if not locks:  # the other run ends between our opening and our locking
            first.publish()
            first.__exit__(None, None, None)
        locks.append(operation)
        real_lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", lock)
    with Journal(out, key(2), resume=False) as second:
        second.append(rows(1)[0])
    assert len(locks) == 2
    assert out.read_bytes() == encode(COLUMNS)


def test_a_row_that_the_disk_does_not_take_leaves_no_half(tmp_path: Path) -> None:
    """A real limit, in a process of its own: none of its files may grow beyond 900 bytes."""
    pytest.importorskip("resource")
    out = tmp_path / "p.csv"
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from kneeedge.inference.journal import Journal
        from tests.inference.test_journal import key
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
        journal = Journal(Path(sys.argv[1]), key(), resume=False)
        journal.append(["a.png", ""])
        try:
            journal.append(["b.png", "x" * 900])
        except OSError as error:
            print(error)
        journal.append(["c.png", ""])
    """)
    command = [sys.executable, "-c", code, str(out)]
    full = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert full.returncode == 0, full.stderr
    assert "File too large" in full.stdout
    expected = [COLUMNS, ["a.png", ""], ["c.png", ""]]
    assert (tmp_path / ".p.csv.part").read_bytes() == b"".join(map(encode, expected))


@pytest.mark.parametrize(
    "name", ["=1+1.png", "+1.png", "-1.png", "@SUM(A1).png", "\tx.png", "\rx.png"]
)
def test_no_path_becomes_a_formula_and_each_is_still_a_path(name: str) -> None:
    assert no_formula(name) == f"./{name}"
    assert Path(no_formula(name)) == Path(name)
    assert no_formula("knee=1.png") == "knee=1.png"
