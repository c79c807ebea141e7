"""The run folder: the one place that knows the names of its files, and reads and writes them.

Weights go in and out in `kneeedge.training.checkpoint`, which needs torch; their names are here. No
pickle is written or read. What only some commands need is imported where it is used, since a device
comes past here to find its model.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneeedge.errors import CheckpointError, ModelFileError, NotFoundError
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.export_report import ExportReport
from kneeedge.system.files import write_csv, write_text
from kneeedge.system.own import RUN_CONFIG
from kneeedge.system.strict_json import from_json, to_json

if TYPE_CHECKING:
    from kneeedge.data.dataset import Dataset, Sample
    from kneeedge.inference.metrics import Evaluation
    from kneeedge.runs.answers import Answers, RecordedAnswers
    from kneeedge.runs.benchmark import BenchResult
    from kneeedge.runs.record import RunRecord
    from kneeedge.runs.slim_report import SlimReport

RUNS = Path("runs")
"where commands look for runs, and write them"
STEPS = "steps"
"where a slim run keeps each width that it tries"


@dataclass(frozen=True)
class Run:
    """One run folder, of `kneeedge train` or `kneeedge slim`.

    A method that reads says what it raises where its file is missing or damaged; one that writes
    leaves the old file or the whole new one.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Of the run, which `runs/latest` leads to."""
        return self.folder.resolve().name

    # Weights

    @property
    def model(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def start(self) -> Path:
        """The weights that training begins with; gone once it is finished."""
        return self.folder / "start.safetensors"

    @property
    def lower(self) -> Path:
        """The frozen blocks in int8, where training needs them; gone once it is finished."""
        return self.folder / "lower.onnx"

    @property
    def last(self) -> Path:
        """What a stopped training goes on from; gone once it is finished."""
        return self.folder / "last.safetensors"

    @property
    def novelty(self) -> Path:
        """The Gaussian of the training images' features, where the model may abstain."""
        return self.folder / "novelty.safetensors"

    @property
    def cache(self) -> Path:
        """A folder of activations; gone once training is finished."""
        return self.folder / "cache"

    # Records

    @property
    def spec(self) -> Path:
        """Written last of all: the run is finished where it is there."""
        return self.folder / "spec.json"

    @property
    def config(self) -> Path:
        return self.folder / RUN_CONFIG

    @property
    def split(self) -> Path:
        return self.folder / "split.csv"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def answers(self) -> Path:
        """The PyTorch model's answers to the held-out images."""
        return self.folder / "answers.csv"

    @property
    def original_answers(self) -> Path:
        """Of a slim run: `answers.csv` of the run that it was slimmed from."""
        return self.folder / "original.csv"

    @property
    def report(self) -> Path:
        """The figures of the held-out images as text."""
        return self.folder / "report.txt"

    @property
    def card(self) -> Path:
        return self.folder / "MODEL_CARD.md"

    @property
    def page(self) -> Path:
        return self.folder / "report.html"

    @property
    def benchmark(self) -> Path:
        """What `kneeedge bench` measured of the run's files."""
        return self.folder / "bench.json"

    @property
    def folds(self) -> Path:
        """Of a cross-validation: its folds together."""
        return self.folder / "folds.json"

    @property
    def slim(self) -> Path:
        """Of a slim run: what was tried."""
        return self.folder / "slim.json"

    @property
    def survey(self) -> Path:
        """Of a slim run: what was measured of the original's layers."""
        return self.folder / "survey.json"

    @property
    def curve(self) -> Path:
        """Of `slim --curve`: the benchmark of every width."""
        return self.folder / "curve.json"

    @property
    def curve_figure(self) -> Path:
        return self.folder / "curve.png"

    def figure(self, name: str) -> Path:
        """A figure of the training, as curves, confusion, roc or calibration."""
        return self.folder / f"{name}.png"

    # Exported files

    @property
    def models(self) -> Path:
        """The folder of the exported files."""
        return self.folder / "models"

    @property
    def export_report(self) -> Path:
        return self.models / "report.json"

    def model_file(self, name: str, precision: str, rejected: bool = False) -> Path:
        """Where an exported file stands, or where the gate sends it that rejects it."""
        folder = self.models / "rejected" if rejected else self.models
        return folder / f"{name}.{precision}.onnx"

    def any_size_file(self, name: str, precision: str) -> Path:
        """Where the file stands that resizes pictures itself."""
        return self.models / "any-size" / f"{name}.{precision}.any-size.onnx"

    # Runs within

    def fold(self, k: int) -> "Run":
        """Of a cross-validation: the run of fold `k`, counted from 0."""
        return Run(self.folder / f"fold-{k + 1}")

    def step(self, name: str) -> "Run":
        """Of a slim run that searches: the run of one width."""
        return Run(self.folder / STEPS / name)

    # What there is

    @property
    def is_finished(self) -> bool:
        """Whether there is a spec and the weights that it is of."""
        return self.spec.is_file() and self.model.is_file()

    @property
    def is_cross_validation(self) -> bool:
        """Whether the folder holds the folds of a cross-validation rather than a run."""
        return self.fold(0).config.is_file()

    # Reading and writing

    def read_spec(self) -> ModelSpec:
        """`spec.json`; raises FileNotFoundError without it, SpecError where it does not fit."""
        return ModelSpec.read(self.spec)

    def write_spec(self, spec: ModelSpec) -> None:
        write_text(self.spec, spec.to_json())

    def read_config(self) -> "RunRecord":
        """`config.json`; NotFoundError without it, CheckpointError where it does not fit."""
        from kneeedge.runs.record import RunRecord

        if not self.config.is_file():
            remedy = "give the folder of a run, runs/<name>"
            raise NotFoundError(f"{self.folder}: no training run here", remedy)
        try:
            return from_json(RunRecord, self.config.read_text(encoding="utf-8"))
        except ValueError as error:
            problem = f"not a kneeedge config ({error})"
            raise CheckpointError(self.config, problem, "train the run again") from error

    def read_original_folder(self) -> Path:
        """Of a slim run: the run folder that it was slimmed from, as `config.json` has it.

        Raises CheckpointError where that is missing or damaged, or of a run of `kneeedge train`.
        """
        try:
            record = json.loads(self.config.read_text(encoding="utf-8"))
            return Path(record["original"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"it does not name the run that was slimmed ({error})"
            remedy = "slim the original again with `kneeedge slim`"
            raise CheckpointError(self.config, problem, remedy) from error

    def write_config(self, record: "RunRecord") -> None:
        write_text(self.config, to_json(record))

    def read_dataset(self, root: Path, classes: Sequence[str]) -> "Dataset":
        """The images of `split.csv`, looked for below `root`.

        Raises NotFoundError without the file, DataError where its columns are others.
        """
        from kneeedge.data.dataset import read_split

        return read_split(self.split, root, classes)

    def write_dataset(self, dataset: "Dataset") -> None:
        from kneeedge.data.dataset import write_split

        write_split(dataset, self.split)

    def read_seconds(self) -> dict[str, float]:
        """What each step of the training took, from `metrics.json`; empty where it was stopped."""
        metrics = json.loads(self.metrics.read_text(encoding="utf-8"))
        return {step: float(seconds) for step, seconds in metrics.get("seconds", {}).items()}

    def read_history(self) -> list[dict[str, float]]:
        """Figures by their column, a dict for each epoch; OSError or ValueError where it fails."""
        import csv

        with self.history.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [{name: float(value) for name, value in row.items()} for row in rows]

    def write_history(self, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
        cells = [[row[name] for name in columns] for row in rows]
        write_csv(self.history, columns, cells)

    def read_evaluations(self) -> dict[str, "Evaluation"]:
        """From `metrics.json`, by held-out split.

        Raises FileNotFoundError without the file, ValueError where an evaluation does not fit.
        """
        from kneeedge.data.layout import SPLITS
        from kneeedge.inference.metrics import Evaluation

        metrics = json.loads(self.metrics.read_text(encoding="utf-8"))
        evaluations = {}
        for split in SPLITS:
            if split in metrics:
                evaluations[split] = from_json(Evaluation, json.dumps(metrics[split]))
        return evaluations

    def write_metrics(self, metrics: Mapping[str, object]) -> None:
        """Write `metrics.json`; the evaluations stand in it by the name of their split."""
        write_text(self.metrics, json.dumps(metrics, indent=2, allow_nan=False))

    def read_answers(self, classes: tuple[str, ...], split: str, remedy: str) -> "RecordedAnswers":
        """The PyTorch model's answers to the images of `split`.

        Raises FileNotFoundError without a file, CheckpointError, which ends in `remedy`, where it
        does not fit.
        """
        from kneeedge.runs.answers import read_answers

        return read_answers(self.answers, classes, split, remedy)

    def read_original_answers(self, samples: Sequence["Sample"], spec: ModelSpec) -> "Answers":
        """The answers of a slim run's original to the samples of one split, in their order.

        Raises CheckpointError where they are missing, or not those of that original.
        """
        from kneeedge.runs.answers import read_original_answers

        return read_original_answers(self.original_answers, samples, spec)

    def write_answers(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        write_csv(self.answers, columns, rows)

    def write_report(self, text: str) -> None:
        write_text(self.report, text)

    def read_export_report(self) -> ExportReport:
        """`models/report.json`; NotFoundError without it, ModelFileError where it does not fit."""
        path = self.export_report
        if not path.is_file():
            remedy = "run `kneeedge export`, or name a model"
            raise NotFoundError(f"{self.models}: nothing is exported yet", remedy)
        try:
            return from_json(ExportReport, path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelFileError(path, f"not a report of this kneeedge ({error})") from error

    def exported_hashes(self) -> frozenset[str]:
        """SHA-256 of the files of the export report, rejected ones too; empty without a report."""
        files = self.read_export_report().files if self.export_report.is_file() else ()
        return frozenset(file.sha256 for file in files)

    def write_export_report(self, report: ExportReport) -> None:
        write_text(self.export_report, to_json(report))

    def read_benchmark(self) -> "BenchResult | None":
        """What was measured of the run's files; None where nothing was, DataError where unfit."""
        from kneeedge.runs.benchmark import read_benchmark

        return read_benchmark(self.benchmark) if self.benchmark.is_file() else None

    def write_benchmark(self, bench_json: str, path: Path | None = None) -> None:
        """Write the run's record, or in `path` a result that is no substitute for it."""
        write_text(path or self.benchmark, bench_json + "\n")

    def benchmark_apart(self, measured: str) -> Path:
        """A result kept beside the record; `measured` as 2026-11-26T10:17:00Z."""
        return self.folder / f"bench-{measured.translate(str.maketrans('', '', '-:'))}.json"

    def write_card(self, text: str) -> None:
        write_text(self.card, text, errors="surrogateescape")

    def write_folds(self, report: Any) -> None:
        write_text(self.folds, to_json(report))

    def read_slim(self) -> "SlimReport":
        """`slim.json`; NotFoundError without it, CheckpointError where it does not fit."""
        from kneeedge.runs.slim_report import read_slim

        return read_slim(self.slim)

    def write_slim(self, report: "SlimReport") -> None:
        write_text(self.slim, to_json(report))

    def write_survey(self, survey: Any) -> None:
        write_text(self.survey, to_json(survey, indent=None))

    def write_curve(self, bench_json: str) -> None:
        write_text(self.curve, bench_json + "\n")


def open_run(folder: Path) -> Run:
    """The finished run in `folder`; raises NotFoundError where there is none."""
    run = Run(folder)
    if run.is_cross_validation:
        problem = f"{folder}: it holds the folds of a cross-validation"
        raise NotFoundError(problem, f"name one of them, {run.fold(0).folder}")
    if not run.config.is_file():
        remedy = "train one with `kneeedge train DATA`"
        raise NotFoundError(f"{folder}: no training run here", remedy)
    if not run.spec.is_file():
        remedy = f"finish it with `kneeedge train --resume {folder}`"
        raise NotFoundError(f"{folder}: the run is not finished", remedy)
    return run
