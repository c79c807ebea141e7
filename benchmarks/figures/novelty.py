"""Tables of what images are refused by which distance."""

from typing import Any

from benchmarks.figures.markdown import NONE, table
from benchmarks.figures.results import read_result
from benchmarks.novelty_kinds import BEFORE, CHOSEN, HELD_OUT


def scores() -> str:
    """Every score on val: what it refuses, and what wrong answers it lets through."""
    result = read_result("novelty-val")
    held_out = {row["score"]: row for row in result["held_out"]}
    heads = (
        "distance", "harmed, refused", "sound, refused", "wrong answers", "AUROC, harmed",
        "no knee, refused", "held-out kinds: wrong answers",
    )  # fmt: skip
    rows = []
    for row in result["summaries"]:
        name = row["score"]
        cells = [f"{row[key]:.1%}" for key in ("harmed", "sound", "wrong")]
        cells += [f"{row['auroc_harmed']:.3f}", f"{row['far']:.1%}"]
        cells.append(f"{held_out[name]['wrong']:.1%}")
        shown = name.replace("|", "\\|")
        rows.append([f"**{shown}**" if name == CHOSEN else shown, *cells])
    return table(heads, rows)


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
