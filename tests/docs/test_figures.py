"""Every measured figure of a page comes from a result in `benchmarks/results/`."""

import re

import pytest

from benchmarks.figures import versions
from benchmarks.figures.pages import PAGES, ROOT, TABLE, differing, renewed
from benchmarks.figures.results import FILES, FOLDER, FigureError, evaluate
from benchmarks.figures.tables import TABLES
from benchmarks.figures.unsourced import ALLOWED, constant, unsourced

TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}


def test_the_pages_say_what_the_results_say():
    assert sorted(differing()) == [], "write them anew: python -m benchmarks.figures"


@pytest.mark.parametrize("name", PAGES)
def test_every_number_of_a_page_has_a_source(name):
    assert unsourced(TEXTS[name]) == []


def test_every_markdown_page_beside_the_code_is_looked_through():
    paths = [
        path for top in ("kneeedge", "export", "benchmarks") for path in (ROOT / top).rglob("*.md")
    ]
    assert {path.relative_to(ROOT).as_posix() for path in paths} <= set(PAGES)


def test_every_result_is_shown():
    assert {path.name for path in FOLDER.glob("*.json")} == set(FILES.values())
    pages = "".join(TEXTS.values())
    assert [file for file in FILES.values() if file not in pages] == []


def test_every_table_stands_in_a_page():
    pages = "\n".join(TEXTS.values())
    assert {match["name"] for match in TABLE.finditer(pages)} == set(TABLES)


@pytest.mark.parametrize("phrase", [phrase for phrase, _ in ALLOWED])
def test_every_constant_without_a_source_is_still_in_a_page(phrase):
    assert any(re.search(constant(phrase), text) for text in TEXTS.values())


def test_a_figure_takes_its_value_from_the_result_and_its_decimals_from_the_page():
    page = "takes 99.9<!--= peers:rows[name=kneeedge-int8].single.p50_ms --> ms"
    assert renewed(page) == "takes 31.8<!--= peers:rows[name=kneeedge-int8].single.p50_ms --> ms"
    assert renewed("0<!--= fuzz:n -->") == "10,000<!--= fuzz:n -->"
    change = "slim-study:variants[0].compared.test accuracy_change.mean * 100"
    assert renewed(f"+0.0<!--= {change} -->").startswith("−0.5<")


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("fuzz:n / 1000 - 4", 6.0),
        ("min recall:rows[*].found", 29),
        ("len recall:rows[found=29].kind", 1),
        ("slim-seeds:times.milliseconds[0][0][2]", 0.23),
    ],
)
def test_an_expression_names_a_number(expression, number):
    assert evaluate(expression) == pytest.approx(number)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("1<!--= nobody:n -->", "no such result"),
        ("1<!--= fuzz:nothing -->", "nothing is not there"),
        ("1<!--= peers:rows[name=none].n -->", "names 0 values"),
        ("1<!--= recall:rows[*].found -->", "names 35 values"),
        ("1<!--= fuzz:slowest_of -->", "is no number"),
        ("one<!--= fuzz:n -->", "no number stands right before it"),
        ("<!-- table peers -->\n", "a table has no end"),
        ("<!-- table nothing -->\n<!-- end -->", "no table is called nothing"),
    ],
)
def test_a_source_that_names_nothing_is_an_error(page, words):
    with pytest.raises(FigureError, match=re.escape(words)):
        renewed(page)


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("it takes 31.8 ms and 20 MB", ["31.8", "20"]),
        ("accuracy (0.97)", ["0.97)"]),
        ("a change of -0.5 and −0.6", ["0.5", "0.6"]),
        ("30 of 30 copies", ["30", "30"]),
        ("from 10-20 images", ["10-20"]),
        ("| int8 | 31.8 |", ["31.8"]),
        ("it takes 31.8<!--= peers:x --> ms", []),
        ("VGG19 in fp32 and SHA-256, Ed25519", []),
        ("`--seconds 9` and [raw](results/2026-11-25-fuzz.json)", []),
        ("```console\n$ sleep 9\n```", []),
        ("as in\n\n    sleep 9\n", []),
        ("<!-- table peers -->\n| 31.8 |\n<!-- end -->", []),
        ("1. the first of a list", []),
    ],
)  # fmt: skip
def test_a_number_in_the_prose_needs_a_source(line, numbers):
    assert [number for _, number, _ in unsourced(line)] == numbers


def test_a_number_without_a_source_is_named_by_its_line():
    assert unsourced("fine\n\nit takes 31.8 ms") == [(3, "31.8", "fine it takes 31.8 ms")]


def test_the_versions_of_the_page_are_those_of_the_project_and_the_results():
    page = versions.versions()
    pins = versions.pinned()
    for name in ("onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "torch"):
        assert f"| {versions.least(name)} | {pins[name]} |" in page
    assert versions.in_order("2.14.1+cpu1") < versions.in_order("2.15.0")
    assert versions.in_order("1.9.0") < versions.in_order("1.21.0")
    with pytest.raises(FigureError, match="no least version"):
        versions.least("nothing")
