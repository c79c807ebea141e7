"""A folder run: a row for each image in input order, and heat maps, refusals and stages beside."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pytestmark = [pytest.mark.torch, pytest.mark.slow]

from kneeedge import Predictor
from kneeedge.cli.app import app
from kneeedge.errors import ConfigError, ImageError, OutOfMemoryError
from kneeedge.inference.folder import FolderOptions, infer_folder
from kneeedge.inference.heatmap import LEAST_WIDTH
from kneeedge.inference.summary import StageSeconds
from kneeedge.pixels.listing import find_images
from kneeedge.report.inference import infer_text
from kneeedge.system.progress import Progress
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)


@pytest.fixture
def predictor(exported) -> Predictor:
    """One that answers every phantom; what it refuses is for the tests of abstention."""
    return limited(Predictor(exported["fp32"], "cpu", batch_size=4), 1e6)


def limited(predictor: Predictor, limit: float) -> Predictor:
    """The predictor, which from now on abstains beyond this distance."""
    object.__setattr__(predictor.spec, "novelty", replace(predictor.spec.novelty, limit=limit))
    return predictor


@pytest.fixture
def distances(predictor, folder, tmp_path) -> list[float]:
    """Those of the folder's 11 images, rising."""
    infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET)
    return sorted(float(row["distance"]) for row in rows(tmp_path / "out.csv") if row["distance"])


@pytest.fixture
def folder(phantoms, tmp_path) -> Path:
    """11 images in three folders with equal names, two that cannot be read, and a text file."""
    root = tmp_path / "night"
    sources = sorted((phantoms / "test").rglob("*.png"))[:11]
    for i, source in enumerate(sources):
        target = root / f"room {i % 3}" / f"{i // 3}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (root / "room 1/broken.png").write_bytes(sources[0].read_bytes()[:200])
    (root / "room 2/text.jpg").write_text("not a picture")
    (root / "notes.txt").write_text("x")
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_is_a_row_in_input_order(predictor, folder, tmp_path):
    listing = find_images([folder])
    infer_folder(predictor, listing, tmp_path / "out.csv", QUIET)
    names = [row["path"] for row in rows(tmp_path / "out.csv")]
    assert names == [image.name for image in listing.images] == sorted(names)
    assert len(set(names)) == 13


def test_the_columns_are_the_designs(predictor, folder, tmp_path):
    infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET)
    header = (tmp_path / "out.csv").read_text().splitlines()[0]
    answer = "path,status,prediction,probability,p_Healthy,p_Osteoporosis,distance,inverted"
    assert header == f"{answer},sop_instance_uid,laterality,view,patient_id,error"


def test_an_unreadable_image_is_a_row_with_its_reason(predictor, folder, tmp_path):
    result = infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET)
    errors = {row["path"]: row for row in rows(tmp_path / "out.csv") if row["status"] == "error"}
    assert set(errors) == {"room 1/broken.png", "room 2/text.jpg"}
    for row in errors.values():
        assert row["error"]
        assert not row["prediction"]
        assert not row["probability"]
    assert (result.summary.n, result.summary.n_ok, result.summary.n_errors) == (13, 11, 2)
    assert [Path(path).name for path in result.others] == ["notes.txt"]


def test_each_row_is_the_answer_to_its_own_image(predictor, folder, tmp_path):
    infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET)
    for row in rows(tmp_path / "out.csv"):
        if row["status"] == "ok":
            alone = predictor.predict(folder / row["path"])
            assert float(row["probability"]) == pytest.approx(alone.probability, abs=2e-6)
            assert row["prediction"] == alone.prediction
            total = float(row["p_Healthy"]) + float(row["p_Osteoporosis"])
            assert total == pytest.approx(1.0, abs=2e-6)


def test_an_image_unlike_the_training_images_is_a_row_without_an_answer(
    predictor, folder, distances, tmp_path
):
    limit = (distances[7] + distances[8]) / 2
    limited(predictor, limit)
    result = infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET)
    refused = [row for row in rows(tmp_path / "out.csv") if row["status"] == "abstain"]
    assert len(refused) == 3
    for row in refused:
        assert float(row["distance"]) > limit
        assert (row["prediction"], row["probability"], row["p_Healthy"]) == ("", "", "")
        assert f"limit {limit:.4g})" in row["error"]
    assert (result.summary.n_ok, result.summary.n_abstained, result.summary.n_errors) == (8, 3, 2)
    assert sum(result.summary.counts.values()) == 8


def test_a_distance_at_the_limit_is_answered(predictor, folder):
    path = folder / "room 0/0.png"
    distance = predictor.predict(path).distance
    assert limited(predictor, distance).predict(path).ok
    assert limited(predictor, np.nextafter(distance, 0)).predict(path).status == "abstain"


def test_answer_all_answers_and_keeps_the_status(predictor, folder):
    path = folder / "room 0/0.png"
    before = predictor.predict(path)
    predictor.answer_all = True
    after = limited(predictor, before.distance / 2).predict(path)
    assert after.status == "abstain"
    assert (after.prediction, after.probability) == (before.prediction, before.probability)
    assert "unlike the training images" in after.error


def test_refused_images_have_no_heat_map_unless_all_are_answered(predictor, folder, tmp_path):
    limited(predictor, 0.0)
    for answer_all, n_maps in ((False, 0), (True, 11)):
        predictor.answer_all = answer_all
        maps = tmp_path / f"maps {answer_all}"
        options = FolderOptions(heatmaps=maps)
        infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET, options)
        assert len(list(maps.rglob("*.png"))) == n_maps


def test_a_model_without_a_limit_answers_everything(tmp_path, folder):
    predictor = Predictor(write_tiny_model(tmp_path / "tiny.onnx"), "cpu")
    result = infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET)
    assert (result.summary.n_ok, result.summary.n_abstained) == (11, 0)
    assert not any(row["distance"] for row in rows(tmp_path / "out.csv"))


def test_the_summary_counts_refusals(predictor, folder, distances, tmp_path):
    limited(predictor, (distances[7] + distances[8]) / 2)
    text = infer_text(infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET))
    assert "; 3 unlike the training images; 2 errors" in text


def test_a_batch_of_only_broken_images_is_answered(predictor, tmp_path):
    for i in range(9):
        (tmp_path / f"{i}.png").write_text("x")
    result = infer_folder(predictor, find_images([tmp_path]), tmp_path / "out.csv", QUIET)
    assert result.summary.n_errors == len(rows(tmp_path / "out.csv")) == 9


def test_the_output_appears_only_when_it_is_complete(predictor, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor.session, "run", lambda _: None)
    with pytest.raises(AttributeError):
        infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET)
    assert not (tmp_path / "out.csv").exists()


def test_heat_maps_stand_under_the_images_own_names(predictor, folder, tmp_path):
    maps = tmp_path / "maps"
    options = FolderOptions(heatmaps=maps)
    infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET, options)
    assert len(list(maps.rglob("*.png"))) == 11
    with Image.open(maps / "room 0/0.png") as image:
        assert (image.mode, image.width) == ("RGB", LEAST_WIDTH)
        assert image.height > 64


def test_heat_maps_from_the_command_have_the_pictures_own_size(exported, tmp_path):
    """A picture and a JPEG beside it of the same name, in decoders of their own."""
    grey = np.random.default_rng(0).integers(0, 256, (120, 400), dtype=np.uint8)
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.png", "a.jpg"):
        Image.fromarray(grey).save(source / name)
    command = ["infer", str(source), "--model", str(exported["int8"]), "--answer-all", "-q"]
    command += ["--out", str(tmp_path / "p.csv"), "--heatmaps", str(tmp_path / "maps")]
    assert CliRunner().invoke(app, command).exit_code == 0
    for name in ("a.png", "a.jpg.map.png"):
        with Image.open(tmp_path / "maps" / name) as image:
            assert image.width == 400
            assert image.height > 120


@pytest.mark.parametrize("given", ["in", "in/a.png"])
def test_heat_maps_among_the_radiographs_are_refused_before_any_work(exported, tmp_path, given):
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(np.zeros((40, 40), dtype=np.uint8)).save(source / "a.png")
    before = (source / "a.png").read_bytes()
    command = ["infer", str(tmp_path / given), "--model", str(exported["int8"])]
    command += ["--out", str(tmp_path / "p.csv"), "--heatmaps", str(source)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "is the folder of the radiographs; name another" in done.stderr
    assert (source / "a.png").read_bytes() == before
    assert not (tmp_path / "p.csv").exists()


def test_heat_maps_of_a_head_without_a_map_are_refused(predictor, folder, tmp_path, monkeypatch):
    object.__setattr__(predictor.spec.architecture, "head", "classifier")
    options = FolderOptions(heatmaps=tmp_path / "maps")
    with pytest.raises(ConfigError, match="leave out --heatmaps"):
        infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET, options)


def test_predict_raises_for_one_unreadable_image(predictor, folder):
    with pytest.raises(ImageError, match=r"broken\.png"):
        predictor.predict(folder / "room 1/broken.png")


def test_the_batch_size_does_not_change_an_answer(exported, folder, tmp_path):
    answers = []
    options = FolderOptions(keep=True)
    for batch_size in (1, 3, 64):
        predictor = Predictor(exported["int8"], "cpu", batch_size=batch_size)
        listing = find_images([folder])
        result = infer_folder(predictor, listing, tmp_path / "out.csv", QUIET, options)
        answers.append([(p.path, p.prediction) for p in result.predictions])
    assert answers[0] == answers[1] == answers[2]


def test_a_heat_map_that_cannot_be_written_stops_the_run(predictor, folder, tmp_path):
    (tmp_path / "maps").write_text("a file where the folder should be")
    options = FolderOptions(heatmaps=tmp_path / "maps")
    with pytest.raises(OSError, match="maps"):
        infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET, options)
    assert not (tmp_path / "out.csv").exists()


def test_cores_that_work_apart_give_the_same_rows(exported, folder, tmp_path):
    written = []
    for n_images in (1, 10_000):
        predictor = Predictor(exported["fp32"], "cpu", threads=2, batch_size=2, n_images=n_images)
        out = tmp_path / "out.csv"
        infer_folder(limited(predictor, 1e6), find_images([folder]), out, QUIET)
        written.append([(row["path"], row["status"], row["prediction"]) for row in rows(out)])
    assert (predictor.lanes, predictor.session.threads) == (2, 1)
    assert written[0] == written[1]


@pytest.mark.parametrize("n_images", [1, 10_000])
def test_the_threads_asked_for_are_those_of_the_network_in_all(exported, n_images):
    for threads in (1, 3):
        predictor = Predictor(exported["fp32"], "cpu", threads=threads, n_images=n_images)
        assert predictor.lanes * predictor.session.threads == threads


def test_a_folder_goes_on_where_memory_does_not_suffice(
    predictor, folder, tmp_path, monkeypatch, capsys
):
    listing = find_images([folder])
    infer_folder(predictor, listing, tmp_path / "whole.csv", QUIET)
    run = predictor.session.run

    def run_two(images):
        if len(images) > 2:
            raise MemoryError
        return run(images)

    monkeypatch.setattr(predictor.session, "run", run_two)
    infer_folder(predictor, listing, tmp_path / "halved.csv", Progress())
    stderr = capsys.readouterr().err
    assert stderr == "memory does not suffice for 4 images at once: going on with 2\n"
    whole, halved = (
        [(row["path"], row["prediction"]) for row in rows(tmp_path / name)]
        for name in ("whole.csv", "halved.csv")
    )
    assert whole == halved


def test_a_single_image_beyond_the_memory_is_an_error_with_a_remedy(predictor, folder, monkeypatch):
    def refuse(images):
        raise MemoryError

    monkeypatch.setattr(predictor.session, "run", refuse)
    with pytest.raises(OutOfMemoryError, match="int8 model"):
        predictor.predict(folder / "room 0/0.png")


def test_the_seconds_of_the_stages_add_up(predictor, folder, tmp_path):
    summary = infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET).summary
    stages = summary.stages
    total = stages.reading + stages.running + stages.writing
    assert total == pytest.approx(summary.seconds, abs=0.01)
    assert min(stages.reading, stages.running, stages.writing) >= 0.0


@pytest.mark.parametrize(
    ("reading", "running", "writing", "limit"),
    [(3.0, 1.0, 1.0, "reading"), (1.0, 3.0, 1.0, "running"), (1.0, 1.0, 3.0, "writing")],
)
def test_the_stage_that_takes_most_of_the_time_limits(reading, running, writing, limit):
    assert StageSeconds(reading, running, writing, 0.0).limit() == limit


def test_the_summary_says_which_stage_limits(predictor, folder, tmp_path):
    result = infer_folder(predictor, find_images([folder]), tmp_path / "out.csv", QUIET)
    stages = StageSeconds(3.0, 0.6, 0.4, 5.5)
    slow = replace(result.summary, seconds=4.0, stages=stages, limited_by="reading")
    text = infer_text(replace(result, summary=slow))
    line = (
        "limited by reading the images: 75% waiting for images, 15% in the network, 10% writing; "
        "decoding took 5.5 s of processor time"
    )
    assert line in text.splitlines()
