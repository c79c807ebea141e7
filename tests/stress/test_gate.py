"""Rows and the gate under corruption: each side by its own spec, paired image by image."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from kneeedge.data.dataset import Sample
from kneeedge.model.spec import ModelSpec
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from kneeedge.report.stress_gate import gate_lines, gate_rows
from kneeedge.stress.answers import CellAnswers
from kneeedge.stress.cells import CLEAN, Cell
from kneeedge.stress.gate import GATE_CELLS, judge_corrupted
from kneeedge.stress.record import StressGate
from kneeedge.stress.rows import rows_of
from kneeedge.system.strict_json import from_json, to_json
from tests.run_records import verify_report
from tests.tiny_onnx import tiny_spec

SPEC = tiny_spec()
BLUR = next(c for c, cell in enumerate(GATE_CELLS) if cell.kind == "blur")
N = 400


def samples_of(n: int, groups: int | None = None) -> tuple[Sample, ...]:
    """Images of either class in turn, in so many groups."""
    return tuple(
        Sample(
            path=Path(f"{i}.png"),
            name=f"{i}.png",
            sha256=f"{i:064x}",
            split="val",
            label=i % 2,
            group=str(i % groups if groups else i),
        )
        for i in range(n)
    )


def answers_of(
    n: int, n_cells: int, wrong: dict[int, list[int]] | None = None, spec: ModelSpec = SPEC
) -> CellAnswers:
    """All answers right, but for the images `wrong` in a cell."""
    predictions = np.tile(np.arange(n) % 2, (n_cells, 1))
    for cell, images in (wrong or {}).items():
        predictions[cell, images] = 1 - predictions[cell, images]
    logits = np.where(predictions[:, :, None] == np.arange(2), 2.0, -2.0)
    distances = np.zeros((n_cells, n))
    return CellAnswers(
        spec, np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), logits, distances
    )


def gate_of(wrong: list[int], n: int = N, tolerance: float = 0.01, **options: object) -> StressGate:
    """The variant has these images wrong under blur, the original none."""
    cells = len(GATE_CELLS)
    original = answers_of(n, cells)
    variant = answers_of(n, cells, {BLUR: wrong})
    is_converted = bool(options.get("is_converted", True))
    precision = str(options.get("precision", "int8"))
    return judge_corrupted(samples_of(n), original, variant, precision, tolerance, is_converted)


def test_a_loss_beyond_chance_fails_and_names_its_kind() -> None:
    gate = gate_of(list(range(24)))
    assert gate.verdict == FAIL
    assert gate.reason.startswith("blur: at least ")
    assert "24 of 400 answers flipped, 24 right to wrong" in gate.reason


def test_a_loss_that_chance_explains_among_eighteen_kinds_is_no_failure() -> None:
    """9 of 400: surely over one point if blur were the only kind, not among eighteen."""
    gate = gate_of(list(range(9)))
    assert gate.verdict == INCONCLUSIVE
    assert "under blur 9 of 400 answers flipped" in gate.reason
    assert gate.reason.endswith("more than the tolerance is lost here under blur")
    assert gate.images_to_settle is not None


def test_no_flip_under_any_kind_passes_with_enough_images() -> None:
    gate = gate_of([])
    assert gate.verdict == PASS
    assert gate.reason.startswith("at most 0.67% of accuracy lost under any of 18")


def test_a_few_images_leave_it_open_though_no_answer_flipped() -> None:
    gate = gate_of([], n=60, is_converted=False)
    assert gate.verdict == INCONCLUSIVE
    assert gate.reason.startswith("60 images are too few")


def test_what_moved_by_rounding_alone_passes_with_few_images() -> None:
    assert gate_of([], n=60, precision="fp32").verdict == PASS
    assert gate_of([], n=60, precision="int8").verdict == INCONCLUSIVE


def test_each_side_answers_at_its_own_threshold() -> None:
    n = 60
    strict = dataclasses.replace(SPEC, threshold=0.99)
    original = answers_of(n, len(GATE_CELLS))
    variant = answers_of(n, len(GATE_CELLS), spec=strict)
    gate = judge_corrupted(samples_of(n), original, variant, "int8", 0.01, False)
    assert gate.verdict == FAIL
    assert gate.kinds[0].original == 1.0
    assert gate.kinds[0].variant == 0.5


def test_the_gate_survives_json_within_its_report() -> None:
    report = dataclasses.replace(verify_report("int8"), stress=gate_of([1, 2]))
    assert from_json(type(report), to_json(report)) == report


def test_the_printed_report_counts_the_flips_of_each_kind() -> None:
    text = "\n".join(gate_lines(gate_of([1, 2, 3])))
    assert "400 val images in 18 ways at severity 3: inconclusive" in text
    assert "flips: blur 3; none under the other 17" in text


def test_the_card_has_a_row_a_kind_and_says_where_nothing_was_asked() -> None:
    report = dataclasses.replace(verify_report("int8"), stress=gate_of([1, 2, 3, 4]))
    lines = gate_rows([report], "`knees`")
    assert sum(line.startswith("| ") for line in lines) == 2 + 18
    (row,) = [line for line in lines if line.startswith("| blur |")]
    assert row.startswith("| blur | 1.000 | 0% | -1.0 [")
    assert gate_rows([verify_report("int8")], "`knees`") == []


def test_rows_tell_loss_and_how_much_more_the_variant_loses() -> None:
    cells = (CLEAN, Cell("blur", 3))
    n = 50
    original = answers_of(n, 2, {1: [0, 1]})
    variant = answers_of(n, 2, {0: [4], 1: [0, 1, 2, 3, 4]})
    clean, corrupted = rows_of(samples_of(n), cells, variant, original)
    assert (clean.kind, clean.severity, clean.level, clean.loss) == ("clean", 0, None, 0.0)
    assert (corrupted.severity, corrupted.level) == (3, 0.75)
    assert corrupted.accuracy.value == pytest.approx(0.9)
    assert corrupted.loss == pytest.approx(0.08)
    assert (corrupted.paired.change.lost, corrupted.paired.change.gained) == (3, 0)
    # 4 of 50 more than clean, where the original lost 2 of 50
    assert corrupted.paired.extra_loss == pytest.approx(0.04)
    assert corrupted.paired.extra_interval.low < 0.04 < corrupted.paired.extra_interval.high


def test_the_first_model_is_paired_with_nothing() -> None:
    (row,) = rows_of(samples_of(10), (CLEAN,), answers_of(10, 1))
    assert row.paired is None
    assert row.refused.value == 0.0


def test_several_images_of_a_patient_widen_the_intervals() -> None:
    n = 60
    wrong = {0: [0, 20, 40, 1, 21, 41]}
    (alone,) = rows_of(samples_of(n), (CLEAN,), answers_of(n, 1, wrong))
    (grouped,) = rows_of(samples_of(n, groups=20), (CLEAN,), answers_of(n, 1, wrong))
    widths = [row.accuracy.interval.high - row.accuracy.interval.low for row in (alone, grouped)]
    assert widths[1] > 1.2 * widths[0]
    assert "groups" in grouped.accuracy.method


def test_several_images_of_a_patient_widen_what_is_paired() -> None:
    n = 60
    cells = (CLEAN, Cell("blur", 3))
    original = answers_of(n, 2)
    variant = answers_of(n, 2, {1: [0, 20, 40, 1, 21, 41]})
    lone = rows_of(samples_of(n), cells, variant, original)[1].paired
    grouped = rows_of(samples_of(n, groups=20), cells, variant, original)[1].paired
    assert lone is not None
    assert grouped is not None
    assert grouped.change.worst_loss > lone.change.worst_loss + 0.02
    assert grouped.extra_interval.high > lone.extra_interval.high + 0.02
    assert grouped.change.n_groups == 20


def test_the_gate_under_corruption_counts_patients() -> None:
    n = 400
    cells = len(GATE_CELLS)
    original = answers_of(n, cells)
    options = ("int8", 0.01, False)
    lone = judge_corrupted(samples_of(n), original, original, *options)
    grouped = judge_corrupted(samples_of(n, groups=200), original, original, *options)
    assert (lone.verdict, grouped.verdict) == (PASS, INCONCLUSIVE)
    assert grouped.images_to_settle == 2 * 268


def test_what_is_wrong_and_not_refused_is_counted_by_itself() -> None:
    n = 20
    cells = (CLEAN, Cell("blur", 3))
    answers = answers_of(n, 2, {1: [0, 1, 2, 3]})
    novelty = {"limit": 0.5, "refused": 0.01, "split": "val", "n": 1, "method": "none"}
    spec = dataclasses.replace(SPEC, novelty=from_json(_novelty(), to_json(novelty)))
    distances = np.zeros((2, n))
    distances[1, :3] = 1.0
    row = rows_of(
        samples_of(n), cells, dataclasses.replace(answers, spec=spec, distances=distances)
    )[1]
    assert row.refused.value == pytest.approx(0.15)
    assert row.wrong_unrefused == pytest.approx(0.05)


def _novelty() -> type:
    from kneeedge.model.spec import Novelty

    return Novelty
