"""Time of the duplicate search against the number of images: python -m benchmarks.audit_growth [--n
1000 10000]

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
DRAWN, POOL, N = 50_000, 1_000, 3 * N_MARKS


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
    rng = np.random.default_rng(0)
    prints = []
    pixels = knee(rng)
    for i in range(n):
        pixels = changed(pixels, rng) if i % COPY_EVERY == COPY_EVERY - 1 else knee(rng)
        name = f"{i:06d}"
        prints.append(
            Fingerprint(
                name=name,
                sha256=name,
                pixel_sha256=name,
                size=(SIDE, SIDE),
                box=(0, 0, SIDE, SIDE),
                thumbnail=pixels.tobytes(),
            )
        )
    return prints


def knee(rng: np.random.Generator) -> np.ndarray:
    """Two bright blocks with a gap between them, and texture of three sizes."""
    image = np.full((SIDE, SIDE), 60.0)
    gap = rng.integers(56, 72)
    width = rng.integers(28, 40)
    image[:gap, 64 - width : 64 + width] += 90
    image[gap + 5 :, 64 - width : 64 + width] += 90
    for size in (16, 32, 64):
        noise = rng.integers(0, 256, (size, size), dtype=np.uint8)
        image += 0.15 * (
            np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            - 128.0
        )
    return np.clip(image, 0, 255).astype(np.uint8)


def changed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return np.ascontiguousarray(pixels[:, ::-1])
    left, top = rng.integers(0, 20, 2)
    part = Image.fromarray(pixels[top : top + SIDE - 20, left : left + SIDE - 20])
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def pooled(n: int) -> list[Features]:
    """Marks of `n` images, drawn from those of POOL images with noise; copies have less of it."""
    pool = np.concatenate([features(one).descriptors[0] for one in drawn(POOL)]).astype(np.float32)
    rng = np.random.default_rng(1)
    found = []
    marks = pool[:N]
    for i in range(n):
        copy = i % COPY_EVERY == COPY_EVERY - 1
        if not copy:
            marks = noisy(
                pool[rng.integers(0, len(pool), N)], 10, rng
            )  # 127 × 0.08 a value: 22° from the pool's
        turned = np.stack([noisy(marks, 4 if copy else 0, rng) for _ in TURNS]).astype(np.int8)
        found.append(Features(rng.random((N, 2), np.float32) * SIDE, turned))
    return found


def noisy(marks: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    changed = marks + sigma * rng.standard_normal(marks.shape, np.float32)
    return 127 * changed / np.linalg.norm(changed, axis=1, keepdims=True)


def measure(n: int, compare: bool) -> Row:
    prints = drawn(n) if n < DRAWN else []
    start = time.process_time()
    found = [features(one) for one in prints] if prints else pooled(n)
    marked = time.process_time()
    possible = candidates(found, Progress(quiet=True))
    voted = time.process_time()
    pairs = find_pairs(prints, Progress()) if compare and prints else None
    total = round(time.process_time() - voted, 2) if pairs else None
    near = {(one.first, one.second) for one in possible}
    planted = [(i - 1, i) for i in range(COPY_EVERY - 1, n, COPY_EVERY)]
    return Row(
        n=n,
        marks_s=round(marked - start, 2) if prints else None,
        candidates_s=round(voted - marked, 2),
        n_candidates=len(possible),
        planted_found=round(sum(pair in near for pair in planted) / len(planted), 4),
        total_s=total,
        n_pairs=None if pairs is None else len(pairs),
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def exponent(rows: list[Row], of: str) -> float | None:
    """Slope of log time over log n."""
    points = [(row.n, getattr(row, of)) for row in rows if getattr(row, of)]
    if len(points) < 2:
        return None
    n, seconds = np.log(np.array(points)).T
    return round(float(np.polyfit(n, seconds, 1)[0]), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--compare", action="store_true", help="time find_pairs as a whole too")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    rows = []
    print(
        "| n | marks s | candidates s | candidates | planted among them | in all s | pairs | peak MB |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for n in options.n:
        rows.append(measure(n, options.compare))
        print(
            "| "
            + " | ".join("" if cell is None else f"{cell:,}" for cell in asdict(rows[-1]).values())
            + " |",
            flush=True,
        )
    slopes = {of: exponent(rows, of) for of in ("marks_s", "candidates_s", "total_s")}
    print(f"growth exponents: {slopes}")
    result = {"rows": [asdict(row) for row in rows], "exponents": slopes}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
