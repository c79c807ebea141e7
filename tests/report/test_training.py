"""The end of `kneeedge slim` says why a width was taken that the gate did not pass."""

from pathlib import Path

import pytest

from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from kneeedge.report.training import NONE_PASSED, slim_text
from kneeedge.runs.slim_report import SlimConfig, SlimReport
from tests.run_records import slimmed
from tests.runs.test_slim_report import step


@pytest.mark.parametrize(("verdict", "told"), [(PASS, 0), (INCONCLUSIVE, 1), (FAIL, 1)])
def test_a_width_taken_without_a_pass_says_by_what_rule(verdict: str, told: int) -> None:
    steps = (step("a", 9.0, verdict), step("b", 5.0, FAIL))
    report = SlimReport(SlimConfig(original="runs/wide"), slimmed(), steps, "a")
    text = slim_text(report, Path("runs/wide-slim"))
    assert text.count(NONE_PASSED) == told
    assert f"{verdict.upper()}  a  ← taken" in text
