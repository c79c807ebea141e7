"""Images one after another → what has moved: a detector for each figure, and what it compares with.

At first the images are compared with the model's validation images, where its file carries them,
and a site's first BASELINE images are taken for its own baseline. From then on what comes is
compared with that: a site's images always differ from the public ones. While nothing moves the
baseline grows, as the ranks need it to (`kneeedge.statistics.sequential`), up to MOST_BASELINE.
"""

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kneeedge.inference.drift_figures import (
    DEVICE,
    FIGURES,
    LESS,
    MORE,
    ODDS,
    PROBABILITY,
    RARE,
    RARE_ODDS,
    REFUSED,
    SHIFTS,
    Figure,
)
from kneeedge.inference.drift_history import (
    HASH_DIGITS,
    MOST_HASHES,
    Alarm,
    DriftHistory,
    FigureState,
    hashes_of,
)
from kneeedge.inference.drift_words import alarm_kind, alarm_text, typical
from kneeedge.inference.ranks import Ranks, empty_ranks
from kneeedge.model.reference import ImageFigures, Sample
from kneeedge.statistics.sequential import ridden, share_bets, shift_bets

BASELINE = 300
"images of a site's own baseline: three nights of 100"
MOST_BASELINE = 3000
"images that it grows to: the error of a rank is then 1 % at most, and its file 0.3 MB"
WITHDRAWN = 100
"images before an alarm that leave the baseline: they may be what the alarm is about"
CALM = 300
"images without another alarm, after which a figure counts as come back"
RUN_LENGTH = 36_500
"images between two false alarms, on average and at least: one in 365 nights of 100"
MARGIN = 12.0
"""times which the limit is higher than RUN_LENGTH asks for: two knees of a patient are alike, and
ranks in a baseline that grows no more are not quite uniform. In 25 simulated years of val's
patients of knee-kl, most with two knees, 59 alarms came without it, 24 with 4, 17 with 8 and 15
with this, the first under which 95 % confidence lies below one a year"""
USUAL_STAKE = 10.0
"below which a mean stake stays for most of the time while nothing changes"
N_LATEST = 20
"images at most whose median is told"
MODEL, SITE = "model", "site"
"what is compared with"


@dataclass(frozen=True)
class CountedImage:
    """One image that is to be compared."""

    sha256: str
    "of its file, hex"
    figures: ImageFigures


class Detector:
    """One figure's bets, and whether it has moved."""

    def __init__(self, figure: Figure, state: FigureState | None = None) -> None:
        self.figure = figure
        self.directions = directions_of(figure)
        n_bets = len(self.directions)
        if state is None or len(state.stakes) != n_bets:
            state = FigureState(figure=figure.name, stakes=(0.0,) * n_bets)
        self.stakes = list(state.stakes)
        self.moved = state.moved
        self.n_calm = state.n_calm
        self.n_rising = state.n_rising

    @property
    def state(self) -> FigureState:
        """All that is remembered of the figure."""
        return FigureState(
            figure=self.figure.name,
            stakes=tuple(self.stakes),
            moved=self.moved,
            n_calm=self.n_calm,
            n_rising=self.n_rising,
        )

    @property
    def limit(self) -> float:
        """What the mean stake reaches, while nothing changes, no more often than asked for."""
        return MARGIN * RUN_LENGTH / self.figure.weight

    @property
    def evidence(self) -> float:
        """0 to 1: how near the figure is to an alarm, in orders of magnitude; 1 where it moved."""
        if self.moved:
            return 1.0
        return min(1.0, math.log1p(self._mean_stake()) / math.log1p(self.limit))

    def bet(self, rank: float, positive_share: float) -> str:
        """Take the rank of one more image; the direction where the figure is seen to have moved."""
        bets = bets_of(self.figure, rank, positive_share)
        self.stakes = ridden(self.stakes, bets)
        self.n_calm += 1
        self.n_rising += 1
        stake = self._mean_stake()
        if stake < USUAL_STAKE:
            self.n_rising = 0
        if stake < self.limit:
            if self.n_calm >= CALM:
                self.moved = ""
            return ""
        self.moved = self.directions[self.stakes.index(max(self.stakes))]
        self.stakes = [0.0] * len(self.stakes)
        self.n_calm = 0
        return self.moved

    def _mean_stake(self) -> float:
        return math.fsum(self.stakes) / len(self.stakes)


def directions_of(figure: Figure) -> tuple[str, ...]:
    """The direction of each of the figure's bets."""
    if figure.name in (REFUSED, DEVICE):
        return tuple(MORE for _ in RARE_ODDS)
    if figure.name == PROBABILITY:
        return tuple(MORE if odds > 1 else LESS for odds in ODDS)
    return tuple(MORE if shift > 0 else LESS for shift in SHIFTS)


def bets_of(figure: Figure, rank: float, positive_share: float) -> list[float]:
    """The figure's bets on a rank; `positive_share` is that of the baseline's answers."""
    if figure.name in (REFUSED, DEVICE):
        return share_bets(rank, RARE, RARE_ODDS)
    if figure.name == PROBABILITY:
        return share_bets(rank, positive_share, ODDS)
    return shift_bets(rank, SHIFTS)


class Monitor:
    """Compares images with what came before, one at a time, and remembers."""

    def __init__(
        self, history: DriftHistory, reference: Sample | None, positive_index: int
    ) -> None:
        self._reference = reference or Sample()
        self._positive = positive_index
        self._hashes = deque(hashes_of(history), maxlen=MOST_HASHES)
        self._known = set(self._hashes)
        self._model_sha256 = history.model_sha256
        self.n = history.n
        "images compared since the history began"
        self.baseline = list(history.baseline)
        self._latest = deque(history.latest, maxlen=N_LATEST)
        self.alarms = list(history.alarms)
        states = {state.figure: state for state in history.figures}
        self.detectors = [Detector(figure, states.get(figure.name)) for figure in FIGURES]
        self._rank_baseline()

    @property
    def against(self) -> str:
        """What is compared with: MODEL or SITE."""
        return SITE if len(self.baseline) >= BASELINE else MODEL

    @property
    def has_baseline(self) -> bool:
        """Whether there is anything yet to compare with."""
        return self.against == SITE or len(self._reference) > 0

    @property
    def moved(self) -> list[Detector]:
        """The figures that have moved and not come back."""
        return [detector for detector in self.detectors if detector.moved]

    def history(self) -> DriftHistory:
        """All that is remembered."""
        return DriftHistory(
            model_sha256=self._model_sha256,
            n=self.n,
            baseline=Sample.of(self.baseline),
            latest=Sample.of(self._latest),
            figures=tuple(detector.state for detector in self.detectors),
            alarms=tuple(self.alarms),
            hashes="".join(self._hashes),
        )

    def count(self, images: Iterable[CountedImage]) -> tuple[int, list[Alarm]]:
        """Compare images in this order; how many were new, and what has moved by them.

        One whose content was counted before is passed over.
        """
        n_new = 0
        alarms: list[Alarm] = []
        for image in images:
            key = image.sha256[:HASH_DIGITS]
            if key in self._known:
                continue
            self._remember(key)
            n_new += 1
            alarms += self._compare(image)
        alarms = [self._judged_again(alarm) for alarm in alarms]
        self.alarms += alarms
        return n_new, alarms

    def told(self) -> None:
        """Note that the alarm command has been run for every alarm."""
        self.alarms = [replace(alarm, told=True) for alarm in self.alarms]

    def _remember(self, key: str) -> None:
        if len(self._hashes) == MOST_HASHES:
            self._known.discard(self._hashes[0])
        self._hashes.append(key)
        self._known.add(key)

    def _compare(self, image: CountedImage) -> list[Alarm]:
        figures = image.figures
        self.n += 1
        self._latest.append(figures)
        noticed = []
        for detector, ranks in zip(self.detectors, self._ranks, strict=True):
            rank = ranks.rank(figures, coin_of(image.sha256, detector.figure.name))
            was = detector.moved
            if rank is not None:
                direction = detector.bet(rank, self._positive_share)
                if direction and direction != was:
                    noticed.append(detector)
        alarms = [self._alarm(detector) for detector in noticed]
        self._grow(figures, bool(alarms))
        return alarms

    def _grow(self, figures: ImageFigures, has_alarm: bool) -> None:
        """Let the image join the baseline, or what may be wrong leave it."""
        if self.against == MODEL:
            self._join(figures)
            if self.against == SITE:
                self.detectors = [Detector(figure) for figure in FIGURES]
                self._rank_baseline()
        elif has_alarm:
            del self.baseline[max(BASELINE, len(self.baseline) - WITHDRAWN) :]
            self._rank_baseline()
        elif not self.moved and len(self.baseline) < MOST_BASELINE:
            self._join(figures)

    def _join(self, figures: ImageFigures) -> None:
        self.baseline.append(figures)
        for ranks in self._ranks:
            ranks.add(figures)

    def _rank_baseline(self) -> None:
        """Sort what is compared with anew."""
        first: Sequence[ImageFigures] = self.baseline[:BASELINE]
        images = self.baseline
        if self.against == MODEL:
            first = list(self._reference)
            images = [*first, *self.baseline]
        self._ranks: list[Ranks] = [empty_ranks(figure) for figure in FIGURES]
        for image in images:
            for ranks in self._ranks:
                ranks.add(image)
        self._positive_share = self._share_of_positives(first)

    def _share_of_positives(self, images: Sequence[ImageFigures]) -> float:
        """Of what is compared with, to a tenth: a bet must not follow a baseline's own chance."""
        if not images:
            return 0.5
        share = sum(image.answer == self._positive for image in images) / len(images)
        return min(0.9, max(0.1, round(share, 1)))

    def _alarm(self, detector: Detector) -> Alarm:
        figure = detector.figure
        latest = list(self._latest)[-max(1, detector.n_rising) :]
        compared = self.baseline if self.against == SITE else list(self._reference)
        alarm = Alarm(
            figure=figure.name,
            direction=detector.moved,
            kind=alarm_kind(figure, self._evidence()),
            n=self.n,
            against=self.against,
            before=typical(figure, compared),
            now=typical(figure, latest),
            devices=tuple(sorted({image.device for image in latest if image.device})),
        )
        return replace(alarm, text=alarm_text(alarm))

    def _judged_again(self, alarm: Alarm) -> Alarm:
        """The alarm, in the light of the images that came with it: the pictures may move later."""
        (figure,) = [figure for figure in FIGURES if figure.name == alarm.figure]
        judged = replace(alarm, kind=alarm_kind(figure, self._evidence()))
        return replace(judged, text=alarm_text(judged))

    def _evidence(self) -> dict[str, float]:
        """Of each figure, how near it is to an alarm."""
        return {detector.figure.name: detector.evidence for detector in self.detectors}


def coin_of(sha256: str, figure: str) -> float:
    """A number from 0 to 1, uniform over images and figures, the same for one at any time."""
    digest = hashlib.blake2b(f"{sha256} {figure}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56
