"""What a site's images looked like so far: the baseline, what stands at stake, and the alarms."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from kneeedge.errors import ConfigError, DataError
from kneeedge.model.reference import Sample
from kneeedge.system.files import write_text
from kneeedge.system.outputs import DRIFT_FORMAT
from kneeedge.system.strict_json import from_json, to_json

MOST_HASHES = 10_000
"images that are known again: a hundred nights"
HASH_DIGITS = 8
"hex digits kept of an image's SHA-256: two of MOST_HASHES share them once in 80 histories"
MOST_ALARMS = 100
"the latest alarms that are kept"


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """One figure that has moved, as it was noticed."""

    figure: str
    """probability, refused, device, distance, brightness, contrast, tone, sharpness, side or
    tube_kv"""
    direction: str
    "more or less"
    kind: str
    """prevalence: answers moved, and the pictures did not; pictures, devices or refusals: these
    moved; answers: answers and pictures moved"""
    n: int
    "images that were compared until it was noticed, since the history began"
    against: str
    "what is compared with: model, its validation images; or site, this site's own baseline"
    before: float | None
    "median, or share, in what is compared with; absent for devices"
    now: float | None
    "median, or share, of the latest images, as many as it took"
    devices: tuple[str, ...] = ()
    "that took the latest images, where DICOM files say so"
    text: str = ""
    "all that in a sentence"
    told: bool = False
    "whether the alarm command has been run for it, or there was none"


@dataclass(frozen=True, kw_only=True)
class FigureState:
    """What is known of one figure."""

    figure: str
    "of ImageFigures"
    stakes: tuple[float, ...]
    "what stands at stake on each of its bets"
    moved: str = ""
    "more or less, where it has moved and has not come back; else empty"
    n_calm: int = 0
    "images since it was last seen to have moved"
    n_rising: int = 0
    "images since what stands at stake was last as low as it usually is"


@dataclass(frozen=True, kw_only=True)
class DriftHistory:
    """All that a watch for drift remembers; of bounded size."""

    format: str = DRIFT_FORMAT
    model_sha256: str
    "of the file that answered"
    n: int = 0
    "images that were compared"
    baseline: Sample = field(default_factory=Sample)
    "this site's images that the later ones are compared with, in their order"
    latest: Sample = field(default_factory=Sample)
    "the images compared last"
    figures: tuple[FigureState, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    "the latest, oldest first"
    hashes: str = ""
    "of the images compared last, HASH_DIGITS each: none is counted twice"


def read_history(path: Path, model_sha256: str) -> DriftHistory | None:
    """The history in a file; None where there is none.

    Raises DataError where it is damaged, and ConfigError where it is of another model.
    """
    anew = "move it away, or name another --drift: a new baseline is then taken"
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    try:
        history = from_json(DriftHistory, text)
        if history.format != DRIFT_FORMAT:
            raise ValueError(f"its format is {history.format}, not {DRIFT_FORMAT}")
    except ValueError as error:
        raise DataError(path, f"it is no history of drift: {error}", anew) from error
    if history.model_sha256 != model_sha256:
        raise ConfigError(f"{path} is of another model file, whose figures are others", anew)
    return history


def write_history(path: Path, history: DriftHistory) -> None:
    """Write the history, so that a kill leaves the old one or the new one."""
    kept = replace(
        history,
        alarms=history.alarms[-MOST_ALARMS:],
        hashes=history.hashes[-MOST_HASHES * HASH_DIGITS :],
    )
    write_text(path, to_json(kept, indent=None) + "\n", errors="surrogateescape")


def hashes_of(history: DriftHistory) -> list[str]:
    """The short hashes of the images compared last, oldest first."""
    text = history.hashes
    return [text[i : i + HASH_DIGITS] for i in range(0, len(text), HASH_DIGITS)]
