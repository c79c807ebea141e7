"""Accuracy against latency of every width that was tried, beside the original: `kneeedge slim --curve`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kneeedge.answers import Answers, read_original
from kneeedge.bench.accuracy import Accuracy, describe, truth_of
from kneeedge.bench.figure import draw_figure
from kneeedge.bench.page import bench_json
from kneeedge.bench.result import BenchResult, Row
from kneeedge.bench.run import BenchRequest, bench
from kneeedge.dataset import Dataset, Sample
from kneeedge.evaluation import answer_samples
from kneeedge.progress import Progress
from kneeedge.session import Session
from kneeedge.training.checkpoint import Run, read_spec, write_atomically

CURVE, FIGURE = "curve.json", "curve.png"
SECONDS = 9.0
"of each scenario of each model"


def draw_curve(
    run: Run, original: Run, models: Sequence[Path], dataset: Dataset, threads: int | None, progress: Progress
) -> BenchResult:
    """Time the models and the original of `run` in turns and score them on test, or val where there is none.

    Writes JSON and figure. Accuracy is paired with the original's own answers; the verdict is the gate's on them.
    """
    split = "test" if dataset.split("test") else "val"
    samples = dataset.split(split)
    images = tuple(str(sample.path) for sample in samples)
    request = BenchRequest(
        tuple(map(str, models)), str(original.folder), "cpu", threads, (8,), SECONDS, images=images,
    )  # fmt: skip
    result = bench(request, progress)
    recorded = read_original(run.original_answers, samples, read_spec(run))
    reference = replace(recorded, spec=read_spec(original))  # by which its own files are known to be its
    worth = {str(path): accuracy_of(path, samples, split, reference, progress) for path in models}
    worth[str(original.folder)] = describe(reference, truth_of(samples, split), None, None)
    result = replace(result, results=with_accuracy(result, worth))
    write_atomically(run.folder / CURVE, bench_json(result) + "\n")
    draw_figure(result, run.folder / FIGURE)
    return result


def accuracy_of(path: Path, samples: Sequence[Sample], split: str, reference: Answers, progress: Progress) -> Accuracy:
    """How a file answers the samples, one image at a time, beside the original."""
    session = Session(path, "cpu")
    outputs = answer_samples(session, samples, 1, progress)
    precision = session.spec.file.precision if session.spec.file else "unknown"
    answers = Answers(precision, session.spec, outputs.logits)
    return describe(answers, truth_of(samples, split), None, reference)


def with_accuracy(result: BenchResult, worth: Mapping[str, Accuracy]) -> tuple[Row, ...]:
    """The rows with what each model's answers are worth."""
    return tuple(replace(row, accuracy=worth[row.model]) for row in result.results)
