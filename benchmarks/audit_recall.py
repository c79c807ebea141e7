"""Recall of the duplicate search by kind of copy.

    python -m benchmarks.audit_recall [--data FOLDER] [--n 200] [--turns 1] [--json FILE]

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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kneeedge.audit.duplicates import find_pairs
from kneeedge.audit.fingerprint import Fingerprint, fingerprint
from kneeedge.data.groups import Pair
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.picture import read_file
from kneeedge.system.progress import Progress

ORIGINAL = "original/"
COPY = "copy/"
"before the names of the images in a search"
PHASH_LIMIT = 10
"Hamming distance of pHash up to which two images are a pair"
Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(kw_only=True)
class Row:
    """One kind of copy, counted up."""

    kind: str
    n: int = 0
    found: int = 0
    phash: int = 0
    "found by the yardstick"
    false_pairs: int = 0
    "pairs of a planted copy with an image that is neither its original nor a copy of that"
    weakest: float = 0.0
    "least similarity of those found"


def encoded(form: str, quality: int) -> Change:
    """Written by Pillow in a lossy format and read again."""

    def change(grey: Pixels, _: np.random.Generator) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, form, quality=quality)
        return np.asarray(Image.open(buffer).convert("L"))

    return change


def resized(x: float, y: float) -> Change:
    """Width and height by these factors."""

    def change(grey: Pixels, _: np.random.Generator) -> Pixels:
        height, width = grey.shape
        size = (round(width * x), round(height * y))
        return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))

    return change


def toned(gamma: float, contrast: float, brightness: float) -> Change:
    """Other tones: a power of the grey, then its contrast around 128, then so many levels more."""

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
    contrast = 50**0.6 * (image - mean) / deviation**0.6
    return np.clip(0.5 * (mean + 128) + contrast, 0, 255).astype(np.uint8)


def mirrored(grey: Pixels, _: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(grey[:, ::-1])


def rotated(degrees: float) -> Change:
    """Either way round."""

    def change(grey: Pixels, rng: np.random.Generator) -> Pixels:
        angle = degrees * rng.choice((-1, 1))
        return np.asarray(Image.fromarray(grey).rotate(angle, Image.Resampling.BICUBIC))

    return change


def cropped(share: float) -> Change:
    """Keep `share` of each side, anywhere."""

    def change(grey: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = (round(share * side) for side in grey.shape)
        top = int(rng.integers(0, grey.shape[0] - height + 1))
        left = int(rng.integers(0, grey.shape[1] - width + 1))
        return np.ascontiguousarray(grey[top : top + height, left : left + width])

    return change


def both(first: Change, second: Change) -> Change:
    return lambda grey, rng: second(first(grey, rng), rng)


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
    """A copy of each image, its kind and pixels by the original's name; kinds go round."""
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
    hashes = np.stack([_phash(grey) for grey in images.values()])
    straight = np.stack([_phash(grey) for grey in copies.values()])
    mirror = np.stack([_phash(grey[:, ::-1]) for grey in copies.values()])
    distance = np.minimum(_distances(hashes, straight), _distances(hashes, mirror))
    hits = np.diagonal(distance) <= PHASH_LIMIT
    n_others = int((distance <= PHASH_LIMIT).sum() - hits.sum())
    return hits.tolist(), n_others


def _phash(grey: Pixels) -> NDArray[np.bool_]:
    return imagehash.phash(Image.fromarray(np.ascontiguousarray(grey))).hash.ravel()


def _distances(hashes: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Hamming distances (N, M) of (N, 64) and (M, 64) bits."""
    return (hashes[:, None] != others[None]).sum(axis=2)


def measure(images: dict[str, Pixels], turns: int) -> dict[str, object]:
    """The result as it is written."""
    clean = prints_of(images, ORIGINAL)
    pairs_among = find_pairs(clean, Progress())
    twins: set[tuple[str, str]] = set()
    for pair in pairs_among:
        first = pair.first.removeprefix(ORIGINAL)
        second = pair.second.removeprefix(ORIGINAL)
        twins |= {(first, second), (second, first)}
    rows = {kind: Row(kind=kind) for kind in KINDS}
    phash_false = 0
    for turn in range(turns):
        copies = planted(images, turn)
        pixels = {name: grey for name, (_, grey) in copies.items()}
        pairs = find_pairs(clean + prints_of(pixels, COPY), Progress())
        count_pairs(rows, copies, pairs, twins)
        hits, n_others = by_phash(images, pixels)
        phash_false += n_others
        for (kind, _), is_hit in zip(copies.values(), hits, strict=True):
            rows[kind].n += 1
            rows[kind].phash += is_hit
    return {
        "n_images": len(images),
        "pairs_among_originals": [asdict(pair) for pair in pairs_among],
        "phash_false_pairs": phash_false,
        "rows": [asdict(row) for row in rows.values()],
    }


def count_pairs(
    rows: dict[str, Row],
    copies: dict[str, tuple[str, Pixels]],
    pairs: Sequence[Pair],
    twins: set[tuple[str, str]],
) -> None:
    """Add what the search paired to the rows; `twins` are originals that are pairs themselves."""
    for pair in pairs:
        if not (pair.first.startswith(COPY) and pair.second.startswith(ORIGINAL)):
            continue
        name = pair.first.removeprefix(COPY)
        other = pair.second.removeprefix(ORIGINAL)
        kind, _ = copies[name]
        row = rows[kind]
        if name == other:
            row.weakest = min(row.weakest, pair.similarity) if row.found else pair.similarity
            row.found += 1
        elif (name, other) not in twins:
            row.false_pairs += 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder of images; phantoms are drawn without one")
    add("--n", type=int, default=200, help="images, each of which gets one copy a turn")
    turns = "searches; kinds go round so that each meets new images"
    add("--turns", type=int, default=1, help=turns)
    add("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    start = time.perf_counter()
    result = measure(originals(options.data, options.n), options.turns)
    result["seconds"] = round(time.perf_counter() - start, 1)
    print("| copy | n | found | pHash | weakest | false pairs |\n|---|--:|--:|--:|--:|--:|")
    for row in result["rows"]:
        print("| {kind} | {n} | {found} | {phash} | {weakest:.3f} | {false_pairs} |".format(**row))
    among = f"{len(result['pairs_among_originals'])} pairs among {result['n_images']} originals"
    phash = f"pHash gives {result['phash_false_pairs']} false pairs"
    print(f"{among}; {phash}; {result['seconds']} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
