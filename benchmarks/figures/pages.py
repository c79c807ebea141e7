"""Pages whose figures come from results: a number with its source behind it, or a whole table.

    it takes 31.8<!--= peers:rows[name=kneeedge-int8].single.p50_ms --> ms

    <!-- table peers -->
    …
    <!-- end -->

A reader sees neither comment. The number is written anew with as many decimals as it has.
"""

import re
from pathlib import Path

from benchmarks.figures.results import FigureError, evaluate
from benchmarks.figures.tables import TABLES

ROOT = Path(__file__).parent.parent.parent
PAGES = (
    "README.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "benchmarks/audit.md",
    "benchmarks/int8.md",
    "benchmarks/refusals.md",
    "benchmarks/training.md",
    "export/README.md",
    "export/elsewhere.md",
    "kneeedge/audit/README.md",
    "kneeedge/cli/JSON.md",
    "kneeedge/cluster/README.md",
    "kneeedge/cli/README.md",
    "kneeedge/node/README.md",
    "kneeedge/inference/README.md",
    "kneeedge/statistics/certify.md",
    "kneeedge/inference/drift.md",
    "kneeedge/training/README.md",
    "kneeedge/triton/README.md",
    "kneeedge/stress/README.md",
    "kneeedge/tune/README.md",
    "kneeedge/web/README.md",
)
NUMBER = r"(?:(?<![\w.,])[-+−])?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
FIGURE = re.compile(rf"(?P<text>{NUMBER})<!--=(?P<source>.*?)-->", re.DOTALL)
TABLE = re.compile(
    r"(?P<head><!-- table (?P<name>[\w-]+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL
)
MARK = re.compile(r"<!--=|<!-- table")


def renewed(page: str) -> str:
    """The page's text with every figure and table written from the results."""
    n_marks = len(MARK.findall(page))
    n_known = len(FIGURE.findall(page)) + len(TABLE.findall(page))
    if n_marks != n_known:
        problem = "no number stands right before it, or a table has no end"
        raise FigureError(f"{n_marks - n_known} sources cannot be read: {problem}")
    page = FIGURE.sub(write_figure, page)
    return TABLE.sub(write_table, page)


def write_figure(match: re.Match[str]) -> str:
    source = match["source"]
    return f"{formatted(evaluate(source), match['text'])}<!--={source}-->"


def write_table(match: re.Match[str]) -> str:
    if match["name"] not in TABLES:
        raise FigureError(f"no table is called {match['name']}")
    return f"{match['head']}{TABLES[match['name']]()}\n{match['tail']}"


def formatted(number: float, like: str) -> str:
    """The number with the decimals, the sign and the exponent that `like` has."""
    mantissa, exponent, _ = like.partition("e")
    decimals = len(mantissa.partition(".")[2])
    sign = "+" if like[0] in "+-−" else ""
    text = f"{number:{sign},.{decimals}{'e' if exponent else 'f'}}"
    return text.replace("-", "−") if not exponent else text


def differing(root: Path = ROOT) -> dict[str, str]:
    """The new text of every page that says something other than the results."""
    renewed_pages = {}
    for name in PAGES:
        text = (root / name).read_text(encoding="utf-8")
        try:
            new = renewed(text)
        except FigureError as error:
            raise FigureError(f"{name}: {error}") from error
        if new != text:
            renewed_pages[name] = new
    return renewed_pages
