"""What the gate prints can be read by whoever sees it for the first time."""

import dataclasses

import numpy as np
import pytest

from kneeedge.report.card_figures import variant_lines
from kneeedge.report.export import WHAT_DECIDES, comparison_lines, gate_text
from kneeedge.runs.export_report import (
    CaseChange,
    ExportedFile,
    ExportReport,
    RefusalChange,
    VerifyReport,
)
from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.paired import paired_changes
from tests.run_records import LABELS, verify_report

CASE = CaseChange(
    path="val/Healthy/1.png",
    truth="Healthy",
    original="Healthy",
    variant="Healthy",
    original_probability=0.41,
    variant_probability=0.42,
    max_logit_change=0.01,
)


def report_of(verdict: str, variant: np.ndarray = LABELS, **changes: object) -> VerifyReport:
    """A file that answers `variant` where the original is always right."""
    report = verify_report("int8", verdict)
    of_answers = paired_changes(LABELS, LABELS, variant, positive_index=1)
    return dataclasses.replace(report, changes=of_answers, **changes)


def text_of(report: VerifyReport) -> str:
    return "\n".join(comparison_lines(report))


def test_images_that_moved_without_a_flip_are_not_taken_for_flips():
    lines = comparison_lines(report_of("inconclusive", largest=(CASE,), images_to_settle=268))
    flips = lines.index("  flips: 0")
    assert lines[flips + 1] == "  the logits that moved most, no answer among them changed:"
    assert lines[flips + 2].startswith("    val/Healthy/1.png: Healthy 0.410 → Healthy 0.420")
    assert lines[-1] == (
        "  about 262 more images would settle it if none of them flips: "
        "give them with --gate-data FOLDER, labels or not"
    )


def test_a_flip_is_named_right_below_the_count():
    flipped = dataclasses.replace(CASE, variant="Osteoporosis")
    variant = np.array([1, 1, 0, 1, 0, 1])
    text = text_of(report_of("inconclusive", variant, flips=(flipped,), images_to_settle=900))
    assert "  flips: 1\n    val/Healthy/1.png: Healthy 0.410 → Osteoporosis 0.420" in text
    assert (
        "about 894 more images would settle it at this rate of flips: "
        "give them, labelled, with --gate-data FOLDER"
    ) in text
    assert "moved most" not in text


OWN = RefusalChange(
    original=3,
    variant=3,
    changed=2,
    mean_change=1.5,
    largest_change=4.0,
    original_limit=40.0,
    variant_limit=43.25,
    at_original_limit=13,
    interval=Interval(-0.01, 0.01),
)
LENT = dataclasses.replace(OWN, variant=5, variant_limit=40.0, at_original_limit=5)
EARLIER = RefusalChange(original=3, variant=13, changed=12, mean_change=1.5, largest_change=4.0)


def test_refusals_are_told_with_the_limit_of_each():
    text = text_of(report_of("pass", refusals=OWN))
    assert (
        "  unlike the training images: 3 → 3 of 6 refused, 2 changed; "
        "distance change: mean +1.5, largest 4\n"
        "  limit: 40 → 43.25, set by this file's own distances; at the original's it would "
        "refuse 13\n"
    ) in text
    assert "3 → 5 of 6 refused" in text_of(report_of("pass", refusals=LENT))
    assert "  limit: 40, the original's\n" in text_of(report_of("pass", refusals=LENT))


def test_a_report_from_before_files_had_limits_tells_its_refusals_alone():
    text = text_of(report_of("pass", refusals=EARLIER))
    assert "3 → 13 of 6 refused, 12 changed" in text
    assert "limit:" not in text


@pytest.mark.parametrize(
    ("refusals", "told"),
    [
        (LENT, "about 900 val images would settle it at this rate of flips and refusals"),
        (OWN, "about 894 more images would settle it if none of them flips"),
        (EARLIER, "about 894 more images would settle it if none of them flips"),
        (None, "about 894 more images would settle it if none of them flips"),
    ],
)
def test_what_would_settle_it_names_refusals_where_they_leave_it_open(refusals, told):
    text = text_of(report_of("inconclusive", refusals=refusals, images_to_settle=900))
    assert told in text


@pytest.mark.parametrize(
    ("refusals", "cell"),
    [
        (OWN, "3 → 3 beyond 40 → 43.25"),
        (LENT, "3 → 5 beyond 40"),
        (EARLIER, "3 → 13"),
        (None, "none"),
    ],
)
def test_the_cards_table_of_files_has_refusals_and_limits(refusals, cell):
    report = report_of("pass", refusals=refusals)
    head, _, row, *_, note = variant_lines([report], "`knees`")
    assert head.endswith("| refused beyond the limit |")
    assert row.endswith(f"| {cell} |")
    own = "The limit of int8 is set by the file's own distances."
    assert (own in note) == (refusals is OWN)


def test_rankings_that_are_alike_have_words_and_no_interval():
    report = report_of("pass", auroc_change=0.0, auroc_interval=Interval(0.0, 0.0))
    assert "  AUROC change 0: both rank these images alike" in text_of(report)


def test_another_ranking_has_its_paired_interval():
    report = report_of("pass", auroc_change=-0.004, auroc_interval=Interval(-0.03, 0.02))
    assert "  AUROC change -0.00400 [-0.03000, +0.02000]" in text_of(report)


def test_without_a_flip_sensitivity_and_specificity_are_not_told_again():
    text = text_of(report_of("inconclusive"))
    assert "no answer changed (on other images up to ±0.3903 is possible)" in text
    assert "sensitivity" not in text
    assert "McNemar" not in text


def test_a_file_that_passed_by_its_logits_leaves_nothing_open():
    report = report_of("pass")
    assert report.passed_by_logits
    assert "no answer changed\n" in text_of(report)
    assert "is possible" not in text_of(report)


def test_with_a_flip_each_figure_has_its_change():
    variant = np.array([1, 1, 0, 1, 0, 1])
    text = text_of(report_of("inconclusive", variant))
    assert "specificity: change -0.3333 [" in text
    assert "sensitivity: no answer changed" in text


@pytest.mark.parametrize(("verdict", "told"), [("pass", 0), ("inconclusive", 1), ("fail", 0)])
def test_what_decides_is_told_once_where_a_file_is_inconclusive(verdict, told):
    file = ExportedFile(path="a.onnx", sha256="0" * 64, size_mb=1.0, report=report_of(verdict))
    assert gate_text(ExportReport("run", (file, file))).count(WHAT_DECIDES) == told
