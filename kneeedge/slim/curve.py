"""Accuracy against latency of every width that was tried and of the original: `slim --curve`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kneeedge.bench.accuracy import make_accuracy, truth_of
from kneeedge.bench.figure import draw_figure
from kneeedge.bench.page import bench_json
from kneeedge.bench.run import BenchRequest, bench
from kneeedge.data.dataset import Dataset, Sample
from kneeedge.inference.evaluation import answer_samples
from kneeedge.runs.answers import Answers
from kneeedge.runs.benchmark import Accuracy, BenchResult, Row
from kneeedge.runs.folder import Run
from kneeedge.runtime.session import Session
from kneeedge.system.progress import Progress

SECONDS = 9.0
"of each scenario of each model"


def draw_curve(
    run: Run,
    original: Run,
    models: Sequence[Path],
    dataset: Dataset,
    threads: int | None,
    progress: Progress,
) -> BenchResult:
    """Time the models and the original of `run` in turns, and score them on test, else on val.

    Writes JSON and figure. Accuracy is paired with the original's own answers; the verdict is the
    gate's on them.
    """
    split = "test" if dataset.split("test") else "val"
    samples = dataset.split(split)
    images = tuple(str(sample.path) for sample in samples)
    request = BenchRequest(
        models=tuple(map(str, models)),
        run=str(original.folder),
        provider="cpu",
        threads=threads,
        batch_sizes=(8,),
        seconds=SECONDS,
        images=images,
    )
    result = bench(request, progress)
    recorded = run.read_original_answers(samples, run.read_spec())
    # By the original's spec its own files are known to be its.
    reference = replace(recorded, spec=original.read_spec())
    accuracies: dict[str, Accuracy] = {}
    for path in models:
        accuracies[str(path)] = accuracy_of(path, samples, split, reference, progress)
    accuracies[str(original.folder)] = make_accuracy(
        reference, truth_of(samples, split), None, None
    )
    result = replace(result, results=with_accuracy(result, accuracies))
    run.write_curve(bench_json(result))
    draw_figure(result, run.curve_figure)
    return result


def accuracy_of(
    path: Path, samples: Sequence[Sample], split: str, reference: Answers, progress: Progress
) -> Accuracy:
    """How a file answers the samples, one image at a time, beside the original."""
    session = Session(path, "cpu")
    outputs = answer_samples(session, samples, 1, progress)
    precision = session.spec.file.precision if session.spec.file else "unknown"
    answers = Answers(precision, session.spec, outputs.logits)
    return make_accuracy(answers, truth_of(samples, split), None, reference)


def with_accuracy(result: BenchResult, accuracies: Mapping[str, Accuracy]) -> tuple[Row, ...]:
    """The rows with the accuracy of each one's model."""
    return tuple(replace(row, accuracy=accuracies[row.model]) for row in result.results)
