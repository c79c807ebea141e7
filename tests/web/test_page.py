"""The page in chromium: it proves itself, answers as `kneeedge infer` does, and asks nobody."""

import csv
import io
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from benchmarks.web.browser import Browser, cached
from kneeedge import Predictor
from kneeedge.inference.predictions import READ_INVERSE, REFER, csv_columns, csv_row
from kneeedge.inference.predictor import say_nothing
from kneeedge.model.file import open_model
from kneeedge.model.metadata import read_model_spec
from kneeedge.model.spec import GOLDEN_KEY
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.pixel_path import load_input
from kneeedge.system.files import file_sha256
from kneeedge.web.packages import read_packages
from kneeedge.web.server import HOST, SiteHandler, site_server
from kneeedge.web.site import write_site
from tests.certified_models import write_certified
from tests.dicom_files import dataset, stored
from tests.inverting_models import write_inverting
from tests.tiny_onnx import write_tiny_model
from tests.tools import need

pytestmark = pytest.mark.slow

PROOF = "#proof[data-state]"
"is there once the page has proved itself, or has refused"
LIMIT = 200.0
"mean grey level beyond which the tiny model abstains: white is further off, phantoms are not"
REMOVED = ("fetch", "XMLHttpRequest", "WebSocket", "EventSource", "importScripts", "Worker")
Open = Callable[..., None]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    need("chromium", "node", "npm")
    with Browser(tmp_path_factory.mktemp("playwright")) as browser:
        yield browser


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", "int8", limit=LIMIT)


@pytest.fixture(scope="module")
def site(model: Path, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    write_site(open_model(model), out, cached(read_packages()), say_nothing)
    return out


@pytest.fixture
def asked() -> list[str]:
    """What the server was asked for."""
    return []


@pytest.fixture
def opened(browser: Browser, site: Path, asked: list[str]) -> Iterator[Open]:
    """Opens a site, or the one of the module, and waits until it has proved itself or refused."""
    servers = []

    def open_site(folder: Path = site, query: str = "", **options: Any) -> None:
        server = site_server(folder, 0)
        server.RequestHandlerClass = partial(Counting, asked, directory=str(folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        browser.own("open", options)
        browser.page("goto", f"http://{HOST}:{server.server_port}/{query}")
        browser.page("waitForSelector", PROOF)

    yield open_site
    for server in servers:
        server.shutdown()
        server.server_close()


class Counting(SiteHandler):
    """Remembers each request."""

    def __init__(self, asked: list[str], *args: Any, **options: Any) -> None:
        self.asked = asked
        super().__init__(*args, **options)

    def log_request(self, *_: object) -> None:
        self.asked.append(self.path)


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, sound and unsound, in a folder and one below it."""
    folder = tmp_path_factory.mktemp("knees")
    (folder / "below").mkdir()
    wide = phantom(1, 0.2, 150).astype(np.uint16) * 257
    Image.fromarray(phantom(0, 0.9, 200)[:, 20:150]).save(folder / "tall.png")
    Image.fromarray(wide[30:100]).save(folder / "below/wide16.png")
    Image.fromarray(phantom(2, 0.5, 300)).save(folder / "=grey.jpg", quality=90)
    Image.fromarray(np.stack([phantom(3, 0.4, 90)] * 3, axis=2)).save(folder / "colour.png")
    Image.fromarray((phantom(4, 0.4, 90) // 20).astype(np.uint16) * 300).save(folder / "dark.png")
    Image.fromarray(np.full((70, 80), 255, dtype=np.uint8)).save(folder / "white.png")
    Image.fromarray(np.zeros((70, 80), dtype=np.uint8)).save(folder / "black.png")
    image = dataset(phantom(5, 0.7, 120).astype(np.uint16) * 16, 12, "MONOCHROME1")
    image.ImageLaterality = "L"
    image.ViewPosition = "AP"
    image.PatientID = "secret"
    (folder / "below/CR0001").write_bytes(stored(image))
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "tall.png").read_bytes()[:-200])
    (folder / "words.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("no picture either")
    (folder / ".hidden.png").write_bytes(b"hidden")
    return folder


def table(browser: Browser) -> list[list[str]]:
    """The rows of the CSV file that the page offers, its header first."""
    browser.page("waitForSelector", "#download:not([hidden])")
    file = browser.own("download", "#download")
    assert file["name"] == "predictions.csv"
    assert file["text"].count("\n") == file["text"].count("\r\n")
    return list(csv.reader(io.StringIO(file["text"])))


def choose(browser: Browser, *paths: Path) -> None:
    browser.page("setInputFiles", "#file-input", [str(path) for path in paths])


def is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdigit()


def test_a_folder_is_answered_as_infer_answers_it(browser, opened, model, knees):
    opened()
    browser.page("setInputFiles", "#folder-input", str(knees))
    head, *rows = table(browser)
    predictor = Predictor(model)
    expected = [csv_row(answer, predictor.spec) for answer in predictor.predict_folder(knees)]
    assert head == csv_columns(predictor.spec)
    assert [row[0] for row in rows] == [row[0] for row in expected]
    for row, native in zip(rows, expected, strict=True):
        for cell, wanted in zip(row, native, strict=True):
            if is_number(wanted):
                assert float(cell) == pytest.approx(float(wanted), abs=2e-4)
            else:  # the page reads fewer formats, and says so
                assert cell.replace("PNG or", "PNG, TIFF, BMP, WebP or") == wanted, native[0]
    assert {row[1] for row in rows} == {"ok", "abstain", "error"}
    assert "secret" not in str(rows)
    assert browser.own("heard") == []


def test_a_heat_map_is_shown_as_infer_draws_it(browser, opened, model, knees):
    opened()
    choose(browser, knees / "tall.png")
    browser.page("waitForSelector", "#answer[data-status=ok]")
    native = Predictor(model).predict(knees / "tall.png", heatmap=True)
    assert browser.page("textContent", "#verdict-answer") == native.prediction
    assert f"{native.probability:.3f}" in browser.page("textContent", "#verdict-bars")
    assert changed_levels(browser, native.heatmap) <= 1
    browser.page("focus", "#heat")
    browser.page("press", "#heat", "Space")
    plain = load_input(knees / "tall.png", Predictor(model).spec.pixel_path)
    assert (drawn(browser) == plain[:, :, None]).all()


def test_an_inverted_image_is_shown_turned_and_said_to_be_inverted(
    browser, opened, model, knees, tmp_path
):
    told = write_inverting(model, tmp_path / "told.onnx")
    write_site(open_model(told), tmp_path / "site", cached(read_packages()), say_nothing)
    folder = tmp_path / "both"
    folder.mkdir()
    for seed in range(3):
        grey = phantom(40 + seed, seed % 2, 100)
        grey[:, :9] = (0, 128, 255)[seed]
        Image.fromarray(grey).save(folder / f"{seed}.png")
        Image.fromarray(255 - grey).save(folder / f"inverse {seed}.png")
    opened(tmp_path / "site")
    browser.page("setInputFiles", "#folder-input", str(folder))
    _, *rows = table(browser)
    predictor = Predictor(told)
    answers = predictor.predict_folder(folder)
    column = csv_columns(predictor.spec).index("inverted")
    native = [csv_row(answer, predictor.spec)[column] for answer in answers]
    assert [row[column] for row in rows] == native
    assert set(native) == {"true", "false"}
    n_inverted = native.count("true")
    assert f"{n_inverted} of all inverted" in browser.page("textContent", "#folder-counts")
    choose(browser, folder / "inverse 0.png")
    browser.page("waitForSelector", "#answer[data-status=ok]")
    assert READ_INVERSE in browser.page("textContent", "#answer")
    heatmap = predictor.predict(folder / "inverse 0.png", heatmap=True).heatmap
    assert changed_levels(browser, heatmap) <= 1


def drawn(browser: Browser) -> np.ndarray:
    """The pixels (S, S, 3) of the canvas."""
    script = (
        "() => { const c = document.querySelector('#picture');"
        " return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"
    )
    values = np.array(browser.page("evaluate", f"({script})()"), dtype=np.int16)
    side = int(np.sqrt(len(values) // 4))
    return values.reshape(side, side, 4)[:, :, :3]


def changed_levels(browser: Browser, native: np.ndarray) -> int:
    return int(np.abs(drawn(browser) - native.astype(np.int16)).max())


def test_what_is_unlike_the_training_images_gets_no_answer(browser, opened, knees):
    opened()
    choose(browser, knees / "white.png")
    browser.page("waitForSelector", "#answer[data-status=abstain]")
    assert browser.page("textContent", "#verdict-answer") == "No answer"
    answer = browser.page("textContent", "#answer")
    assert "unlike the training images (distance 255, limit 200)" in answer
    assert browser.page("isVisible", "#heat-choice") is False
    assert browser.page("textContent", "#verdict-bars") == ""


def test_nothing_is_asked_for_once_the_page_is_loaded(browser, opened, knees, asked):
    opened()
    n_requests = len(asked)
    assert n_requests > 10
    choose(browser, knees / "tall.png")
    browser.page("waitForSelector", "#answer[data-status=ok]")
    browser.page("setInputFiles", "#folder-input", str(knees))
    table(browser)
    tries = "fetch('model.json').then(() => 'came', () => 'refused')"
    assert browser.page("evaluate", tries) == "refused"
    picture = "new Promise((r) => { const i = new Image(); i.onload = i.onerror = () => r(i.width);"
    assert browser.page("evaluate", f"{picture} i.src = 'http://127.0.0.1:9/a.png'; }})") == 0
    kinds = f"{list(REMOVED)}.map((name) => typeof self[name]).join()"
    assert browser.own("inWorker", kinds) == ",".join(["undefined"] * len(REMOVED))
    assert len(asked) == n_requests


def test_the_policy_allows_no_inline_code_and_no_other_server(site):
    page = (site / "index.html").read_text()
    policy = page.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert rules["style-src"] == "'self'"
    assert re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=)", page) is None
    texts = [path.read_text() for path in site.rglob("*.js") if "vendor" not in path.parts]
    assert not any("innerHTML" in text or "eval(" in text for text in texts)


def tampered(site: Path, folder: Path, change: Callable[[Path], None]) -> Path:
    """A copy of the site with a change to it."""
    shutil.copytree(site, folder, copy_function=shutil.copyfile)
    change(folder)
    return folder


def with_golden(site: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the golden set of a site's model, and let model.json have the new hash."""
    graph = onnx.load(site / "model.onnx")
    (entry,) = [prop for prop in graph.metadata_props if prop.key == GOLDEN_KEY]
    golden = json.loads(entry.value)
    change(golden)
    entry.value = json.dumps(golden)
    onnx.save(graph, site / "model.onnx")
    record = json.loads((site / "model.json").read_text())
    record["files"]["model.onnx"]["sha256"] = file_sha256(site / "model.onnx")
    (site / "model.json").write_text(json.dumps(record))


def no_golden(golden: dict[str, Any]) -> None:
    golden["cases"] = []


def other_logits(golden: dict[str, Any]) -> None:
    golden["cases"][1]["file_logits"][0] += 0.01


def other_answer(golden: dict[str, Any]) -> None:
    golden["cases"][0]["file_logits"].reverse()


def other_distance(golden: dict[str, Any]) -> None:
    golden["cases"][0]["file_distance"] += 0.01


def other_input(golden: dict[str, Any]) -> None:
    golden["pictures"][2]["input_sha256"] = "0" * 64


def damaged_picture(golden: dict[str, Any]) -> None:
    golden["pictures"][0]["content"] = golden["pictures"][0]["content"][:400]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_golden, "the model file has no golden inputs"),
        (other_logits, "golden inputs change a logit by 0.01"),
        (other_answer, "it gives other answers to 1 of 2 golden inputs"),
        (other_distance, "golden inputs change the distance by 0.01"),
        (other_input, "golden picture wide.png is resized otherwise here"),
        (damaged_picture, "golden picture grey.png cannot be read here"),
    ],
)
def test_a_browser_that_does_not_repeat_the_golden_set_gets_no_answers(
    change, words, browser, opened, site, tmp_path
):
    opened(tampered(site, tmp_path / "site", lambda folder: with_golden(folder, change)))
    assert_refused(browser, words)


def assert_refused(browser: Browser, words: str) -> None:
    assert browser.page("getAttribute", "#proof", "data-state") == "failed"
    text = browser.page("innerText", "#proof")
    assert "This page gives no answers here" in text
    assert words in text
    assert browser.page("isDisabled", "#choose-file")
    assert browser.page("isDisabled", "#choose-folder")


@pytest.mark.parametrize("name", ["model.onnx", "decision.js", "pixels/resize.js"])
def test_a_file_that_is_not_the_one_that_was_written_gets_no_answers(
    name, browser, opened, site, tmp_path
):
    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 0x0A ^ 0x20  # a line's end becomes a space
        (folder / name).write_bytes(bytes(content))

    opened(tampered(site, tmp_path / "site", change))
    assert_refused(browser, f"{name} has other bytes than when the site was written")


def test_a_backend_that_cannot_run_is_refused_with_its_reason(browser, opened):
    opened(query="?backend=webgpu")
    assert_refused(browser, "no backend of this browser answers as the original did")
    assert "webgpu" in browser.page("innerText", "#proof-facts")


def test_the_page_says_what_it_proved_and_on_how_many_threads(browser, opened):
    opened(query="?threads=1")
    text = browser.page("innerText", "#proof-verdict")
    assert "8 golden pictures and 2 golden inputs" in text
    assert "WebAssembly, on this device's CPU, 1 thread." in text


def test_files_that_break_decoders_cost_one_row_each(browser, opened, tmp_path):
    def png(width: int, height: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("L", (1, 1)).save(buffer, "PNG")
        content = bytearray(buffer.getvalue())
        content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        return bytes(content)

    rng = np.random.default_rng(0)
    (tmp_path / "a-huge.png").write_bytes(png(2**31 - 1, 2**31 - 1))
    (tmp_path / "b-wide.png").write_bytes(png(60_000, 60_000))
    (tmp_path / "c-noise.dcm").write_bytes(bytes(128) + b"DICM" + rng.bytes(4000))
    (tmp_path / "d-noise.jpg").write_bytes(b"\xff\xd8\xff" + rng.bytes(4000))
    Image.fromarray(phantom(0, 0.9, 64)).save(tmp_path / "e.png")
    opened()
    browser.page("setInputFiles", "#folder-input", str(tmp_path))
    _, *rows = table(browser)
    assert [row[1] for row in rows] == ["error"] * 4 + ["ok"]
    assert all(row[-1] for row in rows[:4])


def test_a_folder_can_be_dropped_and_stopped(browser, opened, tmp_path):
    Image.fromarray(phantom(0, 0.5, 64)).resize((1600, 1600)).save(tmp_path / "000.png")
    for i in range(1, 200):
        (tmp_path / f"{i:03}.png").hardlink_to(tmp_path / "000.png")
    opened()
    browser.own("drop", "#choose", [str(tmp_path)])
    browser.page("waitForSelector", "#rows tr:nth-child(3)")
    browser.page("click", "#rows button")  # while the others are answered
    browser.page("waitForSelector", "#answer[data-status=ok]")
    browser.page("click", "#stop")
    _, *rows = table(browser)
    assert 3 <= len(rows) < 200
    assert "stopped" in browser.page("textContent", "#folder-counts")


def test_nothing_is_wider_than_the_window(browser, opened, knees):
    opened()
    browser.page("setInputFiles", "#folder-input", str(knees))
    browser.page("waitForSelector", "#download:not([hidden])")
    browser.page("click", "#rows button")
    browser.page("waitForSelector", "#answer[data-status]")
    for width in (360, 900, 1600):
        browser.page("setViewportSize", {"width": width, "height": 800})
        assert browser.page("evaluate", "document.documentElement.scrollWidth") <= width


def test_all_is_reached_by_the_keyboard(browser, opened, knees):
    opened()
    assert focused_after_tabs(browser, 3) == ["proof-summary", "choose-file", "choose-folder"]
    choose(browser, knees / "tall.png")
    browser.page("waitForSelector", "#answer[data-status=ok]")
    browser.page("focus", "#choose-folder")
    assert focused_after_tabs(browser, 1) == ["heat"]


def focused_after_tabs(browser: Browser, n: int) -> list[str]:
    reached = []
    for _ in range(n):
        browser.own("press", "Tab")
        reached.append(browser.page("evaluate", "document.activeElement.id"))
    return reached


def test_what_lies_between_certified_limits_is_left_to_a_person(
    browser, opened, model, knees, tmp_path
):
    answers = Predictor(model).predict_folder(knees)
    known = sorted(answer.probability for answer in answers if answer.ok)
    low, high = (known[0] + known[1]) / 2, (known[-2] + known[-1]) / 2
    certified = write_certified(model, tmp_path / "certified.onnx", low, high)
    folder = tmp_path / "site"
    write_site(open_model(certified), folder, cached(read_packages()), say_nothing)
    opened(folder)
    browser.page("setInputFiles", "#folder-input", str(knees))
    _, *rows = table(browser)
    native = Predictor(certified).predict_folder(knees)
    said = [(row[0], row[1], row[2]) for row in rows]
    shown = [csv_row(answer, read_model_spec(certified))[:3] for answer in native]
    assert said == [tuple(cells) for cells in shown]
    assert {row[1] for row in rows} >= {"ok", "refer"}
    assert "refer to a person" in browser.page("textContent", "#folder-counts")
    referred = next(answer for answer in native if answer.status == REFER)
    choose(browser, knees / referred.path)
    browser.page("waitForSelector", "#answer[data-status=refer]")
    assert browser.page("textContent", "#verdict-answer") == "Refer to a person"
    assert f"{referred.probability:.3f}" in browser.page("textContent", "#verdict-bars")
    assert "the certified limits" in browser.page("textContent", "#verdict-bars")
    assert browser.page("isVisible", "#heat-choice") is False
    assert "certified" in browser.page("textContent", "#model-facts")
    assert browser.own("heard") == []
