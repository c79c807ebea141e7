"""What is said of a figure that has moved: which, in which direction, and what that may mean."""

from collections.abc import Collection, Mapping
from statistics import fmean, median

from kneeedge.inference.drift_figures import DEVICE, FIGURES, MORE, PROBABILITY, REFUSED, Figure
from kneeedge.inference.drift_history import Alarm
from kneeedge.model.reference import ImageFigures, rounded

SUSPECT = 0.5
"""evidence from which a figure counts as moved beside an alarm of another: the square root of what
its own alarm takes"""
PREVALENCE, ANSWERS, PICTURES = "prevalence", "answers", "pictures"
REFUSALS, DEVICES = "refusals", "devices"
"kinds of alarm"
OF = {
    "model": "the model's validation images",
    "site": "this site's baseline",
}
"what is compared with, in words"
_KINDS = {REFUSED: REFUSALS, DEVICE: DEVICES}


def alarm_kind(figure: Figure, evidence: Mapping[str, float]) -> str:
    """What kind of change an alarm of the figure tells of; `evidence` is each figure's, 0 to 1."""
    if figure.name != PROBABILITY:
        return _KINDS.get(figure.name, PICTURES)
    others = [evidence[other.name] for other in FIGURES if other.name != PROBABILITY]
    return PREVALENCE if max(others) < SUSPECT else ANSWERS


def typical(figure: Figure, images: Collection[ImageFigures]) -> float | None:
    """The median of a figure, the mean of a probability or a share; None where there is none."""
    values = [value for value in map(figure.value, images) if value is not None]
    if figure.name == DEVICE or not values:
        return None
    return rounded(fmean(values) if figure.name in (PROBABILITY, REFUSED) else median(values))


MEANINGS = {
    PREVALENCE: "the pictures look as before, so the share of patients with it may have changed",
    ANSWERS: "the pictures have changed as well, so the answers may be worth less",
    PICTURES: "look at what takes and sends them; answers may be worth less",
    REFUSALS: "look at what is sent: such pictures are unlike the training images",
    DEVICES: "hold the model to labelled images of them before their answers count",
}
"what an alarm of each kind may mean, and what to do"


def alarm_text(alarm: Alarm) -> str:
    """The alarm in a sentence."""
    (figure,) = [figure for figure in FIGURES if figure.name == alarm.figure]
    what = figure.more if alarm.direction == MORE else figure.less
    among = "among " if figure.name in (PROBABILITY, REFUSED) else ""
    text = f"{what} than {among}{OF[alarm.against]}"
    if alarm.devices and figure.name == DEVICE:
        text += f": {', '.join(alarm.devices)}"
    elif alarm.before is not None and alarm.now is not None:
        now = f"{alarm.now:.{figure.decimals}f}"
        before = f"{alarm.before:.{figure.decimals}f}"
        text += f": {_name(figure)} {now} among the latest, {before} there"
    return f"{text}; {MEANINGS[alarm.kind]}"


def _name(figure: Figure) -> str:
    """What the figures beside the sentence are."""
    if figure.name == PROBABILITY:
        return "mean probability"
    return "share" if figure.name == REFUSED else f"median {figure.name.replace('_', ' ')}"
