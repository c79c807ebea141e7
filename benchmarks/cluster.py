"""`infer --engine ray` against `infer` on this machine, and against kills on two nodes.

    python -m benchmarks.cluster --model MODEL.onnx [--n 400] [--repeats 3] [--kills 2] > FILE

The images are links to 24 JPEGs of 5 megapixels (benchmarks/folders.py). `infer` and Ray with 1, 2
and 4 networks take turns; each is a whole process, and what counts is the median of the ratios
within a turn, since a shared machine changes from turn to turn. Then, on two nodes of this machine
with one CPU each, a network, a node or the driver is killed at a random moment after the first
rows; a driver is started again with --resume. What is counted is whether the output has the bytes
of `infer`'s, and how many images had rows already and were answered again. Last the driver alone:
how fast it takes answers of which each has the size of a real one.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.folders import linked, write_jpegs
from kneeedge.cluster.messages import ChunkAnswers
from kneeedge.inference.journal import Batch, Journal, RunKey, has_rows, journal_of, read_content
from kneeedge.system.machine import environment
from kneeedge.system.stamps import FileStamp
from kneeedge.system.strict_json import from_json, to_json
from tests.cluster.nodes import TwoNodes, until

WORKERS = (1, 2, 4)
KINDS = ("network", "node", "driver")
LATEST = 3.0
"seconds after the first rows, at most, at which something is killed"
N_ROWS = 20_000
"of the driver alone"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Ray with so many networks, beside `infer` with all cores."""

    workers: int
    seconds: float
    "median of the turns, the process from start to end"
    start_seconds: float
    "median, until the first answers"
    ratio: float
    "median of the images a second over `infer`'s in the same turn"
    ratio_after_start: float
    "the same without the seconds of the start"


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What a kill cost."""

    kind: str
    n_rows_before: int
    "in the journal when it struck"
    n_answered_again: int
    "of those"
    same_bytes: bool
    "as one machine's output"


def timed(words: Sequence[object], env: Mapping[str, str] | None = None) -> tuple[float, dict]:
    """Seconds of `kneeedge infer …` and its JSON record."""
    command = [sys.executable, "-m", "kneeedge", "infer", *map(str, words), "-q", "--json", "-"]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, env=env)
    return time.perf_counter() - start, json.loads(done.stdout)


def speeds(words: list[object], repeats: int, scratch: Path) -> tuple[list[float], list[Speed]]:
    """Seconds of `infer` in each turn, and a row for each number of networks."""
    plain: list[float] = []
    on_ray: dict[int, list[tuple[float, float]]] = {n: [] for n in WORKERS}
    for _ in range(repeats):
        plain.append(timed([*words, "--out", scratch / "plain.csv"])[0])
        for n in WORKERS:
            options = ["--engine", "ray", "--ray-workers", n, "--out", scratch / f"ray{n}.csv"]
            seconds, record = timed([*words, *options])
            on_ray[n].append((seconds, record["cluster"]["start_seconds"]))
    rows = []
    for n, samples in on_ray.items():
        pairs = list(zip(plain, samples, strict=True))
        rows.append(
            Speed(
                workers=n,
                seconds=round(statistics.median(s for s, _ in samples), 2),
                start_seconds=round(statistics.median(s for _, s in samples), 2),
                ratio=round(statistics.median(p / s for p, (s, _) in pairs), 3),
                ratio_after_start=round(statistics.median(p / (s - b) for p, (s, b) in pairs), 3),
            )
        )
    return plain, rows


def kill(kind: str, words: list[object], scratch: Path, moment: float) -> Kill:
    """Kill one of two nodes, its network, or the driver; let the run end, and look at it."""
    out = scratch / f"{kind}.csv"
    for old in (out, journal_of(out)):
        old.unlink(missing_ok=True)
    nodes = TwoNodes()
    try:
        command = [sys.executable, "-m", "kneeedge", "infer", *map(str, words), "-q"]
        command += ["--engine", "ray", "--ray-address", nodes.address, "--out", str(out)]
        driver = subprocess.Popen(command, env=nodes.environment, stdout=subprocess.DEVNULL)
        until(lambda: has_rows(out), "rows in the journal")
        time.sleep(moment)
        before = paths_of(out)
        if kind == "network":
            os.kill(random.choice(nodes.workers(0) + nodes.workers(1)), signal.SIGKILL)  # noqa: S311
        elif kind == "node":
            nodes.kill_node(1)
        else:
            driver.kill()
            driver.wait()
            driver = subprocess.Popen(
                [*command, "--resume"], env=nodes.environment, stdout=subprocess.DEVNULL
            )
        driver.wait()
    finally:
        nodes.stop()
    after = paths_of(out)
    return Kill(
        kind=kind,
        n_rows_before=len(before),
        n_answered_again=len(after) - len(set(after)),
        same_bytes=out.read_bytes() == (scratch / "plain.csv").read_bytes(),
    )


def paths_of(out: Path) -> list[str]:
    with journal_of(out).open("rb", buffering=0) as file:
        return [path for batch in read_content(file).batches for path in batch.paths]


def driver_rows_per_second(scratch: Path) -> float:
    """Rows that a driver reads from a worker's JSON and writes to a journal, a second."""
    row = ("0123/0000456.jpg", "ok", "Osteoporosis", "0.123456", "0.876544", "0.123456", "1.2345")
    row += ("", "", "", "", "")
    stamp = FileStamp(562_345, 1_700_000_000_000_000_000, 1_700_000_000_000_000_000, 1, "a" * 64)
    answers = ChunkAnswers(
        numbers=tuple(range(64)),
        batches=(Batch((row,) * 4, (stamp,) * 4),) * 64,
        node="a" * 56,
        pid=1,
        seconds={"reading": 1.0},
    )
    text = to_json(answers, indent=None)
    key = RunKey(
        version="", model_sha256="", provider="", threads=1, batch_size=4, answer_all=False,
        dicom_window=0, grey_bits=0, max_pixels=1, with_patient_id=False, heatmaps="",
        dicom_sr="", columns=(),
    )  # fmt: skip
    start = time.perf_counter()
    n = 0
    with Journal(scratch / "driver.csv", key, resume=False) as journal:
        while n < N_ROWS:
            for batch in from_json(ChunkAnswers, text).batches:
                journal.append(batch)
                n += len(batch.rows)
    return round(n / (time.perf_counter() - start))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kills", type=int, default=2, help="of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_jpegs(scratch / "files")
        images = linked(scratch / "files", scratch / "images", arguments.n)
        words: list[object] = [images, "--model", arguments.model]
        plain, rows = speeds(words, arguments.repeats, scratch)
        kills = [
            kill(kind, words, scratch, random.uniform(0, LATEST))  # noqa: S311
            for _ in range(arguments.kills)
            for kind in KINDS
        ]
        sizes = [path.stat().st_size for path in (scratch / "files").iterdir()]
        record = {
            "environment": asdict(environment()),
            "model": arguments.model.name,
            "n": arguments.n,
            "mean_file_bytes": round(statistics.mean(sizes)),
            "infer_seconds": [round(seconds, 2) for seconds in plain],
            "infer_seconds_median": round(statistics.median(plain), 2),
            "speeds": list(map(asdict, rows)),
            "kills": list(map(asdict, kills)),
            "n_kills": len(kills),
            "n_survived": sum(each.same_bytes for each in kills),
            "driver_rows_per_second": driver_rows_per_second(scratch),
        }
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
