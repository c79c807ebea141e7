"""Progress on stderr: a bar where there is a terminal, plain lines where there is none."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

LINE_SECONDS = 10.0
"seconds between the plain lines"


class Stage:
    """One counted piece of work."""

    def __init__(self, name: str, total: int, say: "Progress", bar: RichProgress | None) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self._say = say
        self._bar = bar
        self._task = bar.add_task(name, total=total, note="") if bar else None
        self._start = self._last = time.monotonic()

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` more are done; `note` stands beside the count."""
        self.done += n
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=note or self.rate())
        elif time.monotonic() - self._last > LINE_SECONDS:
            self._last = time.monotonic()
            self._say(
                f"{self.name}: {self.done}/{self.total}, {note or self.rate()}, {self.left()} left"
            )

    def rate(self) -> str:
        """What was done each second so far."""
        return f"{self.done / max(time.monotonic() - self._start, 1e-9):.1f}/s"

    def left(self) -> str:
        """Time left at the pace so far."""
        elapsed = time.monotonic() - self._start
        return duration(elapsed / max(self.done, 1) * max(self.total - self.done, 0))


class Progress:
    """Where a long job says what it does. `quiet` says nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    def __call__(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        """A counted stage; on a terminal its bar goes when the stage ends."""
        if self.quiet or not self.console.is_terminal:
            yield Stage(name, total, self, None)
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        with RichProgress(*columns, console=self.console, transient=True) as bar:
            yield Stage(name, total, self, bar)


def duration(seconds: float) -> str:
    """3 s, 4 min 10 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
