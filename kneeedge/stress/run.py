"""`kneeedge stress`: model files and labelled images → a StressReport. Edge only: no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kneeedge.data.dataset import say_depths
from kneeedge.errors import ConfigError
from kneeedge.inference.evaluation import (
    count_seen,
    evaluation_samples,
    read_seen_hashes,
    read_with_depth,
)
from kneeedge.model.file import open_model
from kneeedge.pixels.prefetch import StageClock
from kneeedge.runtime.batches import BatchRunner
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.runtime.session import Session
from kneeedge.stress.answers import BATCH, Subject, answer_cells
from kneeedge.stress.cells import cells_of
from kneeedge.stress.record import StressedModel, StressReport
from kneeedge.stress.rows import rows_of
from kneeedge.system import machine
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress


@dataclass(frozen=True, kw_only=True)
class StressRequest:
    """Which models to ask, and what to do to which images."""

    models: tuple[Path, ...]
    "the first is the original that the others are held against"
    data: Path
    kinds: tuple[str, ...] = ()
    "all where none is named"
    severities: tuple[int, ...] = ()
    "1 to 5; all where none is named"
    split: str | None = None
    "None: test, else val"
    group_regex: str | None = None
    "finds the patient in a path, for the intervals"
    grey_bits: int | None = None
    "bits that pixels of 16 use; None: what the model was trained with"
    provider: str = "auto"
    threads: int | None = None
    batch_size: int = BATCH
    gpu: GpuOptions = field(default_factory=GpuOptions)
    public_key: Path | None = None
    "the key that must have signed every model; None: no signature is asked for"


def stress(request: StressRequest, progress: Progress) -> StressReport:
    """Every model's answers to the clean and the corrupted images, and what they are worth.

    Raises ConfigError where the models do not answer the same question, and what `Session`,
    `evaluation_samples` and `answer_cells` raise.
    """
    cells = cells_of(request.kinds, request.severities)
    sessions = open_sessions(request, progress)
    spec = sessions[0].spec
    split, samples = evaluation_samples(
        request.data,
        spec.classes,
        request.split,
        request.group_regex,
        progress,
        spec.pixel_path.grey_bits,
    )
    say_depths(samples, progress)
    progress(f"{counted(len(samples), 'image')} of {split}, each in {len(cells):,} ways")
    subjects = [Subject(one.spec, BatchRunner(one, progress).run) for one in sessions]
    clock = StageClock()
    answers = answer_cells(subjects, samples, cells, progress, request.batch_size, clock)
    models = []
    for i, session in enumerate(sessions):
        original = answers[0] if i else None
        file = session.spec.file
        models.append(
            StressedModel(
                model=str(session.path),
                model_sha256=session.file.sha256,
                precision=file.precision if file else "unknown",
                provider=session.provider,
                threshold=session.spec.threshold,
                n_seen=count_seen(samples, read_seen_hashes(session.metadata, session.path)),
                rows=rows_of(samples, cells, answers[i], original),
            )
        )
    return StressReport(
        data=str(request.data),
        split=split,
        n=len(samples),
        n_pictures=len(samples) * len(cells),
        positive=spec.positive,
        classes=spec.classes,
        models=tuple(models),
        seconds=dict(clock.seconds),
        threads=sessions[0].threads,
        environment=machine.environment(),
    )


def open_sessions(request: StressRequest, progress: Progress) -> Sequence[Session]:
    """A session for each model file; raises ConfigError where they have other classes."""
    sessions = []
    for path in request.models:
        file = open_model(path, request.public_key)
        session = Session(file, request.provider, request.threads, request.gpu)
        if session.notice:
            progress(session.notice)
        read_with_depth(session, request.grey_bits)
        sessions.append(session)
    first = sessions[0].spec
    for session in sessions[1:]:
        if (session.spec.classes, session.spec.positive) != (first.classes, first.positive):
            problem = f"{session.path} answers another question than {sessions[0].path}"
            raise ConfigError(problem, "give models of the same classes")
    return sessions
