"""Figures of several seeds: their mean and deviation, and what changed seed by seed."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and sample deviation over seeds."""
    return {
        "mean": round(mean(values), 6),
        "sd": round(stdev(values), 6) if len(values) > 1 else 0.0,
    }


def paired(before: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """Mean and deviation over seeds, and of the differences from those before."""
    change = [b - a for a, b in zip(before, values, strict=True)]
    return {**spread(values), "change": with_interval(change)}


def with_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean, sample deviation, and Student's 95 % interval of the mean."""
    summary = spread(values)
    if len(values) > 1:
        half = float(student.ppf(0.975, len(values) - 1)) * summary["sd"] / len(values) ** 0.5
        summary |= {"low": summary["mean"] - half, "high": summary["mean"] + half}
    return summary
