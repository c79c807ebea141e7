"""A finished run → verified `.onnx` files in `<run>/models`: `kneeedge export`."""

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.calibration import N_IMAGES, CalibrationSet, choose_images, draw
from export.gate import compare_refusals, pair
from export.graph import operators, opset, set_metadata
from export.ranges import collect, load_chunks
from export.search import Material, search
from export.to_fp16 import N_IMAGES as N_HALF
from export.to_fp16 import half_range, to_fp16
from export.to_int8 import choose_target
from export.to_onnx import to_onnx
from kneeedge.data.dataset import Dataset, check_unchanged
from kneeedge.errors import ConfigError, ModelFileError, NoAnswerError
from kneeedge.inference.evaluation import answer_samples
from kneeedge.model.file_record import FileRecord, Verification
from kneeedge.model.signature import read_private_key, sign_file, signature_path
from kneeedge.model.spec import CARD_KEY, GOLDEN_KEY, SEEN_KEY, SPEC_KEY, ModelSpec
from kneeedge.model.verdict import FAIL
from kneeedge.pixels.phantom import phantoms
from kneeedge.report.card import card, write_card
from kneeedge.report.card_facts import read_facts
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runs.export_report import (
    ExportedFile,
    ExportReport,
    VerifyReport,
)
from kneeedge.runs.folder import open_run
from kneeedge.runtime.golden import GoldenCase, GoldenSet, encode_png, to_metadata, verify
from kneeedge.runtime.providers import load_runtime
from kneeedge.runtime.session import Session
from kneeedge.system import machine
from kneeedge.system.files import file_sha256, put_in_place
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original, predict_logits
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import FeatureGaussian, read_gaussian
from kneeedge.training.score import original_answers

PRECISIONS = ("fp32", "fp16", "int8")
N_GOLDEN = 8
DEVICE_FLOOR = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.1}
"logit change between two machines that run the same file: other kernels round otherwise"


@dataclass(frozen=True)
class Built:
    """One variant before it is written."""

    graph: onnx.ModelProto
    record: FileRecord
    report: VerifyReport | None = None
    "of the gate, where the search has been through it with this graph"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `kneeedge export` was asked for."""

    precisions: tuple[str, ...] = PRECISIONS
    int8_target: str = "auto"
    n_calibration: int = N_IMAGES
    "training images that set the int8 ranges"
    tolerance: float | None = None
    "accuracy that a variant may lose, as a share; None: the precision's own"
    provider: str = "cpu"
    "where the variants are verified"
    data: str | None = None
    "the data folder, where it is no longer where the run was trained"
    search_minutes: float = 5.0
    """time for the search of the int8 recipe, ranges not counted; 0: minmax ranges, all layers in 8
    bits
    """
    sign: str | None = None
    "PEM file of the private key that signs each published file"

    def __post_init__(self) -> None:
        if unknown := [name for name in self.precisions if name not in PRECISIONS]:
            raise ConfigError(
                f"--precision {unknown[0]} is unknown", f"choose from {','.join(PRECISIONS)}"
            )
        if not self.precisions:
            raise ConfigError("--precision names nothing", f"choose from {','.join(PRECISIONS)}")
        choose_target(self.int8_target)


class Exporter:
    """One run's original, its held-out answers, and everything the variants are made from and held
    against.
    """

    def __init__(self, folder: Path, options: ExportOptions, progress: Progress) -> None:
        load_runtime()  # a missing runtime is said before the work, not after
        self.options = options
        self.progress = progress
        self.key = read_private_key(Path(options.sign)) if options.sign else None
        self.run = open_run(folder)
        self.model, self.spec = load_original(self.run)
        record = self.run.read_config()
        root = Path(options.data or record.data_root)
        self.dataset: Dataset = self.run.read_dataset(root, self.spec.classes)
        self.samples = self.dataset.split("val")
        check_unchanged(self.samples)
        is_slimmed = self.spec.training.slimmed is not None
        self.slimmed_from = (
            self.run.read_original_answers(self.samples, self.spec) if is_slimmed else None
        )

    def export(self) -> ExportReport:
        """Make, verify and publish each variant asked for; at the end raises NoAnswerError for one
        without answers.
        """
        self.run.models.mkdir(exist_ok=True)
        earlier = self._earlier()
        if "int8" in self.options.precisions:
            _ = self.calibration_set  # what it refuses is said before the work, not after
        files: list[ExportedFile] = []
        refused: list[NoAnswerError] = []
        for precision in (name for name in PRECISIONS if name in self.options.precisions):
            try:
                files.append(self.publish(precision))
            except ModelFileError as error:
                refused.append(NoAnswerError(self._move(precision, FAIL), precision, error.problem))
        kept = [file for file in earlier if file.report.precision not in self.options.precisions]
        order = sorted([*kept, *files], key=lambda file: PRECISIONS.index(file.report.precision))
        self.run.write_export_report(
            ExportReport(self.spec.name, tuple(order), self.spec.training.caveat)
        )
        write_card(self.run)
        if refused:
            raise refused[0]
        return ExportReport(self.spec.name, tuple(files), self.spec.training.caveat)

    def publish(self, precision: str) -> ExportedFile:
        """Write one variant beside the others, or below `rejected/` where it fails the gate."""
        self.progress(f"{precision}: making the graph")
        built = self.build(precision)
        record = built.record
        part = self._part(precision)
        report = built.report or self.gate(precision, built.graph)
        save(built.graph, part, self.spec, record, {})
        golden = golden_set(Session(part, self.options.provider), self.model, precision)
        self.seal(part, built, golden, report)
        confirmed = verify(Session(part, self.options.provider), "", "")
        if not confirmed.passed:
            reason = f"the written file answers its own golden inputs otherwise (by {confirmed.max_change_from_file:.3g})"
            report = dataclasses.replace(report, verdict=FAIL, reason=reason)
            self.seal(part, built, golden, report)
        path = self._move(precision, report.verdict)
        where = str(path.relative_to(self.run.models))
        self.progress(f"{where}: {report.verdict} ({report.reason})")
        size = round(path.stat().st_size / 1e6, 2)
        return ExportedFile(
            path=where,
            sha256=file_sha256(path),
            size_mb=size,
            report=report,
            calibration=record.calibration,
            half_range=record.half_range,
        )

    def seal(self, part: Path, built: Built, golden: GoldenSet, report: VerifyReport) -> None:
        """Write the file with all that it says of itself, the gate's report included."""
        verification = Verification(
            verdict=report.verdict,
            split=report.split,
            n=report.n,
            flips=len(report.flips),
            original=report.original,
            variant=report.variant,
            max_abs_logit_change=report.max_abs_logit_change,
            mean_abs_logit_change=report.mean_abs_logit_change,
            provider=report.provider,
        )
        facts = dataclasses.replace(read_facts(self.run), variants=(report,))
        extra = {
            GOLDEN_KEY: to_metadata(golden),
            SEEN_KEY: seen_hashes(self.dataset),
            CARD_KEY: card(facts),
        }
        save(
            built.graph,
            part,
            self.spec,
            dataclasses.replace(built.record, verification=verification),
            extra,
        )

    def build(self, precision: str) -> Built:
        """The graph of one precision, without metadata, and its record."""
        if precision == "int8":
            return self.build_int8()
        if precision == "fp32":
            return Built(self.fp32, file_record(precision, self.fp32))
        samples = draw(
            self.dataset.split("train"), len(self.spec.classes), N_HALF, self.spec.training.seed
        )
        check_unchanged(samples)
        self.progress(
            f"{precision}: looking for overflow and underflow on {len(samples)} training images"
        )
        found = half_range(self.fp32, load_chunks(samples, self.spec.pixel_path, 1))
        graph = to_fp16(self.fp32, found.float_layers)
        return Built(graph, dataclasses.replace(file_record(precision, graph), half_range=found))

    def build_int8(self) -> Built:
        """The int8 graph that the search found, for the target asked for."""
        target = choose_target(self.options.int8_target)
        images = self.calibration_set
        check_unchanged(images.samples + images.scored)
        pixel_path = self.spec.pixel_path
        minutes = self.options.search_minutes
        histograms = collect(self.fp32, images.samples, pixel_path, self.progress)
        scored = list(load_chunks(images.scored, pixel_path, 1))
        material = Material(self.fp32, histograms, scored, target)
        found = search(material, partial(self.gate, "int8"), minutes, self.progress)
        self.progress(
            f"int8: {found.recipe}; {len(found.trials)} recipes tried, {len(found.untried)} left untried"
        )
        recipe = found.recipe
        calibration = images.record(recipe.method, recipe.float_layers, found.trials, found.untried)
        record = dataclasses.replace(
            file_record("int8", found.graph), int8_target=target, calibration=calibration
        )
        return Built(found.graph, record, found.report)

    def gate(self, precision: str, graph: onnx.ModelProto) -> VerifyReport:
        """The gate's report on the val split of a graph, run from a file as a device runs it.

        A slimmed network's answers are held against those of the network that it was slimmed from;
        which images it refuses, against its own PyTorch model.
        """
        part = self._part(precision)
        save(graph, part, self.spec, file_record(precision, graph), {})
        session = Session(part, self.options.provider)
        outputs = answer_samples(session, self.samples, 8, self.progress)
        own_logits, distances = self.val_answers
        variant = Answers(precision, self.spec, outputs.logits)
        provider = session.provider
        tolerance = self.options.tolerance
        if self.slimmed_from is None:
            report = pair(
                self.samples, Answers(ORIGINAL, self.spec, own_logits), variant, provider, tolerance
            )
        else:
            report = pair(self.samples, self.slimmed_from, variant, provider, tolerance, own_logits)
        return dataclasses.replace(
            report, refusals=compare_refusals(self.spec.novelty, distances, outputs.distance)
        )

    @cached_property
    def calibration_set(self) -> CalibrationSet:
        """The training images for int8."""
        return choose_images(self.dataset, self.options.n_calibration, self.spec.training.seed)

    @cached_property
    def fp32(self) -> onnx.ModelProto:
        return to_onnx(self.model, self.spec, self.gaussian)

    @cached_property
    def gaussian(self) -> FeatureGaussian | None:
        """What the distances are measured by; None where the model answers every image."""
        return read_gaussian(self.run.novelty) if self.spec.novelty else None

    @cached_property
    def val_answers(self) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
        """The logits (N, K) of the run's own PyTorch model on the val split, and its distances
        (N,).
        """
        pixel_path = self.spec.pixel_path
        what = "PyTorch on val"
        return original_answers(
            self.model, self.gaussian, self.samples, pixel_path, what, self.progress
        )

    def _earlier(self) -> tuple[ExportedFile, ...]:
        """What an earlier export reported, as far as it is still there; another kneeedge's report
        is removed.
        """
        report = self.run.export_report
        if not report.is_file():
            return ()
        try:
            files = self.run.read_export_report().files
        except ModelFileError as error:
            self.progress(
                f"{report}: {error.problem}; it is written anew, without what was exported then"
            )
            report.unlink()
            return ()
        return tuple(file for file in files if (self.run.models / file.path).is_file())

    def _part(self, precision: str) -> Path:
        """Where a variant stands until its verdict is known."""
        final = self.run.model_file(self.spec.name, precision)
        return final.with_name(f".{final.name}.part")

    def _move(self, precision: str, verdict: str) -> Path:
        """Put a variant where its verdict belongs, in place of an earlier one; sign what is
        published. Its path.
        """
        published = self.run.model_file(self.spec.name, precision)
        rejected = self.run.model_file(self.spec.name, precision, rejected=True)
        for old in (signature_path(published), published, rejected):
            old.unlink(missing_ok=True)
        path = rejected if verdict == FAIL else published
        path.parent.mkdir(exist_ok=True)
        put_in_place(self._part(precision), path)
        if self.key and path == published:
            sign_file(path, self.key)
        return path


def export_run(folder: Path, options: ExportOptions, progress: Progress) -> ExportReport:
    """Export the run in `folder`; the report says which files passed."""
    return Exporter(folder, options, progress).export()


def save(
    graph: onnx.ModelProto, path: Path, spec: ModelSpec, record: FileRecord, extra: dict[str, str]
) -> None:
    """Write one self-contained `.onnx` file with its spec and `extra` as metadata."""
    set_metadata(graph, {SPEC_KEY: dataclasses.replace(spec, file=record).to_json(), **extra})
    onnx.save(graph, path)


def file_record(precision: str, graph: onnx.ModelProto) -> FileRecord:
    """What every file says of its graph."""
    return FileRecord(
        precision=precision,
        opset=opset(graph),
        operators=operators(graph),
        versions=machine.versions(),
    )


def golden_set(session: Session, model: KneeVGG, precision: str) -> GoldenSet:
    """Phantoms from healthy to diseased, with the original's answers and this file's."""
    images = phantoms(N_GOLDEN, session.spec.pixel_path.size)
    original = predict_logits(model, images)
    answers = np.concatenate([session.run(image[None]).logits for image in images])
    cases = tuple(
        GoldenCase(encode_png(image[0]), tuple(map(float, before)), tuple(map(float, after)))
        for image, before, after in zip(images, original, answers, strict=True)
    )
    floor = DEVICE_FLOOR[precision]
    # What the precision itself costs was measured here; another machine may add its own rounding to
    # it.
    allowed = float(np.abs(answers - original).max()) + floor
    return GoldenSet(
        cases=cases,
        device_tolerance=floor,
        original_tolerance=allowed,
        cpu=machine.cpu_model(),
        isa=machine.isa_flags(),
    )


def seen_hashes(dataset: Dataset) -> str:
    """JSON of the first 16 hex digits of the hash of each train and val image, so that a device can
    tell a leak.
    """
    return json.dumps(
        {split: sorted(s.short_hash for s in dataset.split(split)) for split in ("train", "val")}
    )
