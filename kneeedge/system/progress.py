"""Progress on stderr: a bar where there is a terminal, plain lines where there is none."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from kneeedge.system.terminal import HarmlessConsole

LINE_SECONDS = 10.0
"seconds between the plain lines"


class Stage:
    """One counted piece of work; without a bar it writes a line every `LINE_SECONDS`."""

    def __init__(
        self, name: str, total: int, progress: "Progress", bar: RichProgress | None
    ) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self._progress = progress
        self._bar = bar
        self._task = bar.add_task(name, total=total, note="") if bar else None
        self._start = time.monotonic()
        self._last_line = self._start

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` pieces as done; `note` stands beside the count, the pace where it is empty."""
        self.done += n
        note = note or self.rate()
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=note)
        elif time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            self._progress(f"{self.name}: {self.done}/{self.total}, {note}, {self.left()} left")

    def remark(self, note: str) -> None:
        """Say what the piece under way does; nothing is counted."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, note=note)
        elif time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            self._progress(f"{self.name}: {self.done}/{self.total}, {note}")

    def rate(self) -> str:
        """Pieces a second so far, as 2.5/s."""
        elapsed = time.monotonic() - self._start
        return f"{self.done / max(elapsed, 1e-9):.1f}/s"

    def left(self) -> str:
        """Time left at the pace so far, as `duration` writes it."""
        elapsed = time.monotonic() - self._start
        n_left = max(self.total - self.done, 0)
        return duration(elapsed / max(self.done, 1) * n_left)


class Progress:
    """Where a long job says what it does, and notes how long. `quiet` says nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.seconds: dict[str, float] = {}
        "of each step that was `timed`, in the order in which they began"
        self.console = HarmlessConsole(stderr=True, quiet=quiet, highlight=False)

    def __call__(self, line: str) -> None:
        # A terminal breaks a line between words, not within a path; a log keeps it whole.
        on_terminal = self.console.is_terminal
        self.console.print(line, markup=False, soft_wrap=not on_terminal, overflow="ignore")

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time that the block takes to `seconds` of `step`."""
        start = time.monotonic()
        self.seconds.setdefault(step, 0.0)
        try:
            yield
        finally:
            self.seconds[step] += time.monotonic() - start

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        """A counted stage; on a terminal its bar goes when the stage ends."""
        if self.quiet or not self.console.is_terminal:
            yield Stage(name, total, self, None)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self.console, transient=True) as bar:
            yield Stage(name, total, self, bar)


def duration(seconds: float) -> str:
    """Seconds as people read them: 3 s, 4 min 10 s or 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
