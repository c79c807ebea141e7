"""What can go wrong with where a radiograph's pixels lie, and with what lies over them.

Each takes grey pixels (H, W) uint8, how strong it is, and draws that are the same for all
strengths; it gives new pixels, of another shape where that is what is wrong. Lengths are shares of
the sides. Where nothing was exposed it is black, as after an electronic shutter.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.pixels.corrupt_levels import FIELD_MM, Grey, Rng

GLYPH_ROWS = 5
GLYPHS = {
    "A": "010101111101101",
    "D": "110101101101110",
    "E": "111100110100111",
    "L": "100100100100111",
    "P": "110101110100100",
    "R": "110101110101101",
    "T": "111010010010010",
    "0": "111101101101111",
    "1": "010110010010111",
    "2": "111001111100111",
    "3": "111001111001111",
    "4": "101101111001001",
    "5": "111100111001111",
    "6": "111100111101111",
    "7": "111001001001001",
    "8": "111101111101111",
    "9": "111101111001111",
}
"letters of 3 by 5 dots, row by row: drawn without a font, whose shapes depend on the machine"
TEXTS = ("L", "AP 0417", "PATELLA", "R 2604185", "DATE 1907")
"a side marker, the projection, the part, a number and a date, each where the last one is not"


def resolution(grey: Grey, pitch_mm: float, _rng: Rng) -> Grey:
    """The picture that a detector of this pitch gives, millimetres of FIELD_MM; coarse pixels.

    A detector's element averages what falls on it, as a box does. Those of flat panels and imaging
    plates are 0.1 to 0.2 mm wide (Bushberg et al., The Essential Physics of Medical Imaging, 3rd
    ed., ch. 7), finer than the 0.67 mm of a network's 224 pixels: what harms is a thumbnail, a
    screenshot, a teaching file. A picture that is as coarse already stays as it is.
    """
    n_elements = max(1, round(FIELD_MM / pitch_mm))
    scale = n_elements / max(grey.shape)
    if scale >= 1:
        return grey.copy()
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return np.array(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX))


def rotation(grey: Grey, degrees: float, rng: Rng) -> Grey:
    """Turned about the centre, to either side; corners come in black, as in training views.

    A leg lies within about 5° of the detector's axis; one that cannot be stretched, or a plate laid
    under it askew, further off.
    """
    angle = degrees if rng.random() < 0.5 else -degrees
    return np.array(Image.fromarray(grey).rotate(angle, Image.Resampling.BILINEAR))


def translation(grey: Grey, share: float, rng: Rng) -> Grey:
    """Shifted by this share of each side, up or down and left or right.

    The beam is centred below the patella by touch; centimetres off are common.
    """
    shifted = np.zeros_like(grey)
    steps = [round(share * side) for side in grey.shape]
    signs = [1 if rng.random() < 0.5 else -1 for _ in steps]
    into = []
    taken = []
    for side, step, sign in zip(grey.shape, steps, signs, strict=True):
        into.append(slice(step, side) if sign > 0 else slice(0, side - step))
        taken.append(slice(0, side - step) if sign > 0 else slice(step, side))
    shifted[into[0], into[1]] = grey[taken[0], taken[1]]
    return shifted


def crop(grey: Grey, share: float, _rng: Rng) -> Grey:
    """The middle, with this share of each side: a narrower field than the training's."""
    top, left = (round(side * (1 - share) / 2) for side in grey.shape)
    # at least the middle pixel
    height = max(1, grey.shape[0] - 2 * top)
    width = max(1, grey.shape[1] - 2 * left)
    return grey[top : top + height, left : left + width].copy()


def padding(grey: Grey, share: float, _rng: Rng) -> Grey:
    """A black margin around it, of this share of each side at either end.

    A plate larger than the knee, or a crop made too wide.
    """
    height, width = grey.shape
    rows = round(share * height)
    columns = round(share * width)
    return np.pad(grey, ((rows, rows), (columns, columns)))


def collimation(grey: Grey, share: float, rng: Rng) -> Grey:
    """Black but for a rectangle with this share of each side, a little off the middle.

    The collimator's blades, with the field kept: ALARA has radiographers close them as far as the
    question allows, and the shutter blackens what they cover (DICOM PS3.3, C.7.6.11).
    """
    kept = np.zeros_like(grey)
    places = []
    for side in grey.shape:
        n_open = max(1, round(share * side))
        off = rng.uniform(-0.25, 0.25) * (side - n_open)
        start = round((side - n_open) / 2 + off)
        places.append(slice(start, start + n_open))
    kept[places[0], places[1]] = grey[places[0], places[1]]
    return kept


def text(grey: Grey, n_lines: float, rng: Rng) -> Grey:
    """Burned-in writing: so many lines, in the corners and then over the upper shaft.

    Side markers are of lead and part of the picture, names and dates are burned in by frame
    grabbers and printers (DICOM PS3.15, Clean Pixel Data). Networks have learned hospitals by them
    (Zech et al. 2018, PLoS Medicine 15:e1002683). A letter is a twentieth of the shorter side high
    for one line and grows with their number.
    """
    written = grey.copy()
    height, width = grey.shape
    lines = int(n_lines)
    dot = max(1, round(min(height, width) * (0.05 + 0.005 * (lines - 1)) / GLYPH_ROWS))
    first = int(rng.integers(4))
    for i, line in enumerate(TEXTS[:lines]):
        dots = np.kron(_dots(line), np.ones((dot, dot), dtype=bool))[: height - dot, : width - dot]
        top, left = _place(i, first, (height, width), dots.shape, dot)
        written[top : top + len(dots), left : left + dots.shape[1]][dots] = 255
    return written


def bars(grey: Grey, share: float, rng: Rng) -> Grey:
    """White along two opposite sides, this share of the side each.

    What the collimator covers gets no photons, and where no shutter blackens it that is white.
    """
    marked = grey.copy()
    along = int(rng.integers(2))
    wide = max(1, round(share * grey.shape[along]))
    turned = marked if along == 0 else marked.T
    turned[:wide] = 255
    turned[-wide:] = 255
    return marked


def mirrored(grey: Grey, _whole: float, _rng: Rng) -> Grey:
    """Left for right: a film read from its back, or the other knee by its looks."""
    return np.fliplr(grey).copy()


def upside_down(grey: Grey, _whole: float, _rng: Rng) -> Grey:
    """Turned by 180°: the plate was read from its other end."""
    return np.rot90(grey, 2).copy()


def _dots(line: str) -> NDArray[np.bool_]:
    """A line of text as (5, 4 a letter) bool; what GLYPHS lacks is a blank."""
    blank = "0" * 3 * GLYPH_ROWS
    letters = []
    for letter in line:
        bits = [bit == "1" for bit in GLYPHS.get(letter, blank)]
        letters.append(np.pad(np.array(bits).reshape(GLYPH_ROWS, 3), ((0, 0), (0, 1))))
    return np.hstack(letters)


def _place(
    i: int, first: int, sides: tuple[int, int], size: tuple[int, ...], margin: int
) -> tuple[int, int]:
    """Top and left of line `i`: in the corners from `first` on, then over the upper shaft."""
    height, width = sides
    if i >= 4:
        return min(height // 4, height - size[0]), (width - size[1]) // 2
    corner = (first + i) % 4
    top = margin if corner < 2 else max(0, height - size[0] - margin)
    left = margin if corner % 2 == 0 else max(0, width - size[1] - margin)
    return top, left
