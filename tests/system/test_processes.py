"""Child processes: what they answer, how they end, and why."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from kneeedge.system import processes
from kneeedge.system.processes import Child, ChildLostError, last_words

ECHO = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)\n"
"code of a child that answers each line with its characters in the opposite order"


def read_number(stdout: BinaryIO) -> int | None:
    line = stdout.readline()
    return int(line) if line else None


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Child[int]]]:
    """Starts a child that runs the code given; all end with the test."""
    children: list[Child[int]] = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(code: str) -> Child[int]:
        (tmp_path / "child_of_a_test.py").write_text(code, encoding="utf-8")
        children.append(Child("child_of_a_test", read_number))
        return children[-1]

    yield run
    for child in children:
        child.end()


def test_each_line_is_answered_in_turn(start) -> None:
    child = start(ECHO)
    for line, answer in (("12", 21), ("345", 543)):
        child.send(line)
        assert child.receive(30) == answer


def test_it_ends_with_its_input(start) -> None:
    assert start(ECHO).finish(30) == 0


def test_what_is_no_message_is_the_childs_end(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "END_SECONDS", 0.5)
    child = start(ECHO + "import time; time.sleep(60)")
    child.send("no number")
    with pytest.raises(ChildLostError, match="its answer is damaged") as lost:
        child.receive(30)
    assert not lost.value.timed_out


def test_a_child_that_takes_long_to_end_says_its_last_words(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "END_SECONDS", 0.1)
    child = start("import os, time; os.close(1); time.sleep(1); os._exit(3)")
    with pytest.raises(ChildLostError, match=r"^exit code 3$"):
        child.receive(30)


def test_a_child_that_hangs_is_left_after_the_time_given(start) -> None:
    child = start("import time; time.sleep(60)")
    with pytest.raises(ChildLostError, match=r"no answer within 0\.2 s") as lost:
        child.receive(0.2)
    assert lost.value.timed_out
    begin = time.monotonic()
    child.end()
    assert time.monotonic() - begin < 30


def test_a_child_that_died_says_its_last_line_whatever_is_sent_to_it(start) -> None:
    child = start("raise SystemExit('Traceback\\nMemoryError: too much')")
    with pytest.raises(ChildLostError, match=r"^MemoryError: too much$"):
        child.receive(30)
    child.send("1")


@pytest.mark.parametrize(
    ("status", "stderr", "words"),
    [
        (-9, b"", "signal 9, Killed, as when memory runs out"),
        (3, b"\n", "exit code 3"),
        (1, b"Traceback\nValueError: bad\n\n", "ValueError: bad"),
        (-6, b"abort\n", "signal 6, Aborted: abort"),
    ],
)
def test_the_last_words_name_the_signal_and_the_last_line(
    status: int, stderr: bytes, words: str
) -> None:
    assert last_words(status, stderr) == words


def test_a_child_that_is_ended_while_another_thread_waits_for_it_says_so(start) -> None:
    for _ in range(20):
        child = start("import time; time.sleep(60)")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(child.receive, 30)
            child.end()
            with pytest.raises(ChildLostError, match=r"it was ended|signal 9, Killed"):
                waiting.result()
        child.send("1")


def test_a_leashed_command_ends_where_who_started_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "from kneeedge.system import processes\n"
        "words = [sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)']\n"
        "child = subprocess.Popen(processes.command('kneeedge.system.leash', *words))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    variables = processes.environment()
    with (tmp_path / "out").open("wb") as out:
        parent = subprocess.Popen([sys.executable, "-c", code], stdout=out, env=variables)
    assert within_seconds(lambda: len((tmp_path / "out").read_text().split()) == 2)
    lines = (tmp_path / "out").read_text().split()
    parent.kill()
    parent.wait()
    pid = int(max(lines, key=len))
    assert within_seconds(lambda: not is_running(pid))


def within_seconds(holds: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not holds():
        time.sleep(0.02)
    return holds()


def is_running(pid: int) -> bool:
    """Whether the process is there, and is not only waited for by nobody."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
