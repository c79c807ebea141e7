"""Tables as Markdown."""

from kneeedge.report.markdown import table


def test_a_bar_in_a_cell_does_not_break_a_table() -> None:
    assert table(["a"], [["x|y\nz"]]) == ["| a |", "| --- |", "| x\\|y z |"]
