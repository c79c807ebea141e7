"""WebP files that lack pixels, and sound ones that look as if they did."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.pixels.picture import read_grey
from tests.image_files import encode, luma, write

SIZE = 32
KINDS: dict[str, dict[str, object]] = {
    "lossless": {"lossless": True, "exact": True},
    "fast lossless": {"lossless": True, "exact": True, "quality": 0, "method": 0},
    "lossy": {"quality": 80},
    "fast lossy": {"quality": 100, "method": 0},
}


def knee() -> np.ndarray:
    """Smooth with noise, and black below, as many radiographs are."""
    y, x = np.mgrid[0:240, 0:200]
    noise = np.random.default_rng(0).normal(0, 4, y.shape)
    levels = 100 + 60 * np.sin(x / 20) + 50 * np.cos(y / 30) + noise
    levels[150:] = 0
    return levels.clip(0, 255).astype(np.uint8)


def webp(kind: str, alpha: bool) -> bytes:
    levels = knee()
    channels = [levels, levels, levels, 255 - levels // 2] if alpha else [levels] * 3
    return encode(Image.fromarray(np.dstack(channels)), "WEBP", **KINDS[kind])


def grey_of(path: Path, data: bytes) -> np.ndarray:
    return read_grey(write(path, data), SIZE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [False, True])
def test_a_sound_webp_is_read_however_many_zeros_it_ends_in(
    tmp_path: Path, kind: str, alpha: bool
) -> None:
    """Black below is coded as zeros by some."""
    grey = grey_of(tmp_path / "a.webp", webp(kind, alpha)).astype(float)
    expected = knee() * ((255 - knee() // 2) / 255 if alpha else 1.0)
    assert np.abs(grey - expected).mean() <= (1 if "lossless" in kind else 4)


def test_there_is_a_sound_webp_that_ends_in_zeros() -> None:
    assert webp("fast lossless", alpha=False).endswith(bytes(64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_a_webp_that_was_only_half_written_is_refused(
    tmp_path: Path, kind: str, alpha: bool, share: float
) -> None:
    data = webp(kind, alpha)
    end = int(len(data.rstrip(b"\0")) * share)
    with pytest.raises(ImageError, match="damaged"):
        grey_of(tmp_path / "a.webp", data[:end] + bytes(len(data) - end))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bytes", [1, 2, 100])
def test_a_webp_shorter_than_it_says_is_refused(tmp_path: Path, kind: str, n_bytes: int) -> None:
    with pytest.raises(ImageError, match="damaged WebP: it is truncated"):
        grey_of(tmp_path / "a.webp", webp(kind, alpha=False)[:-n_bytes])


def test_a_chunk_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(webp("lossless", alpha=False))
    struct.pack_into("<I", data, 16, len(data))
    with pytest.raises(ImageError, match="truncated inside a chunk"):
        grey_of(tmp_path / "a.webp", bytes(data))


def test_what_follows_the_end_is_not_looked_at(tmp_path: Path) -> None:
    data = webp("lossless", alpha=False)
    assert np.array_equal(grey_of(tmp_path / "a.webp", data + bytes(500)), knee())


@pytest.mark.parametrize("lossless", [True, False])
def test_alpha_lies_on_black(tmp_path: Path, lossless: bool) -> None:
    rgba = np.full((32, 32, 4), 255, np.uint8)
    rgba[..., :3] = np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], 32, 1)
    rgba[:, :16, 3] = 128
    options = {"lossless": True, "exact": True} if lossless else {"quality": 95}
    grey = grey_of(tmp_path / "a.webp", encode(Image.fromarray(rgba), "WEBP", **options))
    expected = luma(rgba[..., :3]) * rgba[..., 3] / 255
    assert np.abs(grey - expected).max() <= (1 if lossless else 8)
