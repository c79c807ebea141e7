"""A drop folder: each file is answered once, when it is fully written; rows come as they are known.

What is answered stands in the journal beside the output, with the hash of the bytes that were
answered; the output follows it. So a stop at any moment repeats nothing and loses nothing, a file
that is only touched has no second row, and other content under the same name has one, whatever its
size and times.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kneeedge.inference.drift_log import DriftLog, counted_images, open_drift
from kneeedge.inference.folder import FolderOptions, commit, run_key, say_what_is_found
from kneeedge.inference.journal import Journal
from kneeedge.inference.output import GrowingOutput
from kneeedge.inference.predictions import PredictedImage, Prediction
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.side_files import SideFiles
from kneeedge.inference.summary import AnswerCounts
from kneeedge.pixels.listing import FoundImage, Listing, find_images
from kneeedge.pixels.prefetch import StageClock
from kneeedge.system.machine import available_cpus
from kneeedge.system.plural import counted
from kneeedge.system.spreadsheet import no_formula
from kneeedge.system.stamps import FileStamp, current_stamp, hashed_stamp
from kneeedge.system.threads import in_order

SETTLE_SECONDS = 5.0
"a file whose size and times stayed the same so long is taken for fully written"
N_HASHED_AHEAD = 64
"files whose hashes may wait for an earlier one"


class Watch:
    """Answers what comes into folders.

    Raises BusyError where another run writes `out`, ConfigError where what was answered for it is
    of another model or other options, and OutputExistsError where it is not as kneeedge left it.
    """

    def __init__(
        self,
        predictor: Predictor,
        folders: Sequence[Path],
        out: Path,
        say: Callable[[str], None],
        options: FolderOptions | None = None,
        settle: float = SETTLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        options = options or FolderOptions()
        self.predictor = predictor
        self.folders = folders
        self.out = out
        self.say = say
        self.settle = settle
        self.clock = clock
        self.stages = StageClock()
        self.counts = AnswerCounts()
        "of what was answered since the start"
        self.keeps = options.keep
        self.predictions: list[Prediction] = []
        "what was answered since the start, where that is to be kept"
        self.listing = Listing(images=())
        "what the folders held at the last look"
        self.unsettled: dict[str, tuple[FileStamp, float]] = {}
        "files that are not yet known to be whole: their stamp, and since when it stands"
        self._problem = ""
        self.beside = SideFiles(options, predictor.spec, predictor.session.file.sha256)
        self._journal = Journal(out, run_key(predictor, options), resume=True)
        self.drift: DriftLog | None = None
        try:
            say_what_is_found(self._journal, say)
            self._output = GrowingOutput(out, self._journal, say, clock)
            self.drift = open_drift(options.drift, predictor, say)
            if self.drift:
                self.drift.replay(self._journal)
        except BaseException:
            self.close()
            raise
        self.done = stamps_of(self._journal)
        "what was answered, by the name in the output"

    def close(self) -> None:
        """Let another run have the output."""
        if self.drift:
            self.drift.close()
        self._journal.close()

    def step(self) -> int:
        """Answer what is there and whole; the number of images."""
        ready = self._with_other_content(self.ready())
        n_images = 0
        if ready:
            n_images = self._answer(ready)
        self._output.publish()
        if n_images and self.drift:
            self.drift.save()
        return n_images

    def ready(self) -> list[tuple[FoundImage, FileStamp]]:
        """The images that stood still for `settle` seconds, and have no row with these times."""
        settled = []
        unsettled = {}
        now = self.clock()
        for image in self._look().images:
            stamp = current_stamp(image.path)
            if stamp is None or self._is_answered(image, stamp):
                continue
            before, since = self.unsettled.get(image.name, (stamp, now))
            if not before.has_times_of(stamp):
                since = now
            unsettled[image.name] = (stamp, since)
            if now - since >= self.settle:
                settled.append((image, stamp))
        self.unsettled = unsettled
        return settled

    def _look(self) -> Listing:
        """What the folders hold; of those that cannot be listed, the first is said once."""
        self.listing = find_images(self.folders, least=0, strict=False)
        problem = ""
        if self.listing.unlisted:
            problem = f"{self.listing.unlisted[0]} cannot be listed"
            if problem != self._problem:
                self.say(f"{problem}; looking again")
        self._problem = problem
        return self.listing

    def _is_answered(self, image: FoundImage, stamp: FileStamp) -> bool:
        """Whether the image has a row, and its times suffice to tell that it is of this content."""
        done = self.done.get(no_formula(image.name))
        if done is None or not done.has_times_of(stamp):
            return False
        return done.changed_long_before or not done.sha256

    def _with_other_content(
        self, ready: list[tuple[FoundImage, FileStamp]]
    ) -> dict[str, tuple[FoundImage, FileStamp]]:
        """The images whose bytes have no row yet, by name; the times of the others are noted."""
        others = {}
        for image, stamp, content in in_order(
            self._hashed, ready, available_cpus(), N_HASHED_AHEAD
        ):
            if content is None:
                others[image.name] = (image, stamp)
            else:
                name = no_formula(image.name)
                self._journal.restamp(name, content)
                self.done[name] = content
                self.unsettled.pop(image.name, None)
        return others

    def _hashed(
        self, image_and_stamp: tuple[FoundImage, FileStamp]
    ) -> tuple[FoundImage, FileStamp, FileStamp | None]:
        """The image, its stamp, and that with a hash where this is the one that was answered."""
        image, stamp = image_and_stamp
        done = self.done.get(no_formula(image.name))
        if done is None or not done.sha256 or done.size != stamp.size:
            return image, stamp, None
        content = hashed_stamp(image.path)
        same = content is not None and content.sha256 == done.sha256
        return image, stamp, content if same else None

    def _answer(self, ready: dict[str, tuple[FoundImage, FileStamp]]) -> int:
        """Answer these images, and write their rows batch by batch; how many there were."""
        images = [image for image, _ in ready.values()]
        answers = self.predictor.predict_all(images, self.stages, self.say)
        whole = self.beside.written(self._whole(answers, ready))
        n_images = 0
        size = self.predictor.batch_size
        spec = self.predictor.spec
        for batch, answered in commit(whole, size, self._journal, spec, self.drift):
            self._output.add(self._journal.rows(batch))
            if self.drift:
                self.drift.count(counted_images(batch, self._journal))
                self.drift.tell()
            for answer in answered:
                self._note(answer)
            n_images += len(answered)
        return n_images

    def _whole(
        self,
        answers: Iterator[PredictedImage],
        ready: dict[str, tuple[FoundImage, FileStamp]],
    ) -> Iterator[PredictedImage]:
        """The answers to what did not change between the look at it and its reading."""
        for answer in answers:
            image, stamp = ready[answer.prediction.path]
            now = answer.stamp or current_stamp(image.path)
            if now is None:  # it went away before it was read
                self.unsettled.pop(image.name, None)
            elif now.has_times_of(stamp):
                yield answer if answer.stamp else replace(answer, stamp=now)
            else:
                self.unsettled[image.name] = (now, self.clock())

    def _note(self, answer: PredictedImage) -> None:
        """Remember the image as answered."""
        path = answer.prediction.path
        name = no_formula(path)
        if name in self.done:
            self.say(f"{path} has changed since its first row, and has a second one now")
        if answer.stamp is not None:
            self.done[name] = answer.stamp
        self.unsettled.pop(path, None)
        self.counts.add(answer.prediction)
        if self.keeps:
            self.predictions.append(answer.prediction)


def stamps_of(journal: Journal) -> dict[str, FileStamp]:
    """What the journal's rows answer, by path, but for files that could not be read.

    These are tried again.
    """
    stamps = {
        path: stamp
        for batch in journal.found.batches
        for path, stamp in zip(batch.paths, batch.stamps, strict=True)
        if stamp is not None
    }
    stamps |= journal.found.stamps
    return {path: stamp for path, stamp in stamps.items() if stamp.sha256}


def watch(
    watching: Watch, interval: float = 1.0, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Step every `interval` seconds, more rarely where a look takes longer, until an interrupt."""
    while True:
        start = time.monotonic()
        n_images = watching.step()
        if n_images:
            n_done = len(watching.done)
            watching.say(f"answered {counted(n_images, 'image')}; {n_done:,} in {watching.out}")
        sleep(max(interval, time.monotonic() - start))


def answer_new(watching: Watch, sleep: Callable[[float], None] = time.sleep) -> None:
    """Answer what has no row yet and stands still; the rest stays `unsettled`.

    What is new is looked at twice, `settle` seconds apart.
    """
    watching.step()
    if watching.unsettled:
        sleep(watching.settle)
        watching.step()
