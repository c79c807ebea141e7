"""The benchmark of whole audits: which images it plants, and what becomes of them."""

import pytest

pytest.importorskip("sklearn")

from benchmarks import audit_folder
from benchmarks.audit_folder import COPIES, COPY_EVERY, child, kind_of, path_of, slope, write_folder


def test_one_image_in_twenty_is_a_copy_of_each_kind_in_turn() -> None:
    kinds = [kind_of(i) for i in range(COPY_EVERY * len(COPIES))]
    assert [kind for kind in kinds if kind] == list(COPIES)
    assert kinds[COPY_EVERY - 2] is None


def test_a_copy_stands_in_the_class_of_its_original() -> None:
    for i in range(COPY_EVERY - 1, 200, COPY_EVERY):
        assert path_of(i).split("/")[0] == path_of(i - 1).split("/")[0]


@pytest.mark.slow
def test_planted_copies_are_found_and_no_others(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_folder, "N_PHANTOMS", 30)
    n = 2 * COPY_EVERY
    write_folder(tmp_path, n)
    row = child(tmp_path, n)
    assert sum(row.planted.values()) == sum(row.found.values()) == 2
    assert row.n_other_pairs == 0
    assert set(row.stages) >= {"reading", "marks", "candidates", "comparisons"}


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    small = {"n": 10, "cpu_seconds": 2.0}
    assert slope(small, {"n": 1000, "cpu_seconds": 200.0}) == 1.0
    assert slope(small, {"n": 1000, "cpu_seconds": 20.0}) == 0.5
