"""The picture of kneeedge/web/README.md: the page with an answer, as a browser shows it.

    make demo && python -m benchmarks.web.picture [--demo demo-output] [--out page.png]

It trains nothing: the model and the synthetic radiographs are what `kneeedge demo` left.
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.picture import COLOURS, first_right_rows
from benchmarks.web.browser import Browser, cached, served
from kneeedge.inference.predictor import say_nothing
from kneeedge.model.file import open_model
from kneeedge.web.packages import read_packages
from kneeedge.web.site import write_site

OUT = Path(__file__).with_name("page.png")
WINDOW = {"width": 900, "height": 1010}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("demo-output"), help="of `kneeedge demo`")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    row = first_right_rows(asked.demo / "predictions.csv")[-1]
    model = next(asked.demo.glob("runs/demo/models/*.int8.onnx"))
    screenshot(model, asked.demo / "radiographs/test" / row["path"], asked.out)
    with Image.open(asked.out) as image:
        small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(asked.out, optimize=True)
    print(f"{asked.out}: {row['path']}, {asked.out.stat().st_size:,} bytes")


def screenshot(model: Path, image: Path, out: Path) -> None:
    """The page in a window, with the answer to the image."""
    with tempfile.TemporaryDirectory() as place, Browser(Path(place)) as browser:
        site = Path(place) / "site"
        write_site(open_model(model), site, cached(read_packages()), say_nothing)
        with served(site) as address:
            browser.own("open", {"viewport": WINDOW})
            browser.page("goto", address)
            browser.page("waitForSelector", "#proof[data-state=passed]")
            browser.page("setInputFiles", "#file-input", str(image))
            browser.page("waitForSelector", "#answer[data-status=ok]")
            browser.page("evaluate", "scrollTo(0, 0)")
            browser.page("screenshot", {"path": str(out)})


if __name__ == "__main__":
    main()
