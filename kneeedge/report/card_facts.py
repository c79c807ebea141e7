"""What a run folder holds for its model card."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kneeedge.data.dataset import Dataset
from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.inference.joint import JointReport
from kneeedge.inference.metrics import Evaluation
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.benchmark import BenchResult, model_name, rows_of
from kneeedge.runs.export_report import VerifyReport
from kneeedge.runs.findings import JOINT, STRESS
from kneeedge.runs.folder import Run
from kneeedge.stress.record import StressReport


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """All that a card is filled from."""

    spec: ModelSpec
    dataset: Dataset
    evaluations: dict[str, Evaluation]
    "of the original, by held-out split"
    choices: dict[str, Any]
    "the `config` of config.json: every option of the training run"
    cpu: str
    "where it was trained"
    n_processes: int = 1
    "that trained it together"
    seconds: dict[str, float] = field(default_factory=dict)
    "of each step of the training; empty where it was stopped between"
    variants: tuple[VerifyReport, ...] = ()
    speed: BenchResult | None = None
    "of `kneeedge bench`, the rows of this run's files as they are now; absent where there are none"
    stale: tuple[str, ...] = ()
    "names of what it measured beside: other files, and earlier exports of these"
    joint: JointReport | None = None
    "of `kneeedge evaluate --joint`; absent where it was not asked for"
    stress: StressReport | None = None
    "of `kneeedge stress`; likewise"
    hashes: frozenset[str] = frozenset()
    "SHA-256 of the run's files as they are now"

    @property
    def source(self) -> str:
        """Where all images come from, as Markdown: the name of the data's folder, without a way."""
        name = self.dataset.root.resolve().name or "the data"
        return f"`{name.replace('`', ' ')}`"


def read_facts(run: Run) -> CardFacts:
    """What a run holds; NotFoundError where it is not finished, CheckpointError where damaged."""
    try:
        config = json.loads(run.config.read_text(encoding="utf-8"))
        spec = run.read_spec()
        evaluations = run.read_evaluations()
        seconds = run.read_seconds()
        choices = config["config"]
        cpu = config["environment"]["cpu"]
        n_processes = int(config.get("n_processes", 1))
        root = Path(config["data_root"])
    except FileNotFoundError as error:
        problem = f"{error.filename}: the run is not finished"
        raise NotFoundError(problem, "finish it with --resume") from error
    except (ValueError, KeyError, TypeError) as error:
        problem = f"its records do not fit ({error})"
        raise CheckpointError(run.folder, problem, "train the run again") from error
    exported = run.read_export_report().files if run.export_report.is_file() else ()
    speed, stale = current_speed(run)
    return CardFacts(
        spec=spec,
        dataset=run.read_dataset(root, spec.classes),
        evaluations=evaluations,
        choices=choices,
        cpu=cpu,
        n_processes=n_processes,
        seconds=seconds,
        variants=tuple(file.report for file in exported),
        speed=speed,
        stale=stale,
        joint=JOINT.read(run),
        stress=STRESS.read(run),
        hashes=run.exported_hashes(),
    )


def current_speed(run: Run) -> tuple[BenchResult | None, tuple[str, ...]]:
    """The run's benchmark less the rows of files that it has no longer, and the names of those."""
    speed = run.read_benchmark()
    if speed is None:
        return None, ()
    kept = rows_of(speed, run.exported_hashes())
    others = dict.fromkeys(model_name(row.model) for row in speed.results if row not in kept)
    return (replace(speed, results=kept) if kept else None), tuple(others)
