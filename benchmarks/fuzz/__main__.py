"""Mutated files of every format against the decoders: none may crash, hang, raise or take memory
without bound.

python -m benchmarks.fuzz [--n 10000] [--seed 0] > benchmarks/results/….json        (`make fuzz`)
python -m benchmarks.fuzz --only 1234 --keep FOLDER       the one file again, kept, and what comes
of it

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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.fuzz.child import ANSWERED, CRASHED, HUNG, NO_MEMORY, REFUSED, Outcome
from benchmarks.fuzz.mutate import mutated
from benchmarks.fuzz.seeds import all_seeds, large_seeds
from kneeedge.pixels.picture import MAX_PIXELS
from kneeedge.system.machine import available_cpus, environment
from kneeedge.system.threads import in_order

EXPECTED = (ANSWERED, REFUSED, NO_MEMORY)
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
class Finding:
    """A file that came to no good end."""

    i: int
    made: str
    "from which seed, by which mutations"
    kind: str
    text: str


class Child:
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

    def ask(self, path: Path) -> Outcome:
        self.send(str(path))
        if not select.select([self.process.stdout], [], [], self.limits.seconds)[0]:
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


class Crew:
    """Children, each replaced where a file has ended it."""

    def __init__(self, limits: Limits, n: int, sound: Path) -> None:
        self.limits = limits
        self.sound = sound
        self.idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        for _ in range(n):
            self.idle.put(self.hire())
        self.baseline_mb = self.warm().peak_mb

    def hire(self) -> Child:
        """A child that has loaded everything."""
        child = Child(self.limits)
        assert child.ask(self.sound).kind == ANSWERED
        return child

    def warm(self) -> Outcome:
        child = self.idle.get()
        outcome = child.ask(self.sound)
        self.idle.put(child)
        return outcome

    def read(self, path: Path) -> Outcome:
        child = self.idle.get()
        outcome = child.ask(path)
        if outcome.kind in (CRASHED, HUNG):
            child.end()
            child = self.hire()
        self.idle.put(child)
        return outcome

    def end(self) -> None:
        while not self.idle.empty():
            self.idle.get().end()


def run(
    numbers: Sequence[int],
    seed: int,
    limits: Limits,
    keep: Path | None,
    n_children: int,
    begin: str = "",
) -> dict[str, object]:
    """The result as it is written."""
    seeds = {name: data for name, data in all_seeds().items() if name.startswith(begin)}
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name, "sound")
        sound.write_bytes(all_seeds()["dicom JPEG 2000 Image Compression (Lossless Only)"])
        crew = Crew(limits, n_children, sound)

        def work(item: tuple[int, str, bytes]) -> tuple[int, str, Outcome]:
            i, made, data = item
            path = Path(name, str(i))
            path.write_bytes(data)
            outcome = crew.read(path)
            path.unlink()
            if keep and (outcome.kind not in EXPECTED or len(numbers) == 1):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{i}").write_bytes(data)
            return i, made, outcome

        try:
            # Made in this one thread: warning filters, which pydicom needs, are those of all
            # threads.
            files = ((i, *mutated(seeds, seed, i)) for i in numbers)
            found = list(in_order(work, files, n_children, 4 * n_children))
        finally:
            crew.end()
    return summary(found, seeds, seed, limits, crew.baseline_mb)


def bytes_a_pixel(limits: Limits, side: int) -> dict[str, float]:
    """Memory above the baseline, the file's own bytes included, of sound images of side² pixels."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for kind, data in large_seeds(side).items():
            path = Path(name, "a")
            sound = Path(name, "sound")
            path.write_bytes(data)
            sound.write_bytes(all_seeds()["png L"])
            child = Child(limits)
            before = child.ask(sound)
            outcome = child.ask(path)
            child.end()
            assert outcome.kind == ANSWERED, (kind, outcome)
            found[kind] = round((outcome.peak_mb - before.peak_mb) * 1e6 / side**2, 1)
    return found


def summary(
    found: Sequence[tuple[int, str, Outcome]],
    seeds: Mapping[str, bytes],
    seed: int,
    limits: Limits,
    baseline_mb: float,
) -> dict[str, object]:
    by_format: dict[str, Counter[str]] = defaultdict(Counter)
    for _, made, outcome in found:
        by_format[made.split()[0]][outcome.kind] += 1
    kinds = sum(by_format.values(), Counter())
    _, greediest, most = max(found, key=lambda one: one[2].peak_mb)
    _, slowest, longest = max(found, key=lambda one: one[2].seconds)
    findings = [Finding(i, made, o.kind, o.text) for i, made, o in found if o.kind not in EXPECTED]
    return {
        "environment": asdict(environment()),
        "packages": {name: version(name) for name in PACKAGES},
        "n": len(found),
        "seed": seed,
        "n_seeds": len(seeds),
        "limits": asdict(limits),
        "outcomes": {
            kind: kinds.get(kind, 0) for kind in (*EXPECTED, "unclear", "raised", CRASHED, HUNG)
        },
        "by_format": {name: dict(counts) for name, counts in sorted(by_format.items())},
        "baseline_mb": round(baseline_mb, 1),
        "worst_memory_above_baseline_mb": round(most.peak_mb - baseline_mb, 1),
        "worst_memory_of": greediest,
        "slowest_seconds": round(longest.seconds, 3),
        "slowest_of": slowest,
        "findings": [asdict(one) for one in findings],
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
        numbers, arguments.seed, limits, arguments.keep, arguments.processes, arguments.seeds
    )
    if arguments.only is None:
        result["bytes_a_pixel_of_large_images"] = bytes_a_pixel(limits, LARGE_SIDE)
    print(json.dumps(result, indent=2))
    if result["findings"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
