"""A drop folder: each file once, when it is whole; a restart goes on; the output is never half."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import BusyError, ConfigError, OutputExistsError
from kneeedge.inference import output as output_module
from kneeedge.inference.folder import FolderOptions, infer_folder
from kneeedge.inference.journal import Batch, Journal, KeptBatch, journal_of
from kneeedge.inference.predictions import csv_columns
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.watch import Watch, watch
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.progress import Progress
from kneeedge.system.spreadsheet import csv_line
from tests.tiny_onnx import write_tiny_model


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    write_dataset(folder, {"": 6}, size=64)
    return sorted(folder.rglob("*.png"))


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop"


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor(write_tiny_model(tmp_path / "m.onnx"), "cpu", 1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def begin(predictor: Predictor, drop: Path, tmp_path: Path, clock: Clock) -> Callable[[], Watch]:
    """Start a watch as after a boot."""

    def start(say: Callable[[str], None] = lambda _: None) -> Watch:
        return Watch(predictor, [drop], tmp_path / "p.csv", say, settle=5.0, clock=clock)

    return start


def names(out: Path) -> list[str]:
    with out.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [row["path"] for row in csv.DictReader(file)]


def settle(watching: Watch, clock: Clock) -> int:
    """Two looks, five seconds apart."""
    n = watching.step()
    clock.now += 5.0
    return n + watching.step()


def test_an_empty_folder_has_a_header_and_no_rows(begin, tmp_path: Path) -> None:
    begin().close()
    assert names(tmp_path / "p.csv") == []
    assert (tmp_path / "p.csv").read_text().startswith("path,status,")


def test_a_file_is_answered_once_and_only_when_it_stood_still(
    begin, drop, images, tmp_path, clock
) -> None:
    watching = begin()
    whole = images[0].read_bytes()
    (drop / "b.png").write_bytes(whole[:50])
    assert watching.step() == 0
    clock.now += 4.0
    (drop / "b.png").write_bytes(whole)  # still being written
    assert watching.step() == 0
    clock.now += 4.9
    assert watching.step() == 0
    clock.now += 0.1
    assert watching.step() == 1
    clock.now += 60.0
    assert watching.step() == 0
    assert names(tmp_path / "p.csv") == ["b.png"]
    watching.close()


def test_the_rows_are_those_of_a_run_over_the_folder(
    begin, drop, images, tmp_path, clock, predictor
) -> None:
    watching = begin()
    for i, image in enumerate(images):
        shutil.copy(image, drop / f"{i}.png")
    assert settle(watching, clock) == 6
    watching.close()
    infer_folder(predictor, find_images([drop]), tmp_path / "whole.csv", Progress(quiet=True))
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_restart_repeats_nothing_and_loses_nothing(begin, drop, images, tmp_path, clock) -> None:
    first = begin()
    shutil.copy(images[0], drop / "a.png")
    assert settle(first, clock) == 1
    first.close()
    shutil.copy(images[1], drop / "b.png")
    second = begin()
    assert settle(second, clock) == 1
    second.close()
    assert names(tmp_path / "p.csv") == ["a.png", "b.png"]


@pytest.mark.parametrize("stopped_at", ["before the output", "after the output"])
def test_a_stop_between_journal_and_output_repeats_nothing_and_loses_nothing(
    begin, drop, images, tmp_path, clock, monkeypatch, stopped_at
) -> None:
    watching = begin()
    shutil.copy(images[0], drop / "=a.png")
    write_bytes = output_module.write_bytes

    def stop(path: Path, content: bytes, private: bool) -> None:
        if stopped_at == "after the output":
            write_bytes(path, content, private)
        raise KeyboardInterrupt

    monkeypatch.setattr(output_module, "write_bytes", stop)
    watching.step()
    clock.now += 5.0
    with pytest.raises(KeyboardInterrupt):
        watching.step()
    watching.close()
    monkeypatch.undo()
    again = begin()
    assert names(tmp_path / "p.csv") == ["./=a.png"]
    assert settle(again, clock) == 0
    again.close()
    assert names(tmp_path / "p.csv") == ["./=a.png"]


def test_other_content_of_the_same_size_and_time_is_answered_anew(
    begin, drop, images, tmp_path, clock
) -> None:
    first, second = (image.read_bytes().ljust(50_000, b"\0") for image in images[:2])
    watching = begin()
    (drop / "a.png").write_bytes(first)
    status = (drop / "a.png").stat()
    assert settle(watching, clock) == 1
    (drop / "a.png").write_bytes(second)
    os.utime(drop / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert settle(watching, clock) == 1
    watching.close()
    assert names(tmp_path / "p.csv") == ["a.png", "a.png"]


def test_a_file_that_is_touched_keeps_its_one_row(begin, drop, images, tmp_path, clock) -> None:
    lines: list[str] = []
    watching = begin(lines.append)
    shutil.copy(images[0], drop / "a.png")
    assert settle(watching, clock) == 1
    for mtime in (1, 2_000_000_000_000_000_000):
        os.utime(drop / "a.png", ns=(mtime, mtime))
        assert settle(watching, clock) == 0
    watching.close()
    again = begin(lines.append)
    assert settle(again, clock) == 0
    again.close()
    assert names(tmp_path / "p.csv") == ["a.png"]
    assert lines == []


def test_a_file_that_was_touched_and_then_changed_has_two_rows_after_a_restart_too(
    begin, drop, images, tmp_path, clock
) -> None:
    watching = begin()
    shutil.copy(images[0], drop / "a.png")
    settle(watching, clock)
    os.utime(drop / "a.png", ns=(1, 1))
    settle(watching, clock)
    shutil.copy(images[1], drop / "a.png")
    assert settle(watching, clock) == 1
    watching.close()
    again = begin()
    assert settle(again, clock) == 0
    again.close()
    assert names(tmp_path / "p.csv") == ["a.png", "a.png"]


def test_a_file_that_is_replaced_between_the_look_and_the_reading_waits_until_it_stands(
    begin, drop, images, tmp_path, clock, monkeypatch
) -> None:
    """Else half of a file that is being written would be answered as an image."""
    watching = begin()
    shutil.copy(images[0], drop / "a.png")
    watching.step()
    clock.now += 5.0
    real_ready = watching.ready

    def ready() -> list[object]:
        images_and_stamps = real_ready()
        (drop / "a.png").write_bytes(images[1].read_bytes()[:99])
        return images_and_stamps

    monkeypatch.setattr(watching, "ready", ready)
    assert watching.step() == 0
    assert names(tmp_path / "p.csv") == []
    monkeypatch.undo()
    shutil.copy(images[1], drop / "a.png")
    assert settle(watching, clock) == 1
    watching.close()
    assert ",ok," in (tmp_path / "p.csv").read_text()


def test_rows_come_before_all_images_are_through(
    begin, drop, images, tmp_path, clock, monkeypatch
) -> None:
    """A kill in the midst of 6,000 files has its rows, and the next start goes on."""
    for i in range(20):
        shutil.copy(images[i % 6], drop / f"{i:02}.png")
    watching = begin()
    real_append = Journal.append
    seen = []

    def append(self: Journal, batch: Batch) -> KeptBatch:
        seen.append(len(names(tmp_path / "p.csv")))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real_append(self, batch)

    monkeypatch.setattr(Journal, "append", append)
    monkeypatch.setattr(output_module, "REST", 0)
    with pytest.raises(KeyboardInterrupt):
        settle(watching, clock)
    watching.close()
    assert seen == [0, 4, 8, 12]
    monkeypatch.undo()
    again = begin()
    assert settle(again, clock) == 8
    again.close()
    assert names(tmp_path / "p.csv") == [f"{i:02}.png" for i in range(20)]


def test_an_output_that_was_moved_away_begins_anew_with_its_header(
    begin, drop, images, tmp_path, clock
) -> None:
    lines: list[str] = []
    watching = begin(lines.append)
    shutil.copy(images[0], drop / "a.png")
    settle(watching, clock)
    (tmp_path / "p.csv").rename(tmp_path / "monday.csv")
    shutil.copy(images[1], drop / "b.png")
    settle(watching, clock)
    assert names(tmp_path / "p.csv") == ["b.png"]
    assert lines == [f"{watching.out} was taken away; it begins anew, with the rows from now on"]
    watching.close()
    (tmp_path / "p.csv").rename(tmp_path / "tuesday.csv")
    again = begin(lines.append)
    assert names(tmp_path / "p.csv") == []
    again.close()


def test_an_output_that_somebody_changed_is_left_alone_and_no_row_is_lost(
    begin, drop, images, tmp_path, clock, monkeypatch
) -> None:
    watching = begin()
    shutil.copy(images[0], drop / "a.png")
    settle(watching, clock)
    shutil.copy(images[1], drop / "b.png")
    real_append = Journal.append

    def append(self: Journal, batch: Batch) -> KeptBatch:
        (tmp_path / "p.csv").write_text("notes of mine")
        return real_append(self, batch)

    monkeypatch.setattr(Journal, "append", append)
    with pytest.raises(OutputExistsError, match="not as kneeedge left it: move it away"):
        settle(watching, clock)
    watching.close()
    with pytest.raises(OutputExistsError, match="not as kneeedge left it"):
        begin()
    assert (tmp_path / "p.csv").read_text() == "notes of mine"
    (tmp_path / "p.csv").rename(tmp_path / "notes")
    again = begin()
    assert settle(again, clock) == 0
    again.close()
    assert names(tmp_path / "p.csv") == ["b.png"]


def test_a_folder_that_cannot_be_listed_for_a_while_is_said_once_and_looked_at_again(
    begin, drop, images, tmp_path, clock
) -> None:
    lines: list[str] = []
    watching = begin(lines.append)
    drop.rename(tmp_path / "elsewhere")
    assert settle(watching, clock) == 0
    (tmp_path / "elsewhere").rename(drop)
    shutil.copy(images[0], drop / "a.png")
    assert settle(watching, clock) == 1
    assert lines == [f"{drop} cannot be listed; looking again"]
    watching.close()


def test_heat_maps_and_reports_come_with_the_rows(drop, images, tmp_path, clock, predictor) -> None:
    options = FolderOptions(heatmaps=tmp_path / "maps")
    watching = Watch(predictor, [drop], tmp_path / "p.csv", print, options, clock=clock)
    shutil.copy(images[0], drop / "a.png")
    assert settle(watching, clock) == 1
    watching.close()
    assert (tmp_path / "maps/a.png").is_file()


def test_a_file_that_changed_after_its_row_has_a_second_one_and_that_is_said(
    begin, drop, images, tmp_path, clock
) -> None:
    lines: list[str] = []
    watching = begin(lines.append)
    shutil.copy(images[0], drop / "a.png")
    settle(watching, clock)
    (drop / "a.png").write_bytes(images[1].read_bytes())
    os.utime(drop / "a.png", ns=(1, 1))
    assert settle(watching, clock) == 1
    assert names(tmp_path / "p.csv") == ["a.png", "a.png"]
    assert lines == ["a.png has changed since its first row, and has a second one now"]
    watching.close()


def test_an_unreadable_file_is_one_row_with_its_reason(begin, drop, tmp_path, clock) -> None:
    watching = begin()
    (drop / "a.png").write_text("no picture")
    assert settle(watching, clock) == 1
    clock.now += 60
    assert watching.step() == 0
    assert ",error," in (tmp_path / "p.csv").read_text()
    watching.close()


def test_a_file_that_goes_away_before_it_is_read_is_let_go(begin, drop, images, clock) -> None:
    watching = begin()
    shutil.copy(images[0], drop / "a.png")
    watching.step()
    (drop / "a.png").unlink()
    clock.now += 5.0
    assert watching.step() == 0
    watching.close()


def test_another_model_or_a_foreign_output_is_refused(begin, drop, tmp_path, clock) -> None:
    begin().close()
    other = Predictor(write_tiny_model(tmp_path / "other.onnx", seed=1), "cpu", 1)
    with pytest.raises(
        ConfigError, match=r"p\.csv has so far is of another model sha256; give the same"
    ):
        Watch(other, [drop], tmp_path / "p.csv", print)
    (tmp_path / "x.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match="it is not as kneeedge left it"):
        Watch(other, [drop], tmp_path / "x.csv", print)
    assert (tmp_path / "x.csv").read_text() == "mine"
    journal_of(tmp_path / "p.csv").write_text("{\n")
    with pytest.raises(ConfigError, match="is damaged"):
        begin()


def test_two_watches_on_one_output_are_one_too_many(begin) -> None:
    first = begin()
    with pytest.raises(BusyError):
        begin()
    first.close()
    begin().close()


def test_a_reader_sees_whole_rows_at_any_moment(
    begin, drop, images, tmp_path, clock, monkeypatch
) -> None:
    watching = begin()
    contents = []
    real_replace = Path.replace

    def replace(self: Path, target: Path) -> Path:
        contents.append((tmp_path / "p.csv").read_bytes())
        return real_replace(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    for i in range(3):
        shutil.copy(images[i], drop / f"{i}.png")
        settle(watching, clock)
    watching.close()
    assert len(contents) == 3
    header = csv_line(csv_columns(watching.predictor.spec))
    for content in contents:
        assert content.startswith(header)
        assert content.endswith(b"\r\n")


def test_the_loop_sleeps_between_looks_until_it_is_stopped(begin, drop, images, clock) -> None:
    lines: list[str] = []
    watching = begin(lines.append)
    shutil.copy(images[0], drop / "a.png")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.now += 5.0
        if len(waits) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(watching, 2.0, sleep)
    assert waits == [2.0] * 3
    assert lines == [f"answered 1 image; 1 in {watching.out}"]
    watching.close()


def test_watch_refuses_what_does_not_go_with_it_before_a_model_is_looked_for(
    drop: Path, tmp_path: Path
) -> None:
    model = str(tmp_path / "missing.onnx")
    for options, problem in (
        (["--watch", "--resume"], "--watch always goes on; leave out --resume"),
        (["--watch", "--new-only"], "--watch and --new-only exclude each other"),
        (["--watch", "--json", "r.json"], "--watch has no end to report"),
        (["--watch", "--out", "-"], "--watch needs an output that remembers its rows"),
        (["--new-only", "--out", "-"], "--new-only needs an output that remembers its rows"),
        (["--resume", "--out", "-"], "--resume needs an output that remembers its rows"),
    ):
        result = CliRunner().invoke(app, ["infer", str(drop), *options, "--model", model])
        assert result.exit_code == 2
        assert problem in result.output


@pytest.mark.slow
def test_sigterm_ends_a_watch_with_a_whole_output(
    drop: Path, images: list[Path], tmp_path: Path
) -> None:
    shutil.copy(images[0], drop / "a.png")
    model = write_tiny_model(tmp_path / "m.onnx")
    out = tmp_path / "p.csv"
    code = textwrap.dedent("""
        from functools import partial
        from kneeedge.inference import watch
        watch.Watch = partial(watch.Watch, settle=0.0)
        from kneeedge.cli.app import main
        main()
    """)
    command = ["infer", str(drop), "--watch", "--model", str(model), "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-c", code, *command], stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while time.monotonic() < end and not (out.is_file() and names(out)):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"is whole, and the same command goes on" in stderr
    assert names(out) == ["a.png"]
