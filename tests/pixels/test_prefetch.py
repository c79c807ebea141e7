"""Reading ahead: order, errors in their place, a bound, and threads that end with their reader."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.prefetch import DECODING, LOOK_AHEAD, READING, StageClock, read_batches
from kneeedge.pixels.reader import ReadOptions, ThreadReader

SMALL = ReadOptions(PixelPath(32))


def numbered(folder: Path, n: int) -> list[SimpleNamespace]:
    """Images whose grey level is their number."""
    images = []
    for i in range(n):
        path = folder / f"{i}.png"
        Image.fromarray(np.full((32, 32), i, dtype=np.uint8)).save(path)
        images.append(SimpleNamespace(path=path))
    return images


def test_batches_hold_the_images_in_order_and_the_last_one_the_rest(tmp_path):
    images = numbered(tmp_path, 11)
    batches = list(read_batches(images, ThreadReader(SMALL), 4, 3, StageClock()))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert [image for batch in batches for image, _ in batch] == images
    levels = [int(file.pixels()[0, 0]) for batch in batches for _, file in batch]
    assert levels == list(range(11))


def test_an_unreadable_image_keeps_its_place(tmp_path):
    images = numbered(tmp_path, 5)
    images[2].path.write_text("no picture")
    (batch,) = read_batches(images, ThreadReader(SMALL), 8, 2, StageClock())
    refused = [isinstance(file.result, ImageError) for _, file in batch]
    assert refused == [False, False, True, False, False]


def test_no_images_are_no_batches():
    assert list(read_batches([], ThreadReader(SMALL), 4, 2, StageClock())) == []


@pytest.mark.parametrize("n_readers", [1, 4])
def test_no_more_is_read_ahead_than_the_bound(tmp_path, n_readers):
    asked = []

    def images():
        for image in numbered(tmp_path, 100):
            asked.append(image)
            yield image

    n_taken = 0
    for batch in read_batches(images(), ThreadReader(SMALL), 4, n_readers, StageClock()):
        n_taken += len(batch)
        assert len(asked) <= n_taken + LOOK_AHEAD * 4 + n_readers
    assert n_taken == 100


def test_readers_end_with_the_one_who_reads(tmp_path):
    before = threading.active_count()
    batches = read_batches(numbered(tmp_path, 40), ThreadReader(SMALL), 4, 3, StageClock())
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_the_clock_adds_up_what_a_stage_took():
    now = iter([0.0, 2.0, 10.0, 13.0])
    clock = StageClock(lambda: next(now))
    for _ in range(2):
        with clock.measure("a stage"):
            pass
    assert clock.seconds == {"a stage": 5.0}


def test_waiting_and_decoding_are_told_apart(tmp_path):
    clock = StageClock()
    list(read_batches(numbered(tmp_path, 20), ThreadReader(SMALL), 4, 2, clock))
    assert set(clock.seconds) == {READING, DECODING}
    assert clock.seconds[DECODING] > 0.0
