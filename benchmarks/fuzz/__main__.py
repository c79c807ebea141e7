"""Mutated files of every format against the decoders: none may crash, hang, raise or eat memory.

    python -m benchmarks.fuzz [--n 10000] [--seed 0] > benchmarks/results/….json  (`make fuzz`)
    python -m benchmarks.fuzz --only 1234 --keep FOLDER     the one file again, and what comes of it

Each file is read by a process with a time limit and a limit of its address space, which is replaced
where it dies. File `i` of a seed is the same on every machine with the same library versions. Linux
only, for its memory figures.
"""

import argparse
import json
import queue
import select
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.fuzz.child import (
    ANSWERED,
    CRASHED,
    HUNG,
    NO_MEMORY,
    RAISED,
    REFUSED,
    UNCLEAR,
    Outcome,
)
from benchmarks.fuzz.mutate import mutated
from benchmarks.fuzz.seeds import all_seeds, large_seeds
from kneeedge.pixels.picture import MAX_PIXELS
from kneeedge.system.machine import available_cpus, environment
from kneeedge.system.threads import in_order

EXPECTED = (ANSWERED, REFUSED, NO_MEMORY)
UNEXPECTED = (UNCLEAR, RAISED, CRASHED, HUNG)
LARGE_SIDE = 4096
CHILD = ["-m", "benchmarks.fuzz.child"]
PACKAGES = ("pillow", "numpy", "pydicom", "python-gdcm")


@dataclass(frozen=True)
class Limits:
    """What a file may cost."""

    seconds: float = 20.0
    address_space_mb: int = 6000
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class ReadFile:
    """A mutated file and what came of it."""

    i: int
    made: str
    "from which seed, by which mutations"
    outcome: Outcome


@dataclass(frozen=True)
class Finding:
    """A file that came to no good end."""

    i: int
    made: str
    "from which seed, by which mutations"
    kind: str
    text: str


class ReaderProcess:
    """One process of benchmarks/fuzz/child.py."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.send(asdict(limits))

    def send(self, message: object) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def read(self, path: Path) -> Outcome:
        """What comes of the file; the process is of no more use where it crashed or hangs."""
        self.send(str(path))
        readable, _, _ = select.select([self.process.stdout], [], [], self.limits.seconds)
        if not readable:
            return Outcome(HUNG, f"more than {self.limits.seconds:g} s")
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            return Outcome(CRASHED, f"status {self.process.wait()}")
        return Outcome(**json.loads(line))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.stdout.close()  # type: ignore[union-attr]


class ReaderPool:
    """Reading processes, each replaced where a file has ended it."""

    def __init__(self, limits: Limits, n: int, sound: Path) -> None:
        self.limits = limits
        self.sound = sound
        self.idle: queue.SimpleQueue[ReaderProcess] = queue.SimpleQueue()
        for _ in range(n):
            self.idle.put(self.start())
        self.baseline_mb = self.read(sound).peak_mb

    def start(self) -> ReaderProcess:
        """A process that has loaded everything."""
        reader = ReaderProcess(self.limits)
        assert reader.read(self.sound).kind == ANSWERED
        return reader

    def read(self, path: Path) -> Outcome:
        reader = self.idle.get()
        outcome = reader.read(path)
        if outcome.kind in (CRASHED, HUNG):
            reader.end()
            reader = self.start()
        self.idle.put(reader)
        return outcome

    def end(self) -> None:
        while not self.idle.empty():
            self.idle.get().end()


def run(
    numbers: Sequence[int],
    seed: int,
    limits: Limits,
    keep: Path | None,
    n_processes: int,
    prefix: str = "",
) -> dict[str, object]:
    """The result as it is written: files of these numbers from the seeds whose names begin so."""
    seeds = {name: data for name, data in all_seeds().items() if name.startswith(prefix)}
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "sound")
        sound.write_bytes(all_seeds()["dicom JPEG 2000 Image Compression (Lossless Only)"])
        pool = ReaderPool(limits, n_processes, sound)

        def read(item: tuple[int, str, bytes]) -> ReadFile:
            i, made, data = item
            path = Path(folder, str(i))
            path.write_bytes(data)
            outcome = pool.read(path)
            path.unlink()
            if keep and (outcome.kind not in EXPECTED or len(numbers) == 1):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{i}").write_bytes(data)
            return ReadFile(i, made, outcome)

        try:
            # made in this one thread: the warning filters that pydicom needs are all threads'
            items = ((i, *mutated(seeds, seed, i)) for i in numbers)
            files = list(in_order(read, items, n_processes, 4 * n_processes))
        finally:
            pool.end()
    return summary(files, len(seeds), seed, limits, pool.baseline_mb)


def bytes_a_pixel(limits: Limits, side: int) -> dict[str, float]:
    """Memory above the baseline, the file's own bytes included, of sound images of side² pixels."""
    bytes_of = {}
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder, "small")
        large = Path(folder, "large")
        small.write_bytes(all_seeds()["png L"])
        for name, data in large_seeds(side).items():
            large.write_bytes(data)
            reader = ReaderProcess(limits)
            before = reader.read(small)
            outcome = reader.read(large)
            reader.end()
            assert outcome.kind == ANSWERED, (name, outcome)
            bytes_of[name] = round((outcome.peak_mb - before.peak_mb) * 1e6 / side**2, 1)
    return bytes_of


def summary(
    files: Sequence[ReadFile], n_seeds: int, seed: int, limits: Limits, baseline_mb: float
) -> dict[str, object]:
    """The outcomes in all and by format, the most memory and time, and the findings."""
    by_format: dict[str, Counter[str]] = defaultdict(Counter)
    for file in files:
        by_format[file.made.split()[0]][file.outcome.kind] += 1
    kinds = sum(by_format.values(), Counter())
    greediest = max(files, key=lambda file: file.outcome.peak_mb)
    slowest = max(files, key=lambda file: file.outcome.seconds)
    findings = [
        Finding(file.i, file.made, file.outcome.kind, file.outcome.text)
        for file in files
        if file.outcome.kind not in EXPECTED
    ]
    return {
        "environment": asdict(environment()),
        "packages": {name: version(name) for name in PACKAGES},
        "n": len(files),
        "seed": seed,
        "n_seeds": n_seeds,
        "limits": asdict(limits),
        "outcomes": {kind: kinds.get(kind, 0) for kind in (*EXPECTED, *UNEXPECTED)},
        "by_format": {name: dict(counts) for name, counts in sorted(by_format.items())},
        "baseline_mb": round(baseline_mb, 1),
        "worst_memory_above_baseline_mb": round(greediest.outcome.peak_mb - baseline_mb, 1),
        "worst_memory_of": greediest.made,
        "slowest_seconds": round(slowest.outcome.seconds, 3),
        "slowest_of": slowest.made,
        "findings": [asdict(finding) for finding in findings],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=10_000, help="files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the one file of this number")
    parser.add_argument(
        "--seeds", default="", help="only seeds whose names begin so, as dicom; other files then"
    )
    parser.add_argument("--keep", type=Path, help="folder for the files that came to no good end")
    parser.add_argument("--seconds", type=float, default=Limits.seconds, help="limit of one file")
    parser.add_argument("--processes", type=int, default=available_cpus())
    arguments = parser.parse_args()
    numbers = range(arguments.n) if arguments.only is None else [arguments.only]
    limits = replace(Limits(), seconds=arguments.seconds)
    result = run(
        numbers=numbers,
        seed=arguments.seed,
        limits=limits,
        keep=arguments.keep,
        n_processes=arguments.processes,
        prefix=arguments.seeds,
    )
    if arguments.only is None:
        result["bytes_a_pixel_of_large_images"] = bytes_a_pixel(limits, LARGE_SIDE)
    print(json.dumps(result, indent=2))
    if result["findings"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
