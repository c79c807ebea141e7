"""What the gate makes of a variant's answers beside the original's."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("onnx")

from export.gate import gate_report, margin_moves
from kneeedge.data.dataset import Sample
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS, judge
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runs.export_report import VerifyReport
from kneeedge.statistics.paired import PairedChange, paired_change
from tests.tiny_onnx import tiny_spec

SPEC = tiny_spec()


def val_samples(n: int) -> tuple[Sample, ...]:
    """Images of the two classes in turn."""
    return tuple(
        Sample(
            path=Path(f"{i}.png"),
            name=f"{i}.png",
            sha256="",
            split="val",
            label=i % 2,
            group=str(i),
        )
        for i in range(n)
    )


def report_of(before: np.ndarray, after: np.ndarray) -> VerifyReport:
    """The gate's report on logits (N, 2) of the original and of an int8 file."""
    original = Answers(ORIGINAL, SPEC, before)
    variant = Answers("int8", SPEC, after)
    return gate_report(val_samples(len(before)), original, variant, "cpu")


def test_a_ranking_that_saturated_probabilities_hide_is_seen():
    """Every probability rounds to 1, and only the logits still rank."""
    margins = 800.0 + np.arange(40) * np.where(np.arange(40) % 2, 1, -1)
    before = np.column_stack([np.zeros(40), margins])
    after = np.column_stack([np.zeros(40), 1600 - margins])
    report = report_of(before, after)
    assert report.auroc_change == pytest.approx(-1.0)


def test_the_report_names_the_flipped_images():
    before = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    after = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.5], [0.0, 2.0]])
    report = report_of(before, after)
    (flip,) = report.flips
    assert (flip.path, flip.original, flip.variant) == ("2.png", *SPEC.classes)
    assert flip.max_logit_change == 2.0
    assert report.largest[0].path == "2.png"
    assert report.max_abs_logit_change == 2.0


def test_images_of_one_patient_tell_less_than_as_many_of_several():
    before = np.tile([[2.0, 0.0], [0.0, 2.0]], (200, 1))
    original = Answers(ORIGINAL, SPEC, before)
    lone = val_samples(400)
    pairs = tuple(dataclasses.replace(sample, group=str(i // 2)) for i, sample in enumerate(lone))
    report = gate_report(lone, original, Answers("int8", SPEC, before), "cpu")
    of_pairs = gate_report(pairs, original, Answers("int8", SPEC, before), "cpu")
    assert (report.verdict, of_pairs.verdict) == (PASS, INCONCLUSIVE)
    assert of_pairs.reason.startswith("400 images in 200 groups are too few: no answer flipped")
    assert of_pairs.images_to_settle == 2 * 268
    both_lost = before.copy()
    both_lost[:20] = both_lost[:20, ::-1]
    narrow = gate_report(lone, original, Answers("int8", SPEC, both_lost), "cpu")
    wide = gate_report(pairs, original, Answers("int8", SPEC, both_lost), "cpu")
    assert wide.changes["accuracy"].worst_loss > narrow.changes["accuracy"].worst_loss + 0.005
    assert wide.ece_interval.high > narrow.ece_interval.high


def test_rounding_that_differs_within_a_patient_tells_as_much_as_lone_images():
    before = np.tile([[2.0, 0.0], [0.0, 2.0]], (200, 1))
    rounded = before + np.random.default_rng(0).normal(scale=0.01, size=before.shape)
    samples = tuple(
        dataclasses.replace(sample, group=str(i // 2)) for i, sample in enumerate(val_samples(400))
    )
    report = gate_report(
        samples, Answers(ORIGINAL, SPEC, before), Answers("int8", SPEC, rounded), "cpu"
    )
    assert report.verdict == PASS
    assert report.changes["accuracy"].effective_n > 360


def test_a_move_is_of_the_original_answer_against_the_largest_other():
    spec = dataclasses.replace(SPEC, classes=("a", "b", "c"), positive="c")
    before = Answers(ORIGINAL, spec, np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 4.0]]))
    after = Answers("int8", spec, np.array([[2.5, 1.0, 2.0], [0.5, 1.0, 4.0]]))
    assert margin_moves(before, after) == pytest.approx([-1.5, 0.0])


def change(n: int, lost: int, gained: int) -> PairedChange:
    """The change of accuracy where so many of n answers became wrong, and so many correct."""
    labels = np.zeros(n, dtype=int)
    n_same = n - lost - gained
    original = np.array([0] * lost + [1] * gained + [0] * n_same)
    variant = np.array([1] * lost + [0] * gained + [0] * n_same)
    return paired_change(labels, original, variant)


@pytest.mark.parametrize(
    ("n", "lost", "gained", "verdict"),
    [
        (300, 0, 0, PASS),
        (100, 0, 0, INCONCLUSIVE),
        (300, 4, 0, INCONCLUSIVE),
        (300, 40, 1, FAIL),
        (20_000, 100, 50, PASS),
    ],
)
def test_the_verdict_follows_the_evidence(n, lost, gained, verdict):
    assert judge(change(n, lost, gained), 0.2, "int8", 0.01)[0] == verdict


def test_equal_logits_need_no_statistics():
    assert judge(change(10, 0, 0), 1e-5, "fp32", 0.01)[0] == PASS
    assert judge(change(10, 0, 0), 5e-3, "fp32", 0.01)[0] == INCONCLUSIVE


def test_a_logit_that_moved_too_far_fails_however_few_flips():
    verdict, reason = judge(change(10_000, 0, 0), 0.9, "fp16", 0.01)
    assert verdict == FAIL
    assert "0.9" in reason
