"""Every link of a page leads somewhere in the repository, and to a heading that is there."""

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    path
    for top in (ROOT, ROOT / "benchmarks", ROOT / "export", *(ROOT / "kneeedge").iterdir())
    for path in top.glob("*.md")
)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
TEST_FILE = re.compile(r"`(?P<path>(?:tests|benchmarks|export|kneeedge)/[\w/.-]+)`")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(page: str) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The links that lead to no file, or to no heading of it."""
    text = page.read_text(encoding="utf-8")
    targets = [match["target"] for match in LINK.finditer(text) if "://" not in match["target"]]
    lost = []
    for target in targets:
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        path = path / "README.md" if path.is_dir() else path
        is_lost = not path.is_file()
        if anchor and not is_lost:
            is_lost = anchor not in anchors(path.read_text(encoding="utf-8"))
        if is_lost:
            lost.append(target)
    return lost


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert broken(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_is_there(page):
    paths = [match["path"] for match in TEST_FILE.finditer(page.read_text(encoding="utf-8"))]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_a_link_to_nothing_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](page.md#here) [b](#there) [c](none.json) [d](https://example.org)\n"
    )
    assert broken(page) == ["#there", "none.json"]


def test_the_picture_is_small():
    picture = ROOT / "benchmarks" / "picture.png"
    assert picture.stat().st_size < 150_000
    with Image.open(picture) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "## The modules" in page.read_text("utf-8")], ids=name_of
)
def test_every_module_that_a_page_names_is_there(page):
    section = page.read_text(encoding="utf-8").partition("## The modules")[2]
    words = re.findall(r"`([^`]+)`", section)
    folders = [page.parent, *(ROOT / word for word in words if word.endswith("/"))]
    modules = {path.stem for folder in folders for path in folder.glob("*.py")}
    assert [word for word in words if not word.endswith("/") and word not in modules] == []
