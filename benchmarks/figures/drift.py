"""Tables of nights that drift: when a change is noticed, and how often there is none."""

from typing import Any

from benchmarks.figures.markdown import NONE, span, table
from benchmarks.figures.results import read_result


def delays() -> str:
    """Images until each change is noticed, from the first night on and behind a site's baseline."""
    heads = (
        "change", "first nights: median", "95 %", "within 50", "a site: median", "95 %",
        "within 50", "called", "least possible",
    )  # fmt: skip
    by_kind: dict[str, dict[str, dict[str, Any]]] = {}
    for row in read_result("drift")["delays"]:
        by_kind.setdefault(row["kind"], {})[row["against"]] = row
    rows = []
    for kind, against in by_kind.items():
        site = against["site"]
        first = delay_cells(against["model"]) if "model" in against else [NONE] * 3
        least = NONE if site["least"] is None else f"{site['least']:.0f}"
        rows.append([kind, *first, *delay_cells(site), called(site), least])
    return table(heads, rows)


def delay_cells(row: dict[str, Any]) -> list[str]:
    """Median, 95 % and the share within 50 images; what is not noticed is more than all."""
    figures = [NONE if row[name] is None else f"{row[name]:.0f}" for name in ("median", "most")]
    return [*figures, f"{row['within_50']:.0%}"]


def called(row: dict[str, Any]) -> str:
    """The figure that moved first, most often; of a prevalence how often it was called that."""
    if row["kind"].startswith("prevalence"):
        n_right = row["kinds"].get("prevalence", 0)
        return f"prevalence {n_right} of {row['noticed']}"
    figure, n = next(iter(row["figures"].items()))
    return f"{figure} {n} of {row['noticed']}"


def quiet() -> str:
    """Alarms while nothing changes."""
    rows = [
        [
            row["kind"],
            f"{row['n_images']:,}",
            str(row["alarms"]),
            f"{row['per_year']:.2f} {span(row, 2)}",
        ]
        for row in read_result("drift")["false_alarms"]
    ]
    return table(("simulated", "images", "alarms", "a year [95 %]"), rows)
