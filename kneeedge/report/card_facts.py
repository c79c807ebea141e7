"""What a run folder holds for its model card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kneeedge.data.dataset import Dataset
from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.inference.metrics import Evaluation
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.benchmark import BenchResult
from kneeedge.runs.export_report import VerifyReport
from kneeedge.runs.folder import Run


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
    variants: tuple[VerifyReport, ...] = ()
    speed: BenchResult | None = None
    "of `kneeedge bench`, where it was run on this run's files"


def read_facts(run: Run) -> CardFacts:
    """What a run holds; NotFoundError where it is not finished, CheckpointError where damaged."""
    try:
        config = json.loads(run.config.read_text(encoding="utf-8"))
        spec = run.read_spec()
        evaluations = run.read_evaluations()
        choices = config["config"]
        cpu = config["environment"]["cpu"]
        root = Path(config["data_root"])
    except FileNotFoundError as error:
        problem = f"{error.filename}: the run is not finished"
        raise NotFoundError(problem, "finish it with --resume") from error
    except (ValueError, KeyError, TypeError) as error:
        problem = f"its records do not fit ({error})"
        raise CheckpointError(run.folder, problem, "train the run again") from error
    exported = run.read_export_report().files if run.export_report.is_file() else ()
    return CardFacts(
        spec=spec,
        dataset=run.read_dataset(root, spec.classes),
        evaluations=evaluations,
        choices=choices,
        cpu=cpu,
        variants=tuple(file.report for file in exported),
        speed=run.read_benchmark(),
    )
