"""What a benchmark of tiny models is asked for."""

import dataclasses
from pathlib import Path

from kneeedge.bench.messages import WorkRequest
from kneeedge.bench.run import BenchRequest
from kneeedge.bench.subjects import Material, open_file, work_request
from kneeedge.bench.turns import Measurement
from kneeedge.data.dataset import Sample
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress

QUIET = Progress(quiet=True)


def small_request(models: tuple[str, ...], **changes: object) -> BenchRequest:
    """Six rounds of a hundredth of a second on the CPU."""
    options = {
        "provider": "cpu",
        "threads": 1,
        "batch_sizes": (4, 2),
        "seconds": 0.06,
        "n_rounds": 6,
    }
    return BenchRequest(models=models, **options | changes)


def small_work(model: str, data: str, **changes: object) -> WorkRequest:
    """One model on the CPU, timed on three images of a folder; it answers five."""
    images = tuple(map(str, sorted(Path(data).rglob("*.png"))))
    samples = tuple(
        Sample(
            path=Path(path),
            name=path,
            sha256=file_sha256(Path(path)),
            split="",
            label=0,
            group="",
        )
        for path in images[:5]
    )
    material = Material(description="", inputs=images[:3], split="test", samples=samples)
    request = work_request(open_file(model, "cpu"), 1, material, GpuOptions())
    return dataclasses.replace(request, **changes)


def measurement_of(model: str, data: str) -> Measurement:
    """A model before its first turn."""
    return Measurement(subject=open_file(model, "cpu"), request=small_work(model, data))
