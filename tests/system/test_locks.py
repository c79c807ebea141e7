"""A file is held by one process at a time, and let go of when that one ends, however it ends."""

import subprocess
import sys
import threading

from kneeedge.system.locks import holding, is_held, try_hold
from kneeedge.system.progress import Progress

HOLD = """
import sys, time
from pathlib import Path
from kneeedge.system.locks import try_hold
file = try_hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_file_is_held_until_it_is_closed(tmp_path):
    path = tmp_path / "locks/one"
    with try_hold(path):
        assert is_held(path)
        assert try_hold(path) is None
    assert not is_held(path)


def test_a_killed_process_lets_go(tmp_path):
    path = tmp_path / "one"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        assert is_held(path)
        child.kill()
        child.wait()
    assert not is_held(path)


def test_who_comes_second_waits_and_says_why(tmp_path):
    path = tmp_path / "one"
    lines = []

    class Listening(Progress):
        def __call__(self, line: str) -> None:
            lines.append(line)

    file = try_hold(path)
    threading.Timer(0.3, file.close).start()
    with holding(path, Listening(quiet=True), "another one has it; waiting"):
        assert file.closed
    assert lines == ["another one has it; waiting"]
