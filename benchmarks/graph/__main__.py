"""What ONNX Runtime really runs of a model file on the CPU, and which options are fastest.

    python -m benchmarks.graph [NAME=]MODEL.onnx … [--levels all extended basic]
        [--spinning on off] [--json FILE]

Of each file it has ONNX Runtime write the optimised graph, and profiles that: operators, how the
convolutions run, the nodes that only change a type or a layout, the time of each node. Then every
file is timed at every level and with idle threads spinning or asleep, each in a process of its own;
the processes take turns of a few runs, so that drift of the machine hits all alike. Ratios are to
the first, round by round. Give an old and a new file to compare their graphs.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import onnx

from benchmarks.graph.child import LEVELS, inputs, open_session, session_options
from benchmarks.graph.facts import Structure, Times, structure_of, times_of
from kneeedge.system.machine import available_cpus, environment
from kneeedge.system.strict_json import to_json

N_PROFILED = 15
N_WARMUP = 3
TURN = 4
"images in a turn"
PAUSE_S = 0.03
"for the last process's threads to fall asleep"
FACTS_HEADS = (
    "file", "nodes", "convolutions", "in 8 bits", "ReLU within", "layout",
    "changes of type or layout", "first layer ms", "share",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """A way of running a file."""

    file: str
    level: str
    "of graph optimisation"
    spinning: str
    "on or off: whether idle threads of the pool spin"

    def __str__(self) -> str:
        return f"{self.file}, {self.level}, spinning {self.spinning}"


@dataclass(frozen=True)
class Facts:
    """What ONNX Runtime makes of a file at the level `all`."""

    file: str
    structure: Structure
    times: Times


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The timed runs of one way at one batch size."""

    way: Way
    batch_size: int
    ms_per_image: float
    "median"
    ratio: float
    "to the first way: the median of the rounds'; below 1 is faster"
    ratio_quartiles: tuple[float, float]
    "between which half of the rounds lie"
    rounds: tuple[tuple[float, ...], ...]
    "milliseconds a run, all of them"


def facts_of(name: str, path: Path, threads: int) -> Facts:
    """The optimised graph of a file and its profile on single images."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options("all", True, threads)
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = open_session(path, options)
        feed = inputs(session, 1)
        for _ in range(N_WARMUP + N_PROFILED):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = onnx.load(Path(folder, "optimised.onnx")).graph
    return Facts(name, structure_of(graph), times_of(graph, events, N_WARMUP))


class Process:
    """A process that runs a file one way when it is told to."""

    def __init__(self, path: Path, way: Way, threads: int, batch: int) -> None:
        arguments = [str(path), way.level, way.spinning, str(threads), str(batch)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.graph.child", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._line() != "ready":
            raise SystemExit(f"{way}: the process did not start")

    def turn(self, n: int) -> list[float]:
        """Milliseconds of n runs."""
        assert self.process.stdin
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        return [round(ms, 3) for ms in json.loads(self._line())]

    def close(self) -> None:
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


def time_ways(
    files: dict[str, Path], ways: Sequence[Way], batch: int, threads: int, seconds: float
) -> list[Speed]:
    """Every way timed in turns for as many seconds, two rounds at least."""
    processes: list[Process] = []
    try:
        processes.extend(Process(files[way.file], way, threads, batch) for way in ways)
        rounds = take_turns([process.turn for process in processes], max(1, TURN // batch), seconds)
    finally:
        for process in processes:
            process.close()
    return speeds(ways, rounds, batch)


def take_turns(
    turns: Sequence[Callable[[int], list[float]]], n: int, seconds: float
) -> list[list[list[float]]]:
    """Rounds in which each takes one turn of n runs."""
    rounds: list[list[list[float]]] = []
    end = time.monotonic() + seconds
    while len(rounds) < 2 or time.monotonic() < end:
        rounds.append([])
        for turn in turns:
            time.sleep(PAUSE_S)
            rounds[-1].append(turn(n))
    return rounds


def speeds(ways: Sequence[Way], rounds: Sequence[Sequence[list[float]]], batch: int) -> list[Speed]:
    """Medians of each way, and its ratio to the first within each round."""
    rows = []
    for i, way in enumerate(ways):
        ratios = sorted(median(turns[i]) / median(turns[0]) for turns in rounds)
        runs = [ms for turns in rounds for ms in turns[i]]
        low = ratios[len(ratios) // 4]
        high = ratios[-1 - len(ratios) // 4]
        speed = Speed(
            way=way,
            batch_size=batch,
            ms_per_image=round(median(runs) / batch, 3),
            ratio=round(median(ratios), 4),
            ratio_quartiles=(round(low, 4), round(high, 4)),
            rounds=tuple(tuple(turns[i]) for turns in rounds),
        )
        rows.append(speed)
    return rows


def facts_table(all_facts: Sequence[Facts]) -> str:
    """One line a file, as Markdown."""
    lines = [f"| {' | '.join(FACTS_HEADS)} |", "|:--|--:|--:|--:|--:|:--|:--|--:|--:|"]
    for facts in all_facts:
        convolutions = facts.structure.convolutions
        times = facts.times
        changes = [
            f"{stray.before} → {stray.operator} → {stray.after}" for stray in facts.structure.stray
        ]
        cells = [
            facts.file,
            len(times.nodes),
            convolutions.n,
            convolutions.n_quantised,
            convolutions.n_with_relu,
            ", ".join(f"{n} {name}" for name, n in convolutions.layouts.items()),
            "; ".join(changes) or "none",
            f"{times.first_layer_share * times.total_ms:.2f}",
            f"{times.first_layer_share:.1%}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def speed_table(rows: Sequence[Speed]) -> str:
    """One line a way and batch size, as Markdown."""
    lines = [
        "| file | level | spinning | batch | ms an image | ratio | half of the rounds |",
        "|:--|:--|:--|--:|--:|--:|:--|",
    ]
    for row in rows:
        way = row.way
        low, high = row.ratio_quartiles
        cells = [
            way.file,
            way.level,
            way.spinning,
            str(row.batch_size),
            f"{row.ms_per_image:.2f}",
            f"{row.ratio:.3f}",
            f"{low:.3f}–{high:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def named_model(text: str) -> tuple[str, Path]:
    """`NAME=PATH` or a path, whose file name is then its name."""
    name, sign, path = text.rpartition("=")
    if not sign:
        name = Path(path).name
    return name, Path(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.graph",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("models", type=named_model, nargs="+", metavar="[NAME=]MODEL")
    add("--levels", nargs="+", default=["all"], choices=list(LEVELS))
    add("--spinning", nargs="+", default=["on"], choices=["on", "off"])
    add("--batch", type=int, nargs="+", default=[1, 8])
    add("--seconds", type=float, default=20.0, help="of timing at each batch size")
    add("--threads", type=int, default=available_cpus())
    add("--json", type=Path)
    given = parser.parse_args()
    files = dict(given.models)
    if len(files) < len(given.models):
        parser.error("two files have the same name: give each one of its own, as old=MODEL.onnx")
    machine = environment()
    all_facts = [facts_of(name, path, given.threads) for name, path in files.items()]
    print(facts_table(all_facts) + "\n")
    ways = [
        Way(file, level, spinning)
        for file, level, spinning in itertools.product(files, given.levels, given.spinning)
    ]
    rows: list[Speed] = []
    for batch in given.batch:
        rows += time_ways(files, ways, batch, given.threads, given.seconds)
    print(speed_table(rows))
    if given.json:
        result = {
            "environment": machine,
            "threads": given.threads,
            "files": all_facts,
            "speeds": rows,
        }
        given.json.write_text(to_json(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
