"""The picture of README.md: synthetic radiographs, their heat maps and rows of predictions.csv.

    make demo && python -m benchmarks.picture [--demo demo-output] [--out benchmarks/picture.png]

It trains nothing: all is what `kneeedge demo` left in its folder. Of each class the first image is
shown that is answered rightly.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parent.parent
SIDE = 192
"of a picture, pixels"
MARGIN = 16
LINE = 26
"height of a line of text"
NAMES = 110
"width of a row's names, beside which its values stand"
WIDTH = 2 * SIDE + 4 * MARGIN + NAMES + 180
COLOURS = 256
"of the palette, so that the file stays small"
SHOWN = ("path", "status", "prediction", "probability", "distance")
WORDS = ("a synthetic radiograph", "evidence for the answer", "its row of predictions.csv")
COLUMNS = (MARGIN, 2 * MARGIN + SIDE, 3 * MARGIN + 2 * SIDE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("demo-output"), help="of `kneeedge demo`")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "picture.png")
    asked = parser.parse_args()
    rows = first_right_rows(asked.demo / "predictions.csv")
    draw(asked.demo, rows).save(asked.out, optimize=True)
    print(f"{asked.out}: {', '.join(row['path'] for row in rows)}")


def first_right_rows(path: Path) -> list[dict[str, str]]:
    """The first row of each class whose answer is the name of its folder."""
    rows: dict[str, dict[str, str]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["status"] == "ok" and row["path"].startswith(f"{row['prediction']}/"):
                rows.setdefault(row["prediction"], row)
    return list(rows.values())


def draw(demo: Path, rows: Sequence[dict[str, str]]) -> Image.Image:
    """A strip for each row: the radiograph, the heat map, and what the row says."""
    height = SIDE + MARGIN
    canvas = Image.new("RGB", (WIDTH, LINE + len(rows) * height), "white")
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(14)
    for x, words in zip(COLUMNS, WORDS, strict=True):
        pen.text((x, 4), words, "#555555", font)
    for i, row in enumerate(rows):
        top = LINE + i * height
        radiograph = demo / "radiographs/test" / row["path"]
        canvas.paste(enlarged(radiograph), (COLUMNS[0], top))
        canvas.paste(enlarged(demo / "heatmaps" / row["path"], radiograph), (COLUMNS[1], top))
        for line, name in enumerate(SHOWN):
            y = top + 4 + line * LINE
            pen.text((COLUMNS[2], y), name, "#777777", font)
            pen.text((COLUMNS[2] + NAMES, y), row[name], "black", font)
    return canvas.quantize(COLOURS, dither=Image.Dither.NONE)


def enlarged(path: Path, like: Path | None = None) -> Image.Image:
    """A picture at SIDE pixels; of a heat map what shows the radiograph `like`, without lines."""
    with Image.open(like or path) as image:
        size = image.size
    with Image.open(path) as image:
        picture = image.convert("RGB").crop((0, 0, *size))
        return picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    main()
