"""Tables of narrowed networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.figures.markdown import NONE, accuracy_change, signed, table
from benchmarks.figures.recipes import between, mean_of
from benchmarks.figures.results import read_result
from benchmarks.seeds import spread
from kneeedge.model.verdict import PASS

SlimFile = tuple[dict[str, Any], dict[str, Any]]
"what `kneeedge slim` said of a file, and what `kneeedge bench` measured of a single image"


def slim() -> str:
    """Slim files by speed and seed, and the means of each speed; an image alone, test, and val."""
    heads = (
        "file", "one image, ms", "× eager", "MB", "flips on val", "at most lost there, points",
        "gate on val", "test accuracy, change [95 %], points", "flips on test",
    )  # fmt: skip
    eager, int8 = slim_originals()
    rows = [
        ["PyTorch eager, the original", *slim_cost(eager), *[NONE] * 5],
        ["its int8", *slim_cost(int8), *[NONE] * 3, *slim_test(int8)],
    ]
    for speedup, files in slim_files().items():
        rows += [slim_cells(file) for file in files]
        rows.append(OfSeeds(files).cells(f"{speedup:g} asked for, mean"))
    return table(heads, rows)


def slim_singles() -> list[dict[str, Any]]:
    rows = read_result("bench-slim-seeds")["results"]
    return [row for row in rows if row["scenario"] == "SingleStream"]


def slim_originals() -> tuple[dict[str, Any], dict[str, Any]]:
    """PyTorch eager, and the original's int8 file."""
    eager, int8, *_ = slim_singles()
    return eager, int8


def slim_files() -> dict[float, list[SlimFile]]:
    """By the speed that was asked for, the files of all seeds."""
    measured = {Path(row["model"]).name: row for row in slim_singles()}
    files: dict[float, list[SlimFile]] = {}
    for run in read_result("slim-seeds")["runs"]:
        files.setdefault(run["speedup"], []).append((run, measured[run["file"]]))
    return files


def times_as_fast(than: dict[str, Any], row: dict[str, Any]) -> float:
    """How many times as long as this file the other takes for an image."""
    return float(than["latency_ms"]["p50"] / row["latency_ms"]["p50"])


def slim_cells(file: SlimFile) -> list[str]:
    run, row = file
    _, int8 = slim_originals()
    return [
        f"{times_as_fast(int8, row):.1f}×, seed {run['seed']}",
        *slim_cost(row),
        f"{run['flips']} of {run['n']}",
        plain(100 * run["worst_loss"]),
        run["verdict"],
        *slim_test(row),
    ]


def slim_cost(row: dict[str, Any]) -> list[str]:
    eager, _ = slim_originals()
    return [
        f"{row['latency_ms']['p50']:.2f}",
        f"{times_as_fast(eager, row):.1f}",
        f"{row['size_mb']:.1f}",
    ]


def slim_test(row: dict[str, Any]) -> list[str]:
    accuracy = row["accuracy"]
    return [accuracy_change(accuracy), f"{accuracy['flips']} of {accuracy['n']}"]


@dataclass(frozen=True)
class OfSeeds:
    """What the files of one speed come to."""

    files: Sequence[SlimFile]

    def times_as_fast(self, than: dict[str, Any]) -> float:
        return mean(times_as_fast(than, row) for _, row in self.files)

    @property
    def change(self) -> str:
        """Of the accuracy on test, in points, with its deviation."""
        change = spread([100 * row["accuracy"]["delta_accuracy"] for _, row in self.files])
        return f"{signed(change['mean'], 1)} ± {change['sd']:.1f}"

    @property
    def passed(self) -> str:
        n_passed = sum(run["verdict"] == PASS for run, _ in self.files)
        return f"{n_passed} of {len(self.files)} pass"

    def cells(self, name: str) -> list[str]:
        eager, _ = slim_originals()
        runs = [run for run, _ in self.files]
        rows = [row for _, row in self.files]
        return [
            name,
            f"{mean(row['latency_ms']['p50'] for row in rows):.2f}",
            f"{self.times_as_fast(eager):.1f}",
            f"{mean(row['size_mb'] for row in rows):.1f}",
            f"{mean(run['flips'] for run in runs):.1f}",
            plain(100 * mean(run["worst_loss"] for run in runs)),
            self.passed,
            self.change,
            f"{mean(row['accuracy']['flips'] for row in rows):.1f}",
        ]


def plain(points: float) -> str:
    """With a minus where it is below 0, and no plus."""
    return signed(points, 1).removeprefix("+")


def slim_channels() -> str:
    """Channels of every layer, block by block: one survey gives all seeds of a speed the same."""
    heads = ["", *(f"block {i}" for i in range(1, 6))]
    rows = [["original", *blocks(read_result("slim-seeds")["channels"])]]
    for speedup, files in slim_files().items():
        (channels,) = {tuple(blocks(run["channels"])) for run, _ in files}
        rows.append([f"{speedup:g} asked for", *channels])
    return table(heads, rows, left=len(heads))


def blocks(channels: Sequence[Sequence[int]]) -> list[str]:
    return [" ".join(map(str, block)) for block in channels]


def widths() -> str:
    """One layer at every width: what it takes to write, and to read, so many channels."""
    rows = read_result("widths")["rows"]
    writes = ["written, ms", *(f"{row['writes_ms']:.2f}" for row in rows)]
    reads = ["read, ms", *(f"{row['reads_ms']:.2f}" for row in rows)]
    return table(["channels", *(str(row["width"]) for row in rows)], [writes, reads])


NARROWED = {
    "val flips, %": ("val flips", 100, 1),
    "accuracy change on val": ("val accuracy_change", 100, 1),
    "AUROC on val": ("val auroc", 1, 3),
    "at most lost on val, %": ("val worst_loss", 100, 1),
    "log loss on val": ("val log_loss", 1, 3),
    "test flips, %": ("test flips", 100, 1),
    "accuracy change on test": ("test accuracy_change", 100, 1),
    "AUROC on test": ("test auroc", 1, 3),
}
"figures of a narrowed network: key, factor and digits"


def slim_study() -> str:
    """Ways to train a narrowed network over three seeds."""
    return narrowed(read_result("slim-study"))


def slim_scan() -> str:
    """More ways, by one seed."""
    return narrowed(read_result("slim-scan"))


def slim_steps() -> str:
    """Channels that go at once, and in two steps."""
    return narrowed(read_result("slim-steps"))


def narrowed(result: dict[str, Any]) -> str:
    """Each variant's figures, and with several seeds how its log loss differs from the first's."""
    rows: list[list[str]] = []
    for variant in result["variants"]:
        figures = variant["compared"]
        cells = [mean_of(figures[key], factor, n) for key, factor, n in NARROWED.values()]
        change = figures["val log_loss"]["change"]
        if "low" in change:
            cells.append(between(change, 3) if rows else NONE)
        rows.append([variant["name"], *cells, f"{variant['seconds'] / 60:.1f}"])
    against = ["log loss against the first, 95 %"] if result["seeds"] > 1 else []
    return table(("training", *NARROWED, *against, "minutes"), rows)
