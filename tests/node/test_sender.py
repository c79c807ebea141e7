"""Reports leave the outbox once their destination has them, and are never lost on the way."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="pip install 'kneeedge[node]'")

import pydicom
from pynetdicom import AE, evt

from kneeedge.node import sender as sender_module
from kneeedge.node.options import Destination, NodeOptions
from kneeedge.node.sender import SENT, Sender, UnreachableError
from kneeedge.node.spool import Spool
from tests.node.objects import image

SC = SENT[1]


class Archive:
    """A Storage SCP that answers with the statuses that it is given, then with success."""

    def __init__(self, *statuses: int, sop_class: str = SC) -> None:
        self.statuses = list(statuses)
        self.received: list[str] = []
        entity = AE("ARCHIVE")
        entity.require_called_aet = True
        entity.add_supported_context(sop_class)
        handlers = [(evt.EVT_C_STORE, self._store)]
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self.server.server_address[1]

    def _store(self, event) -> int:
        status = self.statuses.pop(0) if self.statuses else 0
        if status in (0, 0xB000):
            self.received.append(str(event.dataset.SOPInstanceUID))
        return status


@pytest.fixture
def archive() -> Iterator[Callable[..., Archive]]:
    archives: list[Archive] = []

    def start(*statuses: int, **options: str) -> Archive:
        archives.append(Archive(*statuses, **options))
        return archives[-1]

    yield start
    for one in archives:
        one.server.shutdown()


@pytest.fixture
def spool(tmp_path) -> Spool:
    spool = Spool(tmp_path / "node", sends=True, max_queue=10)
    for i in range(3):
        report = image(i, SOPClassUID=SC)
        report.file_meta.MediaStorageSOPClassUID = SC
        report.save_as(spool.done / f"1.2.{i}~0123456789abcdef.dcm.sc.dcm")
    return spool


def sender(spool: Spool, port: int, title: str = "ARCHIVE") -> tuple[Sender, list[str]]:
    lines: list[str] = []
    destination = Destination(title, "127.0.0.1", port)
    options = NodeOptions(folder=spool.rows.parent, destination=destination)
    return Sender(destination, options, spool, lines.append), lines


def uids(paths: list[Path]) -> list[str]:
    return [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]


def test_what_is_stored_leaves_the_outbox_oldest_first(archive, spool):
    there = archive(0, 0xB000, 0)
    waiting = uids(spool.outgoing())
    one, lines = sender(spool, there.port)
    assert one.send(spool.outgoing()) == 0
    assert there.received == waiting
    assert spool.outgoing() == []
    assert one.n_sent == 3
    assert lines == []


def test_what_is_refused_for_good_is_kept_and_said(archive, spool):
    first, *_ = spool.outgoing()
    one, lines = sender(spool, archive(0xC123).port)
    assert one.send(spool.outgoing()) == 0
    assert spool.outgoing() == []
    assert [path.name for path in spool.refused.glob("*.dcm")] == [first.name]
    (line,) = lines
    assert "status C123" in line
    assert str(spool.refused / first.name) in line


def test_what_the_destination_does_not_take_at_all_is_kept_and_said(archive, spool):
    one, lines = sender(spool, archive(sop_class=SENT[0]).port)
    one.send(spool.outgoing())
    assert len(list(spool.refused.glob("*.dcm"))) == 3
    assert "No presentation context" in lines[0]


def test_a_destination_without_room_is_tried_again_later(archive, spool):
    there = archive(0xA700)
    one, lines = sender(spool, there.port)
    assert one.send(spool.outgoing()) == 1
    assert len(spool.outgoing()) == 1
    assert "out of resources (A700)" in lines[0]
    assert one.send(spool.outgoing()) == 0
    assert len(there.received) == 3


def test_a_destination_that_is_not_there_loses_nothing(spool):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one, _ = sender(spool, port)
    with pytest.raises(UnreachableError, match="does not answer"):
        one.send(spool.outgoing())
    assert len(spool.outgoing()) == 3


def test_a_destination_of_another_title_loses_nothing(archive, spool):
    one, _ = sender(spool, archive().port, title="OTHER")
    with pytest.raises(UnreachableError, match="refuses the association"):
        one.send(spool.outgoing())
    assert len(spool.outgoing()) == 3


def test_a_destination_that_comes_back_gets_all(archive, spool, monkeypatch):
    monkeypatch.setattr(sender_module, "FIRST_WAIT", 0.05)
    there = archive(0xA700, 0xA700)
    one, _ = sender(spool, there.port)
    one.start()
    end = time.monotonic() + 30
    while spool.outgoing() and time.monotonic() < end:
        time.sleep(0.05)
    one.stop()
    assert one.failure is None
    assert len(there.received) == 3


def test_what_ends_the_sender_is_kept_for_the_node_to_raise(archive, spool, monkeypatch):
    def broken(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Spool, "outgoing", broken)
    one, _ = sender(spool, archive().port)
    one.start()
    one.stop()
    assert isinstance(one.failure, PermissionError)
