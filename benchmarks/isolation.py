"""What it costs to decode in processes that may crash (`infer --isolate`) rather than in threads.

    python -m benchmarks.isolation --pngs DATA/test [--model MODEL.onnx] [--repeats 5] > FILE

Images a second of reading alone, and of `infer` with the model, over the PNGs of a folder and over
JPEGs of 5 megapixels (as in benchmarks/folders.py); threads and processes interleaved, medians. The
first file, which waits for the processes to start, is timed on its own.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.folders import linked, write_jpegs
from kneeedge.inference.folder import infer_folder
from kneeedge.inference.predictor import Predictor
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.listing import FoundImage, find_images
from kneeedge.pixels.prefetch import StageClock, open_reader, read_batches
from kneeedge.pixels.reader import ReadOptions
from kneeedge.system.machine import available_cpus, environment
from kneeedge.system.progress import Progress

BATCH = 8
READERS = {
    "threads": ReadOptions(PixelPath()),
    "processes": ReadOptions(PixelPath(), isolated=True),
}
"where files are decoded"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of image, and one kind of work on it."""

    kind: str
    work: str
    "reading, or infer"
    n: int
    threads_per_second: float
    processes_per_second: float
    ratio: float
    "processes over threads"
    samples: dict[str, list[float]]


def read_all(images: Sequence[FoundImage], options: ReadOptions) -> float:
    """Images a second, from the first batch on."""
    n_readers = available_cpus()
    batches = read_batches(images, open_reader(options), BATCH, n_readers, StageClock())
    next(batches)
    start = time.perf_counter()
    return sum(map(len, batches)) / (time.perf_counter() - start)


def first_file(image: FoundImage, options: ReadOptions) -> float:
    """Seconds from nothing to the pixels of one file."""
    start = time.perf_counter()
    reader = open_reader(options)
    reader.read(image.path)
    seconds = time.perf_counter() - start
    reader.close()
    return seconds


def infer_all(folder: Path, model: Path, options: ReadOptions, out: Path) -> float:
    """Images a second of the whole run."""
    listing = find_images([folder])
    predictor = Predictor(model, "cpu", n_images=len(listing.images))
    predictor.read_options = replace(options, pixel_path=predictor.spec.pixel_path)
    return infer_folder(predictor, listing, out, Progress(quiet=True)).summary.images_per_second


def measure(folders: dict[str, Path], model: Path | None, repeats: int, scratch: Path) -> list[Row]:
    """A row for each kind of image and work; a first repeat warms up and is left out."""
    samples: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i in range(repeats + 1):
        for kind, folder in folders.items():
            images = find_images([folder]).images
            for place, options in READERS.items():
                speeds = {"reading": read_all(images, options)}
                if model:
                    speeds["infer"] = infer_all(folder, model, options, scratch / "out.csv")
                for work, speed in speeds.items():
                    if i > 0:
                        samples[kind, work][place].append(round(speed, 2))
    rows = []
    for (kind, work), by_place in samples.items():
        n = len(find_images([folders[kind]]).images)
        rows.append(make_row(kind, work, n, by_place))
    return rows


def make_row(kind: str, work: str, n: int, samples: dict[str, list[float]]) -> Row:
    """The medians in images a second, and their ratio."""
    threads = median(samples["threads"])
    processes = median(samples["processes"])
    return Row(
        kind=kind,
        work=work,
        n=n,
        threads_per_second=threads,
        processes_per_second=processes,
        ratio=round(processes / threads, 3),
        samples=dict(samples),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pngs", type=Path, required=True, help="folder of images")
    parser.add_argument("--n-pngs", type=int, default=400)
    parser.add_argument("--n-jpegs", type=int, default=48)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_jpegs(scratch / "files")
        pngs = scratch / "png"
        pngs.mkdir()
        for i, image in enumerate(find_images([arguments.pngs]).images[: arguments.n_pngs]):
            (pngs / f"{i:05d}.png").symlink_to(image.path.absolute())
        jpegs = linked(scratch / "files", scratch / "jpg", arguments.n_jpegs)
        folders = {"png": pngs, "jpeg 5 megapixels": jpegs}
        rows = measure(folders, arguments.model, arguments.repeats, scratch)
        image = find_images([pngs]).images[0]
        first = {}
        for place, options in READERS.items():
            first[place] = round(median(first_file(image, options) for _ in range(5)), 4)
    record = {
        "environment": asdict(environment()),
        "first_file_seconds": first,
        "rows": list(map(asdict, rows)),
    }
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
