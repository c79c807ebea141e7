"""Whether a file is still what it was when it was read."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kneeedge.system.stamps import COARSEST_NS, FileStamp, current_stamp, hashed_stamp, still_is


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"first")
    return tmp_path / "a"


def read_later(path: Path, nanoseconds: int = 2 * COARSEST_NS) -> FileStamp:
    """The stamp of a file that was read so long after its last change."""
    stamp = hashed_stamp(path)
    assert stamp is not None
    return replace(stamp, read_ns=max(stamp.mtime_ns, stamp.ctime_ns) + nanoseconds)


def test_a_hashed_stamp_is_of_the_bytes(path: Path) -> None:
    stamp = hashed_stamp(path)
    assert stamp is not None
    assert (stamp.size, stamp.sha256) == (5, hashlib.sha256(b"first").hexdigest())
    assert current_stamp(path.with_name("b")) is None
    assert hashed_stamp(path.with_name("b")) is None


def test_a_file_whose_times_stand_is_not_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = read_later(path)
    monkeypatch.setattr("kneeedge.system.stamps.file_sha256", lambda _: "none")
    assert still_is(stamp, path)


def test_a_file_that_was_read_right_after_a_change_is_hashed(path: Path) -> None:
    stamp = read_later(path, COARSEST_NS)
    assert still_is(stamp, path)
    assert not still_is(replace(stamp, sha256="other"), path)


def test_a_change_is_seen_whatever_the_size_and_the_time_of_change_say(path: Path) -> None:
    stamp = read_later(path)
    path.write_bytes(b"other")
    os.utime(path, ns=(stamp.mtime_ns, stamp.mtime_ns))
    assert not still_is(stamp, path)
    path.write_bytes(b"first")
    assert still_is(stamp, path)
    path.write_bytes(b"longer than before")
    assert not still_is(stamp, path)
    path.unlink()
    assert not still_is(stamp, path)


def test_a_file_that_was_never_read_is_never_what_it_was(path: Path) -> None:
    assert not still_is(replace(read_later(path), sha256=""), path)
