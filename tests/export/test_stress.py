"""`export --stress`: a variant that breaks before its original does is set aside, by the kind."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

from export import stress as stress_module
from export.options import ExportOptions
from export.original import Network
from export.run import export_run
from export.stress import original_of, torch_subject
from kneeedge.errors import CheckpointError, ConfigError, NotFoundError
from kneeedge.model.file import open_model
from kneeedge.model.verdict import FAIL, PASS
from kneeedge.pixels.phantom import phantoms as some_phantoms
from kneeedge.report.card import card_in
from kneeedge.report.export import gate_text
from kneeedge.report.stress_gate import NOT_ASKED
from kneeedge.runs.export_report import ExportReport
from kneeedge.runs.folder import Run, open_run
from kneeedge.stress.answers import Subject
from kneeedge.stress.gate import GATE_CELLS
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import predict_logits

QUIET = Progress(quiet=True)
FP32 = ExportOptions(precisions=("fp32",), stress=True)
BLUR = next(c for c, cell in enumerate(GATE_CELLS) if cell.kind == "blur")


@pytest.fixture
def run(trained_run, tmp_path) -> Path:
    return copy_of(trained_run, tmp_path / "narrow")


@pytest.fixture(scope="module")
def asked() -> list[Subject]:
    """Who was asked for answers to corrupted images by the export of `stressed`."""
    return []


@pytest.fixture(scope="module")
def stressed(trained_run, asked, tmp_path_factory) -> tuple[Path, ExportReport]:
    """A run with fp32 and fp16 files that were held against it under corruption."""
    real = stress_module.answer_cells

    def counted(subjects, *others):
        asked.extend(subjects)
        return real(subjects, *others)

    run = copy_of(trained_run, tmp_path_factory.mktemp("stressed") / "narrow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stress_module, "answer_cells", counted)
        options = dataclasses.replace(FP32, precisions=("fp32", "fp16"), tolerance=0.2)
        return run, export_run(run, options, QUIET)


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder, ignore=shutil.ignore_patterns("models")))


def test_fp32_is_the_original_under_every_kind_too(stressed):
    _, report = stressed
    gate = report.files[0].report.stress
    assert (gate.verdict, gate.severity, gate.split) == (PASS, 3, "val")
    assert [kind.kind for kind in gate.kinds] == [cell.kind for cell in GATE_CELLS[1:]]
    assert all(kind.change.flips == 0 for kind in gate.kinds)
    assert {kind.variant_refused - kind.original_refused for kind in gate.kinds} == {0.0}
    assert "under corruption, 60 val images in 18 ways" in gate_text(report)


def test_the_card_has_the_section_in_the_run_and_in_the_file(stressed):
    run, _ = stressed
    for text in (
        Run(run).card.read_text(encoding="utf-8"),
        card_in(open_model(run / "models/narrow.fp32.onnx")),
    ):
        section = text.partition("## Under corruption")[2].partition("\n## ")[0]
        assert "| upside-down |" in section
        assert NOT_ASKED not in section


@pytest.mark.usefixtures("exported")
def test_without_the_option_nothing_is_asked_and_the_card_says_so(trained_run):
    assert {file.report.stress for file in Run(trained_run).read_export_report().files} == {None}
    assert NOT_ASKED in Run(trained_run).card.read_text(encoding="utf-8")


def test_a_variant_that_breaks_under_one_kind_is_set_aside_and_the_kind_is_named(run, monkeypatch):
    real = stress_module.answer_cells
    asked = []

    def broken(subjects, *others):
        (answers,) = real(subjects, *others)
        asked.append(subjects[0].spec.name)
        if len(asked) == 1:  # the original
            return [answers]
        logits = answers.logits.copy()
        logits[BLUR] = -logits[BLUR]
        return [dataclasses.replace(answers, logits=logits)]

    monkeypatch.setattr(stress_module, "answer_cells", broken)
    report = export_run(run, FP32, QUIET)
    assert report.failed
    (file,) = report.files
    assert file.report.verdict == FAIL
    assert file.report.reason.startswith("under corruption, blur: at least ")
    assert (run / "models/rejected/narrow.fp32.onnx").is_file()
    assert not (run / "models/narrow.fp32.onnx").exists()


@pytest.mark.usefixtures("stressed")
def test_the_original_answers_once_for_all_variants(asked):
    assert len(asked) == 3


def test_pytorch_is_asked_as_it_is(original):
    model, spec = original
    images = some_phantoms(3, spec.pixel_path.size)
    outputs = torch_subject(Network(model, spec, None)).run(images)
    assert outputs.logits == pytest.approx(predict_logits(model, images), abs=1e-5)
    assert np.asarray(outputs.probabilities).sum(axis=1) == pytest.approx([1.0] * 3, abs=1e-6)


def test_a_slim_run_is_held_against_the_network_it_was_slimmed_from(slim_run, original):
    run = open_run(slim_run)
    held_against = original_of(run, run.read_spec())
    model, spec = original
    assert held_against.spec == spec
    images = some_phantoms(2, spec.pixel_path.size)
    answers = held_against.run(images)
    assert answers.logits == pytest.approx(predict_logits(model, images), abs=1e-5)
    assert answers.distance.shape == (2,)


def test_an_original_that_is_gone_or_another_is_refused_before_the_work(
    slim_run, trained_run, tmp_path
):
    run = Run(copy_of(slim_run, tmp_path / "slim"))
    record = run.read_config()
    run.write_config(dataclasses.replace(record, original=str(tmp_path / "gone")))
    with pytest.raises(NotFoundError, match="is not there; export without --stress"):
        export_run(run.folder, FP32, QUIET)
    other = copy_of(trained_run, tmp_path / "other")
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-4] + bytes(4))
    run.write_config(dataclasses.replace(record, original=str(other)))
    with pytest.raises(CheckpointError, match="other weights than this run was slimmed from"):
        export_run(run.folder, FP32, QUIET)


def test_a_tolerance_for_what_is_not_asked_is_refused():
    with pytest.raises(ConfigError, match=r"--stress-tolerance.*with --stress"):
        ExportOptions(stress_tolerance=0.02)
