"""The class activation map over the radiograph, as a picture."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from kneeedge.inference.predictions import ABSTAIN, READ_INVERSE, REFER, Prediction
from kneeedge.model.spec import DISCLAIMER, ModelSpec
from kneeedge.system.files import replacing
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
    shade = image[:, :, None].astype(np.float32)
    return np.asarray(np.rint(shade * (1.0 - WEIGHT[level]) + COLOUR[level]), dtype=np.uint8)


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
    says = PngInfo()
    for keyword, text in PNG_TEXT.items():
        says.add_text(keyword, text)
    with replacing(path, private=True) as new:
        Image.fromarray(picture).save(new, "PNG", compress_level=1, pnginfo=says)


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
    pitch = round(1.45 * size)
    canvas_width = max(width, LEAST_WIDTH)
    canvas = Image.new("RGB", (canvas_width, height + pitch * (len(lines) + 1) + size // 2))
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size)
    margin = size // 2
    bar = scale_bar(canvas_width // 4, size)
    canvas.paste(Image.fromarray(bar), (margin, height + margin))
    words = fitting(f"evidence, 0 to {peak:.3g}", font, canvas_width * 3 // 4 - 3 * margin)
    draw.text((2 * margin + bar.shape[1], height + margin // 2), words, "white", font)
    for i, line in enumerate(lines, start=1):
        shown = fitting(line, font, canvas_width - 2 * margin)
        draw.text((margin, height + i * pitch + margin // 2), shown, "white", font)
    return np.asarray(canvas)


def scale_bar(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: the colours from no evidence to the most, over middle grey."""
    level = np.rint(np.linspace(0, 255, width)).astype(np.uint8)
    grey = np.full((height, width), SCALE_GREY, dtype=np.uint8)
    return coloured(grey, np.repeat(level[None], height, axis=0))


def fitting(line: str, font: "Font", width: float) -> str:
    """The line, cut where it is wider than `width` pixels."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
