"""Tables of which test tells inverted knees."""

from typing import Any

from benchmarks.figures.markdown import NONE, table
from benchmarks.figures.results import read_result
from benchmarks.polarity.names import BEFORE, CHOSEN

NAMES = ("as they are", "severity 1 to 3", "1 to 5", "bars")
"of the shares that a test is judged by"
SHOWN = (1, 3, 5)
"severities in the table of kinds"


def tests() -> str:
    """Every test on train and val: upright knees that it turns, inverted ones that it misses."""
    keys = ("clean", "usual", "all", "bars")
    heads = ["test"]
    heads += [f"{what}: {name}" for what in ("turned", "missed") for name in NAMES]
    rows = []
    for row in read_result("polarity")["tests"]:
        name = row["test"]
        shares = [row[f"{what}_{key}"] for what in ("turned", "missed") for key in keys]
        rows.append([f"**{name}**" if name == CHOSEN else name, *map(percent, shares)])
    return table(heads, rows)


def kinds() -> str:
    """What is not 0.0 % throughout on test, by the test before and by the one chosen."""
    cells = read_result("polarity")["cells"]
    of_test = {
        name: [row for row in cells if row["test"] == name and row["severity"] in SHOWN]
        for name in (BEFORE, CHOSEN)
    }
    unchanged = f"{percent(0)} → {percent(0)}"
    rows = []
    for before, after in zip(of_test[BEFORE], of_test[CHOSEN], strict=True):
        severity = str(before["severity"] or NONE)
        changes = [pair(before, after, "turned", 1), pair(before, after, "missed", 2)]
        if set(changes) != {unchanged}:
            rows.append([before["kind"], severity, *changes])
    heads = ("kind", "severity", "upright, turned", "inverted, not turned")
    return table(heads, rows)


def others() -> str:
    """Another source of knees, by its own test and by knee-kl's."""
    rows = []
    for row in read_result("polarity")["other"]:
        shares = [row[f"{what}_{key}"] for what in ("turned", "missed") for key in ("clean", "all")]
        rows.append([row["test"], row["learnt_from"], *map(percent, shares)])
    heads = ("test", "learnt from", "turned", "changed: turned", "missed", "changed: missed")
    return table(heads, rows, left=2)


def pair(before: dict[str, Any], after: dict[str, Any], key: str, times: int) -> str:
    shares = [row[key] / (times * row["n"]) for row in (before, after)]
    return " → ".join(map(percent, shares))


def percent(share: float) -> str:
    return f"{share:.1%}"
