"""Where the seconds of `kneeedge export` go, and whether two versions choose the same int8 recipe.

    python -m benchmarks.int8_search VERSION=CHECKOUT ... --run NAME=RUN ... [--json FILE]

Each checkout exports a copy of each run, in a process of its own, in turn: a busy moment falls on
all. A stage's time is its own, without that of a stage within it. Processor seconds are of all
threads; on a machine that others use they say more than those of the clock.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import kneeedge
from export.options import ExportOptions
from export.run import export_run
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress

STAGES = {
    "fp32 graph": ("export.run:to_onnx",),
    "fp16: ranges and graph": ("export.run:half_range", "export.run:to_fp16"),
    "PyTorch on val": ("export.run:original_answers", "export.run:ask_original"),
    "int8: ranges": ("export.run:collect",),
    "int8: recipes": ("export.run:search",),
    "files on val": (
        "export.run:answer_samples",
        "export.judge:Judge.judge",
        "export.judge:Judge.judge_in_turn",
    ),
    "golden inputs": ("export.run:find_crossings", "export.run:golden_set", "export.run:verify"),
}
"functions of the versions that there are, by what they do"
REST = "the rest"
"card, hashes, the files themselves"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One export."""

    seconds: dict[str, float]
    "by stage"
    cpu_seconds: dict[str, float]
    recipe: str
    "the int8 recipe that was chosen"
    verdict: str
    "of the gate on it"
    n_recipes: int
    "that were tried"
    n_stopped: int
    "of these, recipes whose images were not all run, since they could not win"
    tried: dict[str, float]
    "logit error of each that was finished"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The medians of one checkout on one run."""

    run: str
    version: str
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    recipe: str
    verdict: str
    n_recipes: int
    n_stopped: int
    same_choice: bool
    "as the first checkout's, in every turn"
    search_ratio: float | None
    "processor seconds of the recipes over the first checkout's: the median of the turns' ratios"


class Stopwatch:
    """The seconds of nested stages, each without those within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu_seconds: dict[str, float] = defaultdict(float)
        self._stages = [REST]
        self._lap()

    def _lap(self) -> None:
        self._clock = time.perf_counter()
        self._cpu = time.process_time()

    def note(self) -> None:
        """Count the time since the last note for the stage that is under way."""
        self.seconds[self._stages[-1]] += time.perf_counter() - self._clock
        self.cpu_seconds[self._stages[-1]] += time.process_time() - self._cpu
        self._lap()

    def timed(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed_work(*arguments: Any, **options: Any) -> Any:
            self.note()
            self._stages.append(stage)
            try:
                return work(*arguments, **options)
            finally:
                self.note()
                self._stages.pop()

        return timed_work


def time_function(watch: Stopwatch, stage: str, module: str, name: str) -> None:
    """Have a function, or a method, counted as the stage; none that this version lacks."""
    try:
        owner: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        return
    *owners, last = name.split(".")
    for part in owners:
        owner = getattr(owner, part)
    if hasattr(owner, last):
        setattr(owner, last, watch.timed(stage, getattr(owner, last)))


def child(run: Path, scratch: Path, precisions: tuple[str, ...]) -> Turn:
    """An export of a copy of the run, by the kneeedge that is imported."""
    copy = scratch / run.name
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("models", "cache"))
    watch = Stopwatch()
    for stage, places in STAGES.items():
        for place in places:
            module, _, name = place.partition(":")
            time_function(watch, stage, module, name)
    # minutes enough for every recipe, however busy the machine is
    options = ExportOptions(precisions=precisions, search_minutes=600)
    report = export_run(copy, options, Progress(quiet=True))
    watch.note()
    (int8,) = [file for file in report.files if file.report.precision == "int8"]
    assert int8.calibration is not None
    trials = {f"{t.method}, {' and '.join(t.float_layers)}": t for t in int8.calibration.trials}
    stopped = [name for name, t in trials.items() if getattr(t, "stopped_after", None)]
    layers = " and ".join(int8.calibration.float_layers)
    return Turn(
        seconds={stage: round(seconds, 2) for stage, seconds in watch.seconds.items()},
        cpu_seconds={stage: round(seconds, 2) for stage, seconds in watch.cpu_seconds.items()},
        recipe=f"{int8.calibration.method}, {layers or 'no layer'} in float",
        verdict=int8.report.verdict,
        n_recipes=len(trials),
        n_stopped=len(stopped),
        tried={name: trial.logit_error for name, trial in trials.items() if name not in stopped},
    )


def turn_of(checkout: Path, run: Path, scratch: Path, precisions: str) -> Turn:
    """What a process says that imports kneeedge from the checkout.

    Raises ValueError where it found another one, as beside an editable installation.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as own:
        # -P: benchmarks/triton.py is not to stand before the package of that name
        program = [sys.executable, "-P", str(Path(__file__).resolve())]
        command = [*program, "--child", str(run.resolve()), own, "--precision", precisions]
        variables = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
    said = json.loads(done.stdout)
    imported = Path(said.pop("imported"))
    if not imported.is_relative_to(checkout.resolve()):
        raise ValueError(f"{imported} was measured in place of {checkout}")
    return Turn(**said)


def rows_of(run: str, turns: Mapping[str, list[Turn]]) -> list[Row]:
    """The medians; `turns` by the checkout's name, the first first."""
    first = next(iter(turns.values()))
    rows = []
    for version, own in turns.items():
        ratios = [cpu_of_search(a) / cpu_of_search(b) for a, b in zip(own, first, strict=True)]
        rows.append(
            Row(
                run=run,
                version=version,
                seconds=medians([turn.seconds for turn in own]),
                cpu_seconds=medians([turn.cpu_seconds for turn in own]),
                recipe=own[0].recipe,
                verdict=own[0].verdict,
                n_recipes=own[0].n_recipes,
                n_stopped=own[0].n_stopped,
                same_choice=all(turn.recipe == first[0].recipe for turn in own),
                search_ratio=None if own is first else round(median(ratios), 2),
            )
        )
    return rows


def cpu_of_search(turn: Turn) -> float:
    return turn.cpu_seconds["int8: recipes"]


def medians(turns: list[dict[str, float]]) -> dict[str, float]:
    """By stage, in the order of STAGES."""
    return {
        stage: round(median(turn.get(stage, 0.0) for turn in turns), 1) for stage in (*STAGES, REST)
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkouts", nargs="*", help="VERSION=CHECKOUT; the first is compared with")
    parser.add_argument("--run", action="append", default=[], help="NAME=RUN, a run folder")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--precision", default="fp32,fp16,int8", help="which files; int8 is one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        turn = child(*asked.child, tuple(asked.precision.split(",")))
        print(json.dumps({"imported": kneeedge.__file__, **asdict(turn)}))
        return
    if not asked.run or not asked.checkouts:
        parser.error("give at least one --run and one VERSION=CHECKOUT")
    checkouts = dict(checkout.split("=", 1) for checkout in asked.checkouts)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, run in (run.split("=", 1) for run in asked.run):
            turns: dict[str, list[Turn]] = {version: [] for version in checkouts}
            for _ in range(asked.turns):
                for version, checkout in checkouts.items():
                    turns[version].append(
                        turn_of(Path(checkout), Path(run), Path(scratch), asked.precision)
                    )
            rows += rows_of(name, turns)
    record = {"environment": asdict(environment()), "rows": list(map(asdict, rows))}
    text = json.dumps(record, indent=2) + "\n"
    if asked.json:
        asked.json.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
