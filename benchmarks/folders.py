"""Folders against the bare network, and time and memory over folders of very different sizes.

    python -m benchmarks.folders --model MODEL.onnx [--provider cpu] [--repeats 5] [--n 64] > FILE
    python -m benchmarks.folders --growth 1000 10000 100000 > FILE

The first gives images a second of `infer` on 224 × 224 PNGs and on JPEGs of 5 megapixels, over
those of the bare session at the same batch size with all threads; interleaved, medians. Where
readers and network share the cores, the processor time of decoding bounds that ratio: `ceiling`.
The JPEGs are phantoms with noise, saved at quality 75: 0.11 bytes a pixel, the median of the 239
knee radiographs in JPEG of the osteoporosis data set.

The second runs folders of links to 24 PNGs, each in a fresh process, with a network of two small
convolutions on 64 × 64 pixels (tests/tiny_onnx.py), so that what is measured is the pipeline.
Memory needs Linux.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import log
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from kneeedge.inference.folder import infer_folder
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.summary import FolderSummary
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import phantom
from kneeedge.runtime.session import Session
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress

N_FILES = 24
JPEG_SIZE = (2592, 1944)
NOISE = 4.0
"standard deviation, in grey levels"
QUALITY = 75


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One kind of image."""

    kind: str
    bare_images_per_second: float
    images_per_second: float
    ratio: float
    decoding_ms: float
    "processor time of reading, decoding and resizing one image"
    ceiling: float
    "of the ratio, where cores never idle: the network's share of its and decoding's processor time"
    limited_by: str
    samples: list[float]
    "images a second"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One folder size."""

    n: int
    seconds: float
    cpu_seconds: float
    exponent: float | None
    "slope of log processor time over log n, from the size before"
    listing_mb: float
    "resident memory that the list of files added"
    peak_above_loaded_mb: float
    "peak resident memory, the list's included, above that with the model loaded and one answer"
    limited_by: str


def write_pngs(folder: Path) -> None:
    """N_FILES phantoms of 224 × 224 pixels."""
    folder.mkdir()
    for seed in range(N_FILES):
        Image.fromarray(phantom(seed, seed % 5 / 4, 224)).save(folder / f"{seed:02d}.png")


def write_jpegs(folder: Path) -> None:
    """N_FILES phantoms of 5 megapixels, with noise."""
    folder.mkdir()
    for seed in range(N_FILES):
        small = Image.fromarray(phantom(seed, seed % 5 / 4, 1024))
        large = small.resize(JPEG_SIZE, Image.Resampling.BICUBIC)
        noise = np.random.default_rng(seed).normal(0, NOISE, JPEG_SIZE[::-1])
        pixels = np.clip(np.asarray(large) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed:02d}.jpg", quality=QUALITY)


def linked(files: Path, folder: Path, n: int) -> Path:
    """`folder` with `n` symbolic links to the files, a thousand in each sub-folder."""
    sources = sorted(files.iterdir())
    for i in range(n):
        below = folder / f"{i // 1000:04d}"
        below.mkdir(parents=True, exist_ok=True)
        source = sources[i % len(sources)]
        (below / f"{i:07d}{source.suffix}").symlink_to(source)
    return folder


def run_folder(predictor: Predictor, folder: Path, out: Path) -> FolderSummary:
    return infer_folder(predictor, find_images([folder]), out, Progress(quiet=True)).summary


def ratios(model: Path, provider: str, n: int, repeats: int, scratch: Path) -> list[Ratio]:
    """One for PNGs and one for JPEGs; the first of the repeats warms up and is left out."""
    write_pngs(scratch / "png-files")
    write_jpegs(scratch / "jpg-files")
    folders = {
        kind: linked(scratch / f"{kind}-files", scratch / kind, n) for kind in ("png", "jpg")
    }
    session = Session(model, provider)
    predictor = Predictor(model, provider, n_images=n)
    side = session.spec.pixel_path.size
    size = predictor.batch_size
    batch = np.random.default_rng(0).integers(0, 256, (size, 1, side, side), dtype=np.uint8)
    bare: list[float] = []
    summaries: dict[str, list[FolderSummary]] = defaultdict(list)
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for _ in range(n // size):
            session.run(batch)
        bare.append(n // size * size / (time.perf_counter() - start))
        for kind, folder in folders.items():
            summaries[kind].append(run_folder(predictor, folder, scratch / "out.csv"))
    return [make_ratio(kind, bare[1:], summaries[kind][1:], session.threads) for kind in folders]


def make_ratio(
    kind: str, bare: list[float], summaries: list[FolderSummary], n_threads: int
) -> Ratio:
    """The medians of the repeats; `bare` in images a second."""
    samples = [summary.images_per_second for summary in summaries]
    speed = median(samples)
    bare_speed = median(bare)
    # processor seconds an image
    decoding = median(summary.stages.decoding_cpu / summary.n for summary in summaries)
    network = n_threads / bare_speed
    return Ratio(
        kind=kind,
        bare_images_per_second=round(bare_speed, 2),
        images_per_second=round(speed, 2),
        ratio=round(speed / bare_speed, 3),
        decoding_ms=round(decoding * 1e3, 2),
        ceiling=round(network / (network + decoding), 3),
        limited_by=summaries[-1].limited_by,
        samples=samples,
    )


def growth(sizes: list[int], scratch: Path) -> list[Growth]:
    """A row for each size of a folder, in a process of its own."""
    from tests.tiny_onnx import write_tiny_model

    write_pngs(scratch / "files")
    model = write_tiny_model(scratch / "tiny.onnx")
    rows = []
    for n in sizes:
        folder = linked(scratch / "files", scratch / str(n), n)
        options = ["--model", str(model), "--child", str(folder)]
        command = [sys.executable, "-m", "benchmarks.folders", *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(Growth(n=n, exponent=None, **json.loads(done.stdout)))
    for i, (small, large) in enumerate(pairwise(rows), 1):
        slope = log(large.cpu_seconds / small.cpu_seconds) / log(large.n / small.n)
        rows[i] = replace(large, exponent=round(slope, 3))
    return rows


def child(model: Path, folder: Path) -> dict[str, object]:
    """A folder run in this process; megabytes and seconds."""
    predictor = Predictor(model, "cpu", n_images=1 << 20)
    first = next(folder.rglob("*.png"))
    predictor.predict(first)
    loaded = memory_mb("VmRSS")
    start = time.perf_counter()
    cpu = time.process_time()
    listing = find_images([folder])
    listed = memory_mb("VmRSS")
    result = infer_folder(predictor, listing, folder / "out.csv", Progress(quiet=True))
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "listing_mb": round(listed - loaded, 1),
        "peak_above_loaded_mb": round(memory_mb("VmHWM") - loaded, 1),
        "limited_by": result.summary.limited_by,
    }


def memory_mb(name: str) -> float:
    """Of this process, by the name of a line of /proc: VmRSS is resident now, VmHWM the most."""
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"/proc/self/status has no line {name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--provider", default="cpu", help="of the ratio")
    parser.add_argument("--n", type=int, default=64, help="images a run of the ratio")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--growth", type=int, nargs="+", default=[])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.model, arguments.child)))
        return
    if not arguments.model and not arguments.growth:
        parser.error("give --model, --growth or both")
    record: dict[str, object] = {"environment": asdict(environment())}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = arguments.model
        if model:
            provider = arguments.provider
            rows = ratios(model, provider, arguments.n, arguments.repeats, scratch)
            record |= {"model": model.name, "provider": provider, "ratios": list(map(asdict, rows))}
        if arguments.growth:
            record["growth"] = list(map(asdict, growth(arguments.growth, scratch)))
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
