import pytest

from kneeedge.system import progress as progress_module
from kneeedge.system.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")]
)
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


def test_without_a_terminal_progress_is_plain_lines_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    with Progress().stage("work", 4) as stage:
        for _ in range(4):
            now[0] += 6.0
            stage.advance()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "work: 2/4, 0.2/s, 12 s left",
        "work: 4/4, 0.2/s, 0 s left",
    ]


def test_quiet_says_nothing(capsys):
    progress = Progress(quiet=True)
    progress("something")
    assert capsys.readouterr().err == ""
