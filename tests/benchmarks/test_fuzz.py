"""A short mutation run: no mutated file ends, holds up or surprises what reads it.

`make fuzz` is the long one.
"""

import itertools
import sys
from pathlib import Path

import pytest

pytest.importorskip("pydicom", reason="pip install 'kneeedge[dicom]'")
pytest.importorskip("gdcm", reason="pip install 'kneeedge[dicom]'")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="limits of memory, and its figures, are Linux's"
)

from benchmarks.fuzz.__main__ import Limits, ReaderProcess, run
from benchmarks.fuzz.child import UNCLEAR, judge_refusal
from benchmarks.fuzz.mutate import BLIND, BY_FORMAT, mutated
from benchmarks.fuzz.seeds import all_seeds
from kneeedge.errors import ImageError
from kneeedge.pixels.picture import MAX_PIXELS, read_picture

ONE_PICTURE = [name for name in all_seeds() if not name.endswith((" animated", " multi", " pages"))]


@pytest.mark.parametrize("name", ONE_PICTURE)
def test_every_seed_is_a_sound_image(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(all_seeds()[name])
    assert sorted(read_picture(tmp_path / "a", 224).grey.shape) == [40, 48]


def test_three_hundred_mutated_files_have_an_answer_or_a_clear_reason() -> None:
    result = run(range(300), 7, Limits(), None, 2)
    assert result["findings"] == []
    outcomes = result["outcomes"]
    assert outcomes["answered"] + outcomes["refused"] == 300
    # else the mutations break all, or nothing
    assert min(outcomes["answered"], outcomes["refused"]) > 30
    # of sound images of the largest size
    bytes_a_pixel = 40
    assert result["worst_memory_above_baseline_mb"] < bytes_a_pixel * MAX_PIXELS / 1e6


def test_a_file_is_made_again_by_its_number() -> None:
    seeds = all_seeds()
    first = [mutated(seeds, 1, i) for i in range(40)]
    again = [mutated(all_seeds(), 1, i) for i in range(40)]
    assert first == again


def test_every_mutation_is_used() -> None:
    steps: set[str] = set()
    for i in range(400):
        made, _ = mutated(all_seeds(), 0, i)
        steps |= set(made.split(", "))
    mutations = [*BLIND, *itertools.chain.from_iterable(BY_FORMAT.values())]
    assert {mutation.__name__ for mutation in mutations} <= steps


@pytest.mark.parametrize(
    ("code", "kind"),
    [("import os; os.abort()", "crashed"), ("import time; time.sleep(99)", "hung")],
)
def test_a_crash_and_a_hang_are_told(code: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.fuzz.__main__.CHILD", ["-c", code])
    reader = ReaderProcess(Limits(seconds=1))
    assert reader.read(Path("a")).kind == kind
    reader.end()


@pytest.mark.parametrize("error", [ImageError("a", "broken", ""), ImageError("a", "")])
def test_a_refusal_without_reason_or_remedy_is_a_finding(error: ImageError) -> None:
    assert judge_refusal(error)[0] == UNCLEAR
