"""Time of the duplicate search against the number of images.

    python -m benchmarks.audit_growth [--n 1000 10000] [--compare] [--json FILE]

Images are knee-like bands with random texture; one in twenty is a mirrored or a cropped copy of the
one before it. From DRAWN images on, marks are not found in images but drawn from those of POOL
images, with noise. Each stage is timed in processor seconds, since the machine may be shared; the
exponent is the slope of log time over log n. `--compare` adds the comparison of candidates on
pixels: an image has a bounded number of candidates.
"""

import argparse
import json
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kneeedge.audit.candidates import candidates
from kneeedge.audit.duplicates import find_pairs
from kneeedge.audit.features import N_MARKS, TURNS, Features, features
from kneeedge.audit.fingerprint import SIDE, Fingerprint
from kneeedge.system.progress import Progress

COPY_EVERY = 20
"one image in so many is a copy"
DRAWN = 50_000
"images, from which on their marks are drawn"
POOL = 1_000
"images whose marks are drawn from"
N = 3 * N_MARKS
"marks of an image"
HEADS = (
    "n", "marks s", "candidates s", "candidates", "planted among them", "in all s", "pairs",
    "peak MB",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """The time of one size; CPU seconds of all threads."""

    n: int
    marks_s: float | None
    candidates_s: float
    n_candidates: int
    planted_found: float
    "share of the planted copies among the candidates"
    total_s: float | None
    "of find_pairs, marks and candidates included"
    n_pairs: int | None
    peak_memory_mb: float


def drawn(n: int) -> list[Fingerprint]:
    """The fingerprints of `n` drawn images, copies among them."""
    rng = np.random.default_rng(0)
    prints = []
    pixels = knee(rng)
    for i in range(n):
        pixels = changed(pixels, rng) if is_copy(i) else knee(rng)
        name = f"{i:06d}"
        image = Fingerprint(
            name=name,
            sha256=name,
            pixel_sha256=name,
            size=(SIDE, SIDE),
            box=(0, 0, SIDE, SIDE),
            thumbnail=pixels.tobytes(),
        )
        prints.append(image)
    return prints


def is_copy(i: int) -> bool:
    """Whether image `i` is a copy of the one before it."""
    return i % COPY_EVERY == COPY_EVERY - 1


def knee(rng: np.random.Generator) -> np.ndarray:
    """Two bright blocks with a gap between them, and texture of three sizes."""
    image = np.full((SIDE, SIDE), 60.0)
    gap = rng.integers(56, 72)
    width = rng.integers(28, 40)
    image[:gap, 64 - width : 64 + width] += 90
    image[gap + 5 :, 64 - width : 64 + width] += 90
    for size in (16, 32, 64):
        noise = Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8))
        texture = noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image += 0.15 * (np.asarray(texture) - 128.0)
    return np.clip(image, 0, 255).astype(np.uint8)


def changed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mirror image, or a crop in its old size."""
    if rng.random() < 0.5:
        return np.ascontiguousarray(pixels[:, ::-1])
    left, top = rng.integers(0, 20, 2)
    part = Image.fromarray(pixels[top : top + SIDE - 20, left : left + SIDE - 20])
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def pooled(n: int) -> list[Features]:
    """Marks of `n` images, drawn from those of POOL images with noise; copies have less of it."""
    pool = np.concatenate([features(image).descriptors[0] for image in drawn(POOL)])
    pool = pool.astype(np.float32)
    rng = np.random.default_rng(1)
    images = []
    marks = pool[:N]
    for i in range(n):
        if not is_copy(i):
            # 127 × 0.08 a value: 22° from the pool's
            marks = noisy(pool[rng.integers(0, len(pool), N)], 10, rng)
        sigma = 4 if is_copy(i) else 0
        turned = np.stack([noisy(marks, sigma, rng) for _ in TURNS]).astype(np.int8)
        images.append(Features(rng.random((N, 2), np.float32) * SIDE, turned))
    return images


def noisy(marks: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """The marks (N, D) with noise, each of length 127 as those of the search."""
    moved = marks + sigma * rng.standard_normal(marks.shape, np.float32)
    return 127 * moved / np.linalg.norm(moved, axis=1, keepdims=True)


def measure(n: int, compare: bool) -> Row:
    """The processor time of each stage for `n` images."""
    prints = drawn(n) if n < DRAWN else []
    start = time.process_time()
    images = [features(image) for image in prints] if prints else pooled(n)
    marked = time.process_time()
    possible = candidates(images, Progress(quiet=True))
    voted = time.process_time()
    pairs = find_pairs(prints, Progress()) if compare and prints else None
    total = round(time.process_time() - voted, 2) if pairs else None
    near = {(candidate.first, candidate.second) for candidate in possible}
    planted = [(i - 1, i) for i in range(n) if is_copy(i)]
    n_found = sum(pair in near for pair in planted)
    return Row(
        n=n,
        marks_s=round(marked - start, 2) if prints else None,
        candidates_s=round(voted - marked, 2),
        n_candidates=len(possible),
        planted_found=round(n_found / len(planted), 4),
        total_s=total,
        n_pairs=None if pairs is None else len(pairs),
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def exponent(rows: list[Row], stage: str) -> float | None:
    """Slope of the log of a stage's time over log n; None with fewer than two sizes."""
    timed = [(row.n, getattr(row, stage)) for row in rows]
    points = [(n, seconds) for n, seconds in timed if seconds]
    if len(points) < 2:
        return None
    log_n, log_seconds = np.log(np.array(points)).T
    slope, _ = np.polyfit(log_n, log_seconds, 1)
    return round(float(slope), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--compare", action="store_true", help="time find_pairs as a whole too")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    rows = []
    print(f"| {' | '.join(HEADS)} |")
    print("|" + "--:|" * len(HEADS))
    for n in options.n:
        row = measure(n, options.compare)
        rows.append(row)
        cells = ["" if cell is None else f"{cell:,}" for cell in asdict(row).values()]
        print(f"| {' | '.join(cells)} |", flush=True)
    slopes = {stage: exponent(rows, stage) for stage in ("marks_s", "candidates_s", "total_s")}
    print(f"growth exponents: {slopes}")
    result = {"rows": [asdict(row) for row in rows], "exponents": slopes}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
