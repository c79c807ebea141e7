"""The sections of `benchmarks.gpu`: ceilings, answers, speeds, a folder, TensorRT."""

import gc
import itertools
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.gpu.measure import (
    Candidate,
    Cells,
    Deadline,
    Section,
    Speed,
    agreement,
    fastest,
    flops_of,
    overlapped,
    speeds,
)
from kneeedge.errors import ConfigError, ProviderError
from kneeedge.inference.folder import infer_folder
from kneeedge.inference.predictor import Predictor
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.listing import find_images
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.runtime.placement import placement
from kneeedge.runtime.session import Outputs, Session
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress

BATCHES = (1, 8, 32, 64, 128, 256)
N_ANSWERS = 64
"images whose answers are held against the CPU's"
N_FILES = 4096
"images of the folder that is read end to end"
LAYOUTS = {
    "nchw": GpuOptions(nhwc=False),
    "nhwc": GpuOptions(nhwc=True, fuse_conv_bias=False),
    "nhwc, bias fused": GpuOptions(nhwc=True, fuse_conv_bias=True),
}
NO_TORCH = "PyTorch is not installed"
PARTS = 4
"batches of one overlapped run"


@dataclass(kw_only=True)
class Bench:
    """What the sections share: files, images, and the ceilings once they are measured."""

    folder: Path
    files: dict[str, Path]
    spec: ModelSpec
    images: np.ndarray
    "(N, 1, S, S) uint8"
    image_folder: Path | None
    ceilings: dict[str, float] = field(default_factory=dict)
    "floating-point operations a second by dtype"
    best_fp16: GpuOptions = field(default_factory=GpuOptions)
    "the fastest layout found for fp16"

    @cached_property
    def reference(self) -> Outputs:
        """What the CPU answers to the first N_ANSWERS images in fp32."""
        session = Session(self.files["fp32"], "cpu")
        images = self.batch(N_ANSWERS)
        parts = [session.run(images[i : i + 8]) for i in range(0, N_ANSWERS, 8)]
        return joined(parts)

    def batch(self, n: int) -> np.ndarray:
        """(n, 1, S, S) uint8, the images again where they are fewer."""
        return np.ascontiguousarray(self.images[np.arange(n) % len(self.images)])

    def measure(
        self, candidates: list[Candidate], batch: int, seconds: float, dtype: str
    ) -> list[Speed]:
        return speeds(candidates, batch, seconds, flops_of(self.spec), self.ceilings.get(dtype))


def sections(bench: Bench) -> list[Section]:
    """The most important first, since the last ones are skipped where time runs out."""
    return [
        Section("ceiling", 12, partial(ceilings, bench)),
        Section("answers", 45, partial(answers, bench)),
        Section("placement", 20, partial(placements, bench)),
        Section("single image", 35, partial(single, bench)),
        Section("offline fp16", 110, partial(offline, bench, "fp16")),
        Section("against torch", 110, partial(against_torch, bench)),
        Section("folder", 25, partial(folder, bench)),
        Section("offline fp32", 70, partial(offline, bench, "fp32")),
        Section("tensorrt", 90, partial(tensorrt, bench)),
    ]


def ceilings(bench: Bench, deadline: Deadline) -> Cells:
    """The matrix-product ceiling of each dtype, in TFLOP/s."""
    if find_spec("torch") is None:
        return Cells(left_out=[NO_TORCH])
    import torch

    from benchmarks.gpu.in_torch import ceiling

    for name in ("float16", "bfloat16", "float32"):
        bench.ceilings[name] = ceiling(getattr(torch, name), min(2.0, deadline.left / 4))
    torch.cuda.empty_cache()
    cells = Cells()
    for name, value in bench.ceilings.items():
        cells.rows.append({"dtype": name, "tflops": round(value / 1e12, 1)})
    return cells


def answers(bench: Bench, deadline: Deadline) -> Cells:
    """Every precision and layout against the CPU in fp32, in batches, one of them padded."""
    cells = Cells()
    images = bench.batch(N_ANSWERS)
    parts = np.split(images, (24, 48, 63))
    for precision, layout in itertools.product(("fp32", "fp16"), LAYOUTS):
        name = f"{precision} {layout}"
        if deadline.left < 2:
            cells.left_out.append(name)
            continue
        # the session before held itself, and GPU memory with it
        gc.collect()
        session = Session(bench.files[precision], "cuda", gpu=LAYOUTS[layout])
        outputs = joined([session.run(part) for part in parts])
        cells.rows.append(agreement(name, outputs, bench.reference, bench.spec))
    return cells


def joined(parts: list[Outputs]) -> Outputs:
    """The logits and probabilities of several runs as of one."""
    logits = np.concatenate([part.logits for part in parts])
    probabilities = np.concatenate([part.probabilities for part in parts])
    return Outputs(probabilities, logits, None)


def placements(bench: Bench, _: Deadline) -> Cells:
    """Where the nodes of each file run, by profile; a file that the provider refuses, and why."""
    cells = Cells()
    for precision, path in bench.files.items():
        try:
            session = Session(path, "cuda")
            session.run(bench.batch(8))
            locked = session.runner is not None and session.runner.page_locked
            row = {"file": path.name, "page_locked": locked, **asdict(placement(session, 8))}
            cells.rows.append(row)
        except ProviderError as error:
            cells.left_out.append(f"{precision}: {error}")
    return cells


def single(bench: Bench, deadline: Deadline) -> Cells:
    """One image, from the host's pixels to the answer, with and without a CUDA graph."""
    cells = Cells()
    image = bench.batch(1)
    for precision in ("fp16", "fp32"):
        candidates = []
        for layout, options in LAYOUTS.items():
            for graph in (True, False):
                gpu = replace(options, cuda_graph=graph)
                session = Session(bench.files[precision], "cuda", gpu=gpu)
                name = f"{precision} {layout}, {'graph' if graph else 'no graph'}"
                candidates.append(Candidate(name, 1, run_of(session, image)))
        seconds = min(2.0, deadline.left / 12)
        cells.rows += bench.measure(candidates, 1, seconds, dtype_of(precision))
    return cells


def offline(bench: Bench, precision: str, deadline: Deadline) -> Cells:
    """Images a second by batch: input on the device, and with copies from one thread and two."""
    cells = Cells()
    layouts = list(LAYOUTS.items())[: 3 if precision == "fp16" else 2]
    sessions = {
        name: Session(bench.files[precision], "cuda", gpu=options) for name, options in layouts
    }
    with ThreadPoolExecutor(2) as pool:
        for done, size in enumerate(BATCHES):
            share = deadline.left / (len(BATCHES) - done)
            if share < 1:
                cells.left_out.append(f"batch {size}")
                continue
            candidates = []
            for name, session in sessions.items():
                candidates += ways(f"{precision} {name}", session, bench.batch(size), pool)
            seconds = min(1.0, share / 2 / len(candidates))
            cells.rows += bench.measure(candidates, size, seconds, dtype_of(precision))
    if precision == "fp16" and cells.rows:
        best = fastest(cells.rows)
        layout, _, _ = best.name.removeprefix("fp16 ").partition(":")
        bench.best_fp16 = LAYOUTS[layout]
    return cells


def ways(
    name: str, session: Session, images: np.ndarray, pool: ThreadPoolExecutor
) -> list[Candidate]:
    """The ways to run one batch shape of one session."""
    n = len(images)
    at_once = overlapped(session.run, [images] * PARTS, pool)
    return [
        Candidate(f"{name}: on the device", n, resident_run_of(session, images)),
        Candidate(f"{name}: with copies", n, run_of(session, images)),
        Candidate(f"{name}: with copies, two threads", PARTS * n, at_once),
    ]


def run_of(session: Session, images: np.ndarray) -> Callable[[], object]:
    """A run from the host's pixels to the answer, whose shape has run before."""
    session.run(images)
    return lambda: session.run(images)


def resident_run_of(session: Session, images: np.ndarray) -> Callable[[], object]:
    """A run on what lies on the device already.

    Its lane is given back at once, since nobody else runs meanwhile.
    """
    if session.runner is None:
        problem = "a session on the CPU has nothing on a device"
        raise ConfigError(problem, "open it on cuda or tensorrt")
    lanes = session.runner.lanes(len(images))
    lane = lanes.get()
    lane.put(images)
    lanes.put(lane)
    return lane.execute


def against_torch(bench: Bench, deadline: Deadline) -> Cells:
    """Our fp16 beside PyTorch's, eager and compiled, channels last; the input is on the device."""
    if find_spec("torch") is None:
        return Cells(left_out=[NO_TORCH])
    from benchmarks.gpu.in_torch import Network, original

    model, trained = original(bench.folder, bench.spec)
    network = Network(model)
    cells = Cells()
    session = Session(bench.files["fp16"], "cuda", gpu=bench.best_fp16)
    for size in (64, 256):
        # torch.compile alone takes about as long
        if deadline.left < 40:
            cells.left_out.append(f"batch {size}")
            continue
        images = bench.batch(size)
        candidates = [
            Candidate("kneeedge fp16", size, resident_run_of(session, images)),
            Candidate("torch fp16 channels-last, eager", size, network.eager(images)),
            Candidate("torch fp16 channels-last, compiled", size, network.compiled(images)),
        ]
        cells.rows += bench.measure(candidates, size, 3.0, "float16")
    cells.rows.append({"trained_weights_in_torch": trained})
    return cells


def folder(bench: Bench, _: Deadline) -> Cells:
    """A folder of images end to end, as `kneeedge infer` does it; links make them enough."""
    with tempfile.TemporaryDirectory() as place:
        listed = find_images([bench.image_folder]).images if bench.image_folder else ()
        sources = [image.path for image in listed] or drawn(bench, Path(place))
        many = Path(place, "many")
        many.mkdir()
        for i in range(N_FILES):
            source = sources[i % len(sources)]
            (many / f"{i:05d}{source.suffix}").symlink_to(source.resolve())
        predictor = Predictor(bench.files["fp16"], "cuda", gpu=bench.best_fp16)
        # the search of algorithms is not the folder's
        predictor.session.run(bench.batch(predictor.batch_size))
        listing = find_images([many])
        result = infer_folder(predictor, listing, Path(place, "out.csv"), Progress(quiet=True))
    counts = {"n_different": len(sources), "n_cpus": environment().n_cpus}
    return Cells([{**counts, **asdict(result.summary), "out": ""}])


def drawn(bench: Bench, place: Path) -> list[Path]:
    """Phantoms as PNG files."""
    paths = []
    for i, image in enumerate(bench.images):
        path = place / f"phantom-{i:03d}.png"
        Image.fromarray(image[0]).save(path)
        paths.append(path)
    return paths


def tensorrt(bench: Bench, deadline: Deadline) -> Cells:
    """TensorRT on the fp16 and int8 files: building the engine, answers, and speed.

    A file that it refuses is left out with the reason.
    """
    cells = Cells()
    images = bench.batch(N_ANSWERS)
    for precision in ("fp16", "int8"):
        if precision not in bench.files or deadline.left < 60:
            cells.left_out.append(f"{precision}: no such file or no time")
            continue
        name = f"tensorrt {precision}"
        file = bench.files[precision]
        left_before = deadline.left
        try:
            session = Session(file, "tensorrt")
            outputs = session.run(images)
        except ProviderError as error:
            cells.left_out.append(f"{precision}: {error}")
            continue
        seconds = round(left_before - deadline.left, 1)
        cells.rows.append({"file": file.name, "seconds_to_build": seconds})
        cells.rows.append(agreement(name, outputs, bench.reference, bench.spec))
        cells.rows.append(asdict(placement(session, 8)))
        for size in (1, 64, 256):
            batch = bench.batch(size)
            candidates = [
                Candidate(f"{name}: on the device", size, resident_run_of(session, batch)),
                Candidate(f"{name}: with copies", size, run_of(session, batch)),
            ]
            cells.rows += bench.measure(candidates, size, 1.5, dtype_of(precision))
    return cells


def dtype_of(precision: str) -> str:
    return {"fp32": "float32", "fp16": "float16"}.get(precision, "none")
