"""What the files of a run hold, of a run that nobody trained."""

import dataclasses
from pathlib import Path

import numpy as np

from kneeedge.data.dataset import Dataset, Sample
from kneeedge.inference.metrics import Evaluation, evaluate
from kneeedge.model.provenance import Score, Slimmed
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.export_report import ExportedFile, ExportReport, VerifyReport
from kneeedge.runs.folder import Run
from kneeedge.runs.record import RunRecord
from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.paired import paired_change
from kneeedge.system.machine import Environment
from tests.tiny_onnx import CLASSES, tiny_spec

ENVIRONMENT = Environment(
    cpu="CPU",
    isa=("avx2",),
    n_cpus=2,
    memory_gb=8.0,
    system="Linux",
    python="3.11",
    versions={"numpy": "2.0"},
    load_average=None,
)
LABELS = np.array([0, 1, 0, 1, 0, 1])
LOGITS = np.array([[2.0, 0.5], [0.25, 1.5], [1.0, 0.75], [0.5, 0.25], [3.0, 0.0], [0.0, 3.0]])


def slimmed(sha256: str = "a" * 64) -> Slimmed:
    """The network that a slim run's own was slimmed from."""
    return Slimmed(
        original="wide", sha256=sha256, channels=((8,),) * 5, temperature=2.5, threshold=0.3
    )


def slim_spec(**changes: object) -> ModelSpec:
    """The spec of a network that was slimmed; `changes` to what it records of the original."""
    spec = tiny_spec()
    training = dataclasses.replace(spec.training, slimmed=dataclasses.replace(slimmed(), **changes))
    return dataclasses.replace(spec, temperature=1.5, training=training)


def run_record(original: Path | None = None) -> RunRecord:
    """A `config.json`; with `original` a slim run's."""
    return RunRecord(
        config=TrainConfig(data="knees", epochs=2),
        command=("kneeedge", "train", "knees"),
        data_root="/data/knees",
        classes=CLASSES,
        positive=CLASSES[1],
        weights_origin="none",
        n_frozen_blocks=0,
        n_views=0,
        bf16=False,
        device="cpu",
        environment=ENVIRONMENT,
        original=None if original is None else str(original),
    )


def dataset(root: Path) -> Dataset:
    """Six images; a name that is no UTF-8, as file systems allow, among them."""
    samples = []
    for i, label in enumerate(LABELS.tolist()):
        name = f"test/{CLASSES[label]}/knee-{i}\udce4.png"
        sha256 = f"{i}" * 64
        sample = Sample(
            path=root / name, name=name, sha256=sha256, split="test", label=label, group=f"P{i}"
        )
        samples.append(sample)
    return Dataset(root, CLASSES, tuple(samples))


def evaluation() -> Evaluation:
    """Of LOGITS."""
    exponentials = np.exp(LOGITS)
    return evaluate(LABELS, exponentials / exponentials.sum(axis=1, keepdims=True), tiny_spec())


def verify_report(precision: str, verdict: str = "pass") -> VerifyReport:
    """What the gate says of a file that answers as the original does."""
    score = Score(n=len(LABELS), accuracy=1.0)
    return VerifyReport(
        precision=precision,
        split="val",
        provider="cpu",
        n=len(LABELS),
        verdict=verdict,
        reason="made up",
        tolerance=0.01,
        original=score,
        variant=score,
        changes={"accuracy": paired_change(LABELS, LABELS, LABELS)},
        auroc_change=None,
        auroc_interval=None,
        ece_change=0.0,
        ece_interval=Interval(-0.01, 0.01),
        max_abs_logit_change=0.1,
        mean_abs_logit_change=0.05,
        flips=(),
        largest=(),
        images_to_settle=None,
    )


def export_report(**verdicts: str) -> ExportReport:
    """A `report.json` of one file for each precision: `export_report(fp32="pass", int8="fail")`."""
    files = []
    for precision, verdict in verdicts.items():
        path = f"tiny.{precision}.onnx"
        report = verify_report(precision, verdict)
        files.append(ExportedFile(path=path, sha256="0" * 64, size_mb=1.0, report=report))
    return ExportReport("tiny", tuple(files))


def write_finished_run(folder: Path, spec: ModelSpec | None = None) -> Run:
    """A finished run; what is in its weights does not matter."""
    folder.mkdir(parents=True)
    run = Run(folder)
    run.model.write_bytes(b"weights")
    run.write_spec(spec or tiny_spec())
    return run
