"""The Python interface: one answer to the same pixels whatever holds them, and what is refused."""

import csv
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from kneeedge import ImageError, InputError, KneeEdgeError, Prediction, Predictor
from kneeedge.cli.app import app
from kneeedge.errors import DataError, NotFoundError, OutputExistsError, SharingError, TooLargeError
from kneeedge.inference.heatmap import write_heatmap
from kneeedge.inference.predictions import ABSTAIN, ERROR, OK
from kneeedge.model.spec import Novelty
from kneeedge.pixels import isolation
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.reader import ReadOptions
from kneeedge.system import processes
from tests.image_files import encode, encode_frames, png, png_header, tiff
from tests.tiny_onnx import write_tiny_model

GREY = phantom(1, 0.5, 96)[:, :70]
WIDE = GREY.astype(np.uint16) * 257 + np.arange(70, dtype=np.uint16) % 90
RGB = np.dstack([GREY, GREY[::-1], GREY // 2])


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor(write_tiny_model(tmp_path / "m.onnx"), "cpu", 2)


def wide_colour_png(levels: np.ndarray) -> bytes:
    """A PNG of 16-bit colour (H, W, 3), which Pillow reads and does not write."""
    height, width = levels.shape[:2]
    rows = levels.astype(">u2").reshape(height, -1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return png(png_header(width, height, 16, 2), (b"IDAT", zlib.compress(lines)))


def opened(data: bytes) -> Image.Image:
    """Pillow's image of a file, decoded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def unnamed(prediction: Prediction) -> Prediction:
    return replace(prediction, path="")


def as_file(predictor: Predictor, data: bytes, folder: Path) -> Prediction:
    """The answer to a file of these bytes."""
    path = folder / "as_file"
    path.write_bytes(data)
    return unnamed(predictor.predict(path))


# One answer, whatever holds the pixels

FORMS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "bytes": (encode(Image.fromarray(GREY), "PNG"), bytes),
    "bytearray": (encode(Image.fromarray(GREY), "PNG"), bytearray),
    "memoryview": (encode(Image.fromarray(GREY), "PNG"), memoryview),
    "BytesIO": (encode(Image.fromarray(GREY), "PNG"), io.BytesIO),
    "grey": (encode(Image.fromarray(GREY), "PNG"), lambda _: GREY),
    "grey with a channel": (encode(Image.fromarray(GREY), "PNG"), lambda _: GREY[:, :, None]),
    "grey in Fortran order": (
        encode(Image.fromarray(GREY), "PNG"),
        lambda _: np.asfortranarray(GREY),
    ),
    "grey turned over by its strides": (
        encode(Image.fromarray(GREY[::-1, ::-1]), "PNG"),
        lambda _: GREY[::-1, ::-1],
    ),
    "RGB": (encode(Image.fromarray(RGB), "PNG"), lambda _: RGB),
    "16 bits": (encode(Image.fromarray(WIDE), "PNG"), lambda _: WIDE),
    "16 bits with a channel": (encode(Image.fromarray(WIDE), "PNG"), lambda _: WIDE[:, :, None]),
    "16 bits, big-endian": (encode(Image.fromarray(WIDE), "PNG"), lambda _: WIDE.astype(">u2")),
    "16 bits that end at 4095": (
        encode(Image.fromarray(WIDE >> 4), "PNG"),
        lambda _: WIDE >> 4,
    ),
    "16-bit RGB": (
        wide_colour_png(np.dstack([WIDE, WIDE[::-1], WIDE // 2])),
        lambda _: np.dstack([WIDE, WIDE[::-1], WIDE // 2]),
    ),
    "image": (encode(Image.fromarray(GREY), "PNG"), opened),
    "image of 16 bits": (encode(Image.fromarray(WIDE), "PNG"), opened),
    "image in memory of 16 bits": (
        encode(Image.fromarray(WIDE), "PNG"),
        lambda _: Image.fromarray(WIDE),
    ),
    "image with a palette": (encode(Image.fromarray(RGB).convert("P"), "PNG"), opened),
    "image of 1 bit": (encode(Image.fromarray(GREY).convert("1"), "PNG"), opened),
    "image with a transparent palette": (
        encode(Image.fromarray(GREY).convert("P"), "PNG", transparency=bytes(range(256))),
        opened,
    ),
    "image with alpha": (
        encode(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(GREY[::-1])]), "PNG"),
        opened,
    ),
    "image with colour and alpha": (
        encode(Image.fromarray(np.dstack([RGB, GREY])), "PNG"),
        opened,
    ),
    "image of CMYK": (encode(Image.fromarray(RGB).convert("CMYK"), "TIFF"), opened),
    "image of floats": (encode(Image.fromarray(np.float32(GREY / 255)), "TIFF"), opened),
    "image whose white is zero": (tiff(WIDE, photometric=0), opened),
    "image of 12 bits": (
        tiff(np.arange(96, dtype=np.uint8).reshape(2, 48) * 2, bits=12, width=32),
        opened,
    ),
    "image not decoded": (
        encode(Image.fromarray(GREY), "PNG"),
        lambda data: Image.open(io.BytesIO(data)),
    ),
    "large JPEG not decoded": (
        encode(Image.fromarray(phantom(2, 0.5, 800)), "JPEG"),
        lambda data: Image.open(io.BytesIO(data)),
    ),
    "WebP not decoded": (
        encode(Image.fromarray(GREY), "WEBP"),
        lambda data: Image.open(io.BytesIO(data)),
    ),
}  # fmt: skip
"a file, and what else holds its pixels"


@pytest.mark.parametrize("form", FORMS)
def test_the_same_pixels_are_answered_the_same_whatever_holds_them(
    form: str, predictor: Predictor, tmp_path: Path
) -> None:
    data, hold = FORMS[form]
    expected = as_file(predictor, data, tmp_path)
    assert expected.ok
    assert unnamed(predictor.predict(hold(data))) == expected
    (listed,) = predictor.predict([hold(data)])
    assert unnamed(listed) == expected


def test_a_path_is_a_str_or_a_path_and_names_the_answer(
    predictor: Predictor, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    assert predictor.predict(path) == predictor.predict(str(path))
    assert predictor.predict(path).path == str(path)


def test_what_has_no_name_is_named_by_its_kind(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    with path.open("rb") as file, Image.open(path) as image:
        given = [GREY, image.copy(), path.read_bytes(), io.BytesIO(path.read_bytes()), file, image]
        names = [answer.path for answer in predictor.predict(given)]
    assert names == ["<array>", "<image>", "<bytes>", "<file>", str(path), str(path)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("decoded", [False, True])
def test_a_pillow_image_is_turned_upright_as_its_file_is(
    kind: str, orientation: int, decoded: bool, predictor: Predictor, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    # a JPEG of colours that is decoded to RGB has lost what its file gives straight to grey
    pixels = GREY if kind == "JPEG" and decoded else RGB
    data = encode(Image.fromarray(pixels), kind, exif=exif)
    image = opened(data) if decoded else Image.open(io.BytesIO(data))
    assert unnamed(predictor.predict(image)) == as_file(predictor, data, tmp_path)


def test_an_orientation_that_is_not_in_the_exif_turns_neither_the_image_nor_its_file(
    predictor: Predictor, tmp_path: Path
) -> None:
    """Pillow's EXIF reader takes it from XMP too."""
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    data = encode(Image.fromarray(GREY), "PNG", pnginfo=info)
    assert opened(data).getexif()[0x0112] == 6
    assert unnamed(predictor.predict(opened(data))) == as_file(predictor, data, tmp_path)


def test_an_image_that_its_owner_has_turned_upright_is_not_turned_again(
    predictor: Predictor,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = ImageOps.exif_transpose(opened(encode(Image.fromarray(GREY), "PNG", exif=exif)))
    assert unnamed(predictor.predict(image)) == unnamed(predictor.predict(np.array(image)))


def test_what_is_given_is_left_as_it_was(predictor: Predictor) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(phantom(2, 0.5, 800)), "JPEG", exif=exif)
    image = Image.open(io.BytesIO(data))
    predictor.predict(image)
    assert image.size == (800, 800)
    assert np.array_equal(np.array(image), np.array(opened(data)))
    predictor.predict(image)
    assert image.getexif()[0x0112] == 6
    levels = WIDE.copy()
    predictor.predict(levels)
    assert np.array_equal(levels, WIDE)


def test_a_file_is_read_from_its_beginning(predictor: Predictor) -> None:
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "PNG")
    assert file.tell() > 0
    assert unnamed(predictor.predict(file)) == unnamed(predictor.predict(GREY))


def test_a_file_that_cannot_seek_is_read_as_it_is(predictor: Predictor) -> None:
    """Through a pipe, which gives as many bytes as it has."""
    read, write = os.pipe()
    with os.fdopen(write, "wb") as pipe:
        pipe.write(encode(Image.fromarray(GREY), "PNG"))
    with os.fdopen(read, "rb", buffering=0) as pipe:
        assert unnamed(predictor.predict(pipe)) == unnamed(predictor.predict(GREY))


def test_dicom_bytes_are_answered_as_their_file_with_what_it_says(
    predictor: Predictor, tmp_path: Path
) -> None:
    pytest.importorskip("gdcm")
    from tests.dicom_files import TWELVE, dataset, stored

    data = stored(dataset(TWELVE, 12, "MONOCHROME1", ImageLaterality="R"))
    expected = as_file(predictor, data, tmp_path)
    assert expected.dicom is not None
    assert expected.dicom.laterality == "R"
    for form in (data, io.BytesIO(data)):
        assert unnamed(predictor.predict(form)) == expected


def test_the_limit_of_pixels_holds_for_all(predictor: Predictor) -> None:
    predictor.read_options = replace(predictor.read_options, max_pixels=GREY.size - 1)
    image = Image.fromarray(GREY)
    for given in (GREY, image, encode(image, "PNG"), io.BytesIO(encode(image, "PNG"))):
        with pytest.raises(TooLargeError, match="70 × 96"):
            predictor.predict(given)


def test_a_blank_array_has_the_warning_of_a_blank_file(predictor: Predictor) -> None:
    assert "blank" in predictor.predict(np.full((9, 9), 7, np.uint8)).error


# What is refused


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (GREY / 255, r"np\.rint\(array \* 255\)\.astype\(np\.uint8\) if its values are 0 to 1"),
        (np.float32(GREY), "without the factor if they are 0 to 255"),
        (GREY.astype(np.float16), "np.rint"),
        (GREY > 9, r"array\.astype\(np\.uint8\) \* 255"),
        (GREY.astype(np.int64), "np.uint16 if 0 to 65535"),
        (GREY.astype(np.int16), "np.uint16 if 0 to 65535"),
        (GREY.astype(np.uint32), "np.uint16 if 0 to 65535"),
        (GREY.astype(complex), "give an array of uint8 or uint16"),
        (np.array(["a.png", "b.png"]), r"array\.tolist\(\)"),
        (np.array([GREY, None], dtype=object), "a list of images"),
        (np.ma.array(GREY), r"array\.filled\(0\)"),
        (np.dstack([RGB, GREY]), r"array\[:, :, :3\]"),
        (RGB.transpose(2, 0, 1), r"array\.transpose\(1, 2, 0\)"),
        (np.stack([GREY] * 3), r"list\(array\) if it holds several images"),
        (np.stack([GREY] * 5), r"list\(array\)"),
        (np.stack([RGB] * 5), r"list\(array\)"),
        (GREY[None], r"array\[0\]"),
        (GREY[0], r"\(H, W, 3\)"),
        (np.array(7, np.uint8), r"\(H, W, 3\)"),
        (Image.new("HSV", (9, 9)), r'image\.convert\("L"\)'),
        (Image.new("LAB", (9, 9)), r'image\.convert\("L"\)'),
        (io.StringIO("text"), "'rb'"),
        ({"a": GREY}, "give a list"),
        ({"a.png"}, "give a list"),
        (None, "a path, an array"),
        (7, "a path, an array"),
        ([[GREY]], "input 0 is of type list; give a path"),
        ([GREY, GREY / 255], "input 1 is an array of float64"),
    ],
)
def test_what_may_be_meant_in_two_ways_is_refused_with_what_to_write(
    given: object, remedy: str, predictor: Predictor
) -> None:
    with pytest.raises(InputError, match=remedy) as refusal:
        predictor.predict(given)
    assert isinstance(refusal.value, TypeError)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("array", "write"),
    [
        (GREY / 255, lambda array: np.rint(array * 255).astype(np.uint8)),
        (np.float32(GREY), lambda array: np.rint(array).astype(np.uint8)),
        (GREY.astype(np.int64), lambda array: array.astype(np.uint8)),
        (np.dstack([RGB, GREY])[..., :3], lambda array: array[:, :, :3]),
        (RGB.transpose(2, 0, 1), lambda array: array.transpose(1, 2, 0)[:, :, :3]),
        (GREY[None], lambda array: array[0]),
    ],
)
def test_what_a_refusal_says_to_write_gives_the_answer_to_the_same_pixels(
    array: np.ndarray, write: Callable[[np.ndarray], np.ndarray], predictor: Predictor
) -> None:
    expected = RGB if 3 in array.shape else GREY
    assert predictor.predict(write(array)) == predictor.predict(expected)


def test_a_dicom_data_set_is_no_list_of_images(predictor: Predictor) -> None:
    pytest.importorskip("gdcm")
    from tests.dicom_files import TWELVE, dataset

    with pytest.raises(InputError, match="the path or the bytes of its DICOM file"):
        predictor.predict(dataset(TWELVE, 12))


def test_a_file_opened_as_text_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    with path.open(encoding="utf-8") as file, pytest.raises(InputError, match="'rb'"):
        predictor.predict(file)


UNREADABLE: dict[str, tuple[object, str]] = {
    "missing": ("nowhere.png", "is not there"),
    "folder": (".", "give it to predict_folder"),
    "no path": ("", "is no path"),
    "a zero in the path": ("a\0.png", "is no path"),
    "no bytes": (b"", "is empty"),
    "bytes of no image": (b"pixels", "is not a JPEG"),
    "half a PNG": (encode(Image.fromarray(GREY), "PNG")[:300], "truncated"),
    "several pages": (encode_frames("TIFF"), "more than one picture"),
    "several pages in Pillow": (Image.open(io.BytesIO(encode_frames("TIFF"))), "more than one"),
    "several pages, one decoded": (opened(encode_frames("TIFF")), r"image\.copy\(\)"),
    "no pixels": (np.zeros((0, 5), np.uint8), "holds no pixels"),
    "floats beyond 1": (Image.fromarray(np.full((5, 5), 7, np.float32)), "outside 0 to 1"),
    "NaN": (Image.fromarray(np.full((5, 5), np.nan, np.float32)), "outside 0 to 1"),
    "negative levels": (Image.fromarray(np.full((5, 5), -1, np.int32)), "outside 0 to 65535"),
    "a closed file": (io.BytesIO(), "cannot be read"),
}
UNREADABLE["a closed file"][0].close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", UNREADABLE)
def test_one_unreadable_image_raises_and_among_several_is_an_answer_with_its_reason(
    kind: str, predictor: Predictor
) -> None:
    given, reason = UNREADABLE[kind]
    with pytest.raises(ImageError, match=reason) as raised:
        predictor.predict(given)
    assert isinstance(raised.value, ValueError)
    first, second, third = predictor.predict([GREY, given, GREY])
    assert (first.status, second.status, third.status) == (OK, ERROR, OK)
    assert second.error == raised.value.reason
    assert (second.prediction, second.probability, second.confidence) == (None, None, None)
    assert first == third == predictor.predict([GREY, given, GREY])[0]


# Several


def test_several_are_answered_in_their_order(predictor: Predictor) -> None:
    images = [phantom(seed, seed / 30, 64) for seed in range(30)]
    answers = predictor.predict(images)
    alone = [predictor.predict(image) for image in images]
    assert len({answer.probability for answer in alone}) == 30
    for together, apart in zip(answers, alone, strict=True):
        assert together.probability == pytest.approx(apart.probability, abs=1e-6)
        assert together.prediction == apart.prediction
    assert predictor.predict(tuple(images)) == answers
    assert predictor.predict(iter(images)) == answers
    assert predictor.predict([]) == []


def test_a_buffer_that_is_filled_again_is_answered_as_it_was_when_it_was_given(
    predictor: Predictor,
) -> None:
    images = [phantom(seed, seed / 30, 64) for seed in range(30)]
    expected = predictor.predict(images)

    def refilled(buffer: np.ndarray) -> Iterator[np.ndarray]:
        for image in images:
            buffer[:] = image if buffer.ndim == 2 else image[:, :, None]
            yield buffer

    def reused() -> Iterator[io.BytesIO]:
        file = io.BytesIO()
        for image in images:
            file.seek(0)
            file.truncate()
            Image.fromarray(image).save(file, "PNG")
            yield file

    assert predictor.predict(refilled(np.zeros((64, 64), np.uint8))) == expected
    assert predictor.predict(refilled(np.zeros((64, 64, 3), np.uint8))) == expected
    assert [unnamed(a) for a in predictor.predict(reused())] == [unnamed(a) for a in expected]


def test_several_are_taken_as_they_come_and_not_all_at_once(predictor: Predictor) -> None:
    """A list of files of any length takes the memory of a few batches."""
    n_given = 0

    def images() -> Iterator[np.ndarray]:
        nonlocal n_given
        for _ in range(100):
            n_given += 1
            yield GREY

    n_given_at_first_run: list[int] = []
    run = predictor.session.run

    def counted(batch: np.ndarray) -> object:
        n_given_at_first_run.append(n_given)
        return run(batch)

    predictor.session.run = counted  # type: ignore[assignment, method-assign]
    assert len(predictor.predict(images())) == 100
    assert n_given_at_first_run[0] < 40


# The heat map


def test_the_heat_map_is_the_picture_that_infer_writes(
    predictor: Predictor, tmp_path: Path
) -> None:
    path = tmp_path / "images" / "a.png"
    path.parent.mkdir()
    Image.fromarray(GREY).save(path)
    for answer in (predictor.predict(path, heatmap=True), *predictor.predict([path], True)):
        assert answer.heatmap is not None
        assert (answer.heatmap.shape, answer.heatmap.dtype) == ((64, 64, 3), np.uint8)
        (written,) = predictor.predict_all(find_images([path.parent]).images)
        assert written.image is not None
        assert written.cam is not None
        write_heatmap(tmp_path / "maps", "a.png", written.image, written.cam)
        with Image.open(tmp_path / "maps/a.png") as picture:
            assert np.array_equal(np.array(picture), answer.heatmap)
        assert np.ptp(answer.heatmap.astype(int), axis=2).max() > 0


def test_without_being_asked_for_there_is_no_heat_map(predictor: Predictor) -> None:
    assert predictor.predict(GREY).heatmap is None
    assert predictor.predict(GREY) == predictor.predict(GREY, heatmap=True)


def test_a_model_without_a_class_activation_map_gives_no_heat_map(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = predictor.session.run
    monkeypatch.setattr(predictor.session, "run", lambda images: replace(run(images), cam=None))
    assert predictor.predict(GREY, heatmap=True).heatmap is None


# Confidence


def test_the_confidence_is_of_the_answer_and_the_probability_of_the_positive_class(
    predictor: Predictor,
) -> None:
    answers = predictor.predict([phantom(seed, seed / 30, 64) for seed in range(30)])
    assert {answer.prediction for answer in answers} == {"Healthy", "Osteoporosis"}
    for answer in answers:
        assert answer.probability == answer.probabilities["Osteoporosis"]
        assert answer.prediction is not None
        assert answer.confidence == answer.probabilities[answer.prediction]


def test_with_three_classes_the_probability_is_the_positive_ones_whatever_the_answer(
    tmp_path: Path,
) -> None:
    classes = ("Healthy", "Osteopenia", "Osteoporosis")
    predictor = Predictor(write_tiny_model(tmp_path / "m.onnx", classes=classes, seed=3), "cpu", 1)
    assert predictor.spec.positive == "Osteoporosis"
    answers = predictor.predict([phantom(seed, seed / 30, 64) for seed in range(30)])
    assert {answer.prediction for answer in answers} - {"Osteoporosis"}
    for answer in answers:
        assert answer.probability == answer.probabilities["Osteoporosis"]
        assert answer.confidence == max(answer.probabilities.values())
        assert sum(answer.probabilities.values()) == pytest.approx(1.0)


def test_a_threshold_may_choose_the_less_probable_class(predictor: Predictor) -> None:
    probability = predictor.predict(GREY).probability
    assert probability is not None
    object.__setattr__(predictor.spec, "threshold", min(probability / 2, 0.01))
    answer = predictor.predict(GREY)
    assert (answer.prediction, answer.confidence) == ("Osteoporosis", probability)


def test_json_has_the_confidence_and_no_heat_map_and_csv_has_neither(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    command = ["infer", str(tmp_path), "--model", str(model), "--out", str(tmp_path / "p.csv")]
    CliRunner().invoke(app, [*command, "--json", str(tmp_path / "p.json"), "--provider", "cpu"])
    answer, unread = json.loads((tmp_path / "p.json").read_text())["predictions"]
    assert answer["confidence"] == answer["probabilities"][answer["prediction"]]
    assert unread["confidence"] is None
    assert "heatmap" not in answer
    header = (tmp_path / "p.csv").read_text().splitlines()[0]
    assert not {"confidence", "heatmap"} & set(header.split(","))


# Folders


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Nine images in two folders, one that cannot be read, and a file that is none."""
    folder = tmp_path / "night"
    for seed in range(9):
        path = folder / f"room {seed % 2}" / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom(seed, seed / 9, 64)).save(path)
    (folder / "room 0/broken.png").write_text("no image")
    (folder / "notes.txt").write_text("x")
    return folder


def test_a_folder_is_answered_as_infer_answers_it(
    predictor: Predictor, night: Path, tmp_path: Path
) -> None:
    out = tmp_path / "python.csv"
    answers = predictor.predict_folder(night, out)
    rows = tmp_path / "infer.csv"
    options = ["--model", str(predictor.session.path), "--provider", "cpu", "--threads", "2"]
    done = CliRunner().invoke(app, ["infer", str(night), "--out", str(rows), *options])
    assert done.exit_code == 3, done.output
    assert out.read_bytes() == rows.read_bytes()
    with out.open(newline="") as file:
        written = [(row["path"], row["status"]) for row in csv.DictReader(file)]
    assert [(answer.path, answer.status) for answer in answers] == written
    assert written[4:6] == [("room 0/8.png", OK), ("room 0/broken.png", ERROR)]


def test_a_folder_writes_nothing_unless_it_is_asked_to(
    predictor: Predictor, night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert len(predictor.predict_folder(str(night))) == 10
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_is_broken_off_leaves_the_older_rows(
    predictor: Predictor, night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.csv"
    predictor.predict_folder(night, out)
    older = out.read_bytes()

    def stop(_: np.ndarray) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(predictor.session, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        predictor.predict_folder(night, out)
    assert out.read_bytes() == older
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_output_that_cannot_be_written_is_said_before_the_first_answer(
    predictor: Predictor, night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("not a folder")
    monkeypatch.setattr(predictor.session, "run", lambda _: pytest.fail("it ran"))
    with pytest.raises(OutputExistsError, match="it is a folder"):
        predictor.predict_folder(night, tmp_path)
    with pytest.raises(OSError, match=r"notes\.txt"):
        predictor.predict_folder(night, tmp_path / "notes.txt/p.csv")


def test_a_missing_folder_for_the_output_is_made(
    predictor: Predictor, night: Path, tmp_path: Path
) -> None:
    answers = predictor.predict_folder(night, tmp_path / "nowhere/p.csv")
    with (tmp_path / "nowhere/p.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [answer.path for answer in answers]


def test_a_crashing_decoder_costs_a_folder_one_answer(
    predictor: Predictor, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "DECODER", "tests.fake_decoder")
    monkeypatch.setattr(processes, "END_SECONDS", 0.5)
    (night / "room 0/8.png").rename(night / "room 0/segfault.png")
    answers = {answer.path: answer for answer in predictor.predict_folder(night)}
    assert "the decoder crashed" in answers["room 0/segfault.png"].error
    assert sum(answer.ok for answer in answers.values()) == 8


def test_a_folder_is_decoded_in_processes_unless_it_is_one_image_or_asked_not_to(
    predictor: Predictor, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolated: list[bool] = []

    def opened_reader(options: ReadOptions) -> object:
        isolated.append(options.isolated)
        return real(replace(options, isolated=False))

    from kneeedge.inference import predictor as module

    real = module.open_reader
    monkeypatch.setattr(module, "open_reader", opened_reader)
    in_processes = predictor.predict_folder(night)
    assert predictor.predict_folder(night, isolate=False) == in_processes
    predictor.predict_folder(night / "room 1/1.png")
    assert isolated == [True, False, False]


def test_several_folders_and_files_are_named_apart(predictor: Predictor, night: Path) -> None:
    paths = [night / "room 0", night / "room 1/1.png"]
    names = [answer.path for answer in predictor.predict_folder(paths, isolate=False)]
    assert names == [image.name for image in find_images(paths).images]
    assert len(set(names)) == 7


def test_a_folder_that_is_not_there_or_has_no_image_says_so(
    predictor: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="check the path"):
        predictor.predict_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        predictor.predict_folder(tmp_path / "empty")


# What a prompt shows


def test_a_predictor_shows_what_it_runs(tmp_path: Path) -> None:
    predictor = Predictor(write_tiny_model(tmp_path / "m.onnx", "int8"), "cpu")
    path = str(tmp_path / "m.onnx")
    assert repr(predictor) == (
        f"Predictor({path!r}, classes=('Healthy', 'Osteoporosis'), positive='Osteoporosis', "
        "threshold=0.5, precision='int8', provider='cpu', size=64)"
    )
    three = write_tiny_model(tmp_path / "three.onnx", classes=("a", "b", "c"))
    assert "threshold=None" in repr(Predictor(three, "cpu"))


def test_a_prediction_shows_its_image_its_class_and_how_sure_it_is(
    predictor: Predictor, tmp_path: Path
) -> None:
    answer = predictor.predict(GREY, heatmap=True)
    shown = f"Prediction('<array>', {answer.prediction!r}, confidence={answer.confidence:.4g})"
    assert repr(answer) == shown
    (unread,) = predictor.predict([b""])
    assert repr(unread) == "Prediction('<bytes>', error: is empty)"
    novelty = Novelty(limit=1.0, refused=0.01, split="val", n=1, method="test")
    object.__setattr__(predictor.spec, "novelty", novelty)
    run = predictor.session.run
    far = np.array([2.0], np.float32)
    predictor.session.run = lambda images: replace(run(images), distance=far)  # type: ignore[method-assign]
    refused = predictor.predict(GREY, heatmap=True)
    assert (refused.status, refused.confidence, refused.heatmap) == (ABSTAIN, None, None)
    assert repr(refused).startswith("Prediction('<array>', abstain: unlike the training images")
    predictor.answer_all = True
    answered = predictor.predict(GREY, heatmap=True)
    assert answered.heatmap is not None
    assert repr(answered).startswith(f"Prediction('<array>', {answer.prediction!r}, confidence=")
    assert "abstain: unlike" in repr(answered)


# Threads and processes


def test_threads_that_share_a_predictor_get_the_answers_of_one(
    predictor: Predictor, tmp_path: Path
) -> None:
    images: list[object] = []
    for seed in range(8):
        image = Image.fromarray(phantom(seed, seed / 8, 300))
        image.save(tmp_path / f"{seed}.jpg")
        images += [tmp_path / f"{seed}.jpg", np.array(image), encode(image, "PNG")]
    alone = [predictor.predict(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(predictor.predict, images * 3)) == alone * 3
        listed = list(pool.map(predictor.predict, [images] * 4))
    assert listed == [predictor.predict(images)] * 4


def test_a_predictor_is_not_pickled_and_says_what_to_do(predictor: Predictor) -> None:
    for pickled in (predictor, predictor.predict):
        with pytest.raises(SharingError, match="make one in each process") as raised:
            pickle.dumps(pickled)
        assert isinstance(raised.value, TypeError)


def test_predictions_and_errors_travel_between_processes(predictor: Predictor) -> None:
    answer = predictor.predict(GREY, heatmap=True)
    copy = pickle.loads(pickle.dumps(answer))  # noqa: S301 - our own
    assert copy == answer
    assert np.array_equal(copy.heatmap, answer.heatmap)


PREDICTOR: Predictor | None = None


def make_predictor(model: Path) -> None:
    global PREDICTOR  # noqa: PLW0603 - as the initializer of a pool does
    PREDICTOR = Predictor(model, "cpu", 1)


def answer_with_it(image: object) -> Prediction:
    assert PREDICTOR is not None
    prediction: Prediction = PREDICTOR.predict(image)
    return prediction


@pytest.mark.slow
def test_a_pool_of_processes_makes_one_each_and_gives_the_same_answers_and_errors(
    predictor: Predictor,
) -> None:
    model = predictor.session.path
    images = [phantom(seed, seed / 9, 64) for seed in range(9)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, make_predictor, [model]) as pool:
        answers = pool.map(answer_with_it, images)
        with pytest.raises(ImageError, match="is empty; replace the file") as raised:
            pool.apply(answer_with_it, [b""])
    assert answers == [predictor.predict(image) for image in images]
    assert (raised.value.path, raised.value.reason) == ("<bytes>", "is empty")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_predictor_that_was_idle_at_a_fork_answers_in_the_child(
    predictor: Predictor, tmp_path: Path
) -> None:
    code = textwrap.dedent("""
        import os, sys, warnings
        import numpy as np
        from kneeedge import Predictor
        warnings.simplefilter("ignore")
        predictor = Predictor(sys.argv[1], "cpu", 2)
        image = np.arange(6400, dtype=np.uint16).reshape(80, 80).astype(np.uint8)
        print(predictor.predict(image).probability, flush=True)
        if os.fork() == 0:
            print(predictor.predict(image).probability, flush=True)
            os._exit(0)
        os.wait()
    """)
    command = [sys.executable, "-c", code, str(predictor.session.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    first, second = done.stdout.split()
    assert first == second


def test_every_error_is_one_that_can_be_caught_by_its_base(predictor: Predictor) -> None:
    for given in (None, b"", "nowhere.png", GREY / 255):
        with pytest.raises(KneeEdgeError):
            predictor.predict(given)


def test_a_folder_is_never_written_over_a_radiograph(predictor: Predictor, night: Path) -> None:
    image = next(night.rglob("*.png"))
    before = image.read_bytes()
    with pytest.raises(OutputExistsError, match="it is no table of answers"):
        predictor.predict_folder(night, image)
    assert image.read_bytes() == before
