"""Images a second through Triton, from 1 client to several, beside `infer` on the same machine.

    python -m benchmarks.triton MODEL.onnx [--seconds 8] [--rounds 3] > FILE

The server is the one that `.ci/triton FOLDER` unpacks; KNEEEDGE_TRITON names the folder. Each way
to share the cores is a server of its own: one copy of the model with all of them, and a copy a
core. In each round `infer` (decoders in processes, as by default) has its turn before each server.
The clients, which read the same PNGs, run on the machine that answers; the medians of the rounds
are reported.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from kneeedge.inference.folder import infer_folder
from kneeedge.inference.predictor import Predictor, say_nothing
from kneeedge.model.file import open_model
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import phantom
from kneeedge.system.machine import available_cpus, environment
from kneeedge.system.progress import Progress
from kneeedge.triton.config import ServerOptions
from kneeedge.triton.repository import write_repository
from tests.triton.server import Triton, need_triton, run_client, serving

CLIENTS = (1, 2, 4, 8)
N_IMAGES = 64
SIDE = 1024
"pixels, of the phantoms that are asked for"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to run the model, and one number of clients."""

    instances: int
    threads: int
    "of each instance"
    protocol: str
    clients: int
    images_per_second: float
    of_infer: float
    "images a second over those of `infer`"
    p50_ms: float
    "of one answer, from the client's call on"
    p95_ms: float
    samples: list[float]
    "images a second of each round"


def write_images(folder: Path) -> list[Path]:
    folder.mkdir()
    for i in range(N_IMAGES):
        Image.fromarray(phantom(i, i / N_IMAGES, SIDE)).save(folder / f"{i:03d}.png")
    return sorted(folder.iterdir())


def infer_speed(model: Path, folder: Path, out: Path) -> float:
    listing = find_images([folder])
    predictor = Predictor(model, "cpu", n_images=len(listing.images))
    predictor.read_options = replace(predictor.read_options, isolated=True)
    return infer_folder(predictor, listing, out, Progress(quiet=True)).summary.images_per_second


def served_speeds(
    triton: Triton, repository: Path, files: list[Path], protocol: str, seconds: float
) -> dict[int, tuple[float, list[float]]]:
    """By the number of clients: images a second, and the seconds of each answer."""
    speeds = {}
    with serving(triton, repository) as addresses:
        address = getattr(addresses, protocol)
        for clients in CLIENTS:
            words = ["load", protocol, address, "kneeedge", str(clients)]
            for length in (1.0, seconds):  # the first warms up
                told = json.loads(run_client(triton, [*words, str(length), *map(str, files)]))
            latencies = told["latencies"]
            speeds[clients] = (len(latencies) / told["seconds"], latencies)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--protocol", choices=["grpc", "http"], default="grpc")
    arguments = parser.parse_args()
    cores = available_cpus()
    ways = sorted({(1, cores), (cores, 1)})
    triton = need_triton()
    infer: list[float] = []
    speeds = defaultdict(list)
    latencies = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        files = write_images(scratch / "images")
        for instances, threads in ways:
            options = ServerOptions(instances=instances, threads=threads, files_only=True)
            repository = scratch / f"{instances}x{threads}"
            write_repository(open_model(arguments.model), repository, options, say_nothing)
        for _ in range(arguments.rounds):
            for way in ways:
                speed = infer_speed(arguments.model, scratch / "images", scratch / "out.csv")
                infer.append(round(speed, 2))
                repository = scratch / "{}x{}".format(*way)
                told = served_speeds(
                    triton, repository, files, arguments.protocol, arguments.seconds
                )
                for clients, (speed, times) in told.items():
                    speeds[way, clients].append(round(speed, 2))
                    latencies[way, clients] += times
    rows = []
    for (way, clients), samples in speeds.items():
        times = np.array(latencies[way, clients]) * 1e3
        rows.append(
            Row(
                instances=way[0],
                threads=way[1],
                protocol=arguments.protocol,
                clients=clients,
                images_per_second=median(samples),
                of_infer=round(median(samples) / median(infer), 3),
                p50_ms=round(float(np.percentile(times, 50)), 1),
                p95_ms=round(float(np.percentile(times, 95)), 1),
                samples=samples,
            )
        )
    spec = open_model(arguments.model).spec
    record = {
        "environment": asdict(environment()),
        "model": {
            "name": arguments.model.name,
            "size": spec.pixel_path.size,
            "channels": [list(block) for block in spec.architecture.channels],
        },
        "images": {"n": N_IMAGES, "side": SIDE, "format": "PNG"},
        "seconds": arguments.seconds,
        "infer_images_per_second": median(infer),
        "infer_samples": infer,
        "rows": list(map(asdict, rows)),
    }
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
