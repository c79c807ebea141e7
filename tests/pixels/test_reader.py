"""One file for a reader: pixels, or a reason, also where memory does not suffice."""

import hashlib
import sys

import pytest
from PIL import Image

from kneeedge.errors import ConfigError, ImageError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels import reader
from kneeedge.pixels.reader import ReadOptions, read_input


def test_an_image_too_large_for_the_memory_is_an_error_of_its_own(monkeypatch, tmp_path):
    def refuse(*_):
        raise MemoryError

    Image.new("L", (32, 32)).save(tmp_path / "a.png")
    monkeypatch.setattr(reader, "input_of_bytes", refuse)
    refusal = read_input(tmp_path / "a.png", ReadOptions(PixelPath(32)))
    assert "not enough memory" in refusal.result.reason


def test_what_was_read_is_stamped_with_its_hash_whether_it_is_an_image_or_not(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    read = read_input(tmp_path / "a.png", ReadOptions(PixelPath(32)))
    assert isinstance(read.result, ImageError)
    assert read.stamp.sha256 == hashlib.sha256(b"no picture").hexdigest()
    assert read.stamp.size == 10
    assert read_input(tmp_path / "b.png", ReadOptions(PixelPath(32))).stamp is None


def test_dicom_where_pydicom_is_not_installed_is_one_unreadable_file(monkeypatch, tmp_path):
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + bytes(8))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    refusal = read_input(tmp_path / "a.dcm", ReadOptions(PixelPath(32))).result
    assert isinstance(refusal, ImageError)
    assert "needs pydicom, which is not installed; run: pip install" in refusal.reason


@pytest.mark.parametrize("limits", [{"max_pixels": 0}, {"timeout": 0.0}, {"timeout": float("nan")}])
def test_a_limit_that_no_file_could_keep_is_refused(limits):
    with pytest.raises(ConfigError):
        ReadOptions(PixelPath(32), **limits)
