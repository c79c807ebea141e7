"""What the sections of an audit's page are made of: bars and small pictures."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.audit.run import AuditedImage
from kneeedge.pixels.picture import read_grey
from kneeedge.report.page import jpeg_tag, words

PICTURE_SIDE = 240
"longest side of a picture, pixels"


def bar(auroc: float) -> str:
    """A bar from chance, 0.5, to certainty, 1, and the figure."""
    width = f"{max(200 * (auroc - 0.5), 0):.0f}"
    filled = f'<rect width="{width}" height="6"/>'
    shape = 'viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"'
    return f'<svg class="bar" {shape}>{filled}</svg> {auroc:.2f}'


def figure(image: AuditedImage, root: Path, grey_bits: int) -> str:
    """One image as a small picture, with its name, split, class and size below it."""
    facts = image.facts
    size = f"{facts.width} × {facts.height} {facts.format}"
    place = ", ".join(part for part in (image.split, image.label) if part)
    strong = f"<strong>{words(place)}</strong>, " if place else ""
    caption = f"{words(image.name)}<br>{strong}{words(size)}"
    return framed(read_grey(root / image.name, PICTURE_SIDE, grey_bits=grey_bits), caption)


def framed(pixels: NDArray[np.uint8], caption: str) -> str:
    """Pixels (H, W) or (H, W, 3) uint8 as a small picture; the caption is HTML."""
    picture = f'<div class="frame">{jpeg_tag(_jpeg(pixels), "")}</div>'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """A small JPEG."""
    small = Image.fromarray(pixels)
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
