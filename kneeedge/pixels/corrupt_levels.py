"""What can go wrong with a radiograph's grey levels: noise, blur, tone, exposure, compression.

Each takes grey pixels (H, W) uint8, bone bright, how strong it is, and draws that are the same for
all strengths; it gives new pixels. Lengths are shares of the longer side, so that a picture of 2000
pixels and one of 224 look alike afterwards.
"""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Grey = NDArray[np.uint8]
Rng = np.random.Generator

FIELD_MM = 150.0
"""what the longer side is taken to show: a knee and a hand's breadth of the shafts; it turns
millimetres on the detector into shares of the picture"""
REFERENCE = 224
"pixels of the longer side at which what is bound to pixels (grain, JPEG blocks) is told"
PHOTON_RATIO = 30.0
"""photons behind air against those behind bone: 12 cm of soft tissue let 7 % through near 50 keV
(0.227 cm²/g of water: NIST XCOM), and the bone in them half of that"""


def noise(grey: Grey, deviation: float, rng: Rng) -> Grey:
    """Quantum noise, of so many grey levels (standard deviation) at middle grey.

    Where few photons reach the detector their number N varies most for its size, as √N (Bushberg
    et al., The Essential Physics of Medical Imaging, 3rd ed., ch. 4). A radiograph shows the
    logarithm of that number, from many (air, black) to few (bone, white), and the logarithm varies
    by 1/√N: so the grain is 5.5 = √30 times as strong in white as in black.

    A grain is a pixel of a picture of REFERENCE pixels. In a larger picture it covers several, as a
    scintillator spreads its light, or one that is averaged down would show no noise.
    """
    height, width = grey.shape
    rows, columns = _within(grey.shape, REFERENCE)
    grain = rng.standard_normal((rows, columns), dtype=np.float32)
    down = np.arange(height) * rows // height
    across = np.arange(width) * columns // width
    levels = np.arange(256) / 255
    strength = deviation * np.exp(math.log(PHOTON_RATIO) * (levels - 0.5) / 2)
    noisy = grey + grain[down[:, None], across] * strength.astype(np.float32)[grey]
    return _levels(noisy)


def blur(grey: Grey, millimetres: float, _rng: Rng) -> Grey:
    """A Gaussian of this standard deviation, millimetres of FIELD_MM.

    The focal spot is no point, and the leg moves: a spot of 1.2 mm blurs a knee that is magnified
    by 1.15 by 0.2 mm (Bushberg et al., ch. 7), a patient who trembles by a millimetre or two.
    """
    radius = millimetres / FIELD_MM * max(grey.shape)
    return np.array(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(radius)))


def contrast(grey: Grey, scatter: float, _rng: Rng) -> Grey:
    """Levels drawn towards their mean, as by scattered radiation of this ratio to the primary.

    Scatter S lies over all and divides contrast by 1 + S/P (Bushberg et al., ch. 7). Without a grid
    S/P grows with thickness and field: below 1 for a slim limb, some 3 for a trunk.
    """
    mean = float(grey.mean())
    return _levels(mean + (np.arange(256) - mean) / (1 + scatter))[grey]


def gamma(grey: Grey, exponent: float, rng: Rng) -> Grey:
    """Levels to the power of the exponent, or of its inverse: half of the pictures turn brighter.

    A picture made for one tone curve and shown by another: screens have about 2.2 (IEC 61966-2-1),
    DICOM has a curve of its own (PS3.14), and every maker of detectors renders differently.
    """
    power = exponent if rng.random() < 0.5 else 1 / exponent
    return _levels(255 * (np.arange(256) / 255) ** power)[grey]


def window(grey: Grey, width: float, rng: Rng) -> Grey:
    """A window of this share of the picture's own levels, what lies outside black or white.

    Its middle is off by up to a tenth of the levels. VOI windows are set by eye or by a presetting
    for another body part (DICOM PS3.3, C.11.2.1.2, of which this is the linear one).
    """
    low, high = np.percentile(grey, (1, 99)).tolist()
    centre = (low + high) / 2 + (high - low) * rng.uniform(-0.1, 0.1)
    # at least a level wide, so that a picture without contrast divides by something
    span = max(1.0, width * (high - low))
    return _levels(255 * ((np.arange(256) - centre) / span + 0.5))[grey]


def gradient(grey: Grey, rise: float, rng: Rng) -> Grey:
    """A ramp of this share of all levels, from one side to the opposite one, 0 in the middle.

    The anode's heel weakens the beam towards its own side, by a quarter to a half over a large
    field (Bushberg et al., ch. 6), and a grid that is tilted or off centre by more. On the
    logarithmic scale of `noise` a factor f is a step of ln f / ln 30: 0.1 for 1.4, 0.3 for 2.8.
    """
    along = int(rng.integers(2))
    sign = 1 if rng.random() < 0.5 else -1
    n = grey.shape[along]
    ramp = (sign * 255 * rise * ((np.arange(n) + 0.5) / n - 0.5)).astype(np.float32)
    return _levels(grey + (ramp[:, None] if along == 0 else ramp))


def jpeg(grey: Grey, quality: float, _rng: Rng) -> Grey:
    """A JPEG of this quality, 1 to 95, of the picture with at most REFERENCE pixels a side.

    Pictures go through messengers and slides, which reduce them and then compress. At their full
    size the blocks of 8 pixels would vanish in the network's input.
    """
    reduced = Image.fromarray(grey)
    if max(grey.shape) > REFERENCE:
        height, width = _within(grey.shape, REFERENCE)
        reduced = reduced.resize((width, height), Image.Resampling.BOX)
    file = io.BytesIO()
    reduced.save(file, "JPEG", quality=int(quality))
    with Image.open(file) as image:
        return np.array(image.convert("L"))


def inverted(grey: Grey, _whole: float, _rng: Rng) -> Grey:
    """Black for white: MONOCHROME1 read as MONOCHROME2, or a film shown as its negative."""
    return np.asarray(255 - grey, dtype=np.uint8)


def _within(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width with the longer one at most `side`, the aspect kept, each at least 1."""
    scale = min(1.0, side / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _levels(values: NDArray[np.floating]) -> Grey:
    """The nearest grey levels, 0 to 255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)
