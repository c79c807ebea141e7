"""A drop folder: each file is answered once, when it is fully written; the output grows and is
whole at any moment.

What is done stands beside the output, so that a restart goes on. The output is put in place before
the note of it: a stop between the two repeats nothing and loses nothing, since a path that has a
row is done.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.inference.folder import run_key
from kneeedge.inference.journal import RunKey, encode, open_alone, whole_rows
from kneeedge.inference.predictions import no_formula, row
from kneeedge.inference.predictor import Predictor
from kneeedge.pixels.listing import FoundImage, find_images
from kneeedge.system.files import write_bytes
from kneeedge.system.strict_json import from_json, to_json

SETTLE_SECONDS = 5.0
"a file whose size and time of change stayed the same so long is taken for fully written"


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written to."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Done:
    """What a watch has answered."""

    key: RunKey
    "without the images, which are not known beforehand"
    stamps: dict[str, Stamp] = field(default_factory=dict)
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
        self._lock = open_alone(out.with_name(f".{out.name}.part"), out)
        self._seen: dict[str, tuple[Stamp, float]] = {}
        "files that are not yet known to be whole: their stamp, and since when it stands"
        try:
            self.done = self._take_up()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Let another run have the output."""
        self._lock.close()
        self.out.with_name(f".{self.out.name}.part").unlink(missing_ok=True)

    def step(self) -> int:
        """Answer what is there and whole; the number of images."""
        ready = self.ready()
        if not ready:
            return 0
        answers = self.predictor.predict_all([image for image, _ in ready], say=self.say)
        self._add_rows(
            b"".join(encode(row(answer.prediction, self.predictor.spec)) for answer in answers)
        )
        for image, stamp in ready:
            if no_formula(image.name) in self.done.stamps:
                self.say(f"{image.name} has changed since its first row, and has a second one now")
            self.done.stamps[no_formula(image.name)] = stamp
            self._seen.pop(image.name, None)
        self._write_note()
        return len(ready)

    def ready(self) -> list[tuple[FoundImage, Stamp]]:
        """The images that have stood unchanged for `settle` seconds and have no row, or changed
        since they got one.
        """
        found = []
        now = self.clock()
        for image in find_images(self.folders, least=0).images:
            stamp = stamp_of(image.path)
            if stamp is None or self.done.stamps.get(no_formula(image.name)) == stamp:
                continue
            before, since = self._seen.get(image.name, (None, now))
            if before != stamp:
                self._seen[image.name] = (stamp, now)
            elif now - since >= self.settle:
                found.append((image, stamp))
        return found

    def _take_up(self) -> Done:
        """What an earlier watch of this output did; a new output otherwise."""
        key = run_key(self.predictor, None)
        if not self._note.is_file():
            if self.out.exists():
                raise OutputExistsError(self.out, "it is no --watch's; name another --out")
            self._add_rows(encode(key.columns))
            done = Done(key)
            self._write_note(done)
            return done
        try:
            done = from_json(Done, self._note.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{self._note} is damaged ({error})", "name another --out") from error
        if (what := done.key.difference(key)) is not None:
            problem = f"{self.out} is of another {what}"
            raise ConfigError(problem, "name another --out for this model and these options")
        paths = {
            no_formula(image.name): image.path
            for image in find_images(self.folders, least=0).images
        }
        for cells in whole_rows(self.out.read_bytes())[1:] if self.out.is_file() else []:
            stamp = stamp_of(paths[cells[0]]) if cells[0] in paths else None
            if stamp is not None:  # answered, but stopped before it was noted
                done.stamps.setdefault(cells[0], stamp)
        return done

    def _add_rows(self, rows: bytes) -> None:
        """The output with these rows at its end, at once."""
        old = self.out.read_bytes() if self.out.is_file() else b""
        write_bytes(self.out, old + rows)

    def _write_note(self, done: Done | None = None) -> None:
        write_bytes(
            self._note, to_json(done or self.done, indent=None).encode("utf-8", "surrogateescape")
        )


def watch(
    watching: Watch, interval: float = 1.0, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Step every `interval` seconds, until a KeyboardInterrupt."""
    while True:
        if n := watching.step():
            watching.say(f"answered {n:,} images; {len(watching.done.stamps):,} in {watching.out}")
        sleep(interval)


def stamp_of(path: Path) -> Stamp | None:
    """The file's stamp; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns)
