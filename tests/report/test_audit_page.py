"""The audit's page: one file, whose names are escaped and whose pairs are counted."""

import shutil
from pathlib import Path

import pytest

from kneeedge.audit.findings import list_findings
from kneeedge.audit.run import audit
from kneeedge.pixels.phantom import write_dataset
from kneeedge.report.audit_page import audit_page
from kneeedge.system.progress import Progress
from tests.report.pages import check_page

QUIET = Progress(quiet=True)
HEALTHY = "train/Healthy/P00000L.png"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """8 training and 4 test images without a fault."""
    folder = tmp_path / "data"
    write_dataset(folder, {"train": 8, "test": 4}, size=96)
    return folder


def test_the_page_is_one_file_that_escapes_names(data):
    shutil.copy(data / HEALTHY, data / "test/Healthy/<script>alert(1)<&'.png")
    result = audit(data, None, None, QUIET)
    page = audit_page(result, list_findings(result))
    assert "&lt;script&gt;alert(1)&lt;&amp;" in page
    assert "<script" not in page
    check_page(page)
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "Not a medical device" in page
    assert "pictures of patients" in page


def test_a_page_says_how_many_pairs_it_leaves_out(data, monkeypatch):
    monkeypatch.setattr("kneeedge.report.audit_page.N_PAIRS", 1)
    for name in ("again", "once-more"):
        shutil.copy(data / HEALTHY, data / f"test/Healthy/{name}.png")
    result = audit(data, None, None, QUIET)
    page = audit_page(result, list_findings(result))
    assert "2 more pairs are not shown" in page
    assert page.count("<figure>") == 2
