"""What people read of a slimmed model names its original, against which its figures stand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from export.gate import gate_report
from kneeedge.data.dataset import Sample
from kneeedge.model.file import ModelFile
from kneeedge.model.file_record import FileRecord, Verification
from kneeedge.model.provenance import Score, Slimmed
from kneeedge.model.spec import ModelSpec
from kneeedge.report.card_figures import slimmed_lines, variant_lines
from kneeedge.report.export import gate_text
from kneeedge.report.info import info_text
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runs.export_report import ExportedFile, ExportReport, VerifyReport
from kneeedge.statistics.intervals import Interval
from tests.tiny_onnx import tiny_spec

SHA = "0123456789abcdef" * 4
ORIGINALS = Score(
    n=60,
    accuracy=0.9750,
    auroc=0.9950,
    sensitivity=0.96,
    specificity=None,
    intervals={"accuracy": Interval(0.9614, 0.9862)},
)
OWN = Score(
    n=60,
    accuracy=0.9667,
    auroc=0.9910,
    sensitivity=0.95,
    specificity=None,
    intervals={"accuracy": Interval(0.9471, 0.9793)},
)


def plain_spec() -> ModelSpec:
    spec = tiny_spec()
    return dataclasses.replace(
        spec, training=dataclasses.replace(spec.training, scores={"test": OWN})
    )


def slim_spec() -> ModelSpec:
    spec = plain_spec()
    slimmed = Slimmed(
        original="wide",
        sha256=SHA,
        channels=((16, 16),) * 5,
        temperature=2.0,
        threshold=0.4,
        scores={"test": ORIGINALS},
    )
    return dataclasses.replace(spec, training=dataclasses.replace(spec.training, slimmed=slimmed))


def gated(spec: ModelSpec, slimmed: bool) -> VerifyReport:
    """The gate's report on a file that answers everything rightly, as the original does."""
    samples = []
    for i in range(20):
        name = f"val/{i}.png"
        sample = Sample(path=Path(name), name=name, sha256="", split="val", label=i % 2, group="")
        samples.append(sample)
    logits = np.array([[2.0, 0.0], [0.0, 2.0]])[[sample.label for sample in samples]]
    original = Answers(ORIGINAL, dataclasses.replace(spec, name="wide"), logits)
    variant = Answers("int8", spec, logits + 0.5)
    own_logits = logits + 0.25 if slimmed else None
    return gate_report(tuple(samples), original, variant, "cpu", 0.01, own_logits)


def export_report(run: str, report: VerifyReport) -> ExportReport:
    path = f"{run}.int8.onnx"
    file = ExportedFile(path=path, sha256="0" * 64, size_mb=1.0, report=report)
    return ExportReport(run, (file,))


@pytest.fixture
def report() -> VerifyReport:
    return gated(slim_spec(), slimmed=True)


def model_file() -> ModelFile:
    return ModelFile(
        path=Path("slim.onnx"), metadata={}, data=b"", signed_by="", stamp=(0, 0, 0, 0)
    )


def test_the_gate_says_against_whom_and_what_conversion_alone_changed(report: VerifyReport) -> None:
    text = gate_text(export_report("slim", report))
    against = "against wide, which it was slimmed from"
    assert f"20 val images on cpu, {against}: accuracy 1.0000 → 1.0000" in text
    assert "logit change: mean 0.5, largest 0.5\n" in text
    assert "largest logit change from its own PyTorch network: 0.25\n" in text


def test_the_gate_of_another_run_speaks_of_no_slimming() -> None:
    text = gate_text(export_report("wide", gated(plain_spec(), slimmed=False)))
    assert "20 val images on cpu: accuracy" in text
    assert "slimmed" not in text
    assert "own PyTorch" not in text


def test_the_cards_table_of_files_says_against_whom(report: VerifyReport) -> None:
    assert variant_lines([report], "`knees`")[-1] == (
        "Against the original, `wide`, on the val images of `knees`; tolerance 1.00% of accuracy. "
        "Largest logit change from this model's own PyTorch network: int8 0.25. "
        "Inconclusive: too few images to exclude such a loss, however few flips."
    )
    assert variant_lines([gated(plain_spec(), slimmed=False)], "`knees`")[-1] == (
        "Against the original on the val images of `knees`; tolerance 1.00% of accuracy. "
        "Inconclusive: too few images to exclude such a loss, however few flips."
    )


def test_the_card_names_the_original_and_the_widths_of_both() -> None:
    spec = slim_spec()
    text = "\n".join(slimmed_lines(spec, spec.training.slimmed, "`knees`"))
    origin = "made from `wide` (weights of sha256 `0123456789ab`)"
    assert text.startswith(f"This is a slimmed model: a narrower network, {origin}")
    assert "| original | 16 16 \\| 16 16 \\| 16 16 \\| 16 16 \\| 16 16 |" in text
    assert "| this model | 4 \\| 4 \\| 4 \\| 4 \\| 4 |" in text


def test_the_card_sets_the_originals_scores_beside_its_own_with_intervals() -> None:
    spec = slim_spec()
    lines = slimmed_lines(spec, spec.training.slimmed, "`knees`")
    images = "`knees` test, 60 images"
    assert f"| {images} | accuracy | 0.9750 [0.961, 0.986] | 0.9667 [0.947, 0.979] |" in lines
    assert f"| {images} | AUROC | 0.9950 | 0.9910 |" in lines


def test_info_names_the_original_its_widths_and_both_scores() -> None:
    text = info_text(slim_spec(), model_file(), [])
    widths = "VGG 16 16 | 16 16 | 16 16 | 16 16 | 16 16"
    assert f"    slimmed from  wide (0123456789ab), {widths}\n" in text
    assert "  original, test  accuracy 0.9750 [0.961, 0.986], AUROC 0.9950 (60 images)\n" in text
    assert "   slimmed, test  accuracy 0.9667 [0.947, 0.979], AUROC 0.9910 (60 images)\n" in text


def test_info_of_another_model_says_nothing_of_slimming() -> None:
    text = info_text(plain_spec(), model_file(), [])
    assert "slimmed" not in text
    assert "  original, test  accuracy 0.9667" in text


def test_info_says_against_whom_the_file_was_verified() -> None:
    verification = Verification(
        verdict="pass",
        split="val",
        n=60,
        flips=1,
        original=ORIGINALS,
        variant=OWN,
        max_abs_logit_change=0.5,
        mean_abs_logit_change=0.1,
        provider="cpu",
    )
    record = FileRecord(
        precision="int8", opset=18, operators={}, versions={}, verification=verification
    )
    slim = info_text(dataclasses.replace(slim_spec(), file=record), model_file(), [])
    plain = info_text(dataclasses.replace(plain_spec(), file=record), model_file(), [])
    assert "pass against wide: 1 flip in 60 val images, accuracy 0.9750 → 0.9667" in slim
    assert "pass: 1 flip" in plain
