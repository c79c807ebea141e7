"""CSV cells that a spreadsheet would run."""

import csv
import io

import pytest

from kneeedge.system.spreadsheet import csv_text, no_formula, original_text

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_marked_and_comes_back(text: str) -> None:
    cell = no_formula(text)
    assert cell == f"./{text}"
    assert original_text(cell) == text
    assert no_formula(cell) == cell


@pytest.mark.parametrize("text", ["", "Healthy", "./a.png", "../a.png", "a=b", "p_=1"])
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert no_formula(text) == text
    assert original_text(text) == text


def test_a_table_marks_texts_and_no_numbers() -> None:
    text = csv_text(("=a", "b"), [("=b", -1.5), ("-2.5e-3", None)])
    assert list(csv.reader(io.StringIO(text))) == [["./=a", "b"], ["./=b", "-1.5"], ["-2.5e-3", ""]]
