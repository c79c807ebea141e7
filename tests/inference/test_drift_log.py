"""`--drift FILE`: each image counts once whatever stops in between, rows stay what they were, and
an alarm is told to whom it is for.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kneeedge.cli.app import app
from kneeedge.errors import BusyError, ConfigError, DataError
from kneeedge.inference import alarm_command as alarm_module
from kneeedge.inference.alarm_command import checked_command
from kneeedge.inference.drift import Monitor
from kneeedge.inference.drift_history import (
    DriftHistory,
    hashes_of,
    read_history,
    write_history,
)
from kneeedge.inference.drift_log import CALM, LEARNING, MOVED, DriftLog, DriftOptions
from kneeedge.inference.folder import FolderOptions, infer_folder
from kneeedge.inference.journal import Batch, Journal, KeptBatch
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.watch import Watch
from kneeedge.model.file import open_model
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.progress import Progress
from tests.inference.drift_images import images
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)
N_IMAGES = 20


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night")
    write_dataset(folder, {"": N_IMAGES}, size=64)
    return folder


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor(write_tiny_model(tmp_path / "m.onnx"), "cpu", 1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(predictor: Predictor, folder: Path, out: Path, resume: bool = False) -> str:
    """Answer the folder with a watch for drift; the text of the history that it leaves."""
    drift = DriftOptions(path=out.with_name("site.json"))
    options = FolderOptions(drift=drift, resume=resume)
    infer_folder(predictor, find_images([folder]), out, QUIET, options)
    return drift.path.read_text()


def infer(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["infer", "--quiet", *map(str, arguments)])


def model_sha256(path: Path) -> str:
    return open_model(path).sha256


def site_before_a_change(place: Path) -> None:
    """A history of a site whose pictures were nothing like phantoms."""
    write_tiny_model(place / "m.onnx")
    sha256 = model_sha256(place / "m.onnx")
    monitor = Monitor(DriftHistory(model_sha256=sha256), None, 1)
    monitor.count(images(500, seed=1))
    write_history(place / "site.json", monitor.history())


def test_rows_are_those_of_a_run_without_it(
    predictor: Predictor, phantoms: Path, tmp_path: Path
) -> None:
    infer_folder(predictor, find_images([phantoms]), tmp_path / "a.csv", QUIET)
    answer(predictor, phantoms, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_run_that_was_stopped_counts_each_image_once(
    predictor: Predictor, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole = answer(predictor, phantoms, tmp_path / "whole/p.csv")
    real_append = Journal.append
    n_batches = 0

    def append(self: Journal, batch: Batch) -> KeptBatch:
        nonlocal n_batches
        if n_batches == 3:
            raise KeyboardInterrupt
        n_batches += 1
        return real_append(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        with pytest.raises(KeyboardInterrupt):
            answer(predictor, phantoms, tmp_path / "p.csv")
    assert answer(predictor, phantoms, tmp_path / "p.csv", resume=True) == whole
    assert json.loads(whole)["n"] == N_IMAGES


def test_a_run_that_was_killed_behind_its_count_counts_nothing_again(
    predictor: Predictor, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kneeedge.inference.folder.publish", killed)
        with pytest.raises(KeyboardInterrupt):
            answer(predictor, phantoms, tmp_path / "p.csv")
    before = (tmp_path / "site.json").read_text()
    assert answer(predictor, phantoms, tmp_path / "p.csv", resume=True) == before


def test_a_folder_that_is_answered_again_counts_nothing_again(
    predictor: Predictor, phantoms: Path, tmp_path: Path
) -> None:
    before = answer(predictor, phantoms, tmp_path / "p.csv")
    assert answer(predictor, phantoms, tmp_path / "p.csv") == before


@pytest.fixture
def begin(predictor: Predictor, tmp_path: Path) -> Callable[[], Watch]:
    """Start a watch as after a boot."""

    def start() -> Watch:
        options = FolderOptions(drift=DriftOptions(path=tmp_path / "site.json"))
        folders = [tmp_path / "drop"]
        return Watch(predictor, folders, tmp_path / "p.csv", QUIET, options, settle=0.0)

    return start


def test_a_watch_counts_what_comes(begin, phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(phantoms, tmp_path / "drop")
    watching = begin()
    watching.step()
    watching.close()
    assert json.loads((tmp_path / "site.json").read_text())["n"] == N_IMAGES


def test_a_watch_that_was_killed_counts_what_it_had_not(
    begin, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drop").mkdir()
    watching = begin()
    shutil.copytree(phantoms, tmp_path / "drop", dirs_exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(DriftLog, "save", lambda _: None)
        watching.step()
    watching.close()  # as a kill would: nothing is written
    assert json.loads((tmp_path / "site.json").read_text())["n"] == 0
    begin().close()
    assert json.loads((tmp_path / "site.json").read_text())["n"] == N_IMAGES


def test_a_new_history_begins_with_what_comes_and_not_with_the_journal(
    begin, phantoms: Path, tmp_path: Path
) -> None:
    shutil.copytree(phantoms, tmp_path / "drop")
    watching = begin()
    watching.step()
    watching.close()
    (tmp_path / "site.json").rename(tmp_path / "old.json")
    begin().close()
    assert json.loads((tmp_path / "site.json").read_text())["n"] == 0


def test_two_runs_do_not_share_a_history(begin, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    watching = begin()
    try:
        with pytest.raises(BusyError):
            DriftLog(DriftOptions(path=tmp_path / "site.json"), predictor, QUIET)
    finally:
        watching.close()


def test_a_night_without_a_change_says_so(phantoms: Path, place: Path) -> None:
    write_tiny_model(place / "m.onnx")
    result = infer(phantoms, "--model", "m.onnx", "--drift", "site.json", "--json", "r.json")
    assert result.exit_code == 0
    line = "drift: nothing has moved; 20 images compared with nothing yet"
    assert line in result.stdout
    status = json.loads((place / "r.json").read_text())["drift"]
    assert (status["status"], status["n_counted"], status["n_baseline"]) == (LEARNING, 20, 20)


def test_a_night_of_other_pictures_raises_an_alarm(phantoms: Path, place: Path) -> None:
    site_before_a_change(place)
    result = infer(phantoms, "--model", "m.onnx", "--drift", "site.json", "--json", "r.json")
    assert result.exit_code == 0
    assert "drift: pictures are" in result.stdout
    status = json.loads((place / "r.json").read_text())["drift"]
    assert status["status"] == MOVED
    again = infer(phantoms, "--model", "m.onnx", "--drift", "site.json", "--json", "r.json")
    assert "has not come back" in again.stdout
    assert json.loads((place / "r.json").read_text())["drift"]["alarms"] == []


def test_rows_on_stdout_are_compared_too(phantoms: Path, place: Path) -> None:
    write_tiny_model(place / "m.onnx")
    result = infer(phantoms, "--model", "m.onnx", "--drift", "site.json", "--out", "-")
    assert result.exit_code == 0
    history = read_history(place / "site.json", model_sha256(place / "m.onnx"))
    assert history is not None
    assert history.n == len(hashes_of(history)) == N_IMAGES


def test_the_alarm_command_runs_once_for_what_is_noticed_together(
    phantoms: Path, place: Path
) -> None:
    site_before_a_change(place)
    write = "import sys; open('got.jsonl', 'ab').write(sys.stdin.buffer.read())"
    command = f'{sys.executable} -c "{write}"'
    arguments = (phantoms, "--model", "m.onnx", "--drift", "site.json", "--alarm-command", command)
    for _ in range(2):
        assert infer(*arguments).exit_code == 0
    (line,) = (place / "got.jsonl").read_text().splitlines()
    message = json.loads(line)
    assert message["format"] == "kneeedge-alarm/1"
    assert all(alarm["figure"] and alarm["text"] for alarm in message["alarms"])


def test_no_shell_reads_the_alarm_command(phantoms: Path, place: Path) -> None:
    site_before_a_change(place)
    command = f'{sys.executable} -c "pass" ; touch broken'
    infer(phantoms, "--model", "m.onnx", "--drift", "site.json", "--alarm-command", command)
    assert not (place / "broken").exists()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; sys.exit('no mail server')", "ended with 1: no mail server"),
        ("import time; time.sleep(60)", "did not end within 0.5 s"),
    ],
)
def test_a_command_that_fails_is_said_and_stops_nothing(
    phantoms: Path, place: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    monkeypatch.setattr(alarm_module, "ALARM_SECONDS", 0.5 if "sleep" in code else 60.0)
    site_before_a_change(place)
    arguments = ["infer", str(phantoms), "--model", "m.onnx", "--drift", "site.json"]
    command = f'{sys.executable} -c "{code}"'
    result = CliRunner().invoke(app, [*arguments, "--alarm-command", command])
    assert result.exit_code == 0
    assert problem in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", ["'", " ", "no-such-program-here --x"])
def test_a_command_that_is_none_is_refused_before_the_work(command: str) -> None:
    with pytest.raises(ConfigError, match="--alarm-command"):
        checked_command(command)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--alarm-command", "true"), "no alarm to wait for"),
        (("--drift", "p.csv", "--out", "p.csv"), "both name p.csv"),
        (("--drift", "site.json", "--engine", "ray"), "--drift is for one machine"),
    ],
)
def test_what_does_not_go_together_is_refused(
    phantoms: Path, place: Path, arguments: tuple[str, ...], problem: str
) -> None:
    write_tiny_model(place / "m.onnx")
    result = infer(phantoms, "--model", "m.onnx", *arguments)
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())


def test_nothing_but_a_history_is_replaced(phantoms: Path, place: Path) -> None:
    write_tiny_model(place / "m.onnx")
    (place / "site.json").write_text('{"format": "kneeedge-infer/1"}')
    result = infer(phantoms, "--model", "m.onnx", "--drift", "site.json")
    assert result.exit_code == 1
    assert "no history of drift" in result.stderr


def test_no_report_replaces_a_history(phantoms: Path, place: Path) -> None:
    site_before_a_change(place)
    result = infer(phantoms, "--model", "m.onnx", "--json", "site.json")
    assert result.exit_code == 1
    assert "no JSON document" in result.stderr


def test_a_history_of_another_model_is_refused(place: Path) -> None:
    site_before_a_change(place)
    with pytest.raises(ConfigError, match="of another model file"):
        read_history(place / "site.json", "0" * 64)


def test_a_damaged_history_is_said(place: Path) -> None:
    site_before_a_change(place)
    text = (place / "site.json").read_text()
    (place / "site.json").write_text(text.replace('"tone"', '"tune"'))
    with pytest.raises(DataError, match="no history of drift"):
        read_history(place / "site.json", model_sha256(place / "m.onnx"))


def test_a_quiet_site_that_knows_its_baseline_is_calm(predictor: Predictor, tmp_path: Path) -> None:
    monitor = Monitor(DriftHistory(model_sha256=predictor.session.file.sha256), None, 1)
    monitor.count(images(400, seed=1))
    write_history(tmp_path / "site.json", monitor.history())
    log = DriftLog(DriftOptions(path=tmp_path / "site.json"), predictor, QUIET)
    log.count(images(100, seed=2))
    status = log.status()
    log.close()
    assert (status.status, status.n_counted, status.alarms) == (CALM, 100, ())
