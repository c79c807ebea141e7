"""The benchmark of JPEG decoders: what it calls damaged, and what it takes from another result."""

import io
import json

import numpy as np
from PIL import Image

from benchmarks.decoders import damaged, in_folder, is_answered, ours


def test_kneeedge_answers_the_whole_file_and_none_of_the_damaged_ones() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG")
    data = buffer.getvalue()
    assert is_answered(ours, data)
    assert [is_answered(ours, bad) for bad in damaged(data)] == [False, False, False]


def test_the_shares_of_a_folder_run_are_milliseconds_of_one_core(tmp_path) -> None:
    jpegs = {"kind": "jpg", "bare_images_per_second": 40.0, "decoding_ms": 9.0}
    result = tmp_path / "folders.json"
    result.write_text(json.dumps({"ratios": [{"kind": "png"}, jpegs]}))
    assert in_folder(result) == (50.0, 9.0)
