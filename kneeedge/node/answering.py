"""Objects of the inbox → rows and reports: each once, whatever stops in between."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from kneeedge.inference.drift_log import DriftLog, DriftOptions, counted_images, open_drift
from kneeedge.inference.folder import commit, run_key, say_what_is_found
from kneeedge.inference.journal import Journal
from kneeedge.inference.output import GrowingOutput
from kneeedge.inference.predictions import ERROR, PredictedImage
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.side_files import SideFiles, SideOptions
from kneeedge.inference.summary import AnswerCounts
from kneeedge.node.spool import Spool
from kneeedge.pixels.listing import FoundImage
from kneeedge.pixels.prefetch import open_reader
from kneeedge.pixels.reader import ReadFile
from kneeedge.runtime.batches import BatchRunner

STEP = 8
"objects of a step: between two, what came meanwhile is looked at"


class Answerer:
    """Answers the objects of a spool one at a time, so that no answer depends on its neighbours.

    Raises BusyError where another node has the folder, ConfigError where its rows are of another
    model or other options, and OutputExistsError where they are not as kneeedge left them.
    """

    def __init__(
        self,
        predictor: Predictor,
        spool: Spool,
        options: SideOptions,
        say: Callable[[str], None],
        drift: DriftOptions | None = None,
    ) -> None:
        self.predictor = predictor
        self.spool = spool
        self.counts = AnswerCounts()
        "of what was answered since the start"
        self._runner = BatchRunner(predictor.session, say)
        self._beside = SideFiles(options, predictor.spec, predictor.session.file.sha256)
        self._journal = Journal(spool.rows, run_key(predictor, options), resume=True)
        self._drift: DriftLog | None = None
        try:
            say_what_is_found(self._journal, say)
            self._output = GrowingOutput(spool.rows, self._journal, say)
            self._drift = open_drift(drift, predictor, say)
            if self._drift:
                self._drift.replay(self._journal)
            self._done = {path for batch in self._journal.found.batches for path in batch.paths}
            self._release_what_was_answered()
        except BaseException:
            if self._drift:
                self._drift.close()
            self._journal.close()
            raise
        self._reader = open_reader(predictor.read_options)
        # They stay: a decoder process ends with the thread that started it.
        self._threads = ThreadPoolExecutor(predictor.threads)

    @property
    def n_done(self) -> int:
        """Objects that have a row."""
        return len(self._done)

    def is_done(self, name: str) -> bool:
        """Whether the object of this name has a row; other threads may ask."""
        return name in self._done

    def close(self) -> None:
        """Put all rows in place, and let another node have the folder."""
        self._reader.close()
        self._threads.shutdown(cancel_futures=True)
        if self._drift:
            self._drift.close()
        self._journal.close()

    def step(self) -> int:
        """Answer some of the objects that wait, oldest first; how many."""
        names = self.spool.waiting()[:STEP]
        again = [name for name in names if name in self._done]
        self._let_go(again)
        names = [name for name in names if name not in again]
        n_answered = len(again)
        with closing(self._answers(names)) as answers:
            written = self._beside.written(answers)
            spec = self.predictor.spec
            answered = commit(written, 1, self._journal, spec, self._drift)
            for batch, (answer,) in answered:
                self._journal.sync()
                name = answer.prediction.path
                self._done.add(name)
                self.spool.answered(name, failed=answer.prediction.status == ERROR)
                self._output.add(self._journal.rows(batch))
                self.counts.add(answer.prediction)
                n_answered += 1
                if self._drift:
                    self._drift.count(counted_images(batch, self._journal))
        if self._drift and names:
            self._drift.save()
            self._drift.tell()
        return n_answered

    def publish(self) -> None:
        """Put every row in place, where some wait."""
        self._output.publish()

    def _answers(self, names: list[str]) -> Generator[PredictedImage]:
        """The answers to objects, decoded ahead of the network."""
        images = [FoundImage(str(self.spool.inbox), name) for name in names]
        for image, file in zip(images, self._threads.map(self._read, images), strict=True):
            yield from self.predictor.answer_batch(self._runner, [(image, file)])

    def _read(self, image: FoundImage) -> ReadFile:
        return self._reader.read(image.path)

    def _release_what_was_answered(self) -> None:
        """Do what a stop left undone after a row was kept."""
        there = self.spool.made_names() | set(self.spool.waiting())
        self._let_go(sorted(there & self._done))

    def _let_go(self, names: list[str]) -> None:
        """Let go of objects that have a row, which says whether there was an answer."""
        if not names:  # as at nearly every step: there may be a million rows to look through
            return
        kept = [batch for batch in self._journal.found.batches if batch.paths[0] in names]
        failed = {row[0] for batch in kept for row in self._journal.rows(batch) if row[1] == ERROR}
        for name in names:
            self.spool.answered(name, failed=name in failed)
