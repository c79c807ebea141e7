"""`kneeedge verify`: golden inputs, and a folder's answers beside those of another file or device.

The one call is `verify_models`.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kneeedge.data.dataset import SHORT_HASH
from kneeedge.errors import ConfigError, DataError
from kneeedge.inference.answer_rows import (
    AnswerRow,
    DeviceAnswers,
    check_one_table,
    check_rows_name,
    device_of,
    is_rows,
    read_rows,
    row_of,
    write_rows,
)
from kneeedge.inference.evaluation import read_seen_hashes
from kneeedge.inference.pairing import Pairing, pair
from kneeedge.inference.predictions import ABSTAIN, REFER
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.verify_images import VerifyImages, images_to_verify
from kneeedge.model.file import open_model
from kneeedge.model.verdict import FAIL
from kneeedge.pixels.depth import depth_warning
from kneeedge.pixels.prefetch import StageClock, open_reader, read_batches
from kneeedge.pixels.reader import ReadOptions
from kneeedge.runtime.batches import BatchRunner
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.runtime.golden import GoldenReport, verify
from kneeedge.statistics.intervals import Estimate, clusters_of, share_estimate
from kneeedge.system import machine
from kneeedge.system.outputs import ANSWERS, check_outputs
from kneeedge.system.progress import Progress


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """Which files to hold against what; raises ConfigError where options exclude each other."""

    models: tuple[Path, ...]
    data: Path | None = None
    "images to answer: what `infer` reads, or `evaluate`; None: the golden inputs alone"
    split: str | None = None
    "of labelled images; None: test, else val"
    group_regex: str | None = None
    "finds the patient in an image's path below its class folder, for the intervals"
    against: Path | None = None
    "a model file, or rows of another device as CSV or JSON"
    against_provider: str | None = None
    "on which the other file runs; without another file the same one"
    rows: Path | None = None
    "where the answers are written, as CSV or JSON"
    provider: str = "auto"
    threads: int | None = None
    "of the CPU; None: the physical cores that this process may use"
    gpu: GpuOptions = field(default_factory=GpuOptions)
    public_key: Path | None = None
    "the key that must have signed every model; None: no signature is asked for"
    grey_bits: int | None = None
    "bits that pixels of 16 use; None: what the model was trained with"
    isolate: bool = True
    "decode in processes that may crash, where there are several images"

    def __post_init__(self) -> None:
        needs_data = {
            "--split": self.split,
            "--group-regex": self.group_regex,
            "--against": self.against,
            "--against-provider": self.against_provider,
            "--rows": self.rows,
            "--grey-bits": self.grey_bits,
        }
        for option, value in needs_data.items():
            if self.data is None and value is not None:
                raise ConfigError(f"{option} is about images", "name their folder with --data")
        check_rows_name(self.rows)
        if self.against_provider is None:
            return
        if self.against is not None and is_rows(self.against):
            problem = f"the answers in {self.against} are given already"
            raise ConfigError(problem, "leave out --against-provider, or name a model")
        if self.against is None and self.against_provider == self.provider:
            problem = f"--against-provider {self.provider} is the provider itself"
            raise ConfigError(problem, "name another one, or a file with --against")


@dataclass(frozen=True, kw_only=True)
class ImagesReport:
    """One model's answers to the images of a folder."""

    data: str
    split: str
    "of the labelled images; empty without labels"
    remarks: tuple[str, ...]
    "lines on what is left out, and on why there are no labels"
    n: int
    counts: dict[str, int]
    "answers by class, those to images that are refused or referred among them"
    n_abstained: int
    "images unlike the training images, which `infer` leaves without an answer"
    n_referred: int = 0
    "images between the certified limits, which `infer` leaves to a person"
    n_unread: int
    unread: dict[str, str]
    "why each of these could not be read, by its path"
    accuracy: Estimate | None
    "of the images read, as if none had been refused; absent without labels"
    n_seen: int
    "images that, byte for byte, the model was trained or chosen on"
    pairing: Pairing | None
    "absent where there was nothing to pair with"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How a device answered with one model file."""

    golden: GoldenReport
    images: ImagesReport | None = None
    "absent without --data"

    @property
    def failed(self) -> bool:
        """Whether the golden inputs failed, or the verdict on the images is fail."""
        pairing = self.images.pairing if self.images else None
        return not self.golden.passed or (pairing is not None and pairing.verdict == FAIL)

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """The golden report's fields, `passed` of all that was looked at, and `images`."""
        golden: dict[str, Any] = record["golden"]
        return golden | {"passed": not self.failed, "images": record["images"]}

    @classmethod
    def unflatten(cls, record: dict[str, Any]) -> dict[str, Any]:
        """The fields of what `flatten` wrote, the golden report's `passed` that of all."""
        golden = dict(record)
        return {"images": golden.pop("images"), "golden": golden}


def verify_models(request: VerifyRequest, progress: Progress) -> list[Verification]:
    """Run each model's golden inputs and, with data, answer the images and pair the answers.

    Rows are written before they are paired. Raises what `open_model`, `Session`, `images_to_verify`
    and `pair` raise.
    """
    check_outputs([(request.rows, ANSWERS)], request.models)
    given = read_rows(request.against) if request.against and is_rows(request.against) else []
    cpu = machine.cpu_model()
    isa = machine.isa_flags()
    predictors = []
    golden = []
    for path in request.models:
        predictor = open_predictor(request, path, request.provider, progress)
        session = predictor.session
        golden.append(verify(session, session.file.sha256, cpu, isa))
        if request.data is not None:
            predictors.append(predictor)
    if request.data is None:
        return [Verification(golden=report) for report in golden]
    images = verify_images(request, request.data, predictors, given, progress)
    return [
        Verification(golden=report, images=of_model)
        for report, of_model in zip(golden, images, strict=True)
    ]


def open_predictor(
    request: VerifyRequest, path: Path, provider: str, progress: Progress
) -> Predictor:
    """The model file, ready to answer; says what its user should know of the provider."""
    predictor = Predictor(
        open_model(path, request.public_key),
        provider=provider,
        threads=request.threads,
        answer_all=True,
        gpu=request.gpu,
    )
    if predictor.session.notice:
        progress(predictor.session.notice)
    pixel_path = predictor.read_options.pixel_path
    if request.grey_bits is not None:
        pixel_path = replace(pixel_path, grey_bits=request.grey_bits)
    predictor.read_options = ReadOptions(pixel_path, isolated=request.isolate)
    return predictor


def verify_images(
    request: VerifyRequest,
    data: Path,
    predictors: Sequence[Predictor],
    given: Sequence[DeviceAnswers],
    progress: Progress,
) -> list[ImagesReport]:
    """Answer the images with every predictor, and pair each with what it is held against."""
    check_one_table(request.rows, [predictor.spec.classes for predictor in predictors])
    if request.rows and len({p.session.file.sha256 for p in predictors}) < len(predictors):
        raise ConfigError("two of the models are the same file", "name it once to write --rows")
    rows_there = [rows_for(predictor, given, request.against) for predictor in predictors]
    others = other_predictors(request, predictors, progress)
    n = len(predictors)
    answers = answer_data([*predictors, *others], data, request, progress)
    if request.rows is not None:
        write_rows(request.rows, [here for here, _ in answers[:n]])
    reports = []
    for i, predictor in enumerate(predictors):
        here, images = answers[i]
        there = answers[n + i % len(others)][0] if others else rows_there[i]
        reports.append(images_report(predictor, data, images, here, there))
    return reports


def other_predictors(
    request: VerifyRequest, predictors: Sequence[Predictor], progress: Progress
) -> list[Predictor]:
    """What runs beside the models: one for all, one for each, or none.

    Raises DataError where it has other classes than a model.
    """
    provider = request.against_provider or request.provider
    if request.against is not None:
        if is_rows(request.against):
            return []
        other = open_predictor(request, request.against, provider, progress)
        for predictor in predictors:
            check_classes(predictor, other.spec.classes, request.against)
        return [other]
    if request.against_provider is None:
        return []
    return [open_predictor(request, path, provider, progress) for path in request.models]


def check_classes(predictor: Predictor, theirs: Sequence[str], where: Path) -> None:
    """Raise DataError where what a model is held against has other classes."""
    ours = predictor.spec.classes
    if tuple(theirs) != ours:
        problem = f"its classes are {', '.join(theirs)}, not {', '.join(ours)}"
        raise DataError(where, problem, "give --against a file of the same classes")


def rows_for(
    predictor: Predictor, given: Sequence[DeviceAnswers], where: Path | None
) -> DeviceAnswers | None:
    """The given answers to hold a model's against: those of the same file, else the only ones.

    None where none are given. Raises DataError where there are several to choose from, or of other
    classes.
    """
    if not given or where is None:
        return None
    same = [each for each in given if each.device.model_sha256 == predictor.session.file.sha256]
    candidates = same or given
    if len(candidates) > 1:
        which = "of this model" if same else f"none of them of {predictor.session.path}"
        problem = f"it has the answers of {len(candidates)} devices or models, {which}"
        raise DataError(where, problem, "give a file with the answers of one")
    check_classes(predictor, candidates[0].classes, where)
    return candidates[0]


def answer_data(
    predictors: Sequence[Predictor], data: Path, request: VerifyRequest, progress: Progress
) -> list[tuple[DeviceAnswers, VerifyImages]]:
    """Every predictor's answers to the images; those of one pixel path are given the same pixels.

    Images are answered one at a time, since the last digits of an answer may depend on its batch.
    """
    alike: dict[object, list[int]] = {}
    for i, predictor in enumerate(predictors):
        key = (predictor.read_options.pixel_path, predictor.spec.classes)
        alike.setdefault(key, []).append(i)
    answers: dict[int, tuple[DeviceAnswers, VerifyImages]] = {}
    for places in alike.values():
        group = [predictors[i] for i in places]
        classes = group[0].spec.classes
        images = images_to_verify(data, classes, request.split, request.group_regex)
        for i, rows in zip(places, answer_images(group, images, progress), strict=True):
            device = device_of(predictors[i])
            found = DeviceAnswers(device=device, classes=predictors[i].spec.classes, rows=rows)
            answers[i] = found, images
    return [answers[i] for i in range(len(predictors))]


def answer_images(
    predictors: Sequence[Predictor], images: VerifyImages, progress: Progress
) -> list[tuple[AnswerRow, ...]]:
    """The rows of each of the predictors, which share a pixel path; every file is opened once."""
    runners = [BatchRunner(predictor.session, progress) for predictor in predictors]
    rows: list[list[AnswerRow]] = [[] for _ in predictors]
    n = len(images.images)
    options = predictors[0].read_options
    if n == 1:
        options = replace(options, isolated=False)
    suspects = []
    batches = read_batches(
        images.images, open_reader(options), 1, machine.available_cpus(), StageClock()
    )
    with closing(batches), progress.stage("answer", n) as stage:
        for batch in batches:
            for predictor, runner, kept in zip(predictors, runners, rows, strict=True):
                (answer,) = predictor.answer_batch(runner, batch)
                kept.append(row_of(answer, predictor.spec))
            if answer.depth_suspect:
                suspects.append((answer.prediction.path, answer.depth_suspect))
            stage.advance()
    if suspects:
        progress(depth_warning(suspects))
    return [tuple(kept) for kept in rows]


def images_report(
    predictor: Predictor,
    data: Path,
    images: VerifyImages,
    here: DeviceAnswers,
    there: DeviceAnswers | None,
) -> ImagesReport:
    """What one model's rows say, by themselves and beside the others."""
    read = [row for row in here.rows if row.is_read]
    counts = Counter(row.prediction for row in read)
    seen = read_seen_hashes(predictor.session.metadata, predictor.session.path)
    return ImagesReport(
        data=str(data),
        split=images.split,
        remarks=images.remarks,
        n=len(here.rows),
        counts={name: counts[name] for name in here.classes},
        n_abstained=sum(row.status == ABSTAIN for row in read),
        n_referred=sum(row.status == REFER for row in read),
        n_unread=len(here.rows) - len(read),
        unread={row.path: row.error for row in here.rows if not row.is_read},
        accuracy=accuracy_of(read, images),
        n_seen=sum(row.sha256[:SHORT_HASH] in seen for row in read),
        pairing=None if there is None else pair(here, there, images.truth, images.patients),
    )


def accuracy_of(rows: Sequence[AnswerRow], images: VerifyImages) -> Estimate | None:
    """The share of right answers, over patients where they are known; None without labels."""
    if images.truth is None:
        return None
    right = np.array([row.prediction == images.truth[row.path] for row in rows], dtype=bool)
    patients = images.patients or {}
    groups = [patients.get(row.path, row.sha256) for row in rows]
    return share_estimate(right, np.ones_like(right), clusters_of(groups, len(rows)))
