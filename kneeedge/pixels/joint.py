"""The joint of a centred knee: a fixed band across the picture, taken out of it or kept alone.

No joint is looked for. In the usual crops of one knee, upright and with the joint near the middle,
the joint space lies between 0.5 and 0.65 of the height and the joint's margins, where osteophytes
grow, reach almost to the sides: so the band is as wide as the picture. It takes the ends of both
bones with it. Of a long film, of two knees or of a knee at the edge it is no joint;
`seems_centred` says for how many pictures that may be so.

What is taken out is filled with the median of what is kept. So the result depends on the kept
pixels alone, and no fill can tell what was there: not its lightness either, as its own mean would.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

TOP, BOTTOM = 0.30, 0.75
"of the joint's band, shares of the height"
BORDER = 0.125
"width of the border, share of each side"
WHOLE, MASKED, EDGE, JOINT = "whole picture", "joint masked", "border alone", "joint alone"
_SMALL = 64
"side of the thumbnail in which the joint space is looked for"
_SIDES = (slice(8, 28), slice(36, 56))
"columns of the two compartments in the thumbnail"
_REACH = 4
"rows of the thumbnail from the joint space to the bone beside it, 6 % of the height"
_TILT = 2
"rows of the thumbnail by which the two compartments may differ"
_MARGIN = 0.05
"share of the height that the joint space lies within the band at least"


def joint_mask(shape: tuple[int, ...]) -> Mask:
    """Where the joint of a picture (H, W) is, (H, W)."""
    mask = np.zeros(shape, dtype=bool)
    mask[round(TOP * shape[0]) : round(BOTTOM * shape[0])] = True
    return mask


def border_mask(shape: tuple[int, ...]) -> Mask:
    """Where the border of a picture (H, W) is, less what lies in the joint's band, (H, W)."""
    mask = np.ones(shape, dtype=bool)
    rows = round(BORDER * shape[0])
    columns = round(BORDER * shape[1])
    mask[rows : shape[0] - rows, columns : shape[1] - columns] = False
    return mask & ~joint_mask(shape)


def joint_masked(grey: Pixels) -> Pixels:
    """The picture (H, W) uint8 without its joint."""
    return keep(grey, ~joint_mask(grey.shape))


def border_only(grey: Pixels) -> Pixels:
    """The picture (H, W) uint8 with nothing but its border."""
    return keep(grey, border_mask(grey.shape))


def joint_only(grey: Pixels) -> Pixels:
    """The picture (H, W) uint8 with nothing but its joint."""
    return keep(grey, joint_mask(grey.shape))


def whole(grey: Pixels) -> Pixels:
    """The picture as it is."""
    return grey


VIEWS: dict[str, Callable[[Pixels], Pixels]] = {
    WHOLE: whole,
    MASKED: joint_masked,
    EDGE: border_only,
    JOINT: joint_only,
}
WITHOUT_JOINT = (MASKED, EDGE)
"views that show nothing of the joint"
MIN_AUROC = 0.65
"from which a picture without its joint is said to tell the classes apart, where that is no chance"
OFF_CENTRE = 0.1
"share of the images from which it is said that they seem to be no centred knees"


def is_beside(view: str, auroc: float, low: float) -> bool:
    """Whether a view that shows no joint tells the classes apart: well enough, and by no chance.

    `low` is the lower end of the AUROC's 95 % interval.
    """
    return view in WITHOUT_JOINT and auroc >= MIN_AUROC and low > 0.5


def keep(grey: Pixels, mask: Mask) -> Pixels:
    """The pixels (H, W) uint8 where the mask (H, W) is set; elsewhere the median of those."""
    fill = np.uint8(np.median(grey[mask]))
    return np.where(mask, grey, fill)


def joint_row(grey: Pixels) -> float:
    """Where the joint space of a picture (H, W) uint8 seems to lie, 0 to 1 of the height.

    It is the row that is darkest against the rows 6 % of the height above and below it, in both
    compartments: a guess, which a dark gap or a bar elsewhere misleads.
    """
    small = Image.fromarray(grey).resize((_SMALL, _SMALL), Image.Resampling.BOX)
    levels = np.asarray(small, dtype=np.float64)
    depth = np.zeros(_SMALL)
    for columns in _SIDES:
        rows = levels[:, columns].mean(axis=1)
        beside = np.minimum(rows[: -2 * _REACH], rows[2 * _REACH :])
        valley = np.zeros(_SMALL)
        valley[_REACH:-_REACH] = np.maximum(beside - rows[_REACH:-_REACH], 0.0)
        shifted = [np.roll(valley, shift) for shift in range(-_TILT, _TILT + 1)]
        depth += np.max(shifted, axis=0)
    # the middle of the rows that are equally deep, as the shifts make them
    return float((np.flatnonzero(depth == depth.max()).mean() + 0.5) / _SMALL)


def seems_centred(grey: Pixels) -> bool:
    """Whether the joint space seems to lie well within the joint's band."""
    return TOP + _MARGIN <= joint_row(grey) <= BOTTOM - _MARGIN


def mass_in_joint(class_map: NDArray[np.floating]) -> float | None:
    """The share of the map's evidence (h, w) that lies in the joint's band, 0 to 1.

    Evidence is what is above 0; a cell that the band's edge cuts counts in part. None where there
    is no evidence.
    """
    evidence = np.maximum(np.asarray(class_map, dtype=np.float64), 0.0)
    total = evidence.sum()
    if total == 0.0:
        return None
    height = evidence.shape[0]
    edges = np.arange(height + 1) / height
    covered = np.minimum(edges[1:], BOTTOM) - np.maximum(edges[:-1], TOP)
    shares = np.maximum(covered, 0.0) * height
    return float((evidence * shares[:, None]).sum() / total)
