"""Tables of certified limits on real knees, and of the calibration error."""

from collections.abc import Iterator
from typing import Any

from benchmarks.figures.markdown import NONE, span, table
from benchmarks.figures.results import read_result

TITLES = ("the default run", "six times faster")
"of the runs, in their order"


def certified() -> str:
    """What each promise comes to where its limits were found, and on the other split."""
    heads = ("limits found on", "PPV and NPV promised", "low, high", "then on",
             "answered", "PPV there", "NPV there")  # fmt: skip
    rows = []
    for row in read_result("certified")["runs"][0]["certified"]:
        promise = f"`{row['target']:g}`"
        if "certified" not in row:
            rows.append([row["found_on"], promise, "not shown", *[NONE] * 4])
            continue
        limits = row["certified"]
        found = [row["found_on"], promise, f"{limits['low']:.3f}, {limits['high']:.3f}"]
        for split in ("val", "test"):
            rows.append([*found, split, *three(row[split])])
            found = ["", "", ""]
    return table(heads, rows, left=4)


def three(answers: dict[str, Any]) -> Iterator[str]:
    """Share answered, PPV and NPV, each with its interval."""
    for name in ("answered", "ppv", "npv"):
        estimate = answers[name]
        yield f"{estimate['value']:.3f} {span(estimate['interval'], 3)}"


def certified_draws() -> str:
    """How many patients it takes."""
    heads = ("PPV and NPV promised", "patients", "draws that show it", "answered", "broken in")
    rows = []
    for row in read_result("certified")["resampled"]:
        answered = NONE if row["answered"] is None else f"{row['answered']:.0%}"
        found = f"{row['found']:,} of {row['draws']:,}"
        target = f"`{row['target']:g}`"
        rows.append([target, str(row["patients"]), found, answered, str(row["broken"])])
    return table(heads, rows)


def calibration() -> str:
    """The error as it is, by chance alone, and with what could be behind it taken out."""
    heads = (
        "run", "split", "positive", "right", "mean confidence", "ECE", "by chance alone",
        "at the split's own prior", "at its own temperature",
    )  # fmt: skip
    rows = []
    for title, run in zip(TITLES, read_result("certified")["runs"], strict=True):
        for split, found in run["calibration"].items():
            low, high = found["by_chance"]["range"]
            chance = f"{found['by_chance']['mean']:.3f} [{low:.3f}, {high:.3f}]"
            figures = (found["positive"], found["accuracy"], found["mean_confidence"], found["ece"])
            cures = (found["at_own_prior"], found["at_own_temperature"])
            rows.append(
                [
                    title,
                    split,
                    *(f"{figure:.3f}" for figure in figures),
                    chance,
                    *(f"{cure['ece']:.3f}" for cure in cures),
                ]
            )
    return table(heads, rows, left=2)
