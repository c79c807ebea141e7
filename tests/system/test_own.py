"""What kneeedge wrote is known again by what it holds, whatever it is called."""

from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kneeedge.system.own import (
    FOLDER_MARK,
    HEAD_BYTES,
    PNG_TEXT,
    figure_metadata,
    is_own_file,
    is_own_picture,
    is_own_report,
    is_run_folder,
    mark_folder,
)
from tests.image_files import png, png_header


def marked_png(path: Path, **text: str) -> bytes:
    says = PngInfo()
    for keyword, value in text.items():
        says.add_text(keyword, value)
    Image.new("L", (64, 64)).save(path, pnginfo=says, dpi=(100, 100))
    return path.read_bytes()


def test_a_png_that_says_it_is_of_kneeedge_is_own(tmp_path: Path) -> None:
    head = marked_png(tmp_path / "x.png", Title="a knee", **PNG_TEXT)
    assert is_own_picture(head)
    assert is_own_picture(head[:HEAD_BYTES])


@pytest.mark.parametrize("software", ["Weasis 4", "not kneeedge", "Matplotlib version 3"])
def test_a_png_of_another_program_is_not_own(tmp_path: Path, software: str) -> None:
    assert not is_own_picture(marked_png(tmp_path / "x.png", Software=software))


def test_a_mark_behind_the_pixels_or_in_them_does_not_count() -> None:
    mark = (b"tEXt", b"Software\0kneeedge 1")
    assert is_own_picture(png(png_header(8, 8), mark))
    assert not is_own_picture(png(png_header(8, 8), (b"IDAT", b"x"), mark))
    assert not is_own_picture(png(png_header(8, 8), (b"IDAT", b"tEXtSoftware\0kneeedge 1")))


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0\0", b"\xff" * 99]
)
def test_a_file_cut_off_anywhere_is_not_own(content: bytes) -> None:
    assert not is_own_picture(content)
    assert not is_own_report(content)


def test_a_chunk_that_claims_more_than_there_is_ends_the_search() -> None:
    assert not is_own_picture(b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIHDR" + b"\0" * 200)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_matplotlib_writes_the_mark_into_every_kind_of_figure(tmp_path: Path, suffix: str) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    path = tmp_path / f"figure{suffix}"
    figures.Figure().savefig(path, metadata=figure_metadata(suffix))
    assert b"kneeedge" in path.read_bytes()
    assert is_own_file(path) == (suffix == ".png")


def test_a_file_that_is_not_there_is_not_own(tmp_path: Path) -> None:
    assert not is_own_file(tmp_path / "none.png")


def test_a_run_folder_is_known_by_its_record(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"config": {}, "command": [], "data_root": "/"}')
    assert is_run_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"config": {}}', "[" * 100_000, "\xff"])
def test_another_programs_config_makes_no_run_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    assert not is_run_folder(tmp_path)


def test_a_folder_without_a_config_is_no_run_folder(tmp_path: Path) -> None:
    assert not is_run_folder(tmp_path)
    assert not is_run_folder(tmp_path / "none")


def test_a_folder_is_marked_once(tmp_path: Path) -> None:
    mark_folder(tmp_path)
    before = (tmp_path / FOLDER_MARK).stat()
    mark_folder(tmp_path)
    assert (tmp_path / FOLDER_MARK).stat().st_mtime_ns == before.st_mtime_ns
