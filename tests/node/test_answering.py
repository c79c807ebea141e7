"""Each object has one row and one report of each kind, wherever a stop falls."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("highdicom", reason="pip install 'kneeedge[node]'")

import pydicom

from kneeedge.errors import BusyError, ConfigError
from kneeedge.inference.drift_history import read_history
from kneeedge.inference.drift_log import DriftOptions
from kneeedge.inference.journal import Journal
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.side_files import SideOptions
from kneeedge.node.answering import Answerer
from kneeedge.node.spool import Incoming, Spool
from kneeedge.pixels.reader import ReadOptions
from tests.dicom_files import stored
from tests.node.objects import image, uid
from tests.tiny_onnx import write_tiny_model


class PowerCut(BaseException):
    """Nothing of ours catches it."""


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    model = write_tiny_model(tmp_path_factory.mktemp("model") / "m.onnx")
    return Predictor(model, "cpu", 1, batch_size=1)


@pytest.fixture
def spool(tmp_path) -> Spool:
    return Spool(tmp_path / "node", sends=True, max_queue=100)


@pytest.fixture
def answerer(predictor, spool) -> Iterator[Callable[..., Answerer]]:
    """Start one, as after a boot; the one before has ended."""
    started: list[Answerer] = []

    def start(**options: object) -> Answerer:
        for before in started:
            before.close()
        beside = SideOptions(dicom_sr=spool.made, captures=spool.made, **options)
        started[:] = [Answerer(predictor, spool, beside, lambda _: None)]
        return started[0]

    yield start
    for one in started:
        one.close()


def send(spool: Spool, i: int, content: bytes | None = None) -> str:
    whole = stored(image(i)) if content is None else content
    incoming = Incoming(
        sop_instance_uid=uid(i), transfer_syntax="1.2.840.10008.1.2.1", dataset=whole, meta=b""
    )
    spool.take_in(incoming)
    return incoming.name


def rows(spool: Spool) -> list[dict[str, str]]:
    with spool.rows.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def finish(one: Answerer) -> None:
    while one.step():
        pass
    one.publish()


def test_an_object_is_answered_once_and_let_go(answerer, spool):
    name = send(spool, 0)
    one = answerer()
    assert one.step() == 1
    assert one.is_done(name)
    one.publish()
    (row,) = rows(spool)
    assert (row["path"], row["status"], row["sop_instance_uid"]) == (name, "ok", uid(0))
    assert [path.name for path in spool.outgoing()] == [f"{name}.sr.dcm", f"{name}.sc.dcm"]
    assert spool.waiting() == []
    assert one.step() == 0


def test_an_object_is_compared_with_those_before_it_once(predictor, spool, tmp_path):
    path = tmp_path / "site.json"
    for i in (0, 1, 1):
        send(spool, i)
        one = Answerer(predictor, spool, SideOptions(), lambda _: None, DriftOptions(path=path))
        one.step()
        one.close()
    assert read_history(path, predictor.session.file.sha256).n == 2


def test_an_object_that_comes_again_has_no_second_row(answerer, spool):
    send(spool, 0)
    one = answerer()
    finish(one)
    send(spool, 0)  # between its answer and the receiver's knowledge of it
    finish(one)
    send(spool, 0)
    finish(answerer())
    assert len(rows(spool)) == 1
    assert spool.waiting() == []


def test_other_pixels_under_the_same_uid_have_a_row_and_reports_of_their_own(answerer, spool):
    send(spool, 0)
    other = image(1)
    other.SOPInstanceUID = uid(0)
    send(spool, 0, stored(other))
    finish(answerer())
    assert len(rows(spool)) == 2
    reports = [pydicom.dcmread(path).SOPInstanceUID for path in spool.outgoing()]
    assert len(set(reports)) == 4


def test_what_cannot_be_read_has_a_row_and_is_put_aside(answerer, spool):
    name = send(spool, 0, b"\0" * 128 + b"DICM no data set at all")
    finish(answerer())
    (row,) = rows(spool)
    assert row["status"] == "error"
    assert row["error"]
    assert (spool.failed / name).exists()
    assert spool.waiting() == spool.outgoing() == []


def test_rows_and_reports_name_the_patient_only_where_asked(answerer, spool):
    send(spool, 0)
    finish(answerer())
    assert rows(spool)[0]["patient_id"] == ""
    assert {pydicom.dcmread(path).PatientID for path in spool.outgoing()} == {""}
    for path in spool.outgoing():
        path.unlink()


def test_with_the_patient_rows_and_reports_name_them(answerer, spool):
    send(spool, 0)
    finish(answerer(with_patient_id=True))
    assert rows(spool)[0]["patient_id"] == "secret-id"
    assert {pydicom.dcmread(path).PatientID for path in spool.outgoing()} == {"secret-id"}


def test_two_nodes_do_not_share_a_folder(answerer, spool, predictor):
    answerer()
    with pytest.raises(BusyError):
        Answerer(predictor, spool, SideOptions(), lambda _: None)


def test_a_node_of_other_options_does_not_go_on_in_the_folder(answerer, spool):
    send(spool, 0)
    finish(answerer())
    with pytest.raises(ConfigError, match="of another with patient id"):
        answerer(with_patient_id=True)


CUTS = [
    ("a report is written", "kneeedge.inference.structured_report.ReportWriter.write"),
    ("a capture is written", "kneeedge.inference.secondary_capture.CaptureWriter.write"),
    ("the row is kept", "kneeedge.inference.journal.Journal.append"),
    ("the row is on the disk", "kneeedge.inference.journal.Journal.sync"),
    ("the reports are released", "kneeedge.node.spool.Spool.answered"),
    ("the row stands in the output", "kneeedge.inference.output.GrowingOutput.add"),
    ("the output is put in place", "kneeedge.inference.output.GrowingOutput.publish"),
]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("function", [cut[1] for cut in CUTS], ids=[cut[0] for cut in CUTS])
def test_a_cut_anywhere_loses_nothing_and_answers_nothing_twice(
    answerer, spool, monkeypatch, function, moment
):
    # each row is put in place at once, however slow the machine is
    monkeypatch.setattr("kneeedge.inference.output.REST", 0.0)
    names = [send(spool, i) for i in range(3)]
    owner, _, attribute = function.rpartition(".")
    module, _, kind = owner.rpartition(".")
    target = getattr(pytest.importorskip(module), kind)
    original = getattr(target, attribute)
    one = answerer()
    calls = 0

    def cut(*args, **options):
        nonlocal calls
        calls += 1
        if calls > 1 and moment == "before":
            raise PowerCut
        result = original(*args, **options)
        if calls > 1:
            raise PowerCut
        return result

    with monkeypatch.context() as patch:
        patch.setattr(target, attribute, cut)
        with pytest.raises(PowerCut):
            finish(one)
    finish(answerer())
    assert Counter(row["path"] for row in rows(spool)) == Counter(names)
    sent = [path.name for path in spool.outgoing()]
    assert sorted(sent) == sorted(f"{name}.{kind}.dcm" for name in names for kind in ("sc", "sr"))
    assert spool.waiting() == []
    assert spool.made_names() == set()


def test_a_report_is_on_the_disk_before_its_row_and_goes_out_after_it(answerer, spool, monkeypatch):
    send(spool, 0)
    one = answerer()
    seen = []
    append = Journal.append

    def look(self, batch):
        seen.append((sorted(p.suffixes[-2] for p in spool.made.glob("*.dcm")), spool.outgoing()))
        return append(self, batch)

    monkeypatch.setattr(Journal, "append", look)
    finish(one)
    assert seen == [([".sc", ".sr"], [])]


def test_objects_are_read_by_processes_that_last_from_step_to_step(tmp_path, spool):
    model = write_tiny_model(tmp_path / "m.onnx")
    predictor = Predictor(model, "cpu", 2, batch_size=1)
    predictor.read_options = ReadOptions(predictor.spec.pixel_path, isolated=True)
    one = Answerer(predictor, spool, SideOptions(), lambda _: None)
    try:
        for i in range(4):
            send(spool, i)
            assert one.step() == 1
        one.publish()
        assert [row["status"] for row in rows(spool)] == ["ok"] * 4
    finally:
        one.close()
