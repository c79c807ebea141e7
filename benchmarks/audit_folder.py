"""`kneeedge audit` of whole folders, to the end: processor time by stage, memory, copies found.

    python -m benchmarks.audit_folder N ... [--scratch FOLDER] [--json FILE]

Each folder has N grey JPEGs in two classes: phantoms with texture of their own, and one in twenty a
planted copy of the image before it, of the kinds of COPIES in turn. Each is audited in a process of
its own, from the list of files to the text and the JSON. Folders stay in `--scratch`, where they
are found again.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.audit.findings import list_findings
from kneeedge.audit.run import audit
from kneeedge.cli.json_format import stamped
from kneeedge.pixels.phantom import phantom
from kneeedge.report.audit import audit_text
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress, Stage

Pixels = NDArray[np.uint8]

COPY_EVERY = 20
"one image in so many is a copy"
SIDE = 256
"pixels of an image"
GRAIN = 0.08
"of the grey levels, the share of each size of grains"
N_PHANTOMS = 1000
CLASSES = ("Healthy", "Osteoarthritis")
A_FOLDER = 1000
"images a folder"


def mirrored(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, ::-1])


def cropped(pixels: Pixels) -> Pixels:
    margin = SIDE // 12
    return np.ascontiguousarray(pixels[margin:-margin, margin:-margin])


def smaller(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((SIDE // 2, SIDE // 2)))


def turned(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).rotate(4, Image.Resampling.BICUBIC))


def lightened(pixels: Pixels) -> Pixels:
    return np.clip(pixels.astype(np.int16) + 25, 0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "identical": lambda pixels: pixels,
    "mirrored": mirrored,
    "cropped": cropped,
    "half the size": smaller,
    "rotated 4°": turned,
    "lightened": lightened,
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """The audit of one folder."""

    n: int
    seconds: float
    cpu_seconds: float
    exponent: float | None
    "slope of log processor time over log n, from the size before"
    peak_memory_mb: float
    stages: dict[str, float]
    "processor seconds"
    planted: dict[str, int]
    "copies by kind"
    found: dict[str, int]
    "of these"
    n_other_pairs: int
    "pairs of copies that were not planted"
    n_findings: int
    verdict: str
    "of the shortcut test"


class Watch(Progress):
    """Notes the processor seconds of each stage, and says nothing."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        start = time.process_time()
        with super().stage(name, total) as stage:
            yield stage
        self.stages[name] = round(time.process_time() - start, 1)


def textured(base: Pixels, rng: np.random.Generator) -> Pixels:
    """A phantom with grains of three sizes that no other image has.

    They are weak, so that images of one phantom have most marks in common, as knees of one machine
    do, and are to be compared.
    """
    image = base.astype(np.float32)
    for side in (SIDE // 16, SIDE // 4, SIDE // 2):
        noise = Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8))
        grains = noise.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        image += GRAIN * (np.asarray(grains, np.float32) - 128)
    return np.clip(image, 0, 255).astype(np.uint8)


def kind_of(i: int) -> str | None:
    """How image `i` was made of the one before it; None where it is its own."""
    if i % COPY_EVERY != COPY_EVERY - 1:
        return None
    return list(COPIES)[i // COPY_EVERY % len(COPIES)]


def path_of(i: int) -> str:
    """Below the data folder; a copy stands in its original's class."""
    label = CLASSES[i // COPY_EVERY % len(CLASSES)]
    return f"{label}/{i // A_FOLDER:04d}/{i:07d}.jpg"


def write_folder(folder: Path, n: int) -> None:
    """`n` images; done with where the last one stands."""
    rng = np.random.default_rng(0)
    bases = [phantom(seed, seed % 5 / 4, SIDE) for seed in range(N_PHANTOMS)]
    pixels = bases[0]
    for i in range(n):
        path = folder / path_of(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = kind_of(i)
        if kind is None:
            pixels = textured(bases[i % N_PHANTOMS], rng)
        quality = 90 if kind in (None, "identical") else 80
        Image.fromarray(COPIES[kind](pixels) if kind else pixels).save(path, quality=quality)


def child(folder: Path, n: int) -> Row:
    """The audit of a folder, in this process."""
    watch = Watch()
    start = time.perf_counter()
    result = audit(folder, None, None, watch)
    findings = list_findings(result)
    audit_text(result, findings)
    json.dumps(stamped("audit", {"findings": findings, "audit": result}), default=str)
    seconds = time.perf_counter() - start
    pairs = {(pair.first, pair.second) for pair in result.copies.pairs}
    planted = dict.fromkeys(COPIES, 0)
    found = dict.fromkeys(COPIES, 0)
    for i in range(n):
        kind = kind_of(i)
        if kind:
            planted[kind] += 1
            found[kind] += (path_of(i - 1), path_of(i)) in pairs
    return Row(
        n=n,
        seconds=round(seconds, 1),
        cpu_seconds=round(time.process_time(), 1),
        exponent=None,
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 0),
        stages=watch.stages,
        planted=planted,
        found=found,
        n_other_pairs=len(pairs) - sum(found.values()),
        n_findings=len(findings),
        verdict=result.shortcut.verdict if result.shortcut else "",
    )


def audited(folder: Path, n: int) -> dict[str, object]:
    """What a process of its own says of the folder."""
    command = [sys.executable, "-m", "benchmarks.audit_folder", str(n), "--child", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, object] = json.loads(done.stdout)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("n", type=int, nargs="+")
    parser.add_argument("--scratch", type=Path, help="where folders are made, and found again")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(asdict(child(asked.child, asked.n[0]))))
        return
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as own:
        for n in asked.n:
            folder = (asked.scratch or Path(own)) / str(n)
            if not (folder / path_of(n - 1)).exists():
                write_folder(folder, n)
            rows.append(audited(folder, n))
            if len(rows) > 1:
                rows[-1]["exponent"] = slope(*rows[-2:])
            record = {"environment": asdict(environment()), "rows": rows}
            text = json.dumps(record, indent=2) + "\n"
            if asked.json:
                asked.json.write_text(text, encoding="utf-8")
    print(text, end="")


def slope(small: dict[str, object], large: dict[str, object]) -> float:
    """The exponent by which processor time grows between two sizes."""
    seconds = float(str(large["cpu_seconds"])) / float(str(small["cpu_seconds"]))
    return round(log(seconds) / log(float(str(large["n"])) / float(str(small["n"]))), 2)


if __name__ == "__main__":
    main()
