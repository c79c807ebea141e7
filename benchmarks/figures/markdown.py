"""Pieces of Markdown tables."""

from collections.abc import Sequence
from typing import Any

NONE = "—"
"in a cell that has no figure"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are text, and the others numbers."""
    rule = ["---"] * left + ["--:"] * (len(heads) - left)
    lines = [heads, rule, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def signed(number: float, decimals: int) -> str:
    """+0.4, −0.4, and 0.0 without a sign."""
    text = f"{number:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def accuracy_change(accuracy: dict[str, Any]) -> str:
    """What a file's accuracy differs by from its original's, in points, with its interval."""
    low, high = (signed(100 * accuracy["delta_interval"][end], 1) for end in ("low", "high"))
    return f"{signed(100 * accuracy['delta_accuracy'], 1)} [{low}, {high}]"


def span(interval: dict[str, float], decimals: int, factor: float = 1) -> str:
    """An interval in brackets."""
    low, high = (f"{factor * interval[end]:.{decimals}f}" for end in ("low", "high"))
    return f"[{low}, {high}]".replace("-", "−")
