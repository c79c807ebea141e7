"""The page's answers beside the device's own: flips, changes and times over a folder of images.

    python -m benchmarks.web.answers MODEL FOLDER [--threads 1] [--backend wasm] [--json FILE]

Writes the site of the model, lets Debian's chromium answer the folder on it, and holds each row
against `Predictor.predict_folder` on the same files.
"""

import argparse
import csv
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.web.browser import Browser, cached, served
from kneeedge import Predictor
from kneeedge.inference.predictions import csv_row
from kneeedge.inference.predictor import say_nothing
from kneeedge.model.file import open_model
from kneeedge.system.machine import cpu_model
from kneeedge.web.packages import read_packages
from kneeedge.web.site import write_site

HOUR = 3_600_000
"in milliseconds, which a folder may take"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backend", default="wasm")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, Browser(Path(place)) as browser:
        site = Path(place) / "site"
        write_site(open_model(asked.model), site, cached(read_packages()), say_nothing)
        record = answers_of_page(browser, site, asked)
    predictor = Predictor(asked.model)
    native = [csv_row(p, predictor.spec) for p in predictor.predict_folder(asked.folder)]
    record |= compared(record.pop("rows"), native)
    text = json.dumps(record, indent=2)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n", encoding="utf-8")


def answers_of_page(browser: Browser, site: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The rows of the page's CSV file, and what the page says of its times."""
    with served(site) as address:
        browser.own("open")
        browser.page("goto", f"{address}?backend={asked.backend}&threads={asked.threads}")
        browser.page("waitForSelector", "#proof[data-state]", {"timeout": HOUR})
        proof = browser.page("innerText", "#proof-verdict")
        assert browser.page("getAttribute", "#proof", "data-state") == "passed", proof
        browser.page("setInputFiles", "#folder-input", str(asked.folder))
        browser.page("waitForSelector", "#download:not([hidden])", {"timeout": HOUR})
        counts = browser.page("innerText", "#folder-counts")
        text = browser.own("download", "#download")["text"]
    a_whole, in_network = re.findall(r"(\d+) (?:ms an image|of them in the network)", counts)
    return {
        "model": asked.model.name,
        "cpu": cpu_model(),
        "browser": browser.own("version"),
        "proof": proof,
        "threads": asked.threads,
        "ms_an_image": int(a_whole),
        "ms_in_the_network": int(in_network),
        "rows": list(csv.reader(io.StringIO(text)))[1:],
    }


def compared(page: list[list[str]], native: list[list[str]]) -> dict[str, Any]:
    """Rows of both that differ in status or answer, and the largest change of the probability."""
    assert [row[0] for row in page] == [row[0] for row in native]
    pairs = list(zip(page, native, strict=True))
    flips = [ours[0] for ours, theirs in pairs if ours[1:3] != theirs[1:3]]
    changes = [abs(float(a[3]) - float(b[3])) for a, b in pairs if a[3] and b[3]]
    return {
        "n": len(native),
        "n_flips": len(flips),
        "flips": flips,
        "largest_change_of_the_probability": max(changes, default=None),
    }


if __name__ == "__main__":
    main()
