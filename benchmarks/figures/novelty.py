"""Tables of what images are refused by which distance."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.figures.markdown import NONE, table
from benchmarks.figures.results import read_result
from benchmarks.novelty.kinds import BEFORE, CHOSEN, HELD_OUT

Figures = dict[str, dict[str, float]]
SEEDS = ("novelty-seed-0", "novelty-seed-1", "novelty-seed-2")
"one network each"


def scores() -> str:
    """Every score on val of the networks that it was weighed on: the fewest wrong answers first."""
    narrow, int8 = figures_of("novelty-slim6"), figures_of("novelty-int8")
    seeds = [figures_of(name) for name in SEEDS]
    held_out = [figures_of(name, "held_out") for name in SEEDS]
    heads = (
        "distance", "wrong answers: three seeds", "int8", "narrow", "harmed, refused: three seeds",
        "narrow", "sound, refused: three seeds", "narrow", "no knee, refused",
        "held-out kinds: wrong answers",
    )  # fmt: skip
    rows = []
    for name in sorted(int8, key=lambda name: mean(seed[name]["wrong"] for seed in seeds)):
        cells = [share(seeds, name, "wrong"), share([int8], name, "wrong")]
        cells.append(share([narrow], name, "wrong"))
        for key in ("harmed", "sound"):
            cells += [share(seeds, name, key), share([narrow], name, key)]
        cells += [share(seeds, name, "far"), share(held_out, name, "wrong")]
        shown = name.replace("|", "\\|")
        rows.append([f"**{shown}**" if name == CHOSEN else shown, *cells])
    return table(heads, rows)


def figures_of(result: str, part: str = "summaries") -> Figures:
    """The summary of each score of a study, by its name."""
    return {row["score"]: row for row in read_result(result)[part]}


def share(studies: Sequence[Figures], name: str, key: str) -> str:
    """The mean over studies; nothing where they did not weigh the score."""
    found = [study[name][key] for study in studies if name in study]
    return f"{mean(found):.1%}" if found else NONE


def kinds() -> str:
    """Every kind on test, by the distance before and by the one chosen."""
    cells = read_result("novelty-test")["cells"]
    heads = (
        "kind", "severity", "n", "accuracy", "refused", "wrong answers", "AUROC",
        "accepted at 95 % of genuine",
    )  # fmt: skip
    rows = []
    for before, after in zip(cells[BEFORE], cells[CHOSEN], strict=True):
        name = f"{before['kind']} (held out)" if before["kind"] in HELD_OUT else before["kind"]
        accuracy = NONE if before["accuracy"] is None else f"{before['accuracy']:.3f}"
        severity = str(before["severity"] or NONE)
        changes = [pair(before, after, "refused"), wrong(before, after)]
        if before["kind"] == "clean":
            changes += [NONE, NONE]
        else:
            changes += [f"{before['auroc']:.3f} → {after['auroc']:.3f}"]
            changes += [pair(before, after, "false_accepts")]
        rows.append([name, severity, str(before["n"]), accuracy, *changes])
    return table(heads, rows)


def pair(before: dict[str, Any], after: dict[str, Any], key: str) -> str:
    return f"{before[key]:.1%} → {after[key]:.1%}"


def wrong(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Share answered and wrong; none where there is no right answer."""
    if before["safe"] is None:
        return NONE
    return f"{1 - before['safe']:.1%} → {1 - after['safe']:.1%}"
