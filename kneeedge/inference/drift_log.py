"""A run's watch for drift: figures in, alarms out, and the history file that outlives the run."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from kneeedge.errors import ConfigError
from kneeedge.inference.alarm_command import AlarmMessage, checked_command, run_command
from kneeedge.inference.drift import BASELINE, CountedImage, Monitor
from kneeedge.inference.drift_history import (
    MOST_HASHES,
    Alarm,
    DriftHistory,
    read_history,
    write_history,
)
from kneeedge.inference.image_figures import figures_of
from kneeedge.inference.journal import Journal, KeptBatch, open_locked
from kneeedge.inference.predictions import PredictedImage
from kneeedge.inference.predictor import Predictor
from kneeedge.model.reference import ImageFigures, reference_in

CALM, LEARNING, MOVED = "calm", "learning", "moved"
"what a run came to"
N_UNSAVED = 500
"images after which a watch writes the history at the latest"
N_REPLAYED = 1000
"the latest images of a journal that may not have been counted before a kill"


@dataclass(frozen=True, kw_only=True)
class DriftOptions:
    """Where a site's history stands, and what is run when something has moved."""

    path: Path
    "the history file"
    command: tuple[str, ...] = ()
    "a program and its arguments; none: nothing is run"


def drift_options(path: Path | None, command: str | None) -> DriftOptions | None:
    """What `--drift` and `--alarm-command` ask for; raises ConfigError for what cannot be done."""
    if path is None:
        if command is not None:
            raise ConfigError("--alarm-command has no alarm to wait for", "give --drift FILE too")
        return None
    return DriftOptions(path=path, command=checked_command(command) if command else ())


@dataclass(frozen=True)
class FigureEvidence:
    """How near one figure is to an alarm."""

    figure: str
    evidence: float
    "0 to 1, in orders of magnitude; 1 is an alarm"
    moved: str
    "more or less, where it has moved and has not come back; else empty"


@dataclass(frozen=True, kw_only=True)
class DriftStatus:
    """Whether images are still what they were."""

    status: str
    "moved: a figure has moved and not come back; learning: there is nothing to compare with; calm"
    history: str
    "the file of --drift"
    n: int
    "images compared since the history began"
    n_counted: int
    "images compared in this run"
    n_before: int
    "images of this run that had been compared before, and are counted once"
    n_uncounted: int
    "images with a row from a run without --drift, which are not compared"
    against: str
    "what is compared with: model, its validation images; or site, this site's own baseline"
    n_baseline: int
    "of this site's images in its baseline"
    alarms: tuple[Alarm, ...]
    "raised in this run"
    figures: tuple[FigureEvidence, ...]


class DriftLog:
    """Counts the images of a run, each once, whatever stops in between.

    Raises BusyError where another run has the history, ConfigError where it is of another model,
    DataError where it is damaged, and SpecError where the model's reference is.
    """

    def __init__(
        self, options: DriftOptions, predictor: Predictor, say: Callable[[str], None]
    ) -> None:
        self._options = options
        self._spec = predictor.spec
        self._file = predictor.session.file
        self._say = say
        path = options.path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = open_locked(path.with_name(f".{path.name}.lock"), path)
        try:
            reference = reference_in(self._file.metadata, self._file.path)
            history = read_history(path, self._file.sha256)
            self.is_new = history is None
            "whether the history begins with this run"
            history = history or DriftHistory(model_sha256=self._file.sha256)
            images = reference.images if reference else None
            self._monitor = Monitor(history, images, self._spec.positive_index)
            self.save()
        except BaseException:
            self._lock.close()
            raise
        self._alarms: list[Alarm] = []
        self._n_given = 0
        self._n_counted = 0
        self._n_uncounted = 0

    def measure(self, answer: PredictedImage) -> ImageFigures | None:
        """What is compared of an answer; None where the file could not be read."""
        return figures_of(answer, self._spec)

    def compared(self, answer: PredictedImage) -> list[CountedImage]:
        """The image that an answer is to, to be counted; none where it could not be read."""
        figures = self.measure(answer)
        if figures is None or answer.stamp is None:
            return []
        return [CountedImage(answer.stamp.sha256, figures)]

    def count(self, images: Iterable[CountedImage]) -> None:
        """Compare images that came together, and say what has moved by them.

        They are taken in the order of their hashes, which is one by chance: names sort images by
        patient, and folders by class.
        """
        given = list(images)
        # No run may count more images than are known again, or a resumed one would count twice.
        chosen = nsmallest(MOST_HASHES, given, key=lambda image: image.sha256)
        was_against = self._monitor.against
        n_new, alarms = self._monitor.count(chosen)
        self._n_given += len(given)
        self._n_counted += n_new
        self._alarms += alarms
        self._n_unsaved += n_new
        for alarm in alarms:
            self._say(f"drift: {alarm.text}")
        if self._monitor.against != was_against:
            now = f"what comes is now compared with this site's first {BASELINE} images"
            self._say(f"drift: {now}")
        if self._n_unsaved >= N_UNSAVED:
            self.save()

    def replay(self, journal: Journal) -> None:
        """Count what a kill left uncounted of a journal's latest images."""
        if self.is_new:
            return
        latest: list[KeptBatch] = []
        n_images = 0
        for batch in reversed(journal.found.batches):
            if n_images >= N_REPLAYED:
                break
            latest.append(batch)
            n_images += len(batch.paths)
        for batch in reversed(latest):
            self.count(counted_images(batch, journal))
        self._n_given = self._n_counted
        self.save()
        self.tell()

    def count_batches(self, batches: Iterable[KeptBatch], journal: Journal) -> None:
        """Compare the images of a whole run, together."""
        images: list[CountedImage] = []
        for batch in batches:
            figures = journal.figures(batch)
            images += counted_images(batch, journal)
            self._n_uncounted += 0 if figures else len(batch.paths)
        self.count(images)
        self.save()

    def tell(self) -> None:
        """Run the alarm command for the alarms that it was not run for."""
        untold = tuple(alarm for alarm in self._monitor.alarms if not alarm.told)
        if not untold:
            return
        if self._options.command:
            message = AlarmMessage(
                model=str(self._file.path),
                model_sha256=self._file.sha256,
                history=str(self._options.path),
                alarms=untold,
            )
            run_command(self._options.command, message, self._say)
        self._monitor.told()
        self.save()

    def status(self) -> DriftStatus:
        """What the run came to."""
        monitor = self._monitor
        status = MOVED if monitor.moved else CALM if monitor.has_baseline else LEARNING
        return DriftStatus(
            status=status,
            history=str(self._options.path),
            n=monitor.n,
            n_counted=self._n_counted,
            n_before=self._n_given - self._n_counted,
            n_uncounted=self._n_uncounted,
            against=monitor.against,
            n_baseline=len(monitor.baseline),
            alarms=tuple(self._alarms),
            figures=tuple(
                FigureEvidence(d.figure.name, round(d.evidence, 3), d.moved)
                for d in monitor.detectors
            ),
        )

    def save(self) -> None:
        """Write the history."""
        write_history(self._options.path, self._monitor.history())
        self._n_unsaved = 0

    def close(self) -> None:
        """Let another run have the history."""
        self._lock.close()


def open_drift(
    options: DriftOptions | None, predictor: Predictor, say: Callable[[str], None]
) -> DriftLog | None:
    """What watches for drift, where that is asked for."""
    return None if options is None else DriftLog(options, predictor, say)


def counted_images(batch: KeptBatch, journal: Journal) -> Iterator[CountedImage]:
    """The images of a batch that have figures; none where it was answered without --drift."""
    for stamp, figures in zip(batch.stamps, journal.figures(batch), strict=False):
        if stamp is not None and figures is not None:
            yield CountedImage(stamp.sha256, figures)
