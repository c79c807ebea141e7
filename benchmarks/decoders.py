"""Whether another JPEG decoder reads 5-megapixel radiographs sooner, without another pixel.

    python -m benchmarks.decoders [--files 12] [--rounds 7] [--folders RESULT] [--json FILE]

Each decoder that is installed gives grey pixels at the scale that kneeedge reads (a quarter of each
side), in turn, file by file; medians of processor time, all threads. `same` says whether all its
pixels are kneeedge's. The files are those of `benchmarks.folders`, whose result (`--folders`) says
what network and reading take where they share the cores: `ratio` is what a run would reach of the
network's speed, network / (network + reading), if reading took as much less as it does here.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.folders import write_jpegs
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.jpeg import read_layout
from kneeedge.pixels.picture import MAX_PIXELS, decode_picture
from kneeedge.pixels.pixel_path import input_of_picture
from kneeedge.system.machine import environment

Grey = NDArray[np.uint8]
Decode = Callable[[bytes], Grey]

SIZE = 224
SCALE = 4
"by which both sides are reduced: the most that leaves them 2 × SIZE"
FOLDERS = Path(__file__).parent / "results" / "2026-11-25-folders-knee-kl-int8-cpu.json"
N_CORES = 2
"of the machine of FOLDERS"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One decoder."""

    name: str
    version: str
    ms: float
    "processor time of a file"
    times_ours: float
    "median of the ratios within a turn"
    same: bool
    "all pixels of all files are those that kneeedge reads"
    differing: float
    "share of the pixels that are not"
    damaged_answered: int
    "of the files of `damaged`, those that give pixels all the same"
    ratio: float
    "of the network's speed, at best"


def ours(data: bytes) -> Grey:
    """As `infer` reads it, every block asked for."""
    return decode_picture(data, Path("x.jpg"), SIZE, 0, MAX_PIXELS).grey


def pillow(data: bytes) -> Grey:
    """Without a look at what is missing."""
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(data))
    image.draft("L", (2 * SIZE, 2 * SIZE))
    return np.asarray(image)


def simplejpeg(data: bytes) -> Grey:
    import simplejpeg

    decoded: Grey = simplejpeg.decode_jpeg(
        data, colorspace="GRAY", min_height=2 * SIZE, min_width=2 * SIZE
    )
    return decoded[:, :, 0]


def turbojpeg() -> Decode:
    """PyTurboJPEG, by the library that the system has."""
    from turbojpeg import TJPF_GRAY, TurboJPEG

    decoder = TurboJPEG()
    return lambda data: decoder.decode(data, TJPF_GRAY, scaling_factor=(1, SCALE))[:, :, 0]


def opencv(data: bytes) -> Grey:
    import cv2

    decoded: Grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    return decoded


def pyvips(data: bytes) -> Grey:
    import pyvips

    decoded: Grey = pyvips.Image.jpegload_buffer(data, shrink=SCALE).numpy()
    return decoded


def imagecodecs(data: bytes) -> Grey:
    """It has no reduced scale: the whole picture."""
    import imagecodecs

    decoded: Grey = imagecodecs.jpeg8_decode(data)
    return decoded


DECODERS: dict[str, tuple[str, Callable[[], Decode]]] = {
    "kneeedge": ("pillow", lambda: ours),
    "pillow": ("pillow", lambda: pillow),
    "simplejpeg": ("simplejpeg", lambda: simplejpeg),
    "PyTurboJPEG": ("PyTurboJPEG", turbojpeg),
    "opencv": ("opencv-python-headless", lambda: opencv),
    "pyvips": ("pyvips-binary", lambda: pyvips),
    "imagecodecs": ("imagecodecs", lambda: imagecodecs),
}
"name: its distribution, and what makes it"


def installed() -> tuple[dict[str, Decode], dict[str, str]]:
    """The decoders that work here, and why others do not."""
    found = {}
    absent = {}
    for name, (distribution, make) in DECODERS.items():
        try:
            version(distribution)
            found[name] = make()
        except (PackageNotFoundError, ImportError, RuntimeError) as error:
            absent[name] = str(error)
    return found, absent


def seconds_of(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measured(
    decoders: dict[str, Decode], files: list[bytes], rounds: int
) -> dict[str, list[float]]:
    """Milliseconds a file in each round; the first round warms up."""
    rows: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds + 1):
        totals = dict.fromkeys(decoders, 0.0)
        for data in files:
            for name, decode in decoders.items():
                totals[name] += seconds_of(lambda d=decode, b=data: d(b))  # type: ignore[misc]
        for name, total in totals.items():
            rows[name].append(total / len(files) * 1e3)
    return {name: times[1:] for name, times in rows.items()}


def parts_of(files: list[bytes], rounds: int) -> dict[str, float]:
    """Milliseconds of what kneeedge does beside decoding."""
    pixel_path = PixelPath(SIZE)
    pictures = [decode_picture(data, Path("x.jpg"), SIZE, 0, MAX_PIXELS) for data in files]
    parts = {
        "finding the markers": lambda: [read_layout(data) for data in files],
        "resizing": lambda: [input_of_picture(picture, pixel_path) for picture in pictures],
    }
    return {
        name: round(median(seconds_of(work) for _ in range(rounds)) / len(files) * 1e3, 2)
        for name, work in parts.items()
    }


def damaged(data: bytes) -> tuple[bytes, ...]:
    """The file with blocks missing: cut off, cut off and closed, without 2 KB of its middle."""
    cut = data[: len(data) * 7 // 10]
    middle = len(data) // 2
    return cut, cut + b"\xff\xd9", data[:middle] + data[middle + 2048 :]


def is_answered(decode: Decode, data: bytes) -> bool:
    try:
        decode(data)
    except (OSError, ValueError, RuntimeError):
        return False
    return True


def in_folder(result: Path) -> tuple[float, float]:
    """Milliseconds of a core that network and reading take an image, by `benchmarks.folders`."""
    ratios = json.loads(result.read_text(encoding="utf-8"))["ratios"]
    (jpegs,) = [ratio for ratio in ratios if ratio["kind"] == "jpg"]
    return N_CORES / jpegs["bare_images_per_second"] * 1e3, jpegs["decoding_ms"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folders", type=Path, default=FOLDERS)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "jpegs"
        write_jpegs(folder)
        files = [path.read_bytes() for path in sorted(folder.iterdir())[: asked.files]]
    decoders, absent = installed()
    times = measured(decoders, files, asked.rounds)
    parts = parts_of(files, asked.rounds)
    network_ms, reading_ms = in_folder(asked.folders)
    ours_ms = median(times["kneeedge"]) + parts["resizing"]
    rows = []
    for name, decode in decoders.items():
        pairs = [(ours(data), decode(data)) for data in files]
        shapes = all(a.shape == b.shape for a, b in pairs)
        differing = float(np.mean([(a != b).mean() for a, b in pairs])) if shapes else 1.0
        ms = median(times[name])
        ratios = [a / b for a, b in zip(times[name], times["kneeedge"], strict=True)]
        beside = parts["resizing"] + (0.0 if name == "kneeedge" else parts["finding the markers"])
        reading = reading_ms * (ms + beside) / ours_ms
        rows.append(
            Row(
                name=name,
                version=version(DECODERS[name][0]),
                ms=round(ms, 2),
                times_ours=round(median(ratios), 2),
                same=differing == 0.0,
                differing=round(differing, 4),
                damaged_answered=sum(is_answered(decode, bad) for bad in damaged(files[0])),
                ratio=round(network_ms / (network_ms + reading), 3),
            )
        )
    record = {
        "environment": asdict(environment()),
        "n_files": len(files),
        "mean_kb": round(sum(map(len, files)) / len(files) / 1e3, 1),
        "folders": {"network_ms": round(network_ms, 1), "reading_ms": reading_ms},
        "parts_ms": parts,
        "n_damaged": len(damaged(files[0])),
        "rows": list(map(asdict, rows)),
        "absent": absent,
    }
    text = json.dumps(record, indent=2) + "\n"
    if asked.json:
        asked.json.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
