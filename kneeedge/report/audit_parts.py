"""What the sections of an audit's page are made of: tables, bars and small pictures."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.audit.run import AuditedImage
from kneeedge.pixels.picture import read_grey

PICTURE_SIDE = 240
"longest side of a picture, pixels"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already, under plain heads."""
    lines = ["".join(f"<th>{escape(name)}</th>" for name in heads)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>{body}</table>"


def bar(auroc: float) -> str:
    """A bar from chance, 0.5, to certainty, 1, and the figure."""
    percent = f"{200 * (auroc - 0.5):.0f}%"
    return f'<span class="bar"><i style="width:{percent}"></i></span> {auroc:.2f}'


def figure(image: AuditedImage, root: Path, grey_bits: int) -> str:
    """One image as a small picture, with its name, split, class and size below it."""
    facts = image.facts
    size = f"{facts.width} × {facts.height} {facts.format}"
    place = ", ".join(part for part in (image.split, image.label) if part)
    strong = f"<strong>{escape(place)}</strong>, " if place else ""
    caption = f"{escape(image.name)}<br>{strong}{escape(size)}"
    return framed(read_grey(root / image.name, PICTURE_SIDE, grey_bits=grey_bits), caption)


def framed(pixels: NDArray[np.uint8], caption: str) -> str:
    """Pixels (H, W) or (H, W, 3) uint8 as a small picture; the caption is HTML."""
    source = f"data:image/jpeg;base64,{_jpeg(pixels)}"
    picture = f'<div class="frame"><img alt="" src="{source}"></div>'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    """A small JPEG in base64."""
    small = Image.fromarray(pixels)
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
