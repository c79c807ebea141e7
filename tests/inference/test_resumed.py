"""`infer --resume` over images that are not what they were, and a journal that somebody edited."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import ConfigError
from kneeedge.inference.folder import FolderOptions, infer_folder
from kneeedge.inference.heatmap import heatmap_path
from kneeedge.inference.journal import Batch, Journal, KeptBatch, journal_of
from kneeedge.inference.output import rows_of
from kneeedge.inference.predictor import Predictor
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.progress import Progress
from kneeedge.system.stamps import COARSEST_NS
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)
N_IMAGES = 20
N_DONE = 12
"rows that the interrupted run has, in batches of four"


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor(write_tiny_model(tmp_path / "m.onnx"), "cpu", 1)


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Phantoms that were written an hour ago, as far as their times say."""
    write_dataset(tmp_path / "night", {"": N_IMAGES}, size=64)
    return tmp_path / "night"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images are read long after they were written."""
    monkeypatch.setattr("kneeedge.system.stamps.COARSEST_NS", -COARSEST_NS)


@pytest.fixture
def stopped(
    predictor: Predictor, night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Leave a run behind `N_DONE` rows; the output that it was to write."""

    def stop(**options: object) -> Path:
        n_rows = 0
        real_append = Journal.append

        def append(self: Journal, batch: Batch) -> KeptBatch:
            nonlocal n_rows
            if n_rows == N_DONE:
                raise KeyboardInterrupt
            n_rows += len(batch.rows)
            return real_append(self, batch)

        out = tmp_path / "p.csv"
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "append", append)
            with pytest.raises(KeyboardInterrupt):
                infer_folder(predictor, find_images([night]), out, QUIET, FolderOptions(**options))
        return out

    return stop


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are answered from now on."""
    names: list[str] = []
    real_predict_all = Predictor.predict_all

    def predict_all(self: Predictor, images: list, *settings: object) -> object:
        names.extend(image.name for image in images)
        return real_predict_all(self, images, *settings)

    monkeypatch.setattr(Predictor, "predict_all", predict_all)
    return names


def resume(predictor: Predictor, night: Path, out: Path, **options: object) -> list[str]:
    """Go on; the lines that are said."""
    lines: list[str] = []
    progress = Progress(quiet=True)
    progress.console.print = lambda line, **_: lines.append(line)  # type: ignore[method-assign]
    infer_folder(
        predictor, find_images([night]), out, progress, FolderOptions(resume=True, **options)
    )
    return lines


def unbroken(predictor: Predictor, night: Path, tmp_path: Path) -> bytes:
    whole = tmp_path / "whole.csv"
    infer_folder(predictor, find_images([night]), whole, QUIET)
    return whole.read_bytes()


def test_what_did_not_change_is_not_answered_again(
    predictor, night, tmp_path, stopped, answered
) -> None:
    out = stopped()
    answered.clear()
    lines = resume(predictor, night, out)
    assert lines == [f"going on behind {N_DONE} rows of the run before"]
    assert len(answered) == N_IMAGES - N_DONE
    assert out.read_bytes() == unbroken(predictor, night, tmp_path)


@pytest.mark.usefixtures("settled")
def test_other_pictures_under_the_same_names_are_answered_anew_and_that_is_said(
    predictor, night, tmp_path, stopped, answered
) -> None:
    images = find_images([night]).images
    out = stopped()
    answered.clear()
    shutil.copy(images[15].path, images[1].path)
    shutil.copy(images[16].path, images[9].path)
    lines = resume(predictor, night, out)
    assert lines == [
        f"changed, or could not be read: 2 files, as {images[1].name}; answered anew",
        "going on behind 4 rows of the run before",
    ]
    assert answered == [image.name for image in (*images[:4], *images[8:])]
    assert out.read_bytes() == unbroken(predictor, night, tmp_path)


@pytest.mark.parametrize("same_ctime", [False, True])
def test_the_same_size_and_time_do_not_hide_other_content(
    predictor, night, tmp_path, stopped, monkeypatch, same_ctime
) -> None:
    """Neither where another time tells of it, nor where none does: then it is hashed."""
    images = find_images([night]).images
    length = max(image.path.stat().st_size for image in images)
    for image in images:
        image.path.write_bytes(image.path.read_bytes().ljust(length, b"\0"))
        os.utime(image.path, ns=(10**18, 10**18))
    if same_ctime:  # as on a file system that has none, or a coarse one
        real_stat = Path.stat

        def stat(self: Path, **options: object) -> os.stat_result:
            status = real_stat(self, **options)
            fields = {name: getattr(status, name) for name in dir(status) if name[:3] == "st_"}
            return type("Status", (), fields | {"st_ctime_ns": 1})()

        monkeypatch.setattr("kneeedge.system.stamps.COARSEST_NS", 10**19)
    out = stopped()
    before = images[2].path.stat()
    images[2].path.write_bytes(images[15].path.read_bytes())
    os.utime(images[2].path, ns=(10**18, 10**18))
    after = images[2].path.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    resume(predictor, night, out)
    assert out.read_bytes() == unbroken(predictor, night, tmp_path)


@pytest.mark.usefixtures("settled")
def test_a_file_that_is_only_touched_keeps_its_row(
    predictor, night, tmp_path, stopped, answered
) -> None:
    out = stopped()
    answered.clear()
    for image in find_images([night]).images:
        os.utime(image.path, ns=(1, 1))
    lines = resume(predictor, night, out)
    assert lines == [f"going on behind {N_DONE} rows of the run before"]
    assert len(answered) == N_IMAGES - N_DONE


def test_images_that_came_or_went_are_no_reason_to_stop(
    predictor, night, tmp_path, stopped, answered
) -> None:
    out = stopped()
    answered.clear()
    images = find_images([night]).images
    images[10].path.rename(night / "zz.png")
    resume(predictor, night, out)
    assert len(answered) == N_IMAGES - 8  # the two batches before it stand
    assert out.read_bytes() == unbroken(predictor, night, tmp_path)


def test_a_row_that_was_edited_or_taken_out_is_noticed_and_answered_anew(
    predictor, night, tmp_path, stopped, answered
) -> None:
    out = stopped()
    answered.clear()
    lines = journal_of(out).read_bytes().splitlines(keepends=True)
    assert b'"Healthy"' in lines[1] or b'"Osteoporosis"' in lines[1]
    lines[1] = lines[1].replace(b'"ok"', b'"no"')
    journal_of(out).write_bytes(b"".join([*lines[:3], *lines[4:]]))
    said = resume(predictor, night, out)
    assert said[0].endswith("were edited or taken out: what they answered is answered anew")
    assert len(answered) == N_IMAGES - 4
    assert out.read_bytes() == unbroken(predictor, night, tmp_path)


def test_heat_maps_that_are_asked_for_only_when_going_on_would_be_a_part_and_are_refused(
    predictor, night, tmp_path, stopped
) -> None:
    out = stopped()
    with pytest.raises(ConfigError, match="is of another heatmaps; give the same model and opt"):
        resume(predictor, night, out, heatmaps=tmp_path / "maps")
    resume(predictor, night, out)
    assert out.read_bytes() == unbroken(predictor, night, tmp_path)


def test_every_row_of_a_run_that_was_stopped_has_its_heat_map(
    predictor, night, tmp_path, stopped
) -> None:
    out = stopped(heatmaps=tmp_path / "maps")
    with Journal(out, journal_key(out), resume=True) as journal:
        rows = [row for batch in journal.found.batches for row in journal.rows(batch)]
    assert len(rows) == N_DONE
    assert all(heatmap_path(tmp_path / "maps", row[0]).is_file() for row in rows)
    resume(predictor, night, out, heatmaps=tmp_path / "maps")
    assert len(list((tmp_path / "maps").rglob("*.png"))) == N_IMAGES


def journal_key(out: Path) -> object:
    from kneeedge.inference.journal import read_content

    with journal_of(out).open("rb", buffering=0) as file:
        return read_content(file).key


def test_rows_to_stdout_are_those_of_the_file_and_leave_nothing_behind(
    predictor, night, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    command = ["infer", str(night), "--model", str(predictor.session.path), "--provider", "cpu"]
    result = CliRunner().invoke(app, [*command, "--threads", "1", "--out", "-", "-q"])
    assert result.exit_code == 0
    assert sorted(tmp_path.iterdir()) == before
    assert f"{N_IMAGES} images" in result.stderr
    assert result.stdout_bytes == unbroken(predictor, night, tmp_path)
    assert len(rows_of(result.stdout_bytes)) == 1 + N_IMAGES


def test_missing_folders_of_an_output_are_made(predictor, night, tmp_path) -> None:
    out = tmp_path / "reports/2026/p.csv"
    infer_folder(predictor, find_images([night]), out, QUIET)
    assert len(rows_of(out.read_bytes())) == 1 + N_IMAGES
