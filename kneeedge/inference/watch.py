"""A drop folder: each file is answered once, when it is fully written.

The output grows, and is whole at any moment. What is done stands beside it, so that a restart goes
on. The output is put in place before the note of it: a stop between the two repeats nothing and
loses nothing, since a path that has a row is done.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.inference.folder import run_key
from kneeedge.inference.journal import RunKey, encode, open_locked, part_of, whole_rows
from kneeedge.inference.predictions import csv_row, no_formula
from kneeedge.inference.predictor import Predictor
from kneeedge.pixels.listing import FoundImage, find_images
from kneeedge.system.files import write_bytes
from kneeedge.system.strict_json import from_json, to_json

SETTLE_SECONDS = 5.0
"a file whose size and time of change stayed the same so long is taken for fully written"


@dataclass(frozen=True)
class ContentStamp:
    """What changes when a file is written to."""

    size: int
    "bytes"
    mtime_ns: int


@dataclass(frozen=True)
class Done:
    """What a watch has answered."""

    key: RunKey
    "without the images, which are not known beforehand"
    stamps: dict[str, ContentStamp] = field(default_factory=dict)
    "by the name in the output"


class Watch:
    """Answers what comes into folders.

    Raises BusyError where another run writes `out`, ConfigError where `out` is of another model or
    other options, and OutputExistsError where it is no watch's.
    """

    def __init__(
        self,
        predictor: Predictor,
        folders: Sequence[Path],
        out: Path,
        say: Callable[[str], None],
        settle: float = SETTLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.predictor = predictor
        self.folders = folders
        self.out = out
        self.say = say
        self.settle = settle
        self.clock = clock
        self._note = out.with_name(f".{out.name}.watch")
        self._lock = open_locked(part_of(out), out)
        self._unsettled: dict[str, tuple[ContentStamp, float]] = {}
        "files that are not yet known to be whole: their stamp, and since when it stands"
        try:
            self.done = self._take_over()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Let another run have the output."""
        self._lock.close()
        part_of(self.out).unlink(missing_ok=True)

    def step(self) -> int:
        """Answer what is there and whole; the number of images."""
        ready = self.ready()
        if not ready:
            return 0
        spec = self.predictor.spec
        images = [image for image, _ in ready]
        answers = self.predictor.predict_all(images, say=self.say)
        self._add_rows([csv_row(answer.prediction, spec) for answer in answers])
        for image, stamp in ready:
            name = no_formula(image.name)
            if name in self.done.stamps:
                self.say(f"{image.name} has changed since its first row, and has a second one now")
            self.done.stamps[name] = stamp
            self._unsettled.pop(image.name, None)
        self._write_note(self.done)
        return len(ready)

    def ready(self) -> list[tuple[FoundImage, ContentStamp]]:
        """The images that stood unchanged for `settle` seconds, and have no row as they are now."""
        settled = []
        now = self.clock()
        for image in find_images(self.folders, least=0).images:
            stamp = content_stamp(image.path)
            if stamp is None or self.done.stamps.get(no_formula(image.name)) == stamp:
                continue
            before, since = self._unsettled.get(image.name, (None, now))
            if before != stamp:
                self._unsettled[image.name] = (stamp, now)
            elif now - since >= self.settle:
                settled.append((image, stamp))
        return settled

    def _take_over(self) -> Done:
        """What an earlier watch of this output did; a new output otherwise."""
        key = run_key(self.predictor, None)
        if not self._note.is_file():
            return self._begin(key)
        try:
            done = from_json(Done, self._note.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{self._note} is damaged ({error})", "name another --out") from error
        difference = done.key.difference(key)
        if difference is not None:
            problem = f"{self.out} is of another {difference}"
            raise ConfigError(problem, "name another --out for this model and these options")
        self._note_rows(done)
        return done

    def _begin(self, key: RunKey) -> Done:
        """Write an output without rows, and the note of it."""
        if self.out.exists():
            raise OutputExistsError(self.out, "it is no --watch's; name another --out")
        self._add_rows([key.columns])
        done = Done(key)
        self._write_note(done)
        return done

    def _note_rows(self, done: Done) -> None:
        """Add the images that have a row, but were stopped before it was noted."""
        if not self.out.is_file():
            return
        images = find_images(self.folders, least=0).images
        paths = {no_formula(image.name): image.path for image in images}
        for name, *_ in whole_rows(self.out.read_bytes())[1:]:
            stamp = content_stamp(paths[name]) if name in paths else None
            if stamp is not None:
                done.stamps.setdefault(name, stamp)

    def _add_rows(self, rows: Sequence[Sequence[str]]) -> None:
        """Put the output with these rows at its end in place, at once."""
        before = self.out.read_bytes() if self.out.is_file() else b""
        write_bytes(self.out, before + b"".join(map(encode, rows)))

    def _write_note(self, done: Done) -> None:
        text = to_json(done, indent=None)
        write_bytes(self._note, text.encode("utf-8", "surrogateescape"))


def watch(
    watching: Watch, interval: float = 1.0, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Step every `interval` seconds, until a KeyboardInterrupt."""
    while True:
        n_images = watching.step()
        if n_images:
            n_done = len(watching.done.stamps)
            watching.say(f"answered {n_images:,} images; {n_done:,} in {watching.out}")
        sleep(interval)


def content_stamp(path: Path) -> ContentStamp | None:
    """The stamp of the file as it is now; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return ContentStamp(status.st_size, status.st_mtime_ns)
