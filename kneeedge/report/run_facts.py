"""What a run folder holds for its page, beside what its card is filled from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.report.card_facts import CardFacts, read_facts
from kneeedge.report.page import Record
from kneeedge.runs.answers import RecordedAnswers
from kneeedge.runs.export_report import ExportReport
from kneeedge.runs.folder import Run, open_run
from kneeedge.runs.slim_report import SlimReport
from kneeedge.system.files import file_sha256

REMEDY = "train the run again"
MAX_RECORD = 200_000
"bytes of a JSON file that the page holds whole; of a larger one it has the hash alone"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """All that a run's page is made of."""

    run: Run
    card: CardFacts
    answers: Mapping[str, RecordedAnswers]
    "of the PyTorch model, by held-out split"
    history: tuple[Mapping[str, float], ...]
    "a row an epoch; empty where the run has none"
    kept_epoch: int | None
    exported: ExportReport | None
    slim: SlimReport | None
    records: Mapping[str, Record]
    "JSON of the run folder, by its key: spec, config, metrics, export, …"

    @property
    def name(self) -> str:
        return self.run.name


def read_run(folder: Path) -> RunFacts:
    """What a finished run holds; NotFoundError for another, CheckpointError where damaged."""
    run = open_run(folder)
    card = read_facts(run)
    spec = card.spec
    answers = {}
    try:
        for split in card.evaluations:
            answers[split] = run.read_answers(spec.classes, split, REMEDY)
        history = tuple(run.read_history()) if run.history.is_file() else ()
    except FileNotFoundError as error:
        raise NotFoundError(f"{error.filename}: it is gone from the run", REMEDY) from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(run.folder, f"its records do not fit ({error})", REMEDY) from error
    records = read_records(run)
    metrics = records["metrics"].value
    return RunFacts(
        run=run,
        card=card,
        answers=answers,
        history=history,
        kept_epoch=metrics.get("kept_epoch") if isinstance(metrics, dict) else None,
        exported=run.read_export_report() if run.export_report.is_file() else None,
        slim=run.read_slim() if run.slim.is_file() else None,
        records=records,
    )


def read_records(run: Run) -> dict[str, Record]:
    """Every JSON record of the run folder that tells of the network as it is, by its key."""
    named = {"spec": run.spec, "config": run.config, "metrics": run.metrics}
    if run.export_report.is_file():
        named["export"] = run.export_report
    # these tell of how a network was found, and not of what it does
    known = {*named.values(), run.survey, run.curve, run.folds}
    others = sorted(path for path in run.folder.glob("*.json") if path not in known)
    named |= {path.stem: path for path in others if not path.name.startswith(".")}
    return {key: read_record(key, path, run) for key, path in named.items()}


def read_record(key: str, path: Path, run: Run) -> Record:
    """One record; raises CheckpointError where it is no JSON.

    A large one, as of a benchmark with its samples, is there by its hash alone.
    """
    name = path.relative_to(run.folder).as_posix()
    value: Any = f"{path.stat().st_size:,} bytes, in the run folder"
    if path.stat().st_size <= MAX_RECORD:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(path, f"it is no JSON ({error})", REMEDY) from error
    return Record(key, name, value, file_sha256(path))
