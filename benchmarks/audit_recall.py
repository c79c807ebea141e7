"""Recall of the duplicate search by kind of copy: python -m benchmarks.audit_recall [--data FOLDER]
[--n 200]

Copies of each kind are planted one kind at a time among the other images. A copy is found if the
search pairs it with its original; a pair of a copy with another original is a false alarm, unless
the two originals are a pair themselves. Pairs among the originals, which in a real folder may be
true copies, are counted apart; pairs among the copies are not counted. `phash` is ImageHash's pHash
over the image and its mirror image with Hamming distance at most 10, as a yardstick.
"""

import argparse
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kneeedge.audit.duplicates import find_pairs
from kneeedge.audit.fingerprint import Fingerprint, fingerprint
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.picture import read_file
from kneeedge.system.progress import Progress

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of copy."""

    kind: str
    n: int
    found: int
    phash: int
    "found by the yardstick"
    false_pairs: int
    "pairs of a planted copy with an image that is neither its original nor a copy of that"
    weakest: float
    "least similarity of those found"


def encoded(form: str, quality: int) -> Change:
    def change(grey: Pixels, _: np.random.Generator) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, form, quality=quality)
        return np.asarray(Image.open(buffer).convert("L"))

    return change


def resized(x: float, y: float) -> Change:
    def change(grey: Pixels, _: np.random.Generator) -> Pixels:
        height, width = grey.shape
        return np.asarray(
            Image.fromarray(grey).resize(
                (round(width * x), round(height * y)), Image.Resampling.BICUBIC
            )
        )

    return change


def toned(gamma: float, contrast: float, brightness: float) -> Change:
    def change(grey: Pixels, _: np.random.Generator) -> Pixels:
        levels = (np.arange(256) / 255) ** gamma * 255
        curve = (levels - 128) * contrast + 128 + brightness
        return np.clip(curve, 0, 255).round().astype(np.uint8)[grey]

    return change


def local_contrast(grey: Pixels, _: np.random.Generator) -> Pixels:
    """Bring local mean and deviation half-way to 128 and 50, as CLAHE does."""
    image = grey.astype(np.float32)
    sigma = min(grey.shape) / 10
    mean = ndimage.gaussian_filter(image, sigma)
    deviation = np.sqrt(ndimage.gaussian_filter((image - mean) ** 2, sigma)) + 4
    return np.clip(0.5 * (mean + 128) + 50**0.6 * (image - mean) / deviation**0.6, 0, 255).astype(
        np.uint8
    )


def mirrored(grey: Pixels, _: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(grey[:, ::-1])


def rotated(degrees: float) -> Change:
    def change(grey: Pixels, rng: np.random.Generator) -> Pixels:
        angle = degrees * rng.choice((-1, 1))
        return np.asarray(Image.fromarray(grey).rotate(angle, Image.Resampling.BICUBIC))

    return change


def cropped(share: float) -> Change:
    """Keep `share` of each side, anywhere."""

    def change(grey: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = (round(share * side) for side in grey.shape)
        top, left = (
            int(rng.integers(0, a - b + 1))
            for a, b in zip(grey.shape, (height, width), strict=True)
        )
        return np.ascontiguousarray(grey[top : top + height, left : left + width])

    return change


def both(one: Change, two: Change) -> Change:
    return lambda grey, rng: two(one(grey, rng), rng)


KINDS: dict[str, Change] = {
    "same pixels": lambda grey, _: grey,
    "JPEG 95": encoded("JPEG", 95),
    "JPEG 60": encoded("JPEG", 60),
    "JPEG 30": encoded("JPEG", 30),
    "WebP 50": encoded("WEBP", 50),
    "resized 0.25": resized(0.25, 0.25),
    "resized 0.5": resized(0.5, 0.5),
    "resized 2": resized(2, 2),
    "aspect 1 × 0.7": resized(1, 0.7),
    "aspect 0.5 × 1": resized(0.5, 1),
    "brighter 40": toned(1, 1, 40),
    "darker 40": toned(1, 1, -40),
    "contrast 0.5": toned(1, 0.5, 0),
    "contrast 1.5": toned(1, 1.5, 0),
    "gamma 0.5": toned(0.5, 1, 0),
    "gamma 2": toned(2, 1, 0),
    "local contrast": local_contrast,
    "mirrored": mirrored,
    "rotated 3°": rotated(3),
    "rotated 6°": rotated(6),
    "rotated 10°": rotated(10),
    "cropped 90 %": cropped(0.9),
    "cropped 80 %": cropped(0.8),
    "cropped 75 %": cropped(0.75),
    "mirrored, JPEG 30": both(mirrored, encoded("JPEG", 30)),
    "mirrored, resized 0.25": both(mirrored, resized(0.25, 0.25)),
    "mirrored, rotated 10°": both(mirrored, rotated(10)),
    "mirrored, cropped 80 %": both(mirrored, cropped(0.8)),
    "resized 0.5, JPEG 30": both(resized(0.5, 0.5), encoded("JPEG", 30)),
    "gamma 2, JPEG 50": both(toned(2, 1, 0), encoded("JPEG", 50)),
    "rotated 6°, gamma 0.5": both(rotated(6), toned(0.5, 1, 0)),
    "rotated 6°, cropped 80 %": both(rotated(6), cropped(0.8)),
    "aspect 0.7 × 1, cropped 85 %": both(resized(0.7, 1), cropped(0.85)),
    "cropped 75 %, contrast 0.5": both(cropped(0.75), toned(1, 0.5, 0)),
    "cropped 80 %, local contrast": both(cropped(0.8), local_contrast),
}


def originals(folder: Path | None, n: int) -> dict[str, Pixels]:
    """Read `n` images of a folder, evenly spread over it, or draw `n` phantoms."""
    if folder is None:
        return {f"{i:05d}.png": phantom(i, (i % 7) / 6, 256) for i in range(n)}
    images = find_images([folder]).images
    picked = images[:: max(1, len(images) // n)][:n]
    return {image.name: read_file(image.path).grey for image in picked}


def planted(images: dict[str, Pixels], turn: int) -> dict[str, tuple[str, Pixels]]:
    """One copy of each image: its name and pixels by the original's name; kinds go round with the
    images.
    """
    kinds = list(KINDS)
    rng = np.random.default_rng(turn)
    copies = {}
    for i, (name, grey) in enumerate(images.items()):
        kind = kinds[(i + turn) % len(kinds)]
        copies[name] = (kind, KINDS[kind](grey, rng))
    return copies


def prints_of(images: dict[str, Pixels], prefix: str) -> list[Fingerprint]:
    return [fingerprint(prefix + name, prefix + name, grey) for name, grey in images.items()]


def by_phash(images: dict[str, Pixels], copies: dict[str, Pixels]) -> tuple[list[bool], int]:
    """Whether pHash pairs each copy with its original, and with how many others in all."""
    here = np.stack([_phash(grey) for grey in images.values()])
    there = [np.stack([_phash(grey[:, ::step]) for grey in copies.values()]) for step in (1, -1)]
    distance = np.minimum(*((here[:, None] != one[None]).sum(axis=2) for one in there))
    hits = np.diagonal(distance) <= 10
    return hits.tolist(), int((distance <= 10).sum() - hits.sum())


def _phash(grey: Pixels) -> NDArray[np.bool_]:
    return imagehash.phash(Image.fromarray(np.ascontiguousarray(grey))).hash.ravel()


def measure(images: dict[str, Pixels], turns: int) -> dict[str, object]:
    clean = prints_of(images, "original/")
    pairs_among = find_pairs(clean, Progress())
    twins = {
        (one, two)
        for pair in pairs_among
        for one, two in permutations((pair.first[9:], pair.second[9:]))
    }
    tally = {kind: [0, 0, 0, 0] for kind in KINDS}
    weakest: dict[str, float] = {}
    phash_false = 0
    for turn in range(turns):
        copies = planted(images, turn)
        pixels = {name: grey for name, (_, grey) in copies.items()}
        found = find_pairs(clean + prints_of(pixels, "copy/"), Progress())
        of_copy = [
            pair
            for pair in found
            if pair.first.startswith("copy/") and pair.second.startswith("original/")
        ]
        hits = {pair.first[5:]: pair for pair in of_copy if pair.first[5:] == pair.second[9:]}
        marked, false = by_phash(images, pixels)
        phash_false += false
        for (name, (kind, _)), mark in zip(copies.items(), marked, strict=True):
            row = tally[kind]
            row[0] += 1
            row[1] += name in hits
            row[2] += mark
            if name in hits:
                weakest[kind] = min(weakest.get(kind, 1.0), hits[name].similarity)
        for pair in of_copy:
            own = pair.first[5:]
            other = pair.second[9:]
            tally[copies[own][0]][3] += own != other and (own, other) not in twins
    rows = [
        Row(
            kind=kind,
            n=n,
            found=found,
            phash=phash,
            false_pairs=false_pairs,
            weakest=weakest.get(kind, 0.0),
        )
        for kind, (n, found, phash, false_pairs) in tally.items()
    ]
    return {
        "n_images": len(images),
        "pairs_among_originals": [asdict(pair) for pair in pairs_among],
        "phash_false_pairs": phash_false,
        "rows": [asdict(row) for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder of images; phantoms are drawn without one"
    )
    parser.add_argument(
        "--n", type=int, default=200, help="images, each of which gets one copy a turn"
    )
    parser.add_argument(
        "--turns",
        type=int,
        default=1,
        help="searches; kinds go round so that each meets new images",
    )
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    start = time.perf_counter()
    result = measure(originals(options.data, options.n), options.turns)
    result["seconds"] = round(time.perf_counter() - start, 1)
    print("| copy | n | found | pHash | weakest | false pairs |\n|---|--:|--:|--:|--:|--:|")
    for row in result["rows"]:
        print("| {kind} | {n} | {found} | {phash} | {weakest:.3f} | {false_pairs} |".format(**row))
    print(
        f"{len(result['pairs_among_originals'])} pairs among {result['n_images']} originals;",
        end=" ",
    )
    print(f"pHash gives {result['phash_false_pairs']} false pairs; {result['seconds']} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
