"""What is remembered of an output: whole lines, of one run at a time, and none that was edited."""

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kneeedge.errors import BusyError, ConfigError
from kneeedge.inference.journal import (
    Batch,
    Journal,
    Published,
    RunKey,
    checked_record,
    has_rows,
    journal_of,
    line_of,
    read_content,
)
from kneeedge.inference.predictions import no_formula
from kneeedge.system.stamps import FileStamp

ROOT = Path(__file__).parents[2]
STAMP = FileStamp(9, 1, 2, 3, "ab")


def key(**changes: object) -> RunKey:
    run = RunKey(
        version="0.1.0",
        model_sha256="ab",
        provider="cpu",
        threads=1,
        batch_size=2,
        answer_all=False,
        dicom_window=0,
        grey_bits=0,
        max_pixels=9,
        with_patient_id=False,
        heatmaps="",
        dicom_sr="",
        columns=("path", "error"),
    )
    return dataclasses.replace(run, **changes)


def batch(i: int) -> Batch:
    rows = tuple((f'{i}{j}, "quoted"\nand broken', f"é{i}") for j in range(2))
    return Batch(rows, (STAMP, None))


def interrupted(out: Path, n_batches: int) -> Path:
    """The journal of a run that was left behind that many batches."""
    with Journal(out, key(), resume=False) as journal:
        for i in range(n_batches):
            journal.append(batch(i))
    return journal.path


def kept_rows(out: Path, **changes: object) -> list[list[list[str]]]:
    with Journal(out, key(**changes), resume=True) as journal:
        return [journal.rows(kept) for kept in journal.found.batches]


def as_lists(*batches: Batch) -> list[list[list[str]]]:
    return [[list(row) for row in one.rows] for one in batches]


def test_batches_and_stamps_come_back_and_others_are_added_behind_them(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    interrupted(out, 2)
    with Journal(out, key(), resume=True) as journal:
        assert [kept.stamps for kept in journal.found.batches] == [(STAMP, None)] * 2
        journal.append(batch(2))
    assert kept_rows(out) == as_lists(batch(0), batch(1), batch(2))


def test_a_journal_cut_anywhere_keeps_its_whole_lines_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    content = interrupted(out, 3).read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(0, len(content) + 1, 7):
        journal_of(out).write_bytes(content[:cut])
        n_whole = sum(end <= cut for end in ends)
        with Journal(out, key(), resume=True) as journal:
            assert len(journal.found.batches) == max(0, n_whole - 1)
            assert journal.found.n_damaged == 0
            journal.append(batch(7))
        assert kept_rows(out)[-1] == as_lists(batch(7))[0]


def test_a_line_that_was_edited_is_noticed_and_left_out(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    path = interrupted(out, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    for i in range(1, 4):
        for at in range(len(lines[i]) - 1):
            edited = bytearray(lines[i])
            edited[at] ^= 1
            if edited[at] == ord("\n"):
                continue
            path.write_bytes(b"".join([*lines[:i], bytes(edited), *lines[i + 1 :]]))
            with path.open("rb", buffering=0) as file:
                content = read_content(file)
            assert (len(content.batches), content.n_damaged) == (2, 1)


def test_a_line_that_was_taken_out_is_noticed(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    path = interrupted(out, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1], lines[4]]))
    with Journal(out, key(), resume=True) as journal:
        assert journal.found.n_damaged == 2
        assert [journal.rows(kept) for kept in journal.found.batches] == as_lists(
            batch(0), batch(3)
        )
        journal.append(batch(5))
    with Journal(out, key(), resume=True) as journal:
        assert journal.found.n_damaged == 2
        assert len(journal.found.batches) == 3


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"kn\xffee.png")
    out = tmp_path / "p.csv"
    with Journal(out, key(), resume=False) as journal:
        journal.append(Batch(((name, ""),), (None,)))
    assert kept_rows(out) == [[[name, ""]]]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"model_sha256": "cd"}, "another model sha256"),
        ({"batch_size": 4}, "another batch size"),
        ({"provider": "cuda"}, "another provider"),
        ({"heatmaps": "/maps"}, "another heatmaps"),
        ({"dicom_sr": "/reports"}, "another dicom sr"),
        ({"with_patient_id": True}, "another with patient id"),
    ],
)
def test_a_run_of_something_else_is_not_gone_on_with(
    tmp_path: Path, change: dict[str, object], difference: str
) -> None:
    out = tmp_path / "p.csv"
    path = interrupted(out, 2)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=difference):
        Journal(out, key(**change), resume=True)
    assert path.read_bytes() == before  # nothing is lost by asking


@pytest.mark.parametrize("first", [b"{\n", line_of({"n": 0, "key": {"version": "9"}})])
def test_a_first_line_that_is_no_key_is_one_error(tmp_path: Path, first: bytes) -> None:
    journal_of(tmp_path / "p.csv").write_bytes(first)
    with pytest.raises(ConfigError, match=r"is damaged, or another version's .* start anew"):
        Journal(tmp_path / "p.csv", key(), resume=True)
    with Journal(tmp_path / "p.csv", key(), resume=False) as journal:
        assert journal.n_dropped == 0


def test_with_nothing_to_go_on_with_a_run_starts(tmp_path: Path) -> None:
    with Journal(tmp_path / "new" / "p.csv", key(), resume=True) as journal:
        assert (journal.found.batches, journal.n_dropped) == ([], 0)


def test_starting_anew_says_what_it_drops(tmp_path: Path) -> None:
    interrupted(tmp_path / "p.csv", 3)
    with Journal(tmp_path / "p.csv", key(), resume=False) as journal:
        assert journal.n_dropped == 6
    assert kept_rows(tmp_path / "p.csv") == []


def test_rows_that_stand_in_the_output_are_no_rows_of_an_interrupted_run(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    interrupted(out, 2)
    assert has_rows(out)
    with Journal(out, key(), resume=True) as journal:
        journal.note_published(Published("ab", 9))
    assert not has_rows(out)
    with Journal(out, key(), resume=True) as journal:
        assert journal.found.published == Published("ab", 9)
        journal.append(batch(2))
    assert has_rows(out)
    with Journal(out, key(), resume=False) as journal:
        assert journal.n_dropped == 2


def test_a_second_run_on_one_output_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    with Journal(out, key(), resume=False) as journal:
        journal.append(batch(0))
        problem = "another run is writing it; wait for that one, or name another --out"
        with pytest.raises(BusyError, match=problem):
            Journal(out, key(), resume=False)
        journal.append(batch(1))
    assert kept_rows(out) == as_lists(batch(0), batch(1))


def test_a_run_that_opened_the_file_before_it_was_replaced_takes_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "p.csv"
    path = interrupted(out, 2)
    locks = []
    real_lock = fcntl.flock

    def lock(file: object, operation: int) -> None:
        if not locks:  # somebody takes the file away between our opening and our locking
            path.rename(tmp_path / "taken")
        locks.append(operation)
        real_lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", lock)
    with Journal(out, key(), resume=True) as second:
        second.append(batch(0))
    assert len(locks) == 2
    assert kept_rows(out) == as_lists(batch(0))


def test_a_line_that_the_disk_does_not_take_leaves_no_half(tmp_path: Path) -> None:
    """A real limit, in a process of its own: none of its files may grow beyond 900 bytes."""
    pytest.importorskip("resource")
    out = tmp_path / "p.csv"
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from kneeedge.inference.journal import Batch, Journal
        from tests.inference.test_journal import key
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
        journal = Journal(Path(sys.argv[1]), key(), resume=False)
        journal.append(Batch((("a.png", ""),), (None,)))
        try:
            journal.append(Batch((("b.png", "x" * 900),), (None,)))
        except OSError as error:
            print(error)
        journal.append(Batch((("c.png", ""),), (None,)))
    """)
    command = [sys.executable, "-c", code, str(out)]
    full = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert full.returncode == 0, full.stderr
    assert "File too large" in full.stdout
    lines = journal_of(out).read_bytes().splitlines(keepends=True)
    records = [checked_record(line) for line in lines]
    assert [record["n"] for record in records if record] == [0, 1, 2]
    assert kept_rows(out) == [[["a.png", ""]], [["c.png", ""]]]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_what_is_remembered_of_patients_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert interrupted(tmp_path / "p.csv", 1).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "name", ["=1+1.png", "+1.png", "-1.png", "@SUM(A1).png", "\tx.png", "\rx.png"]
)
def test_no_path_becomes_a_formula_and_each_is_still_a_path(name: str) -> None:
    assert no_formula(name) == f"./{name}"
    assert Path(no_formula(name)) == Path(name)
    assert no_formula("knee=1.png") == "knee=1.png"
