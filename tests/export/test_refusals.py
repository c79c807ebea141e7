"""Each file's limit to refuse, and the gate's verdict on the genuine images that it refuses."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

from export.refusals import compare_refusals, judged, spec_of_file
from kneeedge.model.spec import Novelty
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from kneeedge.runs.export_report import RefusalChange, VerifyReport
from kneeedge.statistics.paired import paired_change
from kneeedge.training.novelty import quantile_limit
from tests.run_records import verify_report
from tests.tiny_onnx import tiny_spec

ORIGINAL = np.arange(1.0, 401.0)
"the distances of 400 genuine images, of which the limit lets 397 be answered"
NOVELTY = Novelty(limit=397.5, refused=0.01, split="val", n=400, method="by hand")


def refusals_of(variant: np.ndarray, precision: str) -> RefusalChange:
    change = compare_refusals(NOVELTY, ORIGINAL, variant, precision)
    assert change is not None
    return change


def report_of(precision: str, n: int = 400, verdict: str = PASS, **changes: object) -> VerifyReport:
    report = verify_report(precision, verdict)
    return dataclasses.replace(report, n=n, reason="of the answers", **changes)


def swapped(n_more: int, n_fewer: int = 0) -> np.ndarray:
    """Distances of which so many cross the limit of ORIGINAL upwards, and so many downwards."""
    distances = ORIGINAL.copy()
    distances[:n_more] = 500.0
    distances[400 - n_fewer :] = 1.0
    return distances


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_file_whose_distances_are_rounded_has_the_limit_of_its_own(precision):
    """1.1 d + 2 is beyond 397.5 for the 41 images from d = 360 on."""
    refusals = refusals_of(1.1 * ORIGINAL + 2, precision)
    assert (refusals.original, refusals.variant, refusals.changed) == (3, 3, 0)
    assert refusals.original_limit == 397.5
    assert refusals.variant_limit == refusals.own_limit == pytest.approx(1.1 * 397.5 + 2)
    assert refusals.at_original_limit == 41
    assert refusals.mean_change == pytest.approx(0.1 * 200.5 + 2)
    assert refusals.largest_change == pytest.approx(42.0)


def test_an_fp32_file_keeps_the_limit_of_the_run():
    refusals = refusals_of(1.1 * ORIGINAL + 2, "fp32")
    assert (refusals.variant_limit, refusals.own_limit) == (397.5, None)
    assert (refusals.original, refusals.variant, refusals.at_original_limit) == (3, 41, 41)
    assert (refusals.variant_alone, refusals.original_alone) == (38, 0)


def test_the_own_limit_is_the_one_that_training_would_set():
    distances = np.random.default_rng(0).gamma(9.0, 2.0, 400)
    assert refusals_of(distances, "int8").variant_limit == quantile_limit(distances)[0]


def test_the_limit_lies_between_neighbours_in_single_precision_too():
    neighbours = ORIGINAL.astype(np.float32)
    neighbours[397:] = np.nextafter(np.float32(397.0), np.float32(400.0))
    refusals = refusals_of(neighbours, "int8")
    assert 397.0 < refusals.variant_limit < float(neighbours[397])
    assert refusals.variant == 3


def test_the_interval_is_of_the_share_refused_more():
    """As if refusing were the right answer, which the variant gives more often."""
    refusals = refusals_of(swapped(10, 1), "fp32")
    refused_before = ORIGINAL > 397.5
    refused_after = swapped(10, 1) > 397.5
    gain = paired_change(np.ones(400), refused_before, refused_after)
    assert (gain.gained, gain.lost) == (10, 1)
    assert refusals.interval == gain.interval


def test_a_model_that_answers_every_image_has_no_refusals():
    assert compare_refusals(None, None, None, "int8") is None
    report = judged(report_of("int8"), None)
    assert (report.refusals, report.verdict, report.reason) == (None, PASS, "of the answers")


def test_what_surely_refuses_too_many_fails_and_the_reason_names_refusals():
    report = judged(report_of("fp32"), refusals_of(swapped(10), "fp32"))
    assert report.verdict == FAIL
    assert report.reason == (
        "refusals: at least 1.36% more of the images refused (95 % confidence, tolerance 1.00%): "
        "10 of 400 refused by it alone, 0 by the original alone"
    )


def test_few_images_refused_more_leave_it_open_and_say_how_many_would_settle_it():
    report = judged(report_of("fp32"), refusals_of(swapped(2), "fp32"))
    assert (report.verdict, report.images_to_settle is not None) == (INCONCLUSIVE, True)
    assert report.images_to_settle > 400
    assert report.reason.startswith("refusals: 400 images are too few: 2 of 400 refused by it")
    wider = judged(report_of("fp32", tolerance=0.02), refusals_of(swapped(2), "fp32"))
    assert (wider.verdict, wider.images_to_settle) == (PASS, None)


def test_the_number_that_settles_both_is_the_larger():
    refusals = refusals_of(swapped(2), "fp32")
    alone = judged(report_of("fp32"), refusals).images_to_settle
    both = report_of("fp32", verdict=INCONCLUSIVE, images_to_settle=10 * alone)
    assert judged(both, refusals).images_to_settle == 10 * alone
    assert judged(both, refusals).reason == "of the answers"
    unknown = dataclasses.replace(both, images_to_settle=None)
    assert judged(unknown, refusals).images_to_settle is None


def test_images_that_change_places_are_no_more_refusals_of_a_file_with_its_own_limit():
    """Three others are refused, as many as before: by how a limit is found, and not by luck."""
    distances = swapped(3, 3)
    own = refusals_of(distances, "int8")
    assert (own.original, own.variant, own.changed) == (3, 3, 6)
    assert judged(report_of("int8"), own).verdict == PASS
    assert judged(report_of("fp32"), refusals_of(distances, "fp32")).verdict == INCONCLUSIVE


def test_what_refuses_fewer_or_moved_by_rounding_passes_however_few_the_images():
    novelty = dataclasses.replace(NOVELTY, limit=3.0, n=4)
    original = np.array([1.0, 2.0, 2.999, 4.0])
    fewer = compare_refusals(novelty, original, np.array([1.0, 2.0, 2.5, 2.9]), "fp32")
    rounded = compare_refusals(novelty, original, np.array([1.0, 2.0, 3.001, 4.0]), "fp32")
    moved = compare_refusals(novelty, original, np.array([1.0, 2.0, 3.1, 4.0]), "fp32")
    verdicts = [judged(report_of("fp32", 4), change).verdict for change in (fewer, rounded, moved)]
    assert verdicts == [PASS, PASS, INCONCLUSIVE]


def test_the_answers_reason_stays_where_they_are_no_better():
    failed = report_of("fp32", verdict=FAIL)
    assert judged(failed, refusals_of(swapped(10), "fp32")).reason == "of the answers"


def test_the_spec_of_a_file_has_its_limit_and_says_whose_distances_set_it():
    spec = dataclasses.replace(tiny_spec(), novelty=NOVELTY)
    int8 = judged(report_of("int8"), refusals_of(2 * ORIGINAL, "int8"))
    novelty = spec_of_file(spec, int8).novelty
    assert novelty.limit == 795.0
    assert novelty.method == "by hand, by this int8 file's own distances"
    assert dataclasses.replace(novelty, limit=397.5, method="by hand") == NOVELTY
    fp32 = judged(report_of("fp32"), refusals_of(ORIGINAL, "fp32"))
    assert spec_of_file(spec, fp32) == spec
    assert spec_of_file(tiny_spec(), report_of("int8")) == tiny_spec()


def test_a_report_from_before_own_limits_gives_a_file_the_limit_of_the_run():
    earlier = RefusalChange(original=3, variant=13, changed=12, mean_change=1.0, largest_change=4.0)
    report = judged(report_of("int8"), earlier)
    assert (report.verdict, report.refusals) == (PASS, earlier)
    spec = dataclasses.replace(tiny_spec(), novelty=NOVELTY)
    assert spec_of_file(spec, report) == spec
    assert (earlier.variant_alone, earlier.original_alone) == (11, 1)


def test_patients_with_several_images_widen_what_is_said_of_refusals() -> None:
    variant = swapped(2)
    alone = compare_refusals(NOVELTY, ORIGINAL, variant, "fp32")
    of_pairs = compare_refusals(NOVELTY, ORIGINAL, variant, "fp32", np.arange(400) // 2)
    assert of_pairs.effective_n < 400
    assert of_pairs.interval.high > alone.interval.high
    report = report_of("fp32")
    assert judged(report, alone).images_to_settle < judged(report, of_pairs).images_to_settle
