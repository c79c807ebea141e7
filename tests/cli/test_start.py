"""How a command starts and ends: stops at any moment, closed streams, and what is left behind."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.processes import environment
from kneeedge.system.ranks import MEETING, TORCHRUN
from tests.tiny_onnx import write_tiny_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
KNEEEDGE = [sys.executable, "-m", "kneeedge"]
COMMANDS = {
    "infer": "infer knees/test --model m.onnx --out p.csv",
    "info": "info m.onnx",
    "audit": "audit knees",
    "bench": "bench m.onnx --seconds 9 --rounds 1 --batch-size 1",
    "train": "train knees --weights none --width 0.07 --size 64 --epochs 90 --precision 32",
}
HEARS = 1 << (signal.SIGTERM - 1)
"the bit of SIGTERM in a mask of /proc, which Python alone does not catch"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_tiny_model(folder / "m.onnx")
    write_dataset(folder / "knees", {"train": 24, "val": 12, "test": 12}, size=64)
    return folder


def hear_all() -> None:
    """Makes a child hear all stops even where the tests do not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def begin(place: Path, command: str) -> subprocess.Popen[bytes]:
    """A command in a session of its own."""
    return subprocess.Popen(
        [*KNEEEDGE, *shlex.split(command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=place,
        start_new_session=True,
        preexec_fn=hear_all,  # noqa: PLW1509
    )


def wait_until_heard(process: subprocess.Popen[bytes]) -> None:
    """Until the command, and no longer Python alone, hears signals."""
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        caught = next((line.split()[1] for line in lines if line.startswith("SigCgt")), "0")
        if int(caught, 16) & HEARS:
            return
        time.sleep(0.001)


def living(session: int) -> list[str]:
    """The processes of a session that are there, but for those that are dead and not buried."""
    names = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        state, _, _, of = rest.split()[:4]
        if int(of) == session and state != "Z":
            names.append(name)
    return names


def check_all_end(session: int) -> None:
    """No process of the session outlives it long; one that still imports ends with its stdin."""
    end = time.monotonic() + 30
    while living(session) and time.monotonic() < end:
        time.sleep(0.05)
    assert living(session) == []


def stop(place: Path, command: str, number: signal.Signals, seconds: float) -> tuple[int, bytes]:
    """Exit code and stderr of a command that hears the signal `seconds` after it could."""
    process = begin(place, command)
    wait_until_heard(process)
    time.sleep(seconds)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    check_all_end(process.pid)
    return process.returncode, stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_while_modules_are_imported_is_one_line_and_130(place: Path, number) -> None:
    for seconds in (0.0, 0.02, 0.05):
        code, stderr = stop(place, COMMANDS["infer"], number, seconds)
        assert (code, stderr) == (130, b"stopped\n")


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("name", ["infer", "audit", "bench", "train"])
def test_a_stop_at_any_moment_is_130_without_a_traceback(place: Path, name: str) -> None:
    for k, seconds in enumerate((0.0, 0.3, 0.7, 1.3, 2.6)):
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[k % 3]
        code, stderr = stop(place, COMMANDS[name], number, seconds)
        assert b"Traceback" not in stderr
        assert b"ignored" not in stderr
        if code != 130:  # it was done before
            assert name in ("infer", "audit"), stderr
            assert code == 0, stderr


@pytest.mark.slow
def test_a_command_that_is_killed_leaves_no_process_behind(place: Path) -> None:
    for seconds in (1.0, 2.5, 4.0):
        process = begin(place, COMMANDS["bench"])
        time.sleep(seconds)
        process.kill()
        process.communicate(timeout=60)
        check_all_end(process.pid)


def test_nohup_is_obeyed(place: Path) -> None:
    process = subprocess.Popen(
        [*KNEEEDGE, *shlex.split(COMMANDS["info"])],
        stdout=subprocess.PIPE,
        cwd=place,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # noqa: PLW1509
    )
    wait_until_heard(process)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0


def in_shell(place: Path, line: str) -> subprocess.CompletedProcess[str]:
    """A line of the shell, in which $K is the command; its exit code is that of $K in a pipe."""
    return subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env={**os.environ, "K": shlex.join(KNEEEDGE)},
    )


@pytest.mark.parametrize(
    "line",
    [
        "$K info m.onnx | true",
        "$K info m.onnx --json - | true",
        "$K --help | true",
        "$K infer --help | true",
        "$K infer knees/test --model m.onnx --out q.csv 2>&1 >&- | true",
    ],
)
def test_a_reader_that_goes_away_is_no_error_of_the_disk(place: Path, line: str) -> None:
    done = in_shell(place, line.replace("| true", "| (exec <&-; sleep 2)"))
    assert (done.returncode, done.stderr) == (141, "")


def test_what_is_written_is_there_though_nobody_reads_the_report(place: Path) -> None:
    done = in_shell(place, "$K verify m.onnx --json v.json | (exec <&-; sleep 2)")
    assert done.returncode == 141
    assert (place / "v.json").read_text().startswith("[")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(place: Path, closed: str) -> None:
    done = in_shell(place, f"$K {COMMANDS['infer']} {closed}")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (place / "p.csv").read_bytes().count(b"\r\n") == 13


def test_a_report_that_does_not_fit_is_said(place: Path) -> None:
    done = in_shell(place, "$K info m.onnx > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device")
    assert done.stderr.count("\n") == 1


def test_a_terminal_that_knows_ascii_alone_is_no_error(place: Path) -> None:
    done = in_shell(place, "PYTHONIOENCODING=ascii $K verify m.onnx --json -")
    assert done.returncode == 0, done.stderr
    assert "PASS" in in_shell(place, "PYTHONIOENCODING=ascii $K verify m.onnx").stdout


def test_a_stop_that_a_destructor_swallows_stops_all_the_same(place: Path) -> None:
    """Python only reports what a destructor raises, a KeyboardInterrupt too."""
    code = """
import os, signal, sys, time
from kneeedge.cli import app, start

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)

def run():
    from kneeedge.cli.stops import stoppable
    with stoppable():
        Last()
        time.sleep(30)

app.app = run
start.main()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=False, preexec_fn=hear_all)
    assert done.returncode == 130
    assert b"ignored" not in done.stderr


def test_a_stop_that_a_library_makes_another_error_of_is_still_a_stop(place: Path) -> None:
    code = """
import os, signal
from kneeedge.cli import app, start

def run():
    from kneeedge.cli.stops import stoppable
    with stoppable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            os.getpid()
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

app.app = run
start.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"stopped\n")


@pytest.mark.parametrize("name", [MEETING, TORCHRUN])
def test_what_a_lost_process_leaves_behind_does_not_change_the_exit_code(name: str) -> None:
    """PyTorch may abort where Python takes down connections that are broken."""
    code = """
import atexit, os, sys
from kneeedge.cli import app, start

def run():
    atexit.register(os.abort)
    print("what went wrong", file=sys.stderr)
    sys.exit(75)

app.app = run
start.main()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment(**{name: "one"}), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (75, b"what went wrong\n")
