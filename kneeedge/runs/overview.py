"""What stands in a folder of runs: each in a few figures, the broken and the unfinished too."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kneeedge.errors import KneeEdgeError, NotFoundError
from kneeedge.model.provenance import Score
from kneeedge.runs.folder import Run, open_run
from kneeedge.runs.folds import FoldsReport
from kneeedge.runs.latest import LATEST
from kneeedge.runs.tuning import Study
from kneeedge.system.files import file_sha256
from kneeedge.system.strict_json import from_json

FINISHED, FOLDS, UNFINISHED, BROKEN = "finished", "folds", "unfinished", "broken"
STUDY = "study"


@dataclass(frozen=True, kw_only=True)
class FileSummary:
    """One exported file."""

    name: str
    "below models/"
    precision: str
    verdict: str
    "of the gate"
    images: str
    "that the verdict rests on, in words"
    sha256: str
    problem: str = ""
    "where the file is gone, or no longer the one that was exported"


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run folder."""

    folder: str
    state: str
    "finished, folds (a cross-validation), study (of `kneeedge tune`), unfinished or broken"
    problem: str = ""
    "what is wrong, and what to do; empty where it is finished"
    is_latest: bool = False
    finished: str = ""
    "when it was, UTC, by the time of its last file"
    data_sha256: str = ""
    "of files, splits and classes"
    classes: tuple[str, ...] = ()
    positive: str = ""
    protocol: str = ""
    "how the splits came about"
    slimmed_from: str = ""
    verdict: str = ""
    "of a study: what the search was worth"
    caveat: str = ""
    "why its held-out figures are too good, where they are"
    scores: dict[str, Score] = field(default_factory=dict)
    "of the PyTorch model on val and test; of folds, of all their test images"
    files: tuple[FileSummary, ...] = ()


def list_runs(folder: Path) -> tuple[RunSummary, ...]:
    """Every run folder in `folder`, by name, and `latest` where it leads nowhere.

    Raises NotFoundError without such a folder.
    """
    if not folder.is_dir():
        remedy = "train one with `kneeedge train DATA`, or name the folder with --runs"
        raise NotFoundError(f"{folder}: no folder of runs", remedy)
    link = folder / LATEST
    latest = link.resolve() if link.is_symlink() else None
    paths = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    summaries = [
        summarise(path, is_latest=path.resolve() == latest)
        for path in paths
        if not path.name.startswith(".")
    ]
    if latest is not None and not latest.exists():
        problem = f"it leads to {latest.name}, which is gone; train or slim a run to set it anew"
        summaries.append(RunSummary(folder=str(link), state=BROKEN, problem=problem))
    return tuple(summaries)


def summarise(folder: Path, is_latest: bool = False) -> RunSummary:
    """One run folder; what cannot be read of it is its `problem`.

    Raises NotFoundError where there is no folder.
    """
    if not folder.is_dir():
        raise NotFoundError(
            f"{folder}: no such run folder", "`kneeedge runs` lists those there are"
        )
    run = Run(folder)
    try:
        if run.is_cross_validation:
            return summarise_folds(run)
        if Study(folder).plan.is_file():
            return summarise_study(Study(folder))
        if not run.is_finished:
            return summarise_unfinished(run)
        return summarise_finished(run, is_latest)
    except (KneeEdgeError, OSError, ValueError) as error:
        return RunSummary(folder=str(folder), state=BROKEN, problem=str(error), is_latest=is_latest)


def summarise_finished(run: Run, is_latest: bool) -> RunSummary:
    """Of a run whose spec and weights are there; raises what its records raise."""
    spec = run.read_spec()
    training = spec.training
    return RunSummary(
        folder=str(run.folder),
        state=FINISHED,
        is_latest=is_latest,
        finished=written_at(run.spec),
        data_sha256=training.data_sha256,
        classes=spec.classes,
        positive=spec.positive,
        protocol=training.protocol,
        slimmed_from=training.slimmed.original if training.slimmed else "",
        caveat=training.caveat,
        scores=training.scores,
        files=file_summaries(run),
    )


def summarise_unfinished(run: Run) -> RunSummary:
    """Of a folder without spec or weights."""
    if run.slim.is_file():
        problem = f"not finished; go on with `kneeedge slim --resume {run.folder}`"
    elif run.spec.is_file():
        problem = f"{run.model.name} is gone; train it again"
        return RunSummary(folder=str(run.folder), state=BROKEN, problem=problem)
    else:
        try:
            open_run(run.folder)
            problem = ""
        except NotFoundError as error:
            problem = str(error).removeprefix(f"{run.folder}: ")
    return RunSummary(folder=str(run.folder), state=UNFINISHED, problem=problem)


def summarise_folds(run: Run) -> RunSummary:
    """Of a cross-validation; its score is of all test images together."""
    if not run.folds.is_file():
        problem = f"its folds are not finished; go on with `kneeedge train --resume {run.folder}`"
        return RunSummary(folder=str(run.folder), state=UNFINISHED, problem=problem)
    report = from_json(FoldsReport, run.folds.read_text(encoding="utf-8"))
    pooled = report.pooled
    return RunSummary(
        folder=str(run.folder),
        state=FOLDS,
        finished=written_at(run.folds),
        classes=pooled.classes,
        positive=pooled.positive,
        protocol=f"{len(report.folds)} folds",
        scores={"test": pooled.score()},
    )


def summarise_study(study: Study) -> RunSummary:
    """Of a search for a recipe, which has no model."""
    if not study.report.is_file():
        problem = f"not finished; go on with `kneeedge tune --resume {study.folder}`"
        return RunSummary(folder=str(study.folder), state=UNFINISHED, problem=problem)
    report = study.read_report()
    return RunSummary(
        folder=str(study.folder),
        state=STUDY,
        finished=written_at(study.report),
        data_sha256=report.data_sha256,
        verdict=report.confirmation.worth.line,
    )


def file_summaries(run: Run) -> tuple[FileSummary, ...]:
    """The exported files as the report has them, each held against the file that is there."""
    if not run.export_report.is_file():
        return ()
    summaries = []
    for file in run.read_export_report().files:
        path = run.models / file.path
        problem = ""
        if not path.is_file():
            problem = "gone"
        elif file_sha256(path) != file.sha256:
            problem = "not the file that was exported"
        summary = FileSummary(
            name=file.path,
            precision=file.report.precision,
            verdict=file.report.verdict,
            images=file.report.images,
            sha256=file.sha256,
            problem=problem,
        )
        summaries.append(summary)
    return tuple(summaries)


def written_at(path: Path) -> str:
    """When a file was written last, UTC, as 2026-11-26 10:17."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M")


def n_unusable(summaries: Sequence[RunSummary]) -> int:
    """How many of the folders are unfinished or broken."""
    return sum(summary.state in (UNFINISHED, BROKEN) for summary in summaries)
