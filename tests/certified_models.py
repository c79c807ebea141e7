"""Model files with certified limits, made from files without."""

from dataclasses import replace
from pathlib import Path

from kneeedge.model.metadata import read_model_spec, with_metadata
from kneeedge.model.spec import SPEC_KEY, Certified


def limits(low: float, high: float) -> Certified:
    """Certified limits whose other figures are of no run."""
    return Certified(
        low=low,
        high=high,
        ppv=0.9,
        npv=0.9,
        confidence=0.9,
        split="val",
        n=100,
        n_units=90,
        n_answered=70,
        ppv_bound=0.91,
        npv_bound=0.92,
        prevalence=0.4,
        method="made up",
    )


def write_certified(model: Path, out: Path, low: float, high: float) -> Path:
    """The model with limits of the positive class's probability, and a threshold within them."""
    spec = read_model_spec(model)
    threshold = min(max(spec.threshold, low), high)
    spec = replace(spec, threshold=threshold, certified=limits(low, high))
    out.write_bytes(with_metadata(model.read_bytes(), {SPEC_KEY: spec.to_json()}, model))
    return out
