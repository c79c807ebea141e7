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
from kneeedge.inference.heatmap import heatmap_path, overlay, write_heatmap
from kneeedge.pixels.picture import read_grey


def test_a_heat_map_never_leaves_its_folder() -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "a/../../b.png"):
        path = heatmap_path(Path("maps"), name)
        assert path.parts[0] == "maps"
        assert ".." not in path.parts


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
