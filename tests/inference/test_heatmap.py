"""Heat maps: what they colour, where they stand, and that a full disk leaves no half of one."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError, OutputExistsError
from kneeedge.inference.heatmap import (
    COLOUR,
    LEAST_WIDTH,
    MOST_SHOWN,
    WEIGHT,
    coloured,
    heatmap_lines,
    heatmap_path,
    overlay,
    text_strip,
    with_scale,
    write_heatmap,
)
from kneeedge.inference.predictions import ABSTAIN, OK, Prediction
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.picture import read_grey
from kneeedge.pixels.pixel_path import at_most, picture_box, to_input
from tests.tiny_onnx import tiny_spec


def test_a_heat_map_never_leaves_its_folder() -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "a/../../b.png"):
        path = heatmap_path(Path("maps"), name)
        assert path.parts[0] == "maps"
        assert ".." not in path.parts


def test_no_two_images_have_one_heat_map_and_a_png_keeps_its_name() -> None:
    names = [
        "x.png", "x.jpg", "x", "x.PNG", "x.png.png", "x.jpg.png", "x.map.png", "x.jpg.map.png",
        "x.map", "x.map.map.png", "x.dcm", "a/x.png", "a/x", ".png", "x..png",
    ]  # fmt: skip
    paths = {heatmap_path(Path("maps"), name) for name in names}
    assert len(paths) == len(names)
    assert heatmap_path(Path("maps"), "a/x.png") == Path("maps/a/x.png")
    assert heatmap_path(Path("maps"), "a/x.jpg") == Path("maps/a/x.jpg.map.png")


@pytest.mark.parametrize("name", ["k" * 251 + ".png", "é" * 125 + ".dcm", "漢" * 84])
def test_a_name_as_long_as_a_file_system_takes_has_a_heat_map_too(
    name: str, tmp_path: Path
) -> None:
    image = np.zeros((8, 8), dtype=np.uint8)
    cam = np.ones((2, 2), dtype=np.float32)
    write_heatmap(tmp_path, f"room/{name}", image, cam)
    write_heatmap(tmp_path, f"room/x{name[1:]}", image, cam)
    (path,) = (path for path in (tmp_path / "room").iterdir() if path.name[0] != "x")
    assert path == heatmap_path(tmp_path, f"room/{name}")
    assert path.name.startswith(name[:50])
    assert path.suffix == ".png"
    assert len(list((tmp_path / "room").iterdir())) == 2


def test_a_heat_map_colours_the_evidence_and_nothing_else() -> None:
    image = np.full((64, 64), 100, dtype=np.uint8)
    cam = np.array([[3.0, -5.0], [-5.0, -5.0]], dtype=np.float32)
    picture = overlay(image, cam).astype(int)
    assert np.ptp(picture[8, 8]) > 30
    assert (picture[56, 56] == 100).all()
    assert (overlay(image, -np.abs(cam)) == 100).all()


def test_every_grey_level_under_all_evidence_has_the_colour_of_the_formula() -> None:
    grey, level = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    colour = grey[:, :, None].astype(np.float32) * (1.0 - WEIGHT[level]) + COLOUR[level]
    assert (coloured(grey, level) == np.rint(colour)).all()


def test_a_line_that_is_kept_is_drawn_as_it_was_at_first() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (80, 400, 3), dtype=np.uint8)
    first = with_scale(grey, 1.0, ["Healthy: P = 0.1", "of no use"])
    first[80:] = 255  # what one caller does to its picture is no other's
    text_strip.cache_clear()
    again = with_scale(grey, 1.0, ["Healthy: P = 0.1", "of no use"])
    assert (with_scale(grey, 1.0, ["Healthy: P = 0.1", "of no use"]) == again).all()
    assert not (again[80:] == 255).all()


def write(folder: Path, name: str, level: int = 0) -> Path:
    image = np.full((32, 32), level, np.uint8)
    write_heatmap(folder, name, image, np.ones((1, 1), np.float32))
    return heatmap_path(folder, name)


def test_a_heat_map_is_never_read_as_a_radiograph(tmp_path: Path) -> None:
    path = write(tmp_path, "knee.dcm")
    moved = path.rename(tmp_path / "radiograph.png")
    with pytest.raises(ImageError, match="is a picture that kneeedge made, and no radiograph"):
        read_grey(moved, 32)


def test_a_heat_map_replaces_an_older_one_and_no_radiograph(tmp_path: Path) -> None:
    path = write(tmp_path, "IM0001")
    older = path.read_bytes()
    write(tmp_path, "IM0001", level=200)
    assert path.read_bytes() != older
    Image.new("L", (8, 8)).save(path)
    radiograph = path.read_bytes()
    with pytest.raises(OutputExistsError, match="no heat map that kneeedge wrote"):
        write(tmp_path, "IM0001")
    assert path.read_bytes() == radiograph


@pytest.mark.skipif(os.name == "nt", reason="no such limit")
def test_a_full_disk_keeps_an_older_heat_map_of_that_name(tmp_path: Path) -> None:
    """A real limit, in a process of its own: none of its files may grow beyond 900 bytes."""
    path = heatmap_path(tmp_path, "room 1/knee.png")
    write_heatmap(tmp_path, "room 1/knee.png", np.zeros((8, 8), np.uint8), np.ones((1, 1)))
    older = path.read_bytes()
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        import numpy as np
        from kneeedge.inference.heatmap import write_heatmap
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        cam = np.ones((2, 2), dtype=np.float32)
        write_heatmap(Path(sys.argv[1]), "room 1/knee.png", noise, cam)
    """)
    command = [sys.executable, "-c", code, str(tmp_path)]
    full = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "File too large" in full.stderr.splitlines()[-1]
    assert path.read_bytes() == older
    assert list(path.parent.iterdir()) == [path]


def test_a_heat_map_has_the_pictures_own_pixels_above_its_scale_and_lines(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (300, 500), dtype=np.uint8)
    cam = np.zeros((2, 2), dtype=np.float32)
    cam[0, 0] = 7.5
    write_heatmap(tmp_path, "a.png", grey, cam, ("Healthy: P = 0.1", "of no use"))
    with Image.open(tmp_path / "a.png") as image:
        written = np.asarray(image)
    assert written.shape[1] == 500
    assert written.shape[0] > 300
    assert (written[290:300, 490:500] == grey[290:300, 490:500, None]).all()
    assert written[300:].any()


def test_a_narrow_picture_has_room_for_its_lines() -> None:
    picture = np.full((64, 48, 3), 90, dtype=np.uint8)
    below = with_scale(picture, 1.0, ["x" * 500])
    assert below.shape[1] == LEAST_WIDTH
    assert (below[:64, :48] == picture).all()
    assert not below[:64, 48:].any()


def test_the_map_lies_where_a_padded_picture_was() -> None:
    """The brightest place of a map is over the place of the picture that the network saw there."""
    pixel_path = PixelPath(64, "pad")
    grey = np.zeros((400, 200), dtype=np.uint8)
    grey[40:60, 90:110] = 255
    row, column = np.argwhere(to_input(grey, pixel_path) > 200).mean(axis=0)
    cam = np.zeros((32, 32), dtype=np.float32)
    cam[int(row / 2), int(column / 2)] = 1.0
    drawn = overlay(grey, cam, picture_box(grey.shape, pixel_path)).astype(int)
    evidence = drawn.max(axis=2) - drawn.min(axis=2)
    place = np.argwhere(evidence > 30).mean(axis=0)
    assert np.abs(place - [50, 100]).max() < 12


def test_a_picture_is_shown_as_it_is_or_smaller_never_larger() -> None:
    small = np.zeros((10, 1024), dtype=np.uint8)
    assert at_most(small, MOST_SHOWN) is small
    assert at_most(np.zeros((3000, 1500), dtype=np.uint8), MOST_SHOWN).shape == (1024, 512)


@pytest.mark.parametrize(("status", "error"), [(OK, ""), (ABSTAIN, "unlike the training images")])
def test_the_lines_say_class_probability_and_what_not_to_trust(status: str, error: str) -> None:
    spec = tiny_spec()
    name = spec.classes[0]
    answer = Prediction(
        path="x.png", status=status, prediction=name, probability=0.123, error=error
    )
    lines = heatmap_lines(answer, spec)
    assert lines[0] == f"{name}: P({spec.positive}) = 0.123, threshold 0.5"
    assert ("not to be trusted: unlike the training images" in lines) == (status == ABSTAIN)
    assert lines[-1].startswith("Research use only")
