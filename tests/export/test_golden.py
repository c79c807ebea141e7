"""Golden inputs that bite: on both sides of where an answer changes, as near as machines differ."""

import dataclasses

import numpy as np
import pytest
import torch

from export.golden import both_sides, crossing, margin_of, mixture_at
from tests.tiny_onnx import tiny_spec

SIDE = 64


def brightness(image: np.ndarray) -> float:
    """A value that is above 0 where the picture is brighter than 100."""
    return float(image.mean()) - 100.0


@pytest.mark.parametrize("level", [40, 99, 101, 160])
@pytest.mark.parametrize("gap", [0.01, 0.5])
def test_both_sides_lie_just_beyond_what_machines_differ_by(level: int, gap: float) -> None:
    start = np.full((1, SIDE, SIDE), level, dtype=np.uint8)
    pair = crossing(start, lambda x: x.mean() - 100.0, 0.7, "")
    assert brightness(pair.low) <= -0.7 < 0.7 <= brightness(pair.high)
    below, above = both_sides(pair, brightness, gap)
    for image, sign in ((below, -1.0), (above, 1.0)):
        assert image.dtype == np.uint8
        assert gap <= sign * brightness(image) <= 1.5 * gap + 256 / SIDE**2


def test_a_value_that_no_pixel_moves_has_no_sides() -> None:
    start = np.zeros((1, SIDE, SIDE), dtype=np.uint8)
    assert crossing(start, lambda x: 0.0 * x.sum() - 1.0, 0.1, "") is None


def test_a_start_that_is_too_near_already_is_no_start() -> None:
    start = np.full((1, SIDE, SIDE), 100, dtype=np.uint8)
    assert crossing(start, lambda x: x.mean() - 100.0, 0.1, "") is None


def test_a_pair_that_a_variant_answers_alike_gives_no_input() -> None:
    start = np.full((1, SIDE, SIDE), 99, dtype=np.uint8)
    pair = crossing(start, lambda x: x.mean() - 100.0, 0.7, "")
    assert both_sides(pair, lambda _: 5.0, 0.1) == []


def test_a_mixture_never_lies_nearer_to_the_edge_than_asked() -> None:
    dark = np.zeros((1, SIDE, SIDE), dtype=np.uint8)
    bright = np.full((1, SIDE, SIDE), 255, dtype=np.uint8)
    for aim in (-30.0, -2.0, 2.0, 30.0):
        mixture = mixture_at(dark, bright, brightness, aim)
        assert abs(aim) / 1.25 <= abs(brightness(mixture)) <= abs(aim) + 2.0
        assert brightness(mixture) * aim > 0
        assert set(np.unique(mixture)) == {0, 255}


def test_the_margin_is_zero_where_the_answer_changes() -> None:
    spec = dataclasses.replace(
        tiny_spec("fp32", ("Healthy", "Osteoporosis"), 64), temperature=0.7, threshold=0.81
    )
    margin = margin_of(spec, np.zeros(2))
    for difference in np.linspace(-6, 6, 25):
        logits = np.array([0.0, difference])
        probability = 1 / (1 + np.exp(-difference / spec.temperature))
        assert (margin(logits) >= 0) == (probability >= spec.threshold)
    assert isinstance(margin(torch.tensor([0.0, 1.0])), torch.Tensor)
