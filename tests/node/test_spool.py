"""The folder of a node: nothing is there by half, nothing is taken twice, nothing goes away."""

import os
from pathlib import Path

import pytest

from kneeedge.node.spool import Incoming, QueueFullError, Spool


def incoming(uid: str = "1.2.3", dataset: bytes = b"pixels", syntax: str = "1.2") -> Incoming:
    return Incoming(sop_instance_uid=uid, transfer_syntax=syntax, dataset=dataset, meta=b"meta")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "node", sends=True, max_queue=3)


def test_an_object_is_kept_as_it_was_sent_for_its_owner_alone(spool):
    spool.take_in(incoming())
    (name,) = spool.waiting()
    path = spool.inbox / name
    assert path.read_bytes() == b"metapixels"
    assert path.stat().st_mode & 0o077 == 0
    assert spool.inbox.stat().st_mode & 0o077 == 0


def test_the_same_content_is_one_object_and_other_content_another_under_the_same_uid():
    assert incoming().name == incoming().name
    names = {incoming().name, incoming(dataset=b"others").name, incoming(syntax="1.2.1").name}
    assert len(names) == 3
    assert all(name.startswith("1.2.3~") for name in names)


def test_objects_wait_in_the_order_in_which_they_came(spool):
    for i, uid in enumerate(("1.9", "1.1", "1.5")):
        spool.take_in(incoming(uid))
        os.utime(spool.inbox / incoming(uid).name, ns=(i, i))
    assert [name.partition("~")[0] for name in spool.waiting()] == ["1.9", "1.1", "1.5"]


def test_a_full_queue_takes_no_more(spool):
    for i in range(3):
        spool.take_in(incoming(f"1.{i}"))
    with pytest.raises(QueueFullError):
        spool.take_in(incoming("1.9"))
    assert spool.n_waiting() == 3


def test_a_disk_that_refuses_an_object_keeps_its_place_in_the_queue(spool, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kneeedge.node.spool.write_bytes", full)
    for _ in range(5):
        with pytest.raises(OSError, match="No space left"):
            spool.take_in(incoming())
    monkeypatch.undo()
    spool.take_in(incoming())
    assert spool.n_waiting() == 1


def test_what_was_made_goes_out_once_the_object_is_answered(spool):
    spool.take_in(incoming())
    (name,) = spool.waiting()
    (spool.made / f"{name}.sr.dcm").write_bytes(b"report")
    (spool.made / "1.2.4~0123456789abcdef.dcm.sr.dcm").write_bytes(b"another's")
    assert spool.outgoing() == []
    spool.answered(name, failed=False)
    assert [path.name for path in spool.outgoing()] == [f"{name}.sr.dcm"]
    assert spool.waiting() == []
    assert spool.made_names() == {"1.2.4~0123456789abcdef.dcm"}


def test_an_object_without_an_answer_is_put_aside(spool):
    spool.take_in(incoming())
    (name,) = spool.waiting()
    spool.answered(name, failed=True)
    assert spool.waiting() == []
    assert (spool.failed / name).read_bytes() == b"metapixels"
    spool.answered(name, failed=True)  # as after a stop in between
    assert (spool.failed / name).exists()


def test_what_a_kill_left_half_written_is_cleared_away_and_nothing_else(spool):
    half = spool.inbox / f".{incoming().name}.new"
    half.write_bytes(b"me")
    (spool.inbox / "notes.txt").write_text("somebody's")
    again = Spool(spool.rows.parent, sends=True, max_queue=3)
    assert not half.exists()
    assert again.waiting() == []
    assert (spool.inbox / "notes.txt").exists()


def test_without_a_destination_reports_stay_in_the_folder(tmp_path):
    assert Spool(tmp_path, sends=False, max_queue=1).done == tmp_path / "reports"
