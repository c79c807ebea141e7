"""What heat maps cost a folder run, and how that differs between versions of kneeedge.

    python -m benchmarks.heatmaps --model FILE NAME=CHECKOUT ... [--json FILE]

Each checkout answers the same phantoms with and without `--heatmaps`, in a process of its own,
again and again in turn; medians. The phantoms are PNGs of 224 × 224 pixels, and of 1024 × 1024,
the most that a map shows. Maps go to the disk (below `--scratch`), each forced out before its row
is written. The record also says whether the maps of all checkouts have the same pixels.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

import kneeedge
from kneeedge.inference.folder import FolderOptions, infer_folder
from kneeedge.inference.heatmap import MOST_SHOWN
from kneeedge.inference.predictor import Predictor
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import phantom
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress

N_FILES = {224: 120, 1024: 24}
"phantoms of a run, by their side in pixels"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One run of one checkout over the phantoms of one side, without and with heat maps."""

    bare_per_second: float
    "images, without heat maps"
    per_second: float
    "images, with heat maps"
    cpu_ms: float
    "processor time that a heat map adds to an image, this process's and its readers'"
    map_kb: float
    "mean size of a heat map's file"
    pixels_sha256: str
    "of the pixels of all heat maps, in the order of their names"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The medians of one checkout over the phantoms of one side."""

    name: str
    side: int
    "of an image, pixels"
    n: int
    bare_per_second: float
    per_second: float
    ratio: float | None
    "images a second, over the first checkout's: the median of the turns' ratios"
    cpu_ms: float
    map_kb: float
    same_pixels: bool
    "as the first checkout's maps"
    samples: list[float]
    "images a second with heat maps"


def write_phantoms(folder: Path, side: int) -> None:
    """PNGs of `side` pixels below `folder`."""
    folder.mkdir()
    for seed in range(N_FILES[side]):
        Image.fromarray(phantom(seed, seed % 5 / 4, side)).save(folder / f"{seed:03d}.png")


def timed(model: Path, images: Path, scratch: Path, maps: Path | None) -> tuple[float, float]:
    """Images a second, and processor seconds, of a run over the images."""
    listing = find_images([images])
    predictor = Predictor(model, "cpu", n_images=len(listing.images), answer_all=True)
    shown = MOST_SHOWN if maps else 0
    predictor.read_options = replace(predictor.read_options, shown_side=shown, isolated=True)
    before = os.times()
    start = time.perf_counter()
    options = FolderOptions(heatmaps=maps)
    infer_folder(predictor, listing, scratch / "out.csv", Progress(quiet=True), options)
    seconds = time.perf_counter() - start
    used = sum(os.times()[:4]) - sum(before[:4])
    return len(listing.images) / seconds, used


def child(model: Path, images: Path, scratch: Path) -> Turn:
    """Both runs, in this process, by the kneeedge that it imports."""
    bare, bare_cpu = timed(model, images, scratch, None)
    maps = scratch / "maps"
    maps.mkdir()
    speed, cpu = timed(model, images, scratch, maps)
    paths = sorted(maps.glob("*.png"))
    digest = hashlib.sha256()
    for path in paths:
        with Image.open(path) as image:
            digest.update(np.asarray(image.convert("RGB")).tobytes())
    return Turn(
        bare_per_second=bare,
        per_second=speed,
        cpu_ms=(cpu - bare_cpu) / len(paths) * 1e3,
        map_kb=sum(path.stat().st_size for path in paths) / len(paths) / 1e3,
        pixels_sha256=digest.hexdigest(),
    )


def turn_of(checkout: Path, model: Path, images: Path, scratch: Path) -> Turn:
    """What a process says that imports kneeedge from the checkout.

    Raises ValueError where it found another one, as beside an editable installation.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as own:
        paths = [str(path.resolve()) for path in (model, images, Path(own))]
        command = [sys.executable, str(Path(__file__).resolve()), "--child", *paths]
        variables = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    said = json.loads(done.stdout)
    imported = Path(said.pop("imported"))
    if not imported.is_relative_to(checkout.resolve()):
        raise ValueError(f"{imported} was measured in place of {checkout}")
    return Turn(**said)


def rows_of(side: int, turns: Mapping[str, list[Turn]]) -> list[Row]:
    """The medians; `turns` by the checkout's name, the first first."""
    first = next(iter(turns.values()))
    rows = []
    for name, own in turns.items():
        ratios = [a.per_second / b.per_second for a, b in zip(own, first, strict=True)]
        rows.append(
            Row(
                name=name,
                side=side,
                n=N_FILES[side],
                bare_per_second=round(median(turn.bare_per_second for turn in own), 1),
                per_second=round(median(turn.per_second for turn in own), 1),
                ratio=None if own is first else round(median(ratios), 2),
                cpu_ms=round(median(turn.cpu_ms for turn in own), 2),
                map_kb=round(own[0].map_kb, 1),
                same_pixels=all(turn.pixels_sha256 == first[0].pixels_sha256 for turn in own),
                samples=[round(turn.per_second, 1) for turn in own],
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkouts", nargs="*", help="NAME=CHECKOUT; the first is compared with")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--scratch", type=Path, help="a folder on the disk that is meant")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps({"imported": kneeedge.__file__, **asdict(child(*asked.child))}))
        return
    if not asked.model or not asked.checkouts:
        parser.error("give --model and at least one NAME=CHECKOUT")
    checkouts = dict(checkout.split("=", 1) for checkout in asked.checkouts)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
        scratch = Path(folder)
        for side in N_FILES:
            images = scratch / str(side)
            write_phantoms(images, side)
            turns: dict[str, list[Turn]] = {name: [] for name in checkouts}
            for _ in range(asked.repeats):
                for name, checkout in checkouts.items():
                    turns[name].append(turn_of(Path(checkout), asked.model, images, scratch))
            rows += rows_of(side, turns)
    record = {
        "environment": asdict(environment()),
        "model": asked.model.name,
        "rows": list(map(asdict, rows)),
    }
    text = json.dumps(record, indent=2) + "\n"
    if asked.json:
        asked.json.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
