"""Decoders in processes of their own: the same pixels, and a crash or a hang costs one row."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import ImageError, MissingExtraError, WorkerError
from kneeedge.inference.journal import Batch, Journal, KeptBatch, journal_of
from kneeedge.model.spec import PixelPath
from kneeedge.pixels import isolation
from kneeedge.pixels.isolation import Decoder, ProcessReader
from kneeedge.pixels.pixel_path import Input
from kneeedge.pixels.prefetch import StageClock, open_reader, read_batches
from kneeedge.pixels.reader import ReadOptions, ThreadReader
from kneeedge.system import processes
from kneeedge.system.files import file_sha256
from kneeedge.system.processes import as_raised
from kneeedge.system.threads import in_order
from tests.tiny_onnx import write_tiny_model

OPTIONS = ReadOptions(PixelPath(32), isolated=True, timeout=20.0)
HASTY = ReadOptions(PixelPath(32), isolated=True, timeout=1.0)
LOSSES = {
    "segfault.png": "the decoder crashed (signal 11, Segmentation fault)",
    "abort.png": "the decoder crashed (signal 6, Aborted)",
    "exit.png": "the decoder crashed (exit code 3)",
    "bug.png": "the decoder crashed (KeyError: 'no such tag')",
    "garbage.png": "the decoder crashed (its answer is damaged)",
    "hang.png": "was not read within 1 s",
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders that do what the file's name says."""
    monkeypatch.setattr(isolation, "DECODER", "tests.fake_decoder")
    monkeypatch.setattr(processes, "END_SECONDS", 0.5)


def write(path: Path, level: int = 7) -> Path:
    pixels = np.arange(48 * 40, dtype=np.uint32).reshape(48, 40) * level % 251
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> list[Decoder]:
    """The decoders that a reader starts, as it starts them."""
    started: list[Decoder] = []

    def start(options: ReadOptions) -> Decoder:
        started.append(Decoder(options))
        return started[-1]

    monkeypatch.setattr(isolation, "Decoder", start)
    return started


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_pixels_are_those_of_a_thread(tmp_path: Path) -> None:
    names = ("a.png", "b.jpg", "c.tif", 'd, "e"\n=1.png', "kn\udcffee.png", "🦴.bmp")
    for i, name in enumerate(names):
        write(tmp_path / name, i + 3)
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:80])
    threads = ThreadReader(OPTIONS)
    processes = ProcessReader(OPTIONS)
    for name in (*names, "broken.png", "none.png"):
        of_thread, of_process = (reader.read(tmp_path / name) for reader in (threads, processes))
        by_thread, by_process = of_thread.result, of_process.result
        assert (of_thread.stamp is None) == (name == "none.png")
        if of_thread.stamp:
            assert of_thread.stamp.has_times_of(of_process.stamp)
            assert of_thread.stamp.sha256 == file_sha256(tmp_path / name)
        assert isinstance(by_thread, Input) == (name in names)
        if isinstance(by_thread, Input):
            assert (by_thread.pixels == by_process.pixels).all()
            assert (by_thread.dicom, by_thread.blank) == (by_process.dicom, by_process.blank)
        else:
            assert str(by_thread) == str(by_process)
    processes.close()


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", LOSSES)
def test_a_decoder_that_dies_or_hangs_costs_one_file_and_is_replaced(
    tmp_path: Path, name: str
) -> None:
    reader = ProcessReader(HASTY)
    paths = [write(tmp_path / file, i) for i, file in enumerate(("1.png", name, "2.png"), 1)]
    try:
        first, lost, last = (reader.read(path).result for path in paths)
    finally:
        reader.close()
    assert isinstance(first, Input)
    assert isinstance(last, Input)
    assert lost.reason == LOSSES[name]


@pytest.mark.usefixtures("fake")
def test_every_file_keeps_its_place_between_crashes(tmp_path: Path) -> None:
    names = [f"{i}-segfault.png" if i % 3 == 0 else f"{i}.png" for i in range(12)]
    images = [SimpleNamespace(path=write(tmp_path / name, i + 1)) for i, name in enumerate(names)]
    batches = read_batches(images, ProcessReader(OPTIONS), 5, 2, StageClock())
    rows = [(image, isinstance(file.result, Input)) for batch in batches for image, file in batch]
    assert rows == [(image, i % 3 > 0) for i, image in enumerate(images)]


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_a_run_goes_on_and_a_resumed_one_has_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    folder = tmp_path / "in"
    folder.mkdir()
    names = sorted((*LOSSES, "1.png", "z.png"))
    for i, name in enumerate(names, 1):
        write(folder / name, i)
    command = [
        "infer", str(folder), "--model", str(model), "--provider", "cpu", "--threads", "2",
        "--batch-size", "2", "--file-timeout", "1", "-q", "--out",
    ]  # fmt: skip
    whole = tmp_path / "whole.csv"
    out = tmp_path / "p.csv"
    assert CliRunner().invoke(app, [*command, str(whole)]).exit_code == 3
    with whole.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == names
    assert {row["path"]: row["error"] for row in rows if row["status"] == "error"} == LOSSES
    appended = []
    real_append = Journal.append

    def stop(self: Journal, batch: Batch) -> KeptBatch:
        if len(appended) == 2:
            raise KeyboardInterrupt
        appended.append(real_append(self, batch))
        return appended[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", stop)
        assert CliRunner().invoke(app, [*command, str(out)]).exit_code == 130
    assert CliRunner().invoke(app, [*command, str(out), "--resume"]).exit_code == 3
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("fake")
def test_who_stops_does_not_wait_for_a_decoder_that_hangs(tmp_path: Path) -> None:
    path = write(tmp_path / "hang.png")
    reader = ProcessReader(OPTIONS)
    refusals = []
    thread = threading.Thread(target=lambda: refusals.append(reader.read(path).result))
    thread.start()
    time.sleep(0.3)
    reader.close()
    thread.join(10)
    assert isinstance(refusals[0], ImageError)
    # closed: nobody waits for ever
    assert isinstance(reader.read(path).result, ImageError)


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_whose_decoders_hang_stops_at_once(tmp_path: Path, number: int) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        write(folder / f"{i}-hang.png")
    # a shell's `&` makes its processes ignore SIGINT
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        'from kneeedge.pixels import isolation; isolation.DECODER = "tests.fake_decoder"\n'
        "from kneeedge.cli.app import main; main()"
    )
    out = tmp_path / "p.csv"
    command = ["infer", str(folder), "--model", str(model), "--out", str(out)]
    run = subprocess.Popen(
        [sys.executable, "-c", code, *command, "--file-timeout", "500"], stderr=subprocess.PIPE
    )
    part = journal_of(out)
    end = time.monotonic() + 60
    while not part.is_file() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.0)  # until they hang
    run.send_signal(number)
    try:
        _, stderr = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 130
    assert b"with --resume ends" in stderr


def test_no_decoder_outlives_its_reader(tmp_path: Path, decoders: list[Decoder]) -> None:
    reader = ProcessReader(OPTIONS)
    path = write(tmp_path / "a.png")
    assert len(list(in_order(reader.read, [path] * 20, 2, 4))) == 20
    pids = [decoder.child.pid for decoder in decoders]
    assert 1 <= len(pids) <= 2
    assert all(map(alive, pids))
    reader.close()
    assert not any(map(alive, pids))


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_a_signal_to_the_whole_group_does_not_end_a_decoder(
    tmp_path: Path, decoders: list[Decoder]
) -> None:
    reader = ProcessReader(OPTIONS)
    path = write(tmp_path / "a.png")
    reader.read(path)
    (decoder,) = decoders
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(decoder.child.pid, number)
        assert isinstance(reader.read(path).result, Input)
    assert decoders == [decoder]
    reader.close()


def test_a_decoder_ends_with_its_input(tmp_path: Path) -> None:
    """So that none outlives a parent that was killed."""
    decoder = Decoder(OPTIONS)
    decoder.ask(write(tmp_path / "a.png"))
    assert decoder.child.finish(10) == 0
    decoder.end()


def test_a_decoder_that_cannot_start_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "DECODER", "tests.no_such_decoder")
    reader = ProcessReader(OPTIONS)
    reason = r"No module named tests.no_such_decoder\); run again with --no-iso"
    with pytest.raises(WorkerError, match=reason):
        reader.read(tmp_path / "a.png")
    reader.close()


def test_what_ends_a_run_ends_it_from_a_decoder_too() -> None:
    error = as_raised("MissingExtraError", "reading DICOM needs pydicom")
    assert isinstance(error, MissingExtraError)
    assert str(error) == "reading DICOM needs pydicom"


def test_isolation_is_a_choice() -> None:
    assert isinstance(open_reader(ReadOptions(PixelPath(32))), ThreadReader)
