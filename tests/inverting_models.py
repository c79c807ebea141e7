"""Model files whose spec tells inverted images, made from files whose spec does not.

Their graphs turn nothing around: what is told of an image comes from the spec.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from kneeedge.model.metadata import read_model_spec, with_metadata
from kneeedge.model.polarity import Polarity, levels, normalised
from kneeedge.model.spec import SPEC_KEY
from kneeedge.pixels.phantom import phantom

BLANK_RANGE = 8


def phantom_polarity(size: int = 64) -> Polarity:
    """A test that calls phantoms upright and their inverses inverted: how like the mean one is."""
    knees = np.stack([phantom(seed, seed % 2, size) for seed in range(30)])
    features = normalised(levels(knees, BLANK_RANGE))
    weights = features.mean(axis=0)
    limit = -0.5 * float(np.median(features @ weights))
    return Polarity(
        weights=tuple(weights.tolist()), limit=limit, n=30, n_inverted=0, blank_range=BLANK_RANGE
    )


def write_inverting(model: Path, out: Path) -> Path:
    """The model with such a test for its size."""
    spec = read_model_spec(model)
    spec = replace(spec, polarity=phantom_polarity(spec.pixel_path.size))
    out.write_bytes(with_metadata(model.read_bytes(), {SPEC_KEY: spec.to_json()}, model))
    return out
