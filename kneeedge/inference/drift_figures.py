"""Which figures are watched, how each is bet on, and what is said where one has moved."""

from dataclasses import dataclass

from kneeedge.model.reference import ImageFigures

MORE, LESS = "more", "less"
"the directions in which a figure moves"
SHIFTS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
"""standard deviations that are bet on: half the resolution moves the sharpness by nearly three, a
gamma of 1.3 the brightness by one, and one of 1.1 by less than a half"""
ODDS = (0.2, 0.4, 2.5, 5.0)
"""times which the odds of a positive answer are bet on: a prevalence that doubles from 0.42 has 7.3
times the odds, and one from 0.2 has 2.7 times"""
RARE = 0.02
"the share of images that are refused, or come from a rare device, at most, while nothing changes"
RARE_ODDS = (10.0,)
PROBABILITY, REFUSED, DEVICE = "probability", "refused", "device"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure that is watched."""

    name: str
    "of ImageFigures"
    weight: float
    "0 to 1; its share of the false alarms"
    shows_pictures: bool
    """whether it is of the pictures alone: then it is ranked among images with the same answer, so
    that a change of who is examined does not move it"""
    more: str
    "what is said where it goes up"
    less: str = ""
    decimals: int = 3

    def value(self, image: ImageFigures) -> float | None:
        """Of an image; None where the image has none."""
        value: float | None = getattr(image, self.name)
        return value


def _of_pictures(name: str, more: str, less: str, decimals: int = 3) -> Figure:
    return Figure(
        name=name, weight=0.075, shows_pictures=True, more=more, less=less, decimals=decimals
    )


FIGURES = (
    Figure(
        name=PROBABILITY,
        weight=0.325,
        shows_pictures=False,
        more="more answers are positive",
        less="fewer answers are positive",
    ),
    Figure(name=REFUSED, weight=0.075, shows_pictures=False, more="more pictures are refused"),
    Figure(name=DEVICE, weight=0.075, shows_pictures=False, more="pictures are of other devices"),
    _of_pictures(
        "distance",
        "pictures lie further from the training images",
        "pictures lie nearer to the training images",
        1,
    ),
    _of_pictures("brightness", "pictures are brighter", "pictures are darker", 0),
    _of_pictures("contrast", "pictures have more contrast", "pictures have less contrast", 0),
    _of_pictures("tone", "middle grey levels are brighter", "middle grey levels are darker", 2),
    _of_pictures("sharpness", "pictures are sharper", "pictures are less sharp"),
    _of_pictures("side", "pictures have more pixels", "pictures have fewer pixels", 0),
    _of_pictures("tube_kv", "the tube voltage is higher", "the tube voltage is lower", 0),
)
"their weights sum to 1"
