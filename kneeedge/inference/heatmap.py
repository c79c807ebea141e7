"""The class activation map over the radiograph, as a picture."""

import hashlib
import os
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kneeedge.inference.predictions import ABSTAIN, READ_INVERSE, REFER, Prediction
from kneeedge.model.spec import DISCLAIMER, ModelSpec
from kneeedge.pixels.rgb_png import rgb_png
from kneeedge.system.files import write_bytes
from kneeedge.system.outputs import HEATMAP, check_output
from kneeedge.system.own import PNG_TEXT, mark_folder

if TYPE_CHECKING:
    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

Box = tuple[float, float, float, float]
"left, top, right, bottom, 0 to 1"
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
OPACITY = 0.45
STOPS = np.array(
    [[0, 0, 0], [60, 10, 110], [190, 50, 80], [250, 140, 10], [255, 240, 150]], dtype=np.float32
)
"dark to bright, rising in lightness, readable without colour vision"
LEVELS = np.linspace(0.0, 1.0, 256, dtype=np.float32)
WEIGHT = (OPACITY * np.sqrt(LEVELS))[:, None]
"share of the colour in a pixel, by the strength of its evidence, 0 to 255"
COLOUR = WEIGHT * np.stack(
    [np.interp(LEVELS, np.linspace(0, 1, len(STOPS)), channel) for channel in STOPS.T], axis=1
)
MOST_SHOWN = 1024
"""pixels of a heat map's longer side, so that its picture takes at most a megabyte while it waits
for the network; larger radiographs are shown smaller"""
LEAST_WIDTH = 320
"pixels, so that the lines can be read"
SMALLEST_FONT, LARGEST_FONT = 11, 28
"pixels"
N_STRIPS = 64
"lines of text that are kept as they were drawn: the last stands below every map"
SCALE_GREY = 128
"level of the bone under the colours of the scale"
PNG, MAP = ".png", ".map.png"
"ends of the names of heat maps: of a PNG's, which has the PNG's name, and of all others"
MAX_NAME = 240
"bytes of a file's name: file systems take 255, and a name is longer while it is written"


def overlay(
    image: NDArray[np.uint8], cam: NDArray[np.float32], box: Box = WHOLE
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: grey pixels (H, W) uint8 with the map (h, w) over them.

    `box` is the part of the map, 0 to 1, that they show. Only evidence for the class (positive
    values) is shown, relative to the image's own largest; a map without any leaves the radiograph
    as it is.
    """
    evidence = np.maximum(cam, 0.0)
    peak = float(evidence.max())
    if peak == 0.0:
        return np.repeat(image[:, :, None], 3, axis=2)
    scaled = Image.fromarray(np.float32(255.0) * evidence / np.float32(peak))
    height, width = cam.shape
    left, top, right, bottom = box
    part = (left * width, top * height, right * width, bottom * height)
    scaled = scaled.resize(image.shape[::-1], Image.Resampling.BILINEAR, part)
    level = np.rint(np.asarray(scaled)).astype(np.uint8)
    return coloured(image, level)


def coloured(image: NDArray[np.uint8], level: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: grey pixels (H, W), the colour of evidence (H, W), 0 to 255, over them."""
    place = level.astype(np.uint16) << 8 | image
    taken = np.take(colour_table(), place).view(np.uint8).reshape(*image.shape, 4)
    pixels = np.empty((*image.shape, 3), dtype=np.uint8)
    for channel in range(3):  # one at a time is several times as fast as three together
        pixels[:, :, channel] = taken[:, :, channel]
    return pixels


@cache
def colour_table() -> NDArray[np.uint32]:
    """(65536,) uint32: at 256 times the evidence plus the grey level, the bytes R, G, B and 0.

    Whole words are taken from a table several times as fast as three bytes are.
    """
    shade = np.arange(256, dtype=np.float32)[None, :, None]
    pixels = np.zeros((256, 256, 4), dtype=np.uint8)
    pixels[:, :, :3] = np.rint(shade * (1.0 - WEIGHT[:, None]) + COLOUR[:, None])
    return pixels.view(np.uint32).reshape(-1)


def heatmap_path(folder: Path, name: str) -> Path:
    """Where the heat map of the image `name` goes, by its name alone, and no other image's there.

    A PNG's map has the name of the PNG; that of `knee.jpg` is `knee.jpg.map.png`, since the map of
    a `knee.png` beside it is `knee.png`. So nothing depends on what else is in a folder, which may
    be filled while it is answered.
    """
    lower = name.lower()
    if lower.endswith(PNG) and not lower.endswith(MAP):
        *above, file = _parts_below(name)
        return folder.joinpath(*above, _short_name(file, name[-len(PNG) :]))
    return place_below(folder, name, MAP)


def place_below(folder: Path, name: str, suffix: str) -> Path:
    """Where a file about the image `name` goes: under its whole name, never outside `folder`.

    A name that would be too long for a file is cut, and has a hash of the whole at its end.
    """
    *above, file = _parts_below(name)
    return folder.joinpath(*above, _short_name(file + suffix, suffix))


def _parts_below(name: str) -> list[str]:
    return ["_" if part == ".." else part for part in PurePosixPath(name).parts if part != "/"]


def _short_name(name: str, suffix: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= MAX_NAME:
        return name
    end = f"~{hashlib.sha256(encoded).hexdigest()[:16]}{suffix}"
    kept = encoded[: MAX_NAME - len(end)].decode("utf-8", "ignore")
    return kept + end


def write_heatmap(
    folder: Path,
    name: str,
    image: NDArray[np.uint8],
    cam: NDArray[np.float32],
    lines: Sequence[str] = (),
    box: Box = WHOLE,
) -> None:
    """Write the overlay of one image (H, W) uint8 and its map (h, w) as PNG, `lines` below it.

    It is its owner's alone, as a picture of a patient, and says that kneeedge made it, so that it
    is never taken for a radiograph. Raises OutputExistsError where it would replace anything but an
    older heat map.
    """
    path = heatmap_path(folder, name)
    check_output(path, HEATMAP)
    mark_folder(folder)
    picture = overlay(image, cam, box)
    if lines:
        picture = with_scale(picture, float(np.maximum(cam, 0.0).max()), lines)
    write_bytes(path, rgb_png(picture, PNG_TEXT), private=True)


def heatmap_lines(prediction: Prediction, spec: ModelSpec) -> tuple[str, ...]:
    """What stands below a heat map: class, probability, threshold, and what is to be known."""
    return (answer_line(prediction, spec), *caveat_lines(prediction), DISCLAIMER)


def caveat_lines(prediction: Prediction) -> list[str]:
    """Why an answer is not to be trusted, and whether the picture is the inverse of the image."""
    lines = []
    if prediction.status in (ABSTAIN, REFER):
        lines.append(f"not to be trusted: {prediction.error}")
    if prediction.inverted:
        lines.append(READ_INVERSE)
    return lines


def answer_line(prediction: Prediction, spec: ModelSpec) -> str:
    """Osteoarthritis: P(Osteoarthritis) = 0.987, threshold 0.5."""
    answer = f"{prediction.prediction}: P({spec.positive}) = {prediction.probability:.3f}"
    return f"{answer}, threshold {spec.threshold:.3g}" if len(spec.classes) == 2 else answer


def with_scale(picture: NDArray[np.uint8], peak: float, lines: Sequence[str]) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8, pixel for pixel, and below it a scale and the lines.

    The scale runs from no evidence to `peak`, the map's largest value; the mean of a map over the
    image is the logit of its class. A narrow picture has black beside it.
    """
    height, width = picture.shape[:2]
    size = min(max(round(width / 36), SMALLEST_FONT), LARGEST_FONT)
    pitch = line_pitch(size)
    margin = size // 2
    below = height + pitch * (len(lines) + 1) + margin
    canvas = np.zeros((below, max(width, LEAST_WIDTH), 3), dtype=np.uint8)
    canvas[:height, :width] = picture
    bar = scale_bar(canvas.shape[1] // 4, size)
    right = margin + bar.shape[1]
    canvas[height + margin : height + margin + size, margin:right] = bar
    add_text(canvas[height:, right:], f"evidence, 0 to {peak:.3g}", size)
    for i, line in enumerate(lines, start=1):
        add_text(canvas[height + i * pitch :], line, size)
    return canvas


def line_pitch(size: int) -> int:
    """Pixels from one line of text to the next, for letters of `size` pixels."""
    return round(1.45 * size)


def add_text(canvas: NDArray[np.uint8], line: str, size: int) -> None:
    """Write white letters of `size` pixels at the top left of a black canvas (H, W, 3) uint8."""
    strip = text_strip(line, size, canvas.shape[1])
    place = canvas[: strip.shape[0]]
    np.maximum(place, strip[:, :, None], out=place)


@lru_cache(N_STRIPS)
def text_strip(line: str, size: int, width: int) -> NDArray[np.uint8]:
    """(H, width) uint8: a line in white on black, cut where it is wider; not to be written to."""
    margin = size // 2
    strip = Image.new("L", (width, line_pitch(size) + margin // 2))
    font = text_font(size)
    shown = fitting(line, font, width - 2 * margin)
    ImageDraw.Draw(strip).text((margin, margin // 2), shown, "white", font)
    return np.asarray(strip)


@cache
def text_font(size: int) -> "Font":
    """Pillow's own font, in letters of `size` pixels."""
    return ImageFont.load_default(size)


@lru_cache(N_STRIPS)
def scale_bar(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: the colours from no evidence to the most, over middle grey.

    It is not to be written to.
    """
    level = np.rint(np.linspace(0, 255, width)).astype(np.uint8)
    grey = np.full((height, width), SCALE_GREY, dtype=np.uint8)
    bar = coloured(grey, np.repeat(level[None], height, axis=0))
    bar.setflags(write=False)
    return bar


def fitting(line: str, font: "Font", width: float) -> str:
    """The line, cut where it is wider than `width` pixels."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
