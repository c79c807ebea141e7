"""One file for a reader: pixels, or a reason, also where memory does not suffice."""

import pytest

from kneeedge.errors import ConfigError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels import reader
from kneeedge.pixels.reader import ReadOptions, read_input


def test_an_image_too_large_for_the_memory_is_an_error_of_its_own(monkeypatch, tmp_path):
    def refuse(path, pixel_path, max_pixels):
        raise MemoryError

    monkeypatch.setattr(reader, "load_with_facts", refuse)
    refusal = read_input(tmp_path / "a.png", ReadOptions(PixelPath(32)))
    assert "not enough memory" in refusal.reason


@pytest.mark.parametrize("limits", [{"max_pixels": 0}, {"timeout": 0.0}, {"timeout": float("nan")}])
def test_a_limit_that_no_file_could_keep_is_refused(limits):
    with pytest.raises(ConfigError):
        ReadOptions(PixelPath(32), **limits)
