"""What a node says to its senders, and that a hostile one harms nobody; pynetdicom sends."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="pip install 'kneeedge[node]'")

from pynetdicom import AE

from kneeedge.errors import ConfigError
from kneeedge.node.options import Limits, NodeOptions, Peer, Tls
from kneeedge.node.receiver import VERIFICATION, Rates, Receiver
from kneeedge.node.run import require_pynetdicom
from kneeedge.node.spool import Spool
from kneeedge.node.storage import STORAGE, SYNTAXES
from tests.node.objects import image, uid

Start = Callable[..., "Listening"]


class Listening:
    """A receiver without a model: what it keeps waits in the spool."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.options = NodeOptions(folder=folder, port=0, **options)
        self.spool = Spool(folder, sends=False, max_queue=self.options.limits.max_queue)
        self.done: set[str] = set()
        self.lines: list[str] = []
        self.woken = threading.Event()
        self.receiver = Receiver(
            self.options, self.spool, self.done.__contains__, self.woken.set, self.lines.append
        )
        self.receiver.start()

    @property
    def port(self) -> int:
        return self.receiver.port

    def associate(self, calling: str = "CR1", called: str = "KNEEEDGE"):
        entity = AE(calling)
        entity.add_requested_context(VERIFICATION)
        entity.add_requested_context(STORAGE[0], list(SYNTAXES[:1]))
        return entity.associate("127.0.0.1", self.port, ae_title=called)

    def send(self, *images, calling: str = "CR1") -> list[tuple[int, str]]:
        """The status of each image, and its comment."""
        association = self.associate(calling)
        assert association.is_established
        answers = [association.send_c_store(image) for image in images]
        association.release()
        return [(answer.Status, str(answer.get("ErrorComment", ""))) for answer in answers]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    require_pynetdicom()
    begun: list[Listening] = []

    def begin(**options: object) -> Listening:
        begun.append(Listening(tmp_path / "node", **options))
        return begun[-1]

    yield begin
    for listening in begun:
        listening.receiver.stop()


def test_an_object_is_acknowledged_when_it_is_on_the_disk(start):
    listening = start()
    assert listening.send(image(0), image(1)) == [(0, ""), (0, "")]
    assert [name.partition("~")[0] for name in listening.spool.waiting()] == [uid(0), uid(1)]
    assert listening.woken.is_set()


def test_an_echo_is_answered(start):
    association = start().associate()
    assert association.send_c_echo().Status == 0
    association.release()


def test_an_object_that_was_answered_before_is_taken_and_not_answered_again(start):
    listening = start()
    listening.send(image(0))
    (name,) = listening.spool.waiting()
    listening.done.add(name)
    listening.spool.answered(name, failed=False)
    assert listening.send(image(0)) == [(0, "")]
    assert listening.spool.waiting() == []


def test_a_wrong_title_on_either_side_is_rejected(start):
    listening = start(peers=(Peer("CR1"),))
    assert listening.associate("CR2").is_rejected
    assert listening.associate("CR1", called="OTHER").is_rejected
    association = listening.associate("CR1")
    assert association.is_established
    association.release()
    assert any("rejected an association from 127.0.0.1" in line for line in listening.lines)


def test_a_peer_from_another_address_is_not_authorised(start):
    listening = start(peers=(Peer("CR1", "192.0.2.7"),))
    assert listening.send(image(0)) == [(0x0124, "not a peer of this node")]
    association = listening.associate("CR1")
    assert association.send_c_echo().Status == 0x0124
    association.release()
    assert listening.spool.waiting() == []


def test_a_full_queue_says_out_of_resources_and_keeps_what_it_has(start):
    listening = start(limits=Limits(max_queue=2))
    answers = listening.send(image(0), image(1), image(2))
    assert answers == [(0, ""), (0, ""), (0xA700, "2 objects wait already")]
    assert listening.spool.n_waiting() == 2


def test_a_disk_that_is_full_says_out_of_resources(start, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    listening = start()
    monkeypatch.setattr("kneeedge.node.spool.write_bytes", full)
    assert listening.send(image(0)) == [(0xA700, "not kept: No space left on device")]


def test_a_peer_that_sends_too_often_is_told_so(start):
    listening = start(limits=Limits(max_rate=1))
    (first, second) = listening.send(image(0), image(1))
    assert first == (0, "")
    assert second == (0xA700, "over 1 object a minute")
    assert listening.send(image(1), calling="CR2") == [second]  # a title is easily changed


def test_a_rate_is_of_the_last_minute():
    now = [0.0]
    rates = Rates(Limits(max_rate=1), lambda: now[0])
    assert rates.allow("a")
    assert not rates.allow("a")
    now[0] = 61.0
    assert rates.allow("a")


def test_what_kneeedge_made_is_not_answered(start):
    listening = start()
    ((status, comment),) = listening.send(image(0, Manufacturer="kneeedge"))
    assert status == 0xC000
    assert comment == "made by kneeedge: it answers no own objects"
    assert listening.spool.waiting() == []


def test_a_uid_that_is_a_path_is_refused(start):
    listening = start()
    ((status, _),) = listening.send(image(0, SOPInstanceUID="../../evil"))
    assert status == 0x0117
    assert listening.spool.waiting() == []


def test_what_is_no_radiograph_is_not_negotiated(start):
    entity = AE("CR1")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.104.1")  # an encapsulated PDF
    association = entity.associate("127.0.0.1", start().port, ae_title="KNEEEDGE")
    assert not association.is_established


def test_more_associations_than_may_be_are_rejected_and_come_in_later(start):
    listening = start(limits=Limits(max_associations=2))
    held = [listening.associate() for _ in range(2)]
    assert all(association.is_established for association in held)
    assert listening.associate().is_rejected
    for association in held:
        association.release()
    assert listening.send(image(0)) == [(0, "")]


def test_a_hundred_connections_that_say_nothing_keep_nobody_out(start):
    listening = start(limits=Limits(max_associations=2, timeout=1.0))
    silent = [socket.create_connection(("127.0.0.1", listening.port)) for _ in range(100)]
    until(lambda: listening.associate().is_established)
    for connection in silent:
        connection.close()


@pytest.mark.parametrize(
    "says",
    [
        struct.pack(">BBL", 1, 0, 0xFFFFFFFF),  # a request of four gigabytes
        struct.pack(">BBL", 1, 0, 200) + b"\0" * 20,  # cut off
        struct.pack(">BBL", 9, 0, 4) + b"....",  # no PDU
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BBL", 4, 0, 10) + b"\0\0\0\6\1\3....",  # data before an association
    ],
)
def test_what_is_no_association_ends_its_connection_alone(start, says):
    listening = start(limits=Limits(timeout=1.0))
    with socket.create_connection(("127.0.0.1", listening.port), timeout=20) as hostile:
        hostile.sendall(says)
        while hostile.recv(4096):  # until the node ends it
            pass
    assert listening.send(image(0)) == [(0, "")]


def test_an_object_that_is_too_large_ends_its_association_and_leaves_nothing(start):
    listening = start(limits=Limits(max_object_mb=0.001))
    large = image(0)
    large.Rows = large.Columns = 1024
    large.PixelData = bytes(2 * 1024 * 1024)
    association = listening.associate()
    answer = association.send_c_store(large)
    assert "Status" not in answer
    assert listening.spool.waiting() == []
    assert listening.send(image(1)) == [(0, "")]


def test_a_sender_that_stops_amid_an_object_is_let_go_of(start):
    listening = start(limits=Limits(timeout=0.5))
    association = listening.associate()
    association.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, 1000) + b"\0" * 100)
    until(lambda: association.is_aborted or not association.is_alive())
    assert listening.send(image(0)) == [(0, "")]
    assert listening.spool.n_waiting() == 1


def test_certificates_that_are_none_are_refused(start, tmp_path):
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="give readable files of PEM"):
        start(tls=Tls(certificate=tmp_path / "cert.pem"))


def test_a_port_that_is_taken_is_one_line(start):
    listening = start()
    options = replace(listening.options, port=listening.port)
    with pytest.raises(ConfigError, match="in use; name another address or port"):
        Receiver(options, listening.spool, bool, lambda: None, print)


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)
