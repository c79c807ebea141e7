"""Tables of what an audit's looks at the pixels find: without the joint, and of planted labels."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.figures.findings import FULL, NARROW
from benchmarks.figures.markdown import NONE, span, table
from benchmarks.figures.results import read_result

KINDS = {"uniform": "by chance", "boundary": "where the probe is unsure"}


def audit_folder() -> str:
    """Whole audits: processor time by stage and before, memory, planted copies found."""
    stages = ("reading", "marks", "candidates", "comparisons", "shortcut test")
    counts = ("peak MB", "planted copies found", "other pairs")
    heads = ("images", "processor s", *stages, "before", *counts)
    before = {row["n"]: row["cpu_seconds"] for row in read_result("audit-folder-before")["rows"]}
    rows = [
        [
            f"{row['n']:,}",
            f"{row['cpu_seconds']:,.0f}",
            *(f"{row['stages'][stage]:,.0f}" for stage in stages),
            f"{before[row['n']]:,.0f}" if row["n"] in before else NONE,
            f"{row['peak_memory_mb']:,.0f}",
            f"{sum(row['found'].values()):,} of {sum(row['planted'].values()):,}",
            f"{row['n_other_pairs']:,}",
        ]
        for row in read_result("audit-folder")["rows"]
    ]
    return table(heads, rows, left=0)


def joint_data() -> str:
    """AUROC of the probe by view, of each data set."""
    rows = []
    for probe in read_result("joint-data")["probes"]:
        views = {row["view"]: area(row["auroc"], row["interval"]) for row in probe["separations"]}
        name = f"{probe['data']}, {probe['split'] or 'all'}"
        off_centre = f"{probe['n_off_centre']:,} of {probe['n']:,}"
        rows.append([name, *views.values(), off_centre])
    heads = ["data", *views, "no joint seen near the middle"]
    return table(heads, rows)


def joint_models() -> str:
    """AUROC of trained files by view, and where their class maps lie."""
    rows = []
    for model in read_result("joint-models")["models"]:
        views = {}
        for row in model["views"]:
            views[row["view"]] = area(row["auroc"]["value"], row["auroc"]["interval"], 3)
        name = NARROW if model["model"].startswith("slim") else FULL
        maps = [pointing_cell(pointing) for pointing in model["pointing"]]
        rows.append([name, *views.values(), *maps])
    heads = ["file", *views, "maps of right answers in the joint", "of wrong ones"]
    return table(heads, rows)


def area(value: float, interval: dict[str, float], decimals: int = 2) -> str:
    """0.66 [0.60, 0.72]."""
    return f"{value:.{decimals}f} {span(interval, decimals)}"


def pointing_cell(pointing: dict[str, Any]) -> str:
    """The mean share of the evidence in the joint, and of how many answers."""
    if not pointing["n"]:
        return NONE
    return f"{pointing['mass']:.0%} of {pointing['n']:,}"


def planted_labels() -> str:
    """The share of planted labels found by how many images are looked at: means over the seeds."""
    record = read_result("planted-labels")
    rows = []
    for kind, title in KINDS.items():
        trials = [trial for trial in record["trials"] if trial["kind"] == kind]
        shares = found(trials)
        alarms = mean(trial["false_alarms"] for trial in trials)
        cell = f"{alarms:.0f} of {trials[0]['n_reviewed']}"
        rows.append([title, *(f"{share:.0%}" for share in shares), cell])
    looked_at = [f"{review:.0%}" for review in record["reviews"]]
    return table(["planted", *looked_at, "false alarms in the first tenth"], rows)


def found(trials: Sequence[dict[str, Any]]) -> list[float]:
    """Of each share of the images the share of the planted labels among them."""
    columns = zip(*(trial["found"] for trial in trials), strict=True)
    n_planted = trials[0]["n_planted"]
    return [mean(column) / n_planted for column in columns]
