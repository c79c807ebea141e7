"""Tables as Markdown."""

from kneeedge.report.markdown import table


def test_a_bar_in_a_cell_does_not_break_a_table() -> None:
    assert table(["a"], [["x|y\nz"]]) == ["| a |", "| --- |", "| x\\|y z |"]


def test_a_cell_is_no_html() -> None:
    *_, line = table(["class", "p"], [["<script>x</script><!-- -->", "< 0.05"]])
    assert line == "| &lt;script>x&lt;/script>&lt;!-- --> | < 0.05 |"
